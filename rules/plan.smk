# What a study costs, before it runs. Like preflight it has no inputs; finished jobs make it exact.

import time


localrules:
    plan,


rule calibrate:
    """FLOPs and GPU memory of every kind of training step, and the speed of twenty real ones on this machine."""
    input:
        demo=DEMO_CONFIG,
    output:
        "<results>/plan/steps.json",
    log:
        "<logs>/calibrate.log",
    benchmark:
        "<benchmarks>/calibrate.jsonl"
    conda:
        "../envs/refers.yaml"
    threads: 4
    resources:
        gpu=gpu_to_time,
        mem_mb=12000,
        runtime=60,
    params:
        config=steps_config,
        code=code("calibrate", *objective_files()),
    shell:
        "python workflow/scripts/calibrate.py --config {params.config:q} --demo {input.demo} --out {output} 2>&1 | tee {log}"


rule plan:
    """Jobs, GPU hours, memory and disk of the study by tier, and its schedule on several GPUs."""
    input:
        steps="<results>/plan/steps.json",
        demo=DEMO_CONFIG,
    output:
        plan="<results>/plan/plan.json",
        targets="<results>/plan/plan.csv",
        markdown="<results>/plan/plan.md",
    log:
        "<logs>/plan.log",
    benchmark:
        "<benchmarks>/plan.jsonl"
    conda:
        "../envs/refers.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        config=as_json(config),
        resources=resources_of_rules,
        asked=time.time(),  # benchmark files come and go, so that it looks again every time
    shell:
        "python workflow/scripts/plan.py --config {params.config:q} --demo {input.demo} --steps {input.steps}"
        " --resources {params.resources:q} --out {output.plan} 2>&1 | tee {log}"
