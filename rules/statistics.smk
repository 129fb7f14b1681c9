# Predictions -> one file a table cell -> tests. From here on a laptop is enough: no torch, no download, only <results>/runs.


rule cell:
    """AUC of one table cell: per class, per seed, mean and sd over seeds, bootstrap intervals; test and validation set."""
    input:
        predictions=seeds_of_cell,
    output:
        auc="<results>/cells/{method}/{dataset}/{ratio}pct/auc.json",
    log:
        "<logs>/cell/{method}.{dataset}.{ratio}pct.log",
    benchmark:
        "<benchmarks>/cell/{method}.{dataset}.{ratio}pct.jsonl"
    conda:
        "../envs/refers.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        seeds=config["study"]["seeds"],
        bootstrap={key: config["study"]["bootstrap"][key] for key in ("resamples", "seed")},
        code=code("cell"),
    shell:
        "python workflow/scripts/cell.py --predictions {input.predictions} --seeds {params.seeds}"
        " --method {wildcards.method} --dataset {wildcards.dataset} --ratio {wildcards.ratio}"
        " --resamples {params.bootstrap[resamples]} --bootstrap-seed {params.bootstrap[seed]} --out {output.auc} &> {log}"


rule ttest:
    """A method against a baseline: t-test over seeds as in the paper, Welch's, paired bootstrap and DeLong over images."""
    input:
        reference="<results>/cells/{method}/{dataset}/{ratio}pct/auc.json",
        baseline="<results>/cells/{baseline}/{dataset}/{ratio}pct/auc.json",
        reference_predictions=seeds_of_cell,
        baseline_predictions=seeds_of_baseline,
    output:
        test="<results>/ttests/{dataset}/{ratio}pct/{method}_vs_{baseline}.json",
    log:
        "<logs>/ttest/{dataset}.{ratio}pct.{method}_vs_{baseline}.log",
    benchmark:
        "<benchmarks>/ttest/{dataset}.{ratio}pct.{method}_vs_{baseline}.jsonl"
    conda:
        "../envs/refers.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        bootstrap={key: config["study"]["bootstrap"][key] for key in ("resamples", "seed")},
        code=code("ttest"),
    shell:
        "python workflow/scripts/ttest.py --reference {input.reference} --baseline {input.baseline}"
        " --reference-predictions {input.reference_predictions} --baseline-predictions {input.baseline_predictions}"
        " --resamples {params.bootstrap[resamples]} --bootstrap-seed {params.bootstrap[seed]} --out {output.test} &> {log}"
