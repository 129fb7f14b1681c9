# The authors' released prediction files, measured. No other rule reads the result.


rule audit_released:
    """AUCs of the released files beside the printed ones, and the similarity of files of the same test set."""
    input:
        released=released_results,
        lists=released_test_lists,
        reported="config/reported.csv",
    output:
        auc=paths.fill(paths.AUDIT, file="auc.csv"),
        pairs=paths.fill(paths.AUDIT, file="pairs.csv"),
        summary=paths.fill(paths.AUDIT, file="audit.md"),
    log:
        paths.log("audit_released"),
    benchmark:
        paths.benchmark("audit_released")
    conda:
        "../envs/refers.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        folder=subpath(output.summary, parent=True),
        lists=lambda wildcards, input: option("--lists", input.lists),
        spec=literal(as_json(STUDY.audit)),
        bootstrap=CONFIG.study.bootstrap.model_dump(),
        code=code_of("audit_released"),
    shell:
        "python workflow/scripts/audit_released.py --released {input.released:q} {params.lists:q} --spec {params.spec:q}"
        " --reported {input.reported:q} --resamples {params.bootstrap[resamples]:q}"
        " --bootstrap-seed {params.bootstrap[seed]:q} --out {params.folder:q} &> {log:q}"
