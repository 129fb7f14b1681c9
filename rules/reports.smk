# Credentialed text: cleaned and tokenized below <interim>, never in <results>.


rule clean_reports:
    """Findings and Impression of every report; fewer than three tokens are dropped; every decision is counted."""
    input:
        index="<store>/mimic/index.parquet",
    output:
        reports="<store>/mimic/reports.parquet",
        funnel="<store>/mimic/reports.json",
    log:
        "<logs>/clean_reports.log",
    benchmark:
        "<benchmarks>/clean_reports.jsonl"
    conda:
        "../envs/refers.yaml"
    threads: 4
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        folder=STUDY.folder("mimic"),
        code=code("clean_reports"),
    shell:
        "python workflow/scripts/clean_reports.py --reports {params.folder:q}/mimic-cxr-reports"
        " --index {input.index} --workers {threads} --out {output.reports} --funnel {output.funnel} 2>&1 | tee {log}"


rule build_text_encoder:
    """A small random BERT with a vocabulary of these reports, for studies whose config names no downloaded one."""
    input:
        reports="<store>/mimic/reports.parquet",
    output:
        multiext("<interim>/mimic/text_encoder/", "config.json", "model.safetensors"),
    log:
        "<logs>/build_text_encoder.log",
    benchmark:
        "<benchmarks>/build_text_encoder.jsonl"
    conda:
        "../envs/refers.yaml"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=10,
    params:
        folder=subpath(output[0], parent=True),
        config=as_json(config["text"].get("build", {})),
        code=code("build_text_encoder"),
    shell:
        "python workflow/scripts/build_text_encoder.py --reports {input.reports} --config {params.config:q}"
        " --out {params.folder} &> {log}"


rule tokenize_reports:
    """Report tokens, as written and with left and right swapped for flipped studies."""
    input:
        reports="<store>/mimic/reports.parquet",
        text_encoder=text_encoder_files,
    output:
        tokens="<interim>/mimic/tokens.npz",
    log:
        "<logs>/tokenize_reports.log",
    benchmark:
        "<benchmarks>/tokenize_reports.jsonl"
    conda:
        "../envs/refers.yaml"
    threads: 2
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        max_length=config["text"]["max_length"],
        swap=config["text"]["swap"],
        code=code("tokenize_reports"),
    shell:
        "python workflow/scripts/tokenize_reports.py --reports {input.reports} --text-encoder $(dirname {input.text_encoder[0]:q})"
        " --max-length {params.max_length} --swap {params.swap} --out {output.tokens} &> {log}"
