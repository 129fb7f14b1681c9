# Generated instead of downloaded: the datasets of `make demo`, and a checkpoint in place of ImageNet's.


rule generate_demo:
    """Five small datasets with a planted signal, below data_root."""
    output:
        "build/demo/data/demo.json",
    log:
        paths.log("generate_demo"),
    benchmark:
        paths.benchmark("generate_demo")
    conda:
        "../envs/refers.yaml"
    threads: 2
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        code=code_of("generate_demo"),
        folder=subpath(output[0], parent=True),
    shell:
        "python workflow/scripts/generate_demo.py --out {params.folder:q} --seed 0 --workers {threads:q} &> {log:q}"


rule generate_checkpoint:
    """A random checkpoint in the layout of ImageNet's ViT-B_16.npz, for `checkpoint: random`."""
    output:
        paths.RANDOM_VIT,
    log:
        paths.log("generate_checkpoint"),
    benchmark:
        paths.benchmark("generate_checkpoint")
    conda:
        "../envs/refers.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        code=code_of("generate_checkpoint"),
        config=lambda wildcards: as_json(STUDY.model_settings("imagenet")),
    shell:
        "python workflow/scripts/generate_checkpoint.py --config {params.config:q} --out {output:q} &> {log:q}"
