# The data check. It has no inputs, and runs again every time.

import time


localrules:
    preflight,


rule preflight:
    """Which data are available, what is wrong with them, what to do next; --config preflight=full decodes every image."""
    output:
        "<results>/preflight.json",
    log:  # the list of unreadable images is a log, since it must outlive a failed job
        text="<logs>/preflight.log",
        unreadable="<logs>/unreadable.csv",
    benchmark:
        "<benchmarks>/preflight.jsonl"
    conda:
        "../envs/refers.yaml"
    threads: 8
    resources:
        mem_mb=4000,
        runtime=240,
    params:
        config=as_json(config),
        full="--full" if config.get("preflight") == "full" else "",
        asked=time.time(),  # never the same, so that the answer is never an old one
    shell:
        "python workflow/scripts/preflight.py --config {params.config:q} {params.full} --workers {threads}"
        " --unreadable {log.unreadable} --out {output} 2>&1 | tee {log.text}"
