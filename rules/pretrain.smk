# One encoder per method: pre-trained on MIMIC-CXR-JPG, or imported from a checkpoint.


rule discover_words:
    """Visual words of a method that learns from crops: the same place in radiographs that look alike."""
    input:
        index=of_mimic(paths.INDEX),
        store=of_mimic(paths.IMAGES),
        manifest=of_mimic(paths.MANIFEST),
        tokens=paths.TOKENS,
    output:
        paths.WORDS,
    log:
        paths.log("discover_words"),
    benchmark:
        paths.benchmark("discover_words")
    conda:
        "../envs/refers.yaml"
    threads: 4
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        config=words_config,
        code=code_of("discover_words"),
    shell:
        "python workflow/scripts/discover_words.py --config {params.config:q} --index {input.index:q} --store {input.store:q}"
        " --manifest {input.manifest:q} --tokens {input.tokens:q} --out {output:q} &> {log:q}"


rule pretrain:
    """Pre-train the encoder of a method with its objective."""
    input:
        index=of_mimic(paths.INDEX),
        store=of_mimic(paths.IMAGES),
        manifest=of_mimic(paths.MANIFEST),
        tokens=paths.TOKENS,
        text_encoder=text_encoder_files,
        init=init_encoder,
        words=words_of,
        pilot=pilot_of,
    output:
        encoder=paths.ENCODER,
        record=paths.ENCODER_RECORD,
        metrics=paths.ENCODER_METRICS,
    log:
        paths.log("pretrain"),
    benchmark:
        paths.benchmark("pretrain")
    wildcard_constraints:
        method=methods_where(imported=False),
    conda:
        GPU_ENVIRONMENT
    threads: 4
    resources:
        gpu=1,  # several GPUs share a batch; the profile of a machine sets their number
        mem_mb=24000,  # the store is memory-mapped; page cache is not counted
        runtime="5d",
    params:
        config=pretrain_config,
        text_encoder=text_encoder_folder,
        init=init_option,
        words=words_option,
        pilot=pilot_option,
        device=CONFIG.device,
        code=objective_code,
    shell:
        "python workflow/scripts/pretrain.py --method {wildcards.method:q} --config {params.config:q}"
        " --index {input.index:q} --store {input.store:q} --manifest {input.manifest:q} --tokens {input.tokens:q}"
        " --text-encoder {params.text_encoder:q} {params.init:q} {params.words:q} {params.pilot:q} --device {params.device:q}"
        " --processes {resources.gpu:q} --out {output.encoder:q} 2>&1 | (trap '' TERM INT; tee {log:q})"


rule import_encoder:
    """Import the encoder of a method from a checkpoint; every tensor is accounted for."""
    input:
        checkpoint=checkpoint_of,
    output:
        encoder=paths.ENCODER,
        record=paths.ENCODER_RECORD,
    log:
        paths.log("import_encoder"),
    benchmark:
        paths.benchmark("import_encoder")
    wildcard_constraints:
        method=methods_where(imported=True),
    conda:
        "../envs/refers.yaml"
    threads: 1
    resources:
        mem_mb=8000,  # a downloaded network beside the encoder, to compare the two
        runtime=10,
    params:
        config=lambda wildcards: as_json(STUDY.model_settings(wildcards.method)),
        name=checkpoint_name,
        checkpoint=checkpoint_option,
        code=code_of("import_encoder"),
    shell:
        "python workflow/scripts/import_encoder.py --method {wildcards.method:q} {params.checkpoint:q}"
        " --config {params.config:q} --out {output.encoder:q} &> {log:q}"
