# One job a cell, its seeds in turn: starting a program costs more than a small fine-tune. The predictions are the last thing that needs a GPU.


rule finetune:
    """Fine-tune an encoder on a dataset at a label ratio; validation picks the weights, the test set is read once."""
    input:
        encoder=encoder_of_cell,
        store=store_of,
        split="<interim>/{dataset}/split.parquet",
        subset="<interim>/{dataset}/subset_{ratio}pct.csv",
        check="<interim>/{dataset}/check.json",
    output:
        predictions=expand(
            "<results>/runs/{{method}}/{{dataset}}/{{ratio}}pct/seed{seed}/predictions.parquet",
            seed=STUDY.seeds,
        ),
        records=expand(
            "<results>/runs/{{method}}/{{dataset}}/{{ratio}}pct/seed{seed}/run.json", seed=STUDY.seeds
        ),
        metrics=expand(
            "<results>/runs/{{method}}/{{dataset}}/{{ratio}}pct/seed{seed}/metrics.jsonl", seed=STUDY.seeds
        ),
    log:
        "<logs>/finetune/{method}.{dataset}.{ratio}pct.log",
    benchmark:
        "<benchmarks>/finetune/{method}.{dataset}.{ratio}pct.jsonl"
    conda:
        GPU_ENVIRONMENT
    threads: 4
    resources:
        gpu=1,
        mem_mb=8000,
        runtime="3d",
    params:
        config=finetune_config,
        seeds=STUDY.seeds,
        keep=keep_option,
        folder=subpath(output[0], ancestor=2),
        device=config["device"],
        code=code("finetune"),
    shell:
        "python workflow/scripts/finetune.py --config {params.config:q} --encoder {input.encoder} --store {input.store}"
        " --split {input.split} --subset {input.subset} --seeds {params.seeds} {params.keep} --device {params.device}"
        " --out {params.folder} &> {log}"


use rule finetune as finetune_kept with:
    output:
        **rules.finetune.output,
        classifier=f"<results>/runs/{{method}}/{{dataset}}/{{ratio}}pct/seed{STUDY.seeds[0]}/classifier.safetensors",
    wildcard_constraints:
        method=one_of(STUDY.saved_classifiers["method"]),
        dataset=one_of(STUDY.saved_classifiers["dataset"]),
        ratio=one_of(STUDY.saved_classifiers["ratio"]),


ruleorder: finetune_kept > finetune
