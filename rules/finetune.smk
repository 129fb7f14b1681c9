# One fine-tune a cell and seed. Its predictions are the last thing that needs a GPU.


rule finetune:
    """Fine-tune an encoder on a dataset at a label ratio; validation picks the weights, the test set is read once."""
    input:
        encoder=encoder_of_cell,
        store=store_of,
        split="<interim>/{dataset}/split.parquet",
        subset="<interim>/{dataset}/subset_{ratio}pct.csv",
    output:
        predictions="<results>/runs/{method}/{dataset}/{ratio}pct/seed{seed}/predictions.parquet",
        record="<results>/runs/{method}/{dataset}/{ratio}pct/seed{seed}/run.json",
        metrics="<results>/runs/{method}/{dataset}/{ratio}pct/seed{seed}/metrics.jsonl",
    log:
        "<logs>/finetune/{method}.{dataset}.{ratio}pct.seed{seed}.log",
    benchmark:
        "<benchmarks>/finetune/{method}.{dataset}.{ratio}pct.seed{seed}.jsonl"
    conda:
        "../envs/refers.yaml"
    threads: 4
    resources:
        gpu=1,
        mem_mb=8000,
        runtime="1d",
    params:
        config=finetune_config,
        device=config["device"],
        code=code("finetune"),
    shell:
        "python workflow/scripts/finetune.py --config {params.config:q} --encoder {input.encoder} --store {input.store}"
        " --split {input.split} --subset {input.subset} --seed {wildcards.seed} --device {params.device}"
        " --out {output.predictions} &> {log}"
