# The page: all results in one HTML file that opens from disk.


localrules:
    page,


rule page:
    """Tables, figures and claims, with the provenance of each number."""
    input:
        tables=[*expand(paths.TABLE, table=CONFIG.tables, form="html"), *pilots_of_page("html")],
        numbers=expand(paths.TABLE, table=tables_of_auc(), form="csv"),
        latex=expand(paths.TABLE, table=CONFIG.tables, form="tex"),
        figures=[*expand(paths.FIGURE, figure=CONFIG.figures, form="png"), *pilots_of_page("png")],
        claims=claims_of_study("csv"),
        records=records_of_tables(),
        ttests=tests_of_tables(),
        assets=["workflow/report/page.css", "workflow/report/page.js"],
    output:
        paths.PAGE,
    log:
        paths.log("page"),
    benchmark:
        paths.benchmark("page")
    conda:
        "../envs/refers.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        note=literal(CONFIG.note),
        captions=captions_of_page,
        claims=claims_option,
        credits=literal(SPECS.credits()),
        remake=literal(remake_command()),
        # no inputs: the page is complete without them, and they take training steps
        encoders=encoders_on_page,
        plan=shown_on_page(paths.PLAN),
        gpu_check=shown_on_page(paths.GPU_CHECK),
        code=code_of("page"),
    shell:
        "python workflow/scripts/page.py --title 'REFERS, reproduced' --note={params.note:q} --command {params.remake:q}"
        " --tables {input.tables:q} --numbers {input.numbers:q} --latex {input.latex:q} --figures {input.figures:q} --captions {params.captions:q} {params.claims:q}"
        " --credits {params.credits:q} --records {input.records:q} --encoders {params.encoders[path]:q} --ttests {input.ttests:q} --plan {params.plan[path]:q}"
        " --gpu-check {params.gpu_check[path]:q} --out {output:q} &> {log:q}"
