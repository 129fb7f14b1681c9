# Predictions -> one file per table cell -> tests. All that follows needs only <results>/runs: no GPU, no torch, no data.


rule cell:
    """AUC of one table cell: per class and run, spreads over seeds and splits, standard error; test and validation set."""
    input:
        predictions=runs_of_cell("finetune"),
    output:
        auc=paths.CELL,
        resamples=paths.RESAMPLES,
    log:
        paths.log("cell"),
    benchmark:
        paths.benchmark("cell")
    conda:
        "../envs/refers.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        splits=splits_of_runs,
        seeds=seeds_of_runs,
        bootstrap=CONFIG.study.bootstrap.model_dump(include={"resamples", "seed"}),
        code=code_of("cell"),
    shell:
        "python workflow/scripts/cell.py --predictions {input.predictions:q} --splits {params.splits:q}"
        " --seeds {params.seeds:q}"
        " --method {wildcards.method:q} --dataset {wildcards.dataset:q} --ratio {wildcards.ratio:q}"
        " --resamples {params.bootstrap[resamples]:q} --bootstrap-seed {params.bootstrap[seed]:q} --out {output.auc:q} &> {log:q}"


use rule cell as probe_cell with:
    input:
        predictions=runs_of_cell("probe"),
    output:
        auc=paths.PROBE_CELL,
        resamples=paths.PROBE_RESAMPLES,
    log:
        paths.log("probe_cell"),
    benchmark:
        paths.benchmark("probe_cell")
    params:
        splits=lambda wildcards: STUDY.splits(wildcards.dataset),
        seeds=lambda wildcards: [0 for _ in STUDY.splits(wildcards.dataset)],  # a probe is deterministic
        bootstrap=CONFIG.study.bootstrap.model_dump(include={"resamples", "seed"}),
        code=code_of("cell"),


rule measures:
    """Measures of one table cell beside its AUC: average precision, Brier score, calibration error, sensitivity."""
    input:
        predictions=runs_of_cell("finetune"),
    output:
        measures=paths.MEASURES,
    log:
        paths.log("measures"),
    benchmark:
        paths.benchmark("measures")
    conda:
        "../envs/refers.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        splits=splits_of_runs,
        seeds=seeds_of_runs,
        bootstrap=CONFIG.study.bootstrap.model_dump(include={"resamples", "seed"}),
        measures=CONFIG.measures.model_dump(),
        code=code_of("measures"),
    shell:
        "python workflow/scripts/measures.py --predictions {input.predictions:q} --splits {params.splits:q}"
        " --seeds {params.seeds:q}"
        " --method {wildcards.method:q} --dataset {wildcards.dataset:q} --ratio {wildcards.ratio:q}"
        " --resamples {params.bootstrap[resamples]:q} --bootstrap-seed {params.bootstrap[seed]:q}"
        " --bins {params.measures[bins]:q} --specificity {params.measures[specificity]:q} --out {output.measures:q} &> {log:q}"


rule characteristics:
    """Sex, age and projection of the images of a download, out of its tables; kept with the results."""
    input:
        tables=tables_of_characteristics,
    output:
        characteristics=paths.CHARACTERISTICS,
        report=paths.CHARACTERISTICS_REPORT,
    log:
        paths.log("characteristics"),
    benchmark:
        paths.benchmark("characteristics")
    conda:
        "../envs/refers.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        folder=source_folder,
        layout=layout_of,
        names=characteristics_of_source,
        code=characteristics_code,
    shell:
        "python workflow/scripts/characteristics.py --layout={params.layout:q} --source {wildcards.source:q}"
        " --folder {params.folder:q} --names {params.names:q} --out {output.characteristics:q} --report {output.report:q} &> {log:q}"


rule subgroups:
    """AUC of one table cell by sex, age and projection, and the gaps between such groups."""
    input:
        predictions=runs_of_cell("finetune"),
        characteristics=characteristics_of,
    output:
        subgroups=paths.SUBGROUPS,
    log:
        paths.log("subgroups"),
    benchmark:
        paths.benchmark("subgroups")
    conda:
        "../envs/refers.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        splits=splits_of_runs,
        seeds=seeds_of_runs,
        bootstrap=CONFIG.study.bootstrap.model_dump(include={"resamples", "seed"}),
        names=characteristics_of_dataset,
        groups=CONFIG.subgroups.model_dump(),
        code=code_of("subgroups"),
    shell:
        "python workflow/scripts/subgroups.py --predictions {input.predictions:q} --splits {params.splits:q}"
        " --seeds {params.seeds:q}"
        " --method {wildcards.method:q} --dataset {wildcards.dataset:q} --ratio {wildcards.ratio:q}"
        " --resamples {params.bootstrap[resamples]:q} --bootstrap-seed {params.bootstrap[seed]:q}"
        " --characteristics {input.characteristics:q} --names {params.names:q} --ages {params.groups[ages]:q}"
        " --patients {params.groups[patients]:q} --out {output.subgroups:q} &> {log:q}"


rule ttest:
    """A method against a baseline: t-test over seeds as in the paper, Welch's, paired bootstrap and DeLong over images."""
    input:
        reference=paths.CELL,
        baseline=paths.fill(paths.CELL, method="{baseline}"),
        reference_predictions=runs_of_cell("finetune"),
        baseline_predictions=runs_of_baseline,
    output:
        test=paths.TTEST,
    log:
        paths.log("ttest"),
    benchmark:
        paths.benchmark("ttest")
    conda:
        "../envs/refers.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        splits=splits_of_runs,
        seeds=seeds_of_runs,
        bootstrap=CONFIG.study.bootstrap.model_dump(include={"resamples", "seed"}),
        code=code_of("ttest"),
    shell:
        "python workflow/scripts/ttest.py --reference {input.reference:q} --baseline {input.baseline:q}"
        " --reference-predictions {input.reference_predictions:q} --baseline-predictions {input.baseline_predictions:q}"
        " --splits {params.splits:q} --seeds {params.seeds:q}"
        " --resamples {params.bootstrap[resamples]:q} --bootstrap-seed {params.bootstrap[seed]:q} --out {output.test:q} &> {log:q}"
