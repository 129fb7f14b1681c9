# REFERS, reproduced: from the official downloads to every table.
#
# Every path of a study is a pattern of workflow/scripts/refers/study/paths.py. Its folders (<results>, <store>, <interim>,
# <logs>, <benchmarks>) are pathvars, which an overlay may move, so that studies never mix. One table cell is one target:
#   <results>/cells/{method}/{dataset}/{ratio}pct/auc.json

from snakemake.utils import min_version

min_version("9.27")


configfile: "config/config.yaml"


report: "workflow/report/workflow.rst"


include: "rules/common.smk"


pathvars:
    **paths.FOLDERS,


include: "rules/preflight.smk"
include: "rules/demo.smk"
include: "rules/data.smk"
include: "rules/reports.smk"
include: "rules/pilots.smk"
include: "rules/pretrain.smk"
include: "rules/finetune.smk"
include: "rules/probe.smk"
include: "rules/statistics.smk"
include: "rules/external.smk"
include: "rules/tables.smk"
include: "rules/figures.smk"
include: "rules/page.smk"
include: "rules/crate.smk"
include: "rules/export.smk"
include: "rules/plan.smk"
include: "rules/explain.smk"
include: "rules/audit.smk"


onstart:
    stop_without_gpu()
    stop_without_allocation()
    prepare_answer()


onsuccess:
    give_answer()


localrules:
    tables,
    datasets,
    cells,
    encoders,
    figures,
    audit,


rule tables:
    """Every table, with the cells that can run, and the claims checked against them (default)."""
    default_target: True
    input:
        expand(paths.TABLE, table=CONFIG.tables, form="md"),
        index=paths.CELL_INDEX,
        claims=claims_of_study("md"),
        predictions=predictions_of_tables(),


rule figures:
    """Every figure, with the methods and cells that can run."""
    input:
        expand(paths.FIGURE, figure=CONFIG.figures, form="pdf"),


rule datasets:
    """All that comes before a GPU, of the available data: indexes, stores, cleaned reports, splits, checks, label subsets."""
    input:
        mimic=products_of_mimic(),
        splits=[path for cell in STUDY.cells for path in products_of_dataset(cell)],


rule cells:
    """Every cell that can run."""
    input:
        [path for method in STUDY.methods for path in cells_of(method)],


rule encoders:
    """Every encoder that can be made, and its model card."""
    input:
        [
            path
            for method in STUDY.methods
            if not AVAILABILITY.method_status(method)
            for path in (encoder_of(method), card_of(method))
        ],


rule audit:
    """The authors' released prediction files: AUCs beside the printed ones, pairs compared."""
    input:
        paths.fill(paths.AUDIT, file="audit.md"),


refuse_unknown_targets()
