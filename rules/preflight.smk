# The data check. It has no inputs, and runs again every time.

import time


localrules:
    preflight,


rule preflight:
    """Which data are available, what is wrong with them, what to do next; --config preflight=full decodes every image."""
    output:
        paths.PREFLIGHT,
    log:  # Snakemake deletes outputs of a failed job but not its logs, and the list of unreadable images must stay
        text=paths.log("preflight"),
        unreadable=paths.UNREADABLE,
    benchmark:
        paths.benchmark("preflight")
    conda:
        "../envs/refers.yaml"
    threads: 8
    resources:
        mem_mb=4000,
        runtime=240,
    params:
        config=literal(STUDY_JSON),
        full="--full" if CONFIG.preflight == "full" else "",
        asked=time.time(),  # never the same, so that the check runs every time
    shell:
        "python workflow/scripts/preflight.py --config {params.config:q} {params.full:q} --workers {threads:q}"
        " --unreadable {log.unreadable:q} --out {output:q} &> {log.text:q}"
