# Credentialed text: cleaned and tokenized below <interim>, never in <results>.


rule clean_reports:
    """Findings and Impression of every report; fewer than three tokens are dropped; every decision is counted."""
    input:
        index=of_mimic(paths.INDEX),
    output:
        reports=paths.REPORTS,
        funnel=paths.REPORTS_FUNNEL,
    log:
        paths.log("clean_reports"),
    benchmark:
        paths.benchmark("clean_reports")
    conda:
        "../envs/refers.yaml"
    threads: 4
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        folder=STUDY.folder("mimic") / "mimic-cxr-reports",
        code=code_of("clean_reports"),
    shell:
        "python workflow/scripts/clean_reports.py --reports {params.folder:q}"
        " --index {input.index:q} --workers {threads:q} --out {output.reports:q} --funnel {output.funnel:q} &> {log:q}"


rule build_text_encoder:
    """A small random BERT with a vocabulary of these reports, for studies whose config names no downloaded one."""
    input:
        reports=paths.REPORTS,
    output:
        [f"{paths.TEXT_ENCODER}/{name}" for name in TEXT_ENCODER_FILES],
    log:
        paths.log("build_text_encoder"),
    benchmark:
        paths.benchmark("build_text_encoder")
    conda:
        "../envs/refers.yaml"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=10,
    params:
        folder=subpath(output[0], parent=True),
        config=literal(as_json(CONFIG.text.build or {})),
        code=code_of("build_text_encoder"),
    shell:
        "python workflow/scripts/build_text_encoder.py --reports {input.reports:q} --config {params.config:q}"
        " --out {params.folder:q} &> {log:q}"


rule copy_text_encoder:
    """The BERT in a Python package; the package lies beside Snakemake, so that Snakemake's Python copies it under conda too."""
    output:
        [f"{paths.TEXT_PACKAGE}/{name}" for name in package_copies()],
    log:
        paths.log("copy_text_encoder"),
    benchmark:
        paths.benchmark("copy_text_encoder")
    conda:
        "../envs/refers.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
    params:
        folder=subpath(output[0], parent=True),
        package=literal(STUDY.text_package),
        digests=package_digests,
        code=code_of("copy_text_encoder"),
    shell:
        '"$SNAKEMAKE_PYTHON" workflow/scripts/copy_text_encoder.py'
        " --package {params.package:q} --out {params.folder:q} &> {log:q}"


rule tokenize_reports:
    """Report tokens, as written and with left and right swapped for flipped studies."""
    input:
        reports=paths.REPORTS,
        text_encoder=text_encoder_files,
    output:
        tokens=paths.TOKENS,
    log:
        paths.log("tokenize_reports"),
    benchmark:
        paths.benchmark("tokenize_reports")
    conda:
        "../envs/refers.yaml"
    threads: 2
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        text_encoder=text_encoder_folder,
        max_length=CONFIG.text.max_length,
        swap=CONFIG.text.swap,
        code=code_of("tokenize_reports"),
    shell:
        "python workflow/scripts/tokenize_reports.py --reports {input.reports:q} --text-encoder {params.text_encoder:q}"
        " --max-length {params.max_length:q} --swap {params.swap:q} --out {output.tokens:q} &> {log:q}"
