# REFERS, reproduced: from the official downloads to every table.
#
# Where things lie (<results>, <store>, <interim>, <logs>, <benchmarks> are pathvars; overlays move them, so studies never mix):
#   <store>/{source}/index.parquet  images.npy                           what was downloaded, in one schema and one store
#   <store>/mimic/reports.parquet  <interim>/mimic/tokens.npz            credentialed text; never in <results>
#   <interim>/{dataset}/split.parquet  subset_{ratio}pct.csv             who is trained, validated and tested on
#   <interim>/{dataset}/check.json                                       leakage, one-sided classes, views of a split
#   <results>/encoders/{method}/encoder.safetensors  run.json  metrics.jsonl
#   <results>/runs/{method}/{dataset}/{ratio}pct/seed{seed}/predictions.parquet  run.json
#   <results>/cells/{method}/{dataset}/{ratio}pct/auc.json               ONE TABLE CELL = ONE TARGET
#   <results>/ttests/{dataset}/{ratio}pct/{method}_vs_{baseline}.json
#   <results>/tables/{table}.csv .md .tex .html   cells.csv              printed number -> its target
#   <results>/figures/{figure}.pdf .png
#   <results>/rules.csv                                                  what each rule needs (Figure 1)
#   <results>/claims.csv .md                                             the paper's sentences, judged
#   <results>/index.html                                                 the page: all of it, with the provenance of each number
#   <results>/preflight.json                                             the preflight report
#   <results>/explain/{method}/{dataset}/{ratio}pct.md                   what is behind a cell, and whether it is still that
#   <results>/plan/plan.json .csv .md  steps.json                        what the study costs, target by target
#   <results>/audit/auc.csv  pairs.csv  audit.md                         the authors' released predictions, measured

from snakemake.utils import min_version

min_version("9.27")


configfile: "config/config.yaml"


report: "workflow/report/workflow.rst"


pathvars:
    store="build/store",
    interim="build/interim",


include: "rules/common.smk"
include: "rules/preflight.smk"
include: "rules/demo.smk"
include: "rules/data.smk"
include: "rules/reports.smk"
include: "rules/pretrain.smk"
include: "rules/finetune.smk"
include: "rules/statistics.smk"
include: "rules/tables.smk"
include: "rules/figures.smk"
include: "rules/page.smk"
include: "rules/plan.smk"
include: "rules/explain.smk"
include: "rules/audit.smk"


onstart:
    stop_without_gpu()


localrules:
    tables,
    datasets,
    cells,
    encoders,
    figures,
    audit,


rule tables:
    """Every table, with whatever cells can run here, and the claims judged on them (default)."""
    default_target: True
    input:
        expand("<results>/tables/{table}.md", table=config["tables"]),
        index="<results>/tables/cells.csv",
        claims="<results>/claims.md",
        predictions=predictions_of_tables(),


rule figures:
    """Every figure, with whatever can run here."""
    input:
        expand("<results>/figures/{figure}.pdf", figure=config["figures"]),


rule datasets:
    """All that comes before a GPU: indexes, stores, cleaned reports, splits, their checks, label subsets; of whatever is here."""
    input:
        mimic=products_of_mimic(),
        splits=[path for cell in STUDY.cells for path in products_of_dataset(cell)],


rule cells:
    """Every cell that can run here."""
    input:
        [path for method in STUDY.methods for path in cells_of(method)],


rule encoders:
    """Every encoder that can be made here."""
    input:
        [encoder_path(method) for method in STUDY.methods if not STUDY.method_status(method)],


rule audit:
    """The authors' released prediction files: AUCs beside the printed ones, pairs compared."""
    input:
        "<results>/audit/audit.md",
