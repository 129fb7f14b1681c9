# A second protocol beside fine-tuning: a linear probe of the frozen encoder. Features are cached once per encoder and
# download; every column and split then takes seconds to minutes, without a GPU and without torch.


rule extract_features:
    """Features of a frozen encoder for every image of a download."""
    input:
        encoder=encoder_of_method,
        index=paths.INDEX,
        store=stores(paths.IMAGES),
        manifest=paths.MANIFEST,
    output:
        features=paths.FEATURES,
        record=paths.FEATURES_RECORD,
    log:
        paths.log("extract_features"),
    benchmark:
        paths.benchmark("extract_features")
    conda:
        "../envs/refers.yaml"
    threads: 4
    resources:
        gpu=1,
        mem_mb=with_pages(8000),
        runtime="4h",
    params:
        config=features_config,
        device=CONFIG.device,
        code=code_of("extract_features"),
    shell:
        "python workflow/scripts/extract_features.py --config {params.config:q} --encoder {input.encoder:q}"
        " --index {input.index:q} --store {input.store:q} --device {params.device:q} --out {output.features:q}"
        " --record {output.record:q} &> {log:q}"


rule probe:
    """A linear probe on a dataset at a label ratio; validation picks its penalty, the test set is read once."""
    input:
        features=features_of_cell,
        split=paths.SPLIT,
        subset=paths.SUBSET,
        check=paths.CHECK,
    output:
        predictions=paths.PROBE_PREDICTIONS,
        record=paths.PROBE_RECORD,
    log:
        paths.log("probe"),
    benchmark:
        paths.benchmark("probe")
    conda:
        "../envs/refers.yaml"
    threads: 2
    resources:
        mem_mb=6000,
        runtime="2h",
    params:
        config=probe_config,
        folder=subpath(output.predictions, parent=True),
        code=code_of("probe"),
    shell:
        "python workflow/scripts/probe.py --config {params.config:q} --features {input.features:q} --split {input.split:q}"
        " --subset {input.subset:q} --cell {wildcards.method:q} {wildcards.dataset:q} {wildcards.ratio:q} {wildcards.split:q}"
        " --out {params.folder:q} &> {log:q}"
