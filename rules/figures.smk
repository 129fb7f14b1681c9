# Figures of cells, predictions, training curves, class activation maps and the rules themselves.


localrules:
    rule_graph,


rule rule_graph:
    """The rules behind this study's page and their dependencies, as Snakemake resolves them."""
    input:
        rules=rule_files(),
    output:
        paths.RULES,
    log:
        paths.log("rule_graph"),
    benchmark:
        paths.benchmark("rule_graph")
    conda:
        "../envs/refers.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        config=literal(STUDY_JSON),
        code=code_of("rule_graph"),
    shell:
        "python workflow/scripts/rule_graph.py --config {params.config:q} --targets tables figures page"
        " --rules {input.rules:q} --out {output:q} &> {log:q}"


rule attend:
    """Class activation maps of the test images with radiologists' boxes (Figure 3)."""
    input:
        classifier=classifier_of_figure,
        split=of_figure(paths.SPLIT),
        index=of_figure(paths.INDEX),
        store=stores(of_figure(paths.IMAGES)),
        manifest=of_figure(paths.MANIFEST),
    output:
        maps=paths.MAPS,
        overlap=paths.OVERLAP,
    log:
        paths.log("attend"),
    benchmark:
        paths.benchmark("attend")
    conda:
        "../envs/refers.yaml"
    threads: 4
    resources:
        gpu=1,
        mem_mb=with_pages(8000),
        runtime=60,
    params:
        download=lambda wildcards: STUDY.folder(source_of_figure(wildcards)),
        layout=layout_of_figure,
        augment=augment_of_figure,
        images=lambda wildcards: attention_of(wildcards).images,
        threshold=lambda wildcards: attention_of(wildcards).threshold,
        device=CONFIG.device,
        code=attend_code,
    shell:
        "python workflow/scripts/attend.py --classifier {input.classifier:q} --split {input.split:q} --index {input.index:q}"
        " --store {input.store:q} --download {params.download:q} --layout={params.layout:q} --augment {params.augment:q}"
        " --images {params.images:q} --threshold {params.threshold:q} --seed 0 --device {params.device:q}"
        " --out {output.maps:q} &> {log:q}"


rule figure:
    """One figure of the study, as PDF and PNG; what cannot run is named below it."""
    input:
        sources_of_figure,
    output:
        pdf=report(
            paths.fill(paths.FIGURE, form="pdf"),
            caption="../workflow/report/figure.rst",
            category="Figures",
            labels=labels_of_figure("pdf"),
        ),
        png=report(
            paths.fill(paths.FIGURE, form="png"),
            caption="../workflow/report/figure.rst",
            category="Figures",
            labels=labels_of_figure("png"),
        ),
    log:
        paths.log("figure"),
    benchmark:
        paths.benchmark("figure")
    conda:
        "../envs/refers.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        spec=figure_spec,
        code=code_of("figure"),
    shell:
        "python workflow/scripts/figure.py --spec {params.spec:q} --inputs {input:q} --out {output.pdf:q} &> {log:q}"
