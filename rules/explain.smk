# The account of a table cell. It reads what is there and makes nothing else, so it has no data among its inputs.

import time


localrules:
    explain,


rule explain:
    """Every file, digest, seed and setting behind a cell, whether they are still the same, and how it is remade."""
    input:
        schema="workflow/schemas/run.schema.json",
    output:
        account=paths.EXPLANATION,
    log:
        paths.log("explain"),
    benchmark:
        paths.benchmark("explain")
    conda:
        "../envs/refers.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=30,
    params:
        config=literal(as_json(config)),
        command=literal(remake_command()),
        asked=time.time(),  # files change without a rule knowing, so that it looks again every time
    shell:
        "python workflow/scripts/explain.py --config {params.config:q} --command {params.command:q}"
        " --method {wildcards.method:q} --dataset {wildcards.dataset:q} --ratio {wildcards.ratio:q} --out {output.account:q}"
        " 2>&1 | tee {log:q}"
