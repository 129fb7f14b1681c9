# Encoders to take away. It reads those that exist and trains none, so its inputs name no data.

import time


localrules:
    export,


rule export:
    """Every encoder that exists as a network that timm loads, with a model card; or a line that says why not."""
    input:
        [],
    output:
        directory(paths.EXPORTS),
    log:
        paths.log("export"),
    benchmark:
        paths.benchmark("export")
    conda:
        "../envs/refers.yaml"
    threads: 1
    resources:
        mem_mb=8000,
        runtime=30,
    params:
        facts=existing_encoders,
        asked=time.time(),  # its files are no inputs, so they are exported anew every time
    shell:
        "python workflow/scripts/export.py --facts {params.facts:q} --out {output:q} &> {log:q}"
