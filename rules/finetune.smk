# One job per cell and split runs its seeds in turn, since starting a process costs more than a small fine-tune. Nothing after the
# predictions needs a GPU, except class activation maps.


rule finetune:
    """Fine-tune an encoder on a dataset at a label ratio; validation picks the weights, the test set is read once."""
    input:
        encoder=encoder_of_cell,
        store=stores(of_source(paths.IMAGES)),
        manifest=of_source(paths.MANIFEST),
        split=paths.SPLIT,
        subset=paths.SUBSET,
        check=paths.CHECK,
    output:
        predictions=every_seed(paths.PREDICTIONS),
        records=every_seed(paths.RUN_RECORD),
        metrics=every_seed(paths.RUN_METRICS),
    log:
        paths.log("finetune"),
    benchmark:
        paths.benchmark("finetune")
    conda:
        GPU_ENVIRONMENT
    threads: 4
    resources:
        gpu=1,
        mem_mb=with_pages(8000),
        runtime="3d",
    params:
        config=finetune_config,
        seeds=STUDY.seeds,
        keep=keep_option,
        folder=subpath(output[0], ancestor=2),
        device=CONFIG.device,
        code=code_of("finetune"),
    shell:
        "python workflow/scripts/finetune.py --config {params.config:q} --encoder {input.encoder:q} --store {input.store:q}"
        " --split {input.split:q} --subset {input.subset:q} --seeds {params.seeds:q} {params.keep:q} --device {params.device:q}"
        " --cell {wildcards.method:q} {wildcards.dataset:q} {wildcards.ratio:q} {wildcards.split:q} --out {params.folder:q} &> {log:q}"


# Cells in a figure of class activation maps or in a table of external tests keep classifiers of their first split too. A rule has
# the same outputs for all wildcards, so this is another rule; threads and resources that are set for `finetune` hold for both (`asked_too`).
use rule finetune as finetune_kept with:
    output:
        **rules.finetune.output,
        classifiers=[paths.fill(paths.CLASSIFIER, seed=seed) for seed in STUDY.saved_seeds],
    wildcard_constraints:
        method=one_of(STUDY.saved_classifiers["method"]),
        dataset=one_of(STUDY.saved_classifiers["dataset"]),
        ratio=one_of(STUDY.saved_classifiers["ratio"]),
        split="0",


ruleorder: finetune_kept > finetune
