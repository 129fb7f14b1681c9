# The account of a table cell. It reads the files that exist and makes no others, so its inputs name no data.

import time


localrules:
    explain,


rule explain:
    """Every file, digest, seed and setting behind a cell, whether they are unchanged, and the commands that rerun it."""
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
        config=literal(STUDY_JSON),
        command=literal(remake_command()),
        asked=time.time(),  # its files are no inputs, so the account is made anew every time
    shell:
        "python workflow/scripts/explain.py --config {params.config:q} --command {params.command:q}"
        " --method {wildcards.method:q} --dataset {wildcards.dataset:q} --ratio {wildcards.ratio:q} --out {output.account:q}"
        " &> {log:q}"
