# Official downloads -> one index schema, one image store, splits and label subsets.


rule index_source:
    """Read an official layout into the index schema: one row per image on disk."""
    input:
        tables=source_tables,
    output:
        index=paths.INDEX,
        report=paths.INDEX_REPORT,
    log:
        paths.log("index_source"),
    benchmark:
        paths.benchmark("index_source")
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
        "python workflow/scripts/index_source.py --layout={params.layout:q} --source {wildcards.source:q}"
        " --folder {params.folder:q} --out {output.index:q} --report {output.report:q} &> {log:q}"


rule pack_images:
    """Decode every image once into a memory-mapped uint8 store; unreadable ones stop the run, or are listed and left out."""
    input:
        index=paths.INDEX,
    output:
        store=paths.IMAGES,
        manifest=paths.MANIFEST,
    log:  # Snakemake deletes outputs of a failed job but not its logs, and the list of unreadable images must stay
        text=paths.log("pack_images"),
        quarantine=paths.QUARANTINE,
    benchmark:
        paths.benchmark("pack_images")
    conda:
        "../envs/refers.yaml"
    threads: 8
    resources:
        tolerance=str(CONFIG.images.tolerance),  # no parameter, so that a new value does not rebuild finished stores
        mem_mb=4000,
        runtime=720,
    params:
        folder=source_folder,
        size=CONFIG.images.size,
        code=code_of("pack_images"),
    shell:
        "python workflow/scripts/pack_images.py --index {input.index:q} --folder {params.folder:q} --size {params.size:q}"
        " --tolerance {resources.tolerance:q} --out {output.store:q} --manifest {output.manifest:q}"
        " --quarantine {log.quarantine:q} --workers {threads:q} &> {log.text:q}"


rule split_dataset:
    """Training, validation and test sets of a dataset, by patient; of several splits each is drawn with a seed of its own."""
    input:
        index=of_source(paths.INDEX),
        manifest=of_source(paths.MANIFEST),
        lists=released_lists,
    output:
        split=paths.SPLIT,
        report=paths.SPLIT_REPORT,
    log:
        paths.log("split_dataset"),
    benchmark:
        paths.benchmark("split_dataset")
    conda:
        "../envs/refers.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        config=split_config,
        lists=released_option,
        code=code_of("split_dataset"),
    shell:
        "python workflow/scripts/split_dataset.py --index {input.index:q} --manifest {input.manifest:q}"
        " --config {params.config:q} {params.lists:q} --out {output.split:q} --report {output.report:q} &> {log:q}"


rule check_split:
    """Leakage, classes with one label only and views of a split; leakage that the config does not accept stops the run."""
    input:
        split=paths.SPLIT,
        index=of_source(paths.INDEX),
        store=stores(of_source(paths.IMAGES)),
        manifest=of_source(paths.MANIFEST),
    output:
        paths.CHECK,
    log:
        paths.log("check_split"),
    benchmark:
        paths.benchmark("check_split")
    conda:
        "../envs/refers.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        accept=accept_option,
        minority=CONFIG.study.minority_patients,
        code=code_of("check_split"),
    shell:
        "python workflow/scripts/check_split.py --split {input.split:q} --index {input.index:q} --store {input.store:q}"
        " --dataset {wildcards.dataset:q} {params.accept:q} --minority-patients {params.minority:q} --out {output:q} &> {log:q}"


rule label_subset:
    """The training images of a label ratio; those of 1 % are a subset of those of 10 %."""
    input:
        split=paths.SPLIT,
    output:
        subset=paths.SUBSET,
        report=paths.SUBSET_REPORT,
    log:
        paths.log("label_subset"),
    benchmark:
        paths.benchmark("label_subset")
    conda:
        "../envs/refers.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        seed=subset_seed,
        training_seeds=training_seeds_option(),
        code=code_of("label_subset"),
    shell:
        "python workflow/scripts/label_subset.py --split {input.split:q} --ratio {wildcards.ratio:q} --seed {params.seed:q}"
        " {params.training_seeds:q} --out {output.subset:q} --report {output.report:q} &> {log:q}"
