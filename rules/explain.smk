# The account of a table cell. It reads what is there and makes nothing else, so it has no data among its inputs.

import time


localrules:
    explain,


rule explain:
    """Every file, digest, seed and setting behind a cell, whether they are still the same, and how it is remade."""
    input:
        schema="workflow/schemas/run.schema.json",
    output:
        account="<results>/explain/{method}/{dataset}/{ratio}pct.md",
    log:
        "<logs>/explain/{method}.{dataset}.{ratio}pct.log",
    benchmark:
        "<benchmarks>/explain/{method}.{dataset}.{ratio}pct.jsonl"
    conda:
        "../envs/refers.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=30,
    params:
        config=as_json(config),
        command=remake_command(),
        asked=time.time(),  # files change without a rule knowing, so that it looks again every time
    shell:
        "python workflow/scripts/explain.py --config {params.config:q} --command {params.command:q}"
        " --method {wildcards.method} --dataset {wildcards.dataset} --ratio {wildcards.ratio} --out {output.account}"
        " 2>&1 | tee {log}"
