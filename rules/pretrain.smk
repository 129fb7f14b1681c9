# One encoder per method: pre-trained on MIMIC-CXR-JPG, or imported from a checkpoint.


rule discover_words:
    """Visual words of a method that learns from crops: the same place in radiographs that look alike."""
    input:
        index="<store>/mimic/index.parquet",
        store="<store>/mimic/images.npy",
        manifest="<store>/mimic/images.json",
        tokens="<interim>/mimic/tokens.npz",
    output:
        "<interim>/mimic/{method}/words.csv",
    log:
        "<logs>/discover_words/{method}.log",
    benchmark:
        "<benchmarks>/discover_words/{method}.jsonl"
    conda:
        "../envs/refers.yaml"
    threads: 4
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        config=words_config,
        code=code("discover_words"),
    shell:
        "python workflow/scripts/discover_words.py --config {params.config:q} --index {input.index} --store {input.store}"
        " --manifest {input.manifest} --tokens {input.tokens} --out {output} &> {log}"


rule pretrain:
    """Pre-train the encoder of a method with its objective."""
    input:
        index="<store>/mimic/index.parquet",
        store="<store>/mimic/images.npy",
        manifest="<store>/mimic/images.json",
        tokens="<interim>/mimic/tokens.npz",
        text_encoder=text_encoder_files,
        init=init_encoder,
        words=words_of,
    output:
        encoder="<results>/encoders/{method}/encoder.safetensors",
        record="<results>/encoders/{method}/run.json",
        metrics="<results>/encoders/{method}/metrics.jsonl",
    log:
        "<logs>/pretrain/{method}.log",
    benchmark:
        "<benchmarks>/pretrain/{method}.jsonl"
    wildcard_constraints:
        method=methods_where(imported=False),
    conda:
        GPU_ENVIRONMENT
    threads: 4
    resources:
        gpu=1,  # more of them share a batch; a matter of the machine, so set in its profile
        mem_mb=24000,  # the store is memory-mapped; page cache is not counted
        runtime="5d",
    params:
        config=pretrain_config,
        init=init_option,
        words=words_option,
        device=config["device"],
        code=objective_code,
    shell:
        "python workflow/scripts/pretrain.py --method {wildcards.method} --config {params.config:q}"
        " --index {input.index} --store {input.store} --manifest {input.manifest} --tokens {input.tokens}"
        " --text-encoder $(dirname {input.text_encoder[0]:q}) {params.init} {params.words} --device {params.device}"
        " --processes {resources.gpu} --out {output.encoder} 2>&1 | (trap '' TERM INT; tee {log})"


rule import_encoder:
    """Take the encoder of a method from a checkpoint, every tensor accounted for."""
    input:
        checkpoint=checkpoint_of,
    output:
        encoder="<results>/encoders/{method}/encoder.safetensors",
        record="<results>/encoders/{method}/run.json",
    log:
        "<logs>/import_encoder/{method}.log",
    benchmark:
        "<benchmarks>/import_encoder/{method}.jsonl"
    wildcard_constraints:
        method=methods_where(imported=True),
    conda:
        "../envs/refers.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=10,
    params:
        config=lambda wildcards: as_json(STUDY.model_settings(wildcards.method)),
        source=checkpoint_option,
        code=code("import_encoder"),
    shell:
        "python workflow/scripts/import_encoder.py --method {wildcards.method} --checkpoint {params.source:q}"
        " --config {params.config:q} --out {output.encoder} &> {log}"
