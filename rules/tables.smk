# The paper's tables, ours beside the printed numbers; a cell that cannot run says why.


localrules:
    table,
    cell_index,
    claims,


rule table:
    """One table as csv, Markdown, LaTeX and HTML, also printed."""
    input:
        cells=cells_of_table,
        tests=tests_of_table,
        reported="config/reported.csv",
    output:
        csv=report(
            "<results>/tables/{table}.csv",
            caption="../workflow/report/table.rst",
            category="Tables",
            labels=labels_of_table("csv"),
        ),
        markdown="<results>/tables/{table}.md",
        latex="<results>/tables/{table}.tex",
        html=report(
            "<results>/tables/{table}.html",
            caption="../workflow/report/table.rst",
            category="Tables",
            labels=labels_of_table("html"),
        ),
    log:
        "<logs>/table/{table}.log",
    benchmark:
        "<benchmarks>/table/{table}.jsonl"
    conda:
        "../envs/refers.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        spec=table_spec,
        code=code("table"),
    shell:
        "python workflow/scripts/table.py --spec {params.spec:q} --cells {input.cells} --ttests {input.tests}"
        " --reported {input.reported} --out-csv {output.csv} --out-md {output.markdown} --out-tex {output.latex}"
        " --out-html {output.html} 2>&1 | tee {log}"


rule cell_index:
    """Every printed number and the target that remakes it."""
    input:
        tables=expand("<results>/tables/{table}.csv", table=config["tables"]),
    output:
        index=report(
            "<results>/tables/cells.csv",
            caption="../workflow/report/cells.rst",
            category="Tables",
            labels={"table": "cells", "title": "Every number and its target", "form": "csv"},
        ),
    log:
        "<logs>/cell_index.log",
    benchmark:
        "<benchmarks>/cell_index.jsonl"
    conda:
        "../envs/refers.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        code=code("cell_index"),
    shell:
        "python workflow/scripts/cell_index.py --tables {input.tables} --out {output.index} &> {log}"


rule claims:
    """The paper's checkable sentences, judged on our tables and on the paper's own numbers."""
    input:
        claims="config/claims.yaml",
        tables=expand("<results>/tables/{table}.csv", table=config["tables"]),
        overlaps=overlaps_of_figures()[0],
        reported="config/reported.csv",
    output:
        csv=report(
            "<results>/claims.csv",
            caption="../workflow/report/claims.rst",
            category="Claims",
            labels={"title": "The paper's sentences, judged", "form": "csv"},
        ),
        markdown="<results>/claims.md",
    log:
        "<logs>/claims.log",
    benchmark:
        "<benchmarks>/claims.jsonl"
    conda:
        "../envs/refers.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        absent=as_json(overlaps_of_figures()[1]),
        within_points=config["verdict"]["within_points"],
        note=f"--note={config['note']}" if config.get("note") else "",
        code=code("claims"),
    shell:
        "python workflow/scripts/claims.py --claims {input.claims} --tables {input.tables} --overlaps {input.overlaps}"
        " --absent {params.absent:q} --within-points {params.within_points} --reported {input.reported}"
        " {params.note:q} --out-csv {output.csv} --out-md {output.markdown} &> {log}"
