# The page: everything that a reader wants to see, in one file that opens from disk.


localrules:
    page,


rule page:
    """Tables, figures and claims, and behind each number where it comes from."""
    input:
        tables=expand("<results>/tables/{table}.html", table=config["tables"]),
        figures=expand("<results>/figures/{figure}.png", figure=config["figures"]),
        claims="<results>/claims.csv",
        records=records_of_tables(),
        ttests=tests_of_tables(),
        assets=["workflow/report/page.css", "workflow/report/page.js"],
    output:
        "<results>/index.html",
    log:
        "<logs>/page.log",
    benchmark:
        "<benchmarks>/page.jsonl"
    conda:
        "../envs/refers.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        note=f"--note={config['note']}" if config.get("note") else "",
        captions=as_json({name: entry["title"] for name, entry in config["figures"].items()}),
        remake=remake_command(),
        code=code("page"),
    shell:
        "python workflow/scripts/page.py --title 'REFERS, reproduced' {params.note:q} --command {params.remake:q}"
        " --tables {input.tables} --figures {input.figures} --captions {params.captions:q} --claims {input.claims}"
        " --records {input.records} --ttests {input.ttests} --out {output} &> {log}"
