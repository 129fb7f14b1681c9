# The paper's tables, our numbers beside the printed ones; a cell that cannot run says why.


localrules:
    table,
    cell_index,
    claims,


rule table:
    """One table as csv, Markdown, LaTeX and HTML, also printed."""
    input:
        cells=cells_of_table,
        measured=measured_of_table,
        tests=tests_of_table,
        reported="config/reported.csv",
    output:
        csv=report(
            paths.fill(paths.TABLE, form="csv"),
            caption="../workflow/report/table.rst",
            category="Tables",
            labels=labels_of_table("csv"),
        ),
        markdown=paths.fill(paths.TABLE, form="md"),
        latex=paths.fill(paths.TABLE, form="tex"),
        html=report(
            paths.fill(paths.TABLE, form="html"),
            caption="../workflow/report/table.rst",
            category="Tables",
            labels=labels_of_table("html"),
        ),
    log:
        paths.log("table"),
    benchmark:
        paths.benchmark("table")
    conda:
        "../envs/refers.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        spec=table_spec,
        code=code_of("table"),
    shell:
        "python workflow/scripts/table.py --spec {params.spec:q} --cells {input.cells:q} --measured {input.measured:q}"
        " --ttests {input.tests:q}"
        " --reported {input.reported:q} --out-csv {output.csv:q} --out-md {output.markdown:q} --out-tex {output.latex:q}"
        " --out-html {output.html:q} &> {log:q}"


rule cell_index:
    """The target of every printed number."""
    input:
        tables=expand(paths.TABLE, table=CONFIG.tables, form="csv"),
    output:
        index=report(
            paths.CELL_INDEX,
            caption="../workflow/report/cells.rst",
            category="Tables",
            labels={"table": "cells", "title": "Every number and its target", "form": "csv"},
        ),
    log:
        paths.log("cell_index"),
    benchmark:
        paths.benchmark("cell_index")
    conda:
        "../envs/refers.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        code=code_of("cell_index"),
    shell:
        "python workflow/scripts/cell_index.py --tables {input.tables:q} --out {output.index:q} &> {log:q}"


rule claims:
    """The paper's claims, checked against our tables and against the paper's own numbers."""
    input:
        claims=CONFIG.claims or [],
        tables=judged_tables(),
        cells=[cell_path(*pair) for pair in finetuned_of_tables()],
        resamples=resamples_of_tables(),
        overlaps=overlaps_of_figures()[0],
        reports=reports_of_tables(),
        reported="config/reported.csv",
    output:
        csv=report(
            paths.fill(paths.CLAIMS, form="csv"),
            caption="../workflow/report/claims.rst",
            category="Claims",
            labels={"title": "The paper's claims, checked", "form": "csv"},
        ),
        markdown=paths.fill(paths.CLAIMS, form="md"),
    log:
        paths.log("claims"),
    benchmark:
        paths.benchmark("claims")
    conda:
        "../envs/refers.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        incomparable=literal(as_json(STUDY.incomparable())),
        undefined=CONFIG.study.bootstrap.undefined,
        absent=literal(as_json(overlaps_of_figures()[1])),
        within_points=CONFIG.verdict.margin,
        note=literal(CONFIG.note),
        code=code_of("claims"),
    shell:
        "python workflow/scripts/claims.py --claims {input.claims:q} --tables {input.tables:q} --cells {input.cells:q}"
        " --undefined {params.undefined:q} --overlaps {input.overlaps:q} --absent {params.absent:q}"
        " --within-points {params.within_points:q} --reports {input.reports:q} --incomparable {params.incomparable:q} --reported {input.reported:q}"
        " --note={params.note:q} --out-csv {output.csv:q} --out-md {output.markdown:q} &> {log:q}"
