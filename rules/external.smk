# A dataset's classifiers on the test images of another one, for the findings that both label: the tables of config/external.yaml.
# Without such a table no target leads here.


rule predict:
    """Predict the test images of another dataset with the classifiers of a cell, which no job trains or chooses by them."""
    input:
        classifiers=classifiers_of_cell,
        predictions=every_seed(paths.PREDICTIONS, split=0),
        store=stores(of_other(paths.IMAGES)),
        manifest=of_other(paths.MANIFEST),
        split=of_other(paths.SPLIT),
        check=of_other(paths.CHECK),
    output:
        predictions=every_seed(paths.EXTERNAL_PREDICTIONS, split=0),
        records=every_seed(paths.EXTERNAL_RECORD, split=0),
    log:
        paths.log("predict"),
    benchmark:
        paths.benchmark("predict")
    conda:
        GPU_ENVIRONMENT
    threads: 4
    resources:
        gpu=1,
        mem_mb=with_pages(8000),
        runtime=60,
    params:
        config=finetune_config,
        seeds=STUDY.seeds,
        folder=subpath(output[0], ancestor=2),
        device=CONFIG.device,
        code=code_of("predict"),
    shell:
        "python workflow/scripts/predict.py --config {params.config:q} --classifiers {input.classifiers:q}"
        " --predictions {input.predictions:q} --seeds {params.seeds:q} --other {wildcards.other:q} --store {input.store:q}"
        " --split {input.split:q} --device {params.device:q}"
        " --cell {wildcards.method:q} {wildcards.dataset:q} {wildcards.ratio:q} 0 --out {params.folder:q} &> {log:q}"


rule external:
    """AUC of one table cell's classifiers on the test images of another dataset, for the findings that both label."""
    input:
        predictions=runs_of_cell("finetune"),
        external=every_seed(paths.EXTERNAL_PREDICTIONS, split=0),
        trained_there=predictions_of_other,
    output:
        external=paths.EXTERNAL,
    log:
        paths.log("external"),
    benchmark:
        paths.benchmark("external")
    conda:
        "../envs/refers.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        splits=splits_of_runs,
        seeds=seeds_of_runs,
        bootstrap=CONFIG.study.bootstrap.model_dump(include={"resamples", "seed"}),
        findings=shared_findings,
        code=code_of("external"),
    shell:
        "python workflow/scripts/external.py --predictions {input.predictions:q} --splits {params.splits:q}"
        " --seeds {params.seeds:q}"
        " --method {wildcards.method:q} --dataset {wildcards.dataset:q} --ratio {wildcards.ratio:q}"
        " --resamples {params.bootstrap[resamples]:q} --bootstrap-seed {params.bootstrap[seed]:q}"
        " --other {wildcards.other:q} --external {input.external:q} --trained-there {input.trained_there:q}"
        " --findings {params.findings:q} --out {output.external:q} &> {log:q}"
