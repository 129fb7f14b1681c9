# Learning-rate pilots: optimiser and peak rate of a pre-training, chosen by short runs on held-out pre-training loss.


rule pilot:
    """Short pre-trainings of one method with each candidate of `pilots`; the best one's optimiser and rate."""
    input:
        index=to_pretrain(paths.INDEX, paths.POOL_INDEX),
        store=stores(to_pretrain(paths.IMAGES, paths.POOL_IMAGES)),
        manifest=to_pretrain(paths.MANIFEST, paths.POOL_MANIFEST),
        tokens=tokens_of,
        text_encoder=text_encoder_of,
        init=init_encoder,
        words=words_of,
    output:
        paths.PILOT,
    log:
        paths.log("pilot"),
    benchmark:
        paths.benchmark("pilot")
    wildcard_constraints:
        method=methods_where(imported=False),
    conda:
        GPU_ENVIRONMENT
    threads: 4
    resources:
        gpu=1,
        mem_mb=with_pages(24000),
        runtime="1d",
    params:
        config=pretrain_config,
        pilots=literal(as_json(CONFIG.pilots)),
        tokens=tokens_option,
        text_encoder=text_encoder_option,
        init=init_option,
        words=words_option,
        device=CONFIG.device,
        code=pilot_code,
    shell:
        "python workflow/scripts/pilot.py --method {wildcards.method:q} --config {params.config:q} --pilots {params.pilots:q}"
        " --index {input.index:q} --store {input.store:q} --manifest {input.manifest:q} {params.tokens:q}"
        " {params.text_encoder:q} {params.init:q} {params.words:q} --device {params.device:q}"
        " --out {output:q} &> {log:q}"


rule pilots:
    """Every pilot that can run: candidates, losses and choices as a table and a figure."""
    input:
        [paths.fill(paths.PILOT, method=method) for method in piloted(available=True)],
    output:
        csv=paths.fill(paths.PILOTS, form="csv"),
        markdown=paths.fill(paths.PILOTS, form="md"),
        html=paths.fill(paths.PILOTS, form="html"),
        pdf=paths.fill(paths.PILOTS, form="pdf"),
        png=paths.fill(paths.PILOTS, form="png"),
    log:
        paths.log("pilots"),
    benchmark:
        paths.benchmark("pilots")
    conda:
        "../envs/refers.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        spec=pilots_spec,
        code=code_of("pilots"),
    shell:
        "python workflow/scripts/pilots.py --spec {params.spec:q} --pilots {input:q} --out {output.csv:q} &> {log:q}"
