# The config, checked, and every helper of the rules; nothing else.

import json
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import validate

sys.path.insert(0, str(Path(workflow.basedir) / "workflow/scripts"))

from refers import study
from refers.errors import UserError


def checked_study():
    """The config as a study; a mistake in it is one line."""
    try:
        validate(config, "../workflow/schemas/config.schema.yaml", set_default=False)
    except WorkflowError as error:
        lines = str(error).splitlines()
        reason = next((line for line in lines if line.startswith("ValidationError")), lines[0])
        place = next((line for line in lines if line.startswith("On instance")), "").replace(
            "On instance", "config"
        )
        raise WorkflowError(f"{place} {reason.removeprefix('ValidationError: ')}".strip()) from None
    try:
        return study.check(config)
    except UserError as error:
        raise WorkflowError(f"config: {error}") from None


STUDY = checked_study()


wildcard_constraints:
    source="|".join(config["sources"]),
    dataset="|".join(config["datasets"]),
    method="|".join(config["methods"]),
    baseline="|".join(config["methods"]),
    table="|".join(config["tables"]),
    ratio=r"\d+",
    seed=r"\d+",


def one_line(question):
    """Turn a library's UserError into Snakemake's one-line error."""

    def answer(wildcards):
        try:
            return question(wildcards)
        except UserError as error:
            raise WorkflowError(str(error)) from None

    return answer


def code(script, *extra):
    """Parameter that changes when a statement changes in the script or in the library behind it."""
    return study.code_of(script, *extra)


def as_json(settings):
    """Settings as one canonical command-line argument."""
    return json.dumps(settings, sort_keys=True)


def source_of(wildcards):
    """Source of a dataset."""
    return STUDY.dataset(wildcards.dataset)["source"]


def index_of(wildcards):
    return f"<store>/{source_of(wildcards)}/index.parquet"


def store_of(wildcards):
    return f"<store>/{source_of(wildcards)}/images.npy"


def manifest_of(wildcards):
    return f"<store>/{source_of(wildcards)}/images.json"


def source_folder(wildcards):
    return STUDY.folder(wildcards.source)


def layout_of(wildcards):
    return config["sources"][wildcards.source]["layout"]


def adapter_code(wildcards):
    return code("index_source", f"refers/datasets/{layout_of(wildcards)}.py")


@one_line
def source_tables(wildcards):
    """Official tables of a source; an absent download is one line."""
    if reason := STUDY.source_status(wildcards.source):
        raise UserError(reason)
    return STUDY.source_files(wildcards.source)


def is_released(wildcards):
    return STUDY.dataset(wildcards.dataset)["split"]["kind"] == "released"


def released_lists(wildcards):
    """The authors' lists, for datasets that are split by them."""
    return sorted(STUDY.released_lists(wildcards.dataset).glob("*.txt")) if is_released(wildcards) else []


def released_option(wildcards):
    return f"--lists {STUDY.released_lists(wildcards.dataset)}" if is_released(wildcards) else ""


def text_encoder_folder(wildcards):
    """Folder of the downloaded BERT, or of the one built from the reports."""
    return STUDY.text_encoder or "<interim>/mimic/text_encoder"


def text_encoder_files(wildcards):
    return [f"{text_encoder_folder(wildcards)}/{name}" for name in ("config.json", "model.safetensors")]


def pretrain_config(wildcards):
    return as_json(STUDY.pretrain_settings(wildcards.method))


def objective_code(wildcards):
    objective = STUDY.pretrain_settings(wildcards.method)["objective"]
    return code("pretrain", f"refers/methods/{objective}.py")


def is_imported(method):
    return "checkpoint" in STUDY.method(method)


def checkpoint_of(wildcards):
    """The checkpoint of a method that is imported rather than pre-trained."""
    path = STUDY.method(wildcards.method)["checkpoint"]
    return "<interim>/random_vit.npz" if path == "random" else path


def init_encoder(wildcards):
    """The encoder that pre-training starts from: none, or ImageNet's."""
    start = STUDY.pretrain_settings(wildcards.method)["init"]
    return encoder_path("imagenet") if start == "imagenet" else []


def init_option(wildcards, input):
    return f"--init {input.init}" if input.init else ""


def encoder_path(method):
    return f"<results>/encoders/{method}/encoder.safetensors"


def methods_where(imported):
    """Regular expression of the methods that are imported, or of those that are pre-trained."""
    return "|".join(method for method in config["methods"] if is_imported(method) == imported) or "none"


@one_line
def encoder_of_cell(wildcards):
    """The encoder of a fine-tune; a cell outside the study, or one that cannot run, is one line."""
    STUDY.require(wildcards.method, wildcards.dataset, int(wildcards.ratio))
    return encoder_path(wildcards.method)


def finetune_config(wildcards):
    return as_json(STUDY.finetune_settings(wildcards.method, wildcards.dataset, wildcards.ratio))


def cell_path(method, cell):
    return f"<results>/cells/{method}/{cell.dataset}/{cell.ratio}pct/auc.json"


def cells_of(method):
    """Cells of a method that can run here."""
    return [cell_path(method, cell) for cell in STUDY.cells if STUDY.runs(method, cell)]


def prediction_paths(method, dataset, ratio):
    """Predictions of every seed of a cell."""
    folder = f"<results>/runs/{method}/{dataset}/{ratio}pct"
    return [f"{folder}/seed{seed}/predictions.parquet" for seed in STUDY.seeds]


@one_line
def seeds_of_cell(wildcards):
    """Predictions behind a cell; one outside the study, or one that cannot run, is one line."""
    STUDY.require(wildcards.method, wildcards.dataset, int(wildcards.ratio))
    return prediction_paths(wildcards.method, wildcards.dataset, wildcards.ratio)


def predictions_of_tables():
    """Predictions behind every table. Targets name them, since Snakemake does not miss a lost intermediate file."""
    cells = {pair for table in config["tables"] for pair in STUDY.table_cells(table)}
    return [path for method, cell in sorted(cells) for path in prediction_paths(method, *cell)]


def cells_of_table(wildcards):
    return [cell_path(method, cell) for method, cell in STUDY.table_cells(wildcards.table)]


def tests_of_table(wildcards):
    return [
        f"<results>/ttests/{cell.dataset}/{cell.ratio}pct/{reference}_vs_{baseline}.json"
        for reference, baseline, cell in STUDY.table_tests(wildcards.table)
    ]


def table_spec(wildcards):
    return as_json(STUDY.table(wildcards.table))
