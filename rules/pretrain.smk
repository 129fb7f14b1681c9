# One encoder per method: pre-trained on MIMIC-CXR-JPG or on a pool of other downloads, or imported from a checkpoint.


localrules:
    model_card,


rule pool_images:
    """Images of several downloads to pre-train on, without those of the test sets of the study."""
    input:
        indexes=of_pool_sources(paths.INDEX),
        store=stores(of_pool_sources(paths.IMAGES)),
        manifests=of_pool_sources(paths.MANIFEST),
        splits=lambda wildcards: [path for _, path in splits_of_pool(wildcards)],
    output:
        store=paths.POOL_IMAGES,
        index=paths.POOL_INDEX,
        manifest=paths.POOL_MANIFEST,
    log:
        paths.log("pool_images"),
    benchmark:
        paths.benchmark("pool_images")
    conda:
        "../envs/refers.yaml"
    threads: 1
    resources:
        mem_mb=with_pages(4000),
        runtime=120,
    params:
        sources=sources_of_pool,
        split_sources=lambda wildcards: [source for source, _ in splits_of_pool(wildcards)],
        code=code_of("pool_images"),
    shell:
        "python workflow/scripts/pool_images.py --sources {params.sources:q} --indexes {input.indexes:q} --stores {input.store:q}"
        " --manifests {input.manifests:q} --splits {input.splits:q} --split-sources {params.split_sources:q}"
        " --out {output.store:q} --index {output.index:q} --manifest {output.manifest:q} &> {log:q}"


rule discover_words:
    """Visual words of a method that learns from crops: the same place in radiographs that look alike."""
    input:
        index=to_pretrain(paths.INDEX, paths.POOL_INDEX),
        store=stores(to_pretrain(paths.IMAGES, paths.POOL_IMAGES)),
        manifest=to_pretrain(paths.MANIFEST, paths.POOL_MANIFEST),
        tokens=tokens_of,
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
        mem_mb=with_pages(4000),
        runtime=60,
    params:
        config=words_config,
        tokens=tokens_option,
        code=code_of("discover_words"),
    shell:
        "python workflow/scripts/discover_words.py --config {params.config:q} --index {input.index:q} --store {input.store:q}"
        " --manifest {input.manifest:q} {params.tokens:q} --out {output:q} &> {log:q}"


rule pretrain:
    """Pre-train the encoder of a method with its objective."""
    input:
        index=to_pretrain(paths.INDEX, paths.POOL_INDEX),
        store=stores(to_pretrain(paths.IMAGES, paths.POOL_IMAGES)),
        manifest=to_pretrain(paths.MANIFEST, paths.POOL_MANIFEST),
        tokens=tokens_of,
        text_encoder=text_encoder_of,
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
        gpu=1,  # several GPUs share a batch; the profile of a machine sets their number, on all nodes together
        nodes=1,  # machines of a Slurm job that these GPUs are on
        mem_mb=with_pages(24000),
        runtime="5d",
    params:
        config=pretrain_config,
        tokens=tokens_option,
        text_encoder=text_encoder_option,
        init=init_option,
        words=words_option,
        pilot=pilot_option,
        device=CONFIG.device,
        code=objective_code,
    shell:
        "python workflow/scripts/pretrain.py --method {wildcards.method:q} --config {params.config:q}"
        " --index {input.index:q} --store {input.store:q} --manifest {input.manifest:q} {params.tokens:q}"
        " {params.text_encoder:q} {params.init:q} {params.words:q} {params.pilot:q} --device {params.device:q}"
        " --processes {resources.gpu:q} --nodes {resources.nodes:q} --out {output.encoder:q} &> {log:q}"


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
        key=checkpoint_key_option,
        code=code_of("import_encoder"),
    shell:
        "python workflow/scripts/import_encoder.py --method {wildcards.method:q} {params.checkpoint:q}"
        " {params.key:q} --config {params.config:q} --out {output.encoder:q} &> {log:q}"


rule model_card:
    """What an encoder was trained on and how, the terms of the data, and how to load it."""
    input:
        encoder=paths.ENCODER,
        record=paths.ENCODER_RECORD,
    output:
        paths.MODEL_CARD,
    log:
        paths.log("model_card"),
    benchmark:
        paths.benchmark("model_card")
    conda:
        "../envs/refers.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        facts=card_facts,
        code=code_of("model_card"),
    shell:
        "python workflow/scripts/model_card.py --encoder {input.encoder:q} --record {input.record:q} --facts {params.facts:q}"
        " --out {output:q} &> {log:q}"
