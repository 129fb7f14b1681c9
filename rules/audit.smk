# The authors' released prediction files, measured; an input of nothing else.


rule audit_released:
    """AUCs of the released files beside the printed ones, and how alike the files of a test set are."""
    input:
        released=released_results,
        lists=released_test_lists,
        reported="config/reported.csv",
    output:
        auc="<results>/audit/auc.csv",
        pairs="<results>/audit/pairs.csv",
        summary="<results>/audit/audit.md",
    log:
        "<logs>/audit_released.log",
    benchmark:
        "<benchmarks>/audit_released.jsonl"
    conda:
        "../envs/refers.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        folder=subpath(output.summary, parent=True),
        lists=lambda wildcards, input: "--lists" if input.lists else "",
        spec=as_json(STUDY.audit),
        bootstrap=config["study"]["bootstrap"],
        code=code("audit_released"),
    shell:
        "python workflow/scripts/audit_released.py --released {input.released:q} {params.lists} {input.lists:q} --spec {params.spec:q} --reported {input.reported}"
        " --resamples {params.bootstrap[resamples]} --bootstrap-seed {params.bootstrap[seed]} --out {params.folder} &> {log}"
