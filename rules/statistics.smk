# Predictions -> one file a table cell -> tests. From here on a laptop without torch is enough.


rule cell:
    """AUC of one table cell: per class, per seed, mean and sd over seeds, on the test and the validation set."""
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
        code=code("cell"),
    shell:
        "python workflow/scripts/cell.py --predictions {input.predictions} --seeds {params.seeds}"
        " --method {wildcards.method} --dataset {wildcards.dataset} --ratio {wildcards.ratio} --out {output.auc} &> {log}"


rule ttest:
    """Two-sample t-test of a method against a baseline over seeds, as in the paper, and Welch's beside it."""
    input:
        reference="<results>/cells/{method}/{dataset}/{ratio}pct/auc.json",
        baseline="<results>/cells/{baseline}/{dataset}/{ratio}pct/auc.json",
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
        code=code("ttest"),
    shell:
        "python workflow/scripts/ttest.py --reference {input.reference} --baseline {input.baseline} --out {output.test} &> {log}"
