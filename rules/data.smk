# Official downloads -> one index schema, one image store, splits and label subsets.


rule index_source:
    """Read an official layout into the index schema: one row an image that is on disk."""
    input:
        tables=source_tables,
    output:
        index="<store>/{source}/index.parquet",
        report="<store>/{source}/index.json",
    log:
        "<logs>/index_source/{source}.log",
    benchmark:
        "<benchmarks>/index_source/{source}.jsonl"
    conda:
        "../envs/refers.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        folder=source_folder,
        layout=layout_of,
        code=adapter_code,
    shell:
        "python workflow/scripts/index_source.py --layout {params.layout} --source {wildcards.source}"
        " --folder {params.folder:q} --out {output.index} --report {output.report} &> {log}"


rule pack_images:
    """Decode every image once into a memory-mapped uint8 store; unreadable ones stop the run or are left out by name."""
    input:
        index="<store>/{source}/index.parquet",
    output:
        store="<store>/{source}/images.npy",
        manifest="<store>/{source}/images.json",
    log:  # the list of unreadable images is a log, since it must outlive a failed job
        text="<logs>/pack_images/{source}.log",
        quarantine="<store>/{source}/quarantine.csv",
    benchmark:
        "<benchmarks>/pack_images/{source}.jsonl"
    conda:
        "../envs/refers.yaml"
    threads: 8
    resources:
        tolerance=str(config["images"]["tolerance"]),  # no parameter: a new one makes no finished store again
        mem_mb=4000,
        runtime=720,
    params:
        folder=source_folder,
        size=config["images"]["size"],
        code=code("pack_images"),
    shell:
        "python workflow/scripts/pack_images.py --index {input.index} --folder {params.folder:q} --size {params.size}"
        " --tolerance {resources.tolerance} --out {output.store} --manifest {output.manifest}"
        " --quarantine {log.quarantine} --workers {threads} 2>&1 | tee {log.text}"


rule split_dataset:
    """Training, validation and test sets of a dataset, by patient."""
    input:
        index=index_of,
        manifest=manifest_of,
        lists=released_lists,
    output:
        split="<interim>/{dataset}/split.parquet",
        report="<interim>/{dataset}/split.json",
    log:
        "<logs>/split_dataset/{dataset}.log",
    benchmark:
        "<benchmarks>/split_dataset/{dataset}.jsonl"
    conda:
        "../envs/refers.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        config=lambda wildcards: as_json(STUDY.split_settings(wildcards.dataset)),
        lists=released_option,
        code=code("split_dataset"),
    shell:
        "python workflow/scripts/split_dataset.py --index {input.index} --manifest {input.manifest}"
        " --config {params.config:q} {params.lists} --out {output.split} --report {output.report} &> {log}"


rule check_split:
    """Leakage, one-sided classes and views of a split; what the config does not accept stops the run here."""
    input:
        split="<interim>/{dataset}/split.parquet",
        index=index_of,
        store=store_of,
    output:
        "<interim>/{dataset}/check.json",
    log:
        "<logs>/check_split/{dataset}.log",
    benchmark:
        "<benchmarks>/check_split/{dataset}.jsonl"
    conda:
        "../envs/refers.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        accept=accept_option,
        code=code("check_split"),
    shell:
        "python workflow/scripts/check_split.py --split {input.split} --index {input.index} --store {input.store}"
        " --dataset {wildcards.dataset} {params.accept} --out {output} 2>&1 | tee {log}"


rule label_subset:
    """The training images of a label ratio; 1 % lies inside 10 % inside 100 %."""
    input:
        split="<interim>/{dataset}/split.parquet",
    output:
        subset="<interim>/{dataset}/subset_{ratio}pct.csv",
        report="<interim>/{dataset}/subset_{ratio}pct.json",
    log:
        "<logs>/label_subset/{dataset}.{ratio}pct.log",
    benchmark:
        "<benchmarks>/label_subset/{dataset}.{ratio}pct.jsonl"
    conda:
        "../envs/refers.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        seed=config["subset"]["seed"],
        code=code("label_subset"),
    shell:
        "python workflow/scripts/label_subset.py --split {input.split} --ratio {wildcards.ratio} --seed {params.seed}"
        " --out {output.subset} --report {output.report} &> {log}"
