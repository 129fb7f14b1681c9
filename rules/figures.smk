# Figures, out of cells, predictions and training curves.


rule figure:
    """One figure of the study, as PDF and PNG; what cannot run here is named below it."""
    input:
        sources_of_figure,
    output:
        multiext("<results>/figures/{figure}", ".pdf", ".png"),
    log:
        "<logs>/figure/{figure}.log",
    benchmark:
        "<benchmarks>/figure/{figure}.jsonl"
    conda:
        "../envs/refers.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        spec=figure_spec,
        code=code("figure"),
    shell:
        "python workflow/scripts/figure.py --spec {params.spec:q} --inputs {input:q} --out {output[0]} &> {log}"
