# What a study costs, before it runs. It needs no data; benchmark files of finished jobs replace its estimates.

import time


localrules:
    plan,


rule calibrate:
    """FLOPs and GPU memory of every kind of training step, and the speed of real ones on this machine."""
    input:
        demo=DEMO_CONFIG,
    output:
        paths.STEP_COSTS,
    log:
        paths.log("calibrate"),
    benchmark:
        paths.benchmark("calibrate")
    conda:
        "../envs/refers.yaml"
    threads: 4
    resources:
        gpu=gpu_to_time,
        mem_mb=12000,
        runtime=60,
    params:
        config=steps_config,
        methods=STUDY.priced_methods,
        steps=CONFIG.plan.steps,
        code=code_of("calibrate", methods=priced_objectives()),
    shell:
        "python workflow/scripts/calibrate.py --config {params.config:q} --methods {params.methods:q} --steps {params.steps:q}"
        " --demo {input.demo:q} --out {output:q} 2>&1 | tee {log:q}"


rule plan:
    """Jobs, GPU hours, memory and disk of the study by tier, and its schedule on several GPUs."""
    input:
        steps=paths.STEP_COSTS,
        demo=DEMO_CONFIG,
    output:
        plan=paths.fill(paths.PLAN, form="json"),
        targets=paths.fill(paths.PLAN, form="csv"),
        markdown=paths.fill(paths.PLAN, form="md"),
    log:
        paths.log("plan"),
    benchmark:
        paths.benchmark("plan")
    conda:
        "../envs/refers.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        config=literal(STUDY_JSON),
        resources=resources_of_rules,
        asked=time.time(),  # benchmark files are no inputs, so the plan is made anew every time
    shell:
        "python workflow/scripts/plan.py --config {params.config:q} --demo {input.demo:q} --steps {input.steps:q}"
        " --resources {params.resources:q} --out {output.plan:q} 2>&1 | tee {log:q}"
