# Figures, out of cells, predictions, training curves, class activation maps and the rules themselves.


localrules:
    rule_graph,


rule rule_graph:
    """The rules behind this study's page and what each needs, as Snakemake itself sees them (Figure 1)."""
    input:
        rules=rule_files(),
    output:
        "<results>/rules.csv",
    log:
        "<logs>/rule_graph.log",
    benchmark:
        "<benchmarks>/rule_graph.jsonl"
    conda:
        "../envs/refers.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        config=as_json(config),
        code=code("rule_graph"),
    shell:
        "python workflow/scripts/rule_graph.py --config {params.config:q} --targets tables figures page"
        " --rules {input.rules} --out {output} &> {log}"


rule attend:
    """Class activation maps of the test images with radiologists' boxes (Figure 3)."""
    input:
        classifier=classifier_of_figure,
        split=dataset_of_figure("<interim>/{dataset}/split.parquet"),
        index=dataset_of_figure("<store>/{source}/index.parquet"),
        store=dataset_of_figure("<store>/{source}/images.npy"),
    output:
        maps="<results>/attention/{figure}/maps.npz",
        overlap="<results>/attention/{figure}/iou.csv",
    log:
        "<logs>/attend/{figure}.log",
    benchmark:
        "<benchmarks>/attend/{figure}.jsonl"
    conda:
        "../envs/refers.yaml"
    threads: 4
    resources:
        gpu=1,
        mem_mb=8000,
        runtime=60,
    params:
        download=lambda wildcards: STUDY.folder(STUDY.dataset(attention_of(wildcards)["dataset"])["source"]),
        layout=lambda wildcards: config["sources"][
            STUDY.dataset(attention_of(wildcards)["dataset"])["source"]
        ]["layout"],
        augment=augment_of_figure,
        images=lambda wildcards: attention_of(wildcards)["images"],
        threshold=lambda wildcards: attention_of(wildcards)["threshold"],
        device=config["device"],
        code=code("attend"),
    shell:
        "python workflow/scripts/attend.py --classifier {input.classifier} --split {input.split} --index {input.index}"
        " --store {input.store} --download {params.download:q} --layout {params.layout} --augment {params.augment:q}"
        " --images {params.images} --threshold {params.threshold} --seed 0 --device {params.device}"
        " --out {output.maps} &> {log}"


rule figure:
    """One figure of the study, as PDF and PNG; what cannot run here is named below it."""
    input:
        sources_of_figure,
    output:
        pdf=report(
            "<results>/figures/{figure}.pdf",
            caption="../workflow/report/figure.rst",
            category="Figures",
            labels=labels_of_figure("pdf"),
        ),
        png=report(
            "<results>/figures/{figure}.png",
            caption="../workflow/report/figure.rst",
            category="Figures",
            labels=labels_of_figure("png"),
        ),
    log:
        "<logs>/figure/{figure}.log",
    benchmark:
        "<benchmarks>/figure/{figure}.jsonl"
    conda:
        "../envs/refers.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        spec=figure_spec,
        code=code("figure"),
    shell:
        "python workflow/scripts/figure.py --spec {params.spec:q} --inputs {input:q} --out {output.pdf} &> {log}"
