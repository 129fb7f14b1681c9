# What a study costs, before it runs. It needs no data; benchmark files of finished jobs replace its estimates.

import time


localrules:
    plan,
    gpu_check,


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
        # no output: Snakemake would delete it before the job runs
        cache=str(STUDY.resolve(paths.STEP_CACHE)),
        code=code_of("calibrate", methods=priced_objectives()),
    shell:
        "python workflow/scripts/calibrate.py --config {params.config:q} --methods {params.methods:q} --steps {params.steps:q}"
        " --demo {input.demo:q} --cache {params.cache:q} --out {output:q} &> {log:q}"


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
        # no input: a plan needs no GPU
        checked=str(STUDY.resolve(paths.GPU_CHECK, form="json")),
        asked=time.time(),  # benchmark files are no inputs, so the plan is made anew every time
    shell:
        "python workflow/scripts/plan.py --config {params.config:q} --demo {input.demo:q} --steps {input.steps:q}"
        " --gpu-check {params.checked:q} --resources {params.resources:q} --out {output.plan:q} &> {log:q}"


rule check_gpu:
    """Real steps of every method on random data on one GPU, a resume, a lack of memory, the lock: rows, failed ones too."""
    input:
        steps=paths.STEP_COSTS,
    output:
        json=paths.fill(paths.GPU_CHECK, form="json"),
        csv=paths.fill(paths.GPU_CHECK, form="csv"),
        markdown=paths.fill(paths.GPU_CHECK, form="md"),
    log:
        paths.log("check_gpu"),
    benchmark:
        paths.benchmark("check_gpu")
    conda:
        GPU_ENVIRONMENT
    threads: 4
    resources:
        gpu=int(CONFIG.device != "cpu"),
        mem_mb=24000,
        runtime=2 + CONFIG.gpu_check.seconds // 60,
    params:
        config=literal(STUDY_JSON),
        asked=time.time(),  # who asks for it asks about the GPU of now
    shell:
        "python workflow/scripts/gpu_check.py --config {params.config:q} --steps {input.steps:q} --out {output.json:q}"
        " &> {log:q}"


rule gpu_check:
    """Ten minutes on a GPU before days are booked: the rows of check_gpu, printed; a failed one is exit code 1."""
    input:
        paths.fill(paths.GPU_CHECK, form="json"),
    log:
        paths.log("gpu_check"),
    benchmark:
        paths.benchmark("gpu_check")
    conda:
        "../envs/refers.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    shell:
        "python workflow/scripts/gpu_check.py --judge {input:q} &> {log:q}"
