# The crate: what an archive or a reviewer gets, docs/artifact.md. Its library lies beside Snakemake, as only this rule needs it.


localrules:
    crate,


rule crate:
    """An RO-Crate of the finished study: results, workflow, config, software and the run of everything."""
    input:
        workflow=files_of_workflow,
        tables=[
            *expand(paths.TABLE, table=CONFIG.tables, form=["csv", "md", "tex", "html"]),
            paths.CELL_INDEX,
            *pilots_of_page("csv"),
        ],
        figures=[*expand(paths.FIGURE, figure=CONFIG.figures, form=["pdf", "png"]), *pilots_of_page("png")],
        claims=[path for form in ("csv", "md") for path in [claims_of_study(form)] if path],
        cells=[cell_path(*triple) for triple in cells_of_tables()],
        tests=tests_of_tables(),
        page=paths.PAGE,
        records=[*records_of_encoders(), *records_of_tables()],
        encoders=encoders_to_publish(),
    output:
        directory(paths.CRATE),
    log:
        paths.log("crate"),
    benchmark:
        paths.benchmark("crate")
    conda:
        "../envs/refers.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=30,
    params:
        config=literal(STUDY_JSON),
        code=code_of("crate"),
    shell:
        '"$SNAKEMAKE_PYTHON" workflow/scripts/crate.py --config {params.config:q} --tables {input.tables:q}'
        " --figures {input.figures:q} --claims {input.claims:q} --cells {input.cells:q} --tests {input.tests:q}"
        " --page {input.page:q} --records {input.records:q} --out {output:q} &> {log:q}"
