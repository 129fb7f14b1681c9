# One encoder a method: pre-trained on MIMIC-CXR-JPG, or imported from a checkpoint.


rule pretrain:
    """Pre-train the encoder of a method with its objective."""
    input:
        index="<store>/mimic/index.parquet",
        store="<store>/mimic/images.npy",
        manifest="<store>/mimic/images.json",
        tokens="<interim>/mimic/tokens.npz",
        text_encoder=text_encoder_files,
        init=init_encoder,
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
        "../envs/refers.yaml"
    threads: 4
    resources:
        gpu=1,
        mem_mb=24000,  # the store is memory-mapped; page cache is not counted
        runtime="5d",
    params:
        config=pretrain_config,
        init=init_option,
        device=config["device"],
        code=objective_code,
    shell:
        "python workflow/scripts/pretrain.py --method {wildcards.method} --config {params.config:q}"
        " --index {input.index} --store {input.store} --manifest {input.manifest} --tokens {input.tokens}"
        " --text-encoder $(dirname {input.text_encoder[0]:q}) {params.init} --device {params.device}"
        " --out {output.encoder} 2>&1 | tee {log}"


rule import_encoder:
    """Take the encoder of a method from a checkpoint on disk, every key accounted for."""
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
        code=code("import_encoder"),
    shell:
        "python workflow/scripts/import_encoder.py --method {wildcards.method} --checkpoint {input.checkpoint:q}"
        " --config {params.config:q} --out {output.encoder} &> {log}"
