# The config, checked, and every helper of the rules; nothing else.

import contextlib
import io
import json
import os
import re
import sys
from pathlib import Path

from snakemake.cli import parse_args
from snakemake.exceptions import WorkflowError
from snakemake.utils import validate

sys.path.insert(0, str(Path(workflow.basedir) / "workflow/scripts"))

from refers.provenance import code_digests
from refers.training import devices
from refers.study import paths
from refers.study.availability import Availability
from refers.study.check import check
from refers.study.specs import Specs
from refers.errors import UserError, did_you_mean
from refers.files import file_digest


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
        return check(config)
    except UserError as error:
        raise WorkflowError(f"config: {error}") from None


STUDY = checked_study()
AVAILABILITY = Availability(STUDY)
SPECS = Specs(AVAILABILITY)

# A cluster sends SIGTERM to every process of a job: the shell waits, so that a training job can save its state.
shell.prefix("set -euo pipefail; trap : TERM; ")


wildcard_constraints:
    source="|".join(config["sources"]),
    dataset="|".join(config["datasets"]),
    method="|".join(config["methods"]),
    baseline="|".join(config["methods"]),
    table="|".join(config["tables"]),
    figure="|".join(config["figures"]),
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


def is_target(name):
    """Whether a name is a rule, or a file that one makes."""
    path = name if os.path.isabs(name) else os.path.relpath(name)
    return workflow.is_rule(name) or any(rule.is_producer(path) for rule in workflow.rules)


def requested_targets():
    """Targets on Snakemake's command line, if any may be unknown."""
    # Snakemake reads the rules before it tells them what was asked for. Its parser takes a twentieth of a second, so it
    # is called only if some word of the command is neither a target nor plainly something else.
    words = [word for word in sys.argv[1:] if not word.startswith("-") and "=" not in word]
    if all(word.isdigit() or os.path.exists(word) or is_target(word) for word in words):
        return []
    with contextlib.redirect_stderr(io.StringIO()):
        return parse_args(sys.argv[1:])[1].targets


def known_targets(depth):
    """Names of rules that can be asked for, and the files of this study that are `depth` folders down."""
    names = {"seed": STUDY.seeds, "ratio": sorted({cell.ratio for cell in STUDY.cells})}
    names |= {kind: list(config[f"{kind}s"]) for kind in ("source", "dataset", "method", "table", "figure")}
    names["baseline"] = names["method"]
    for rule in workflow.rules:
        if not rule.has_wildcards():
            yield rule.name
        for output in rule.output:
            if output.count("/") == depth:
                pattern = re.sub(r"\{(\w+),[^{}]*\}", r"{\1}", output)
                yield from expand(pattern, **{name: names[name] for name in rule.wildcard_names})


def refuse_unknown_targets():
    """One line for a target that no rule makes, with the nearest one that a rule does."""
    by_command = "snakemake" in (Path(sys.argv[0]).name, Path(sys.argv[0]).parent.name)
    for target in requested_targets() if by_command and workflow.is_main_process else []:
        if not is_target(target):
            hint = did_you_mean(target, known_targets(target.count("/")))
            raise WorkflowError(
                f"no such target: {target}{hint}; `snakemake --list` has the rules, the head of the Snakefile the files"
            )


def stop_without_gpu():
    """One line before any job where a GPU job cannot run on this machine; a cluster's own machines are not asked."""
    jobs = workflow.dag.needrun_jobs()
    if workflow.local_exec and not workflow.touch and any(job.resources.get("gpu") for job in jobs):
        if reason := devices.absent(config["device"]):
            raise WorkflowError(reason)


# conda environment of the GPU jobs: one that builds NVIDIA Apex, where a setting asks for it
GPU_ENVIRONMENT = "../envs/apex.yaml" if STUDY.wants_apex else "../envs/refers.yaml"


def code(script, *extra):
    """Parameter that changes when a statement changes in the script or in the library behind it."""
    return code_digests.code_of(script, *extra)


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
    return code("index_source", f"refers/data/adapters/{layout_of(wildcards)}.py")


@one_line
def source_tables(wildcards):
    """Official tables of a source; an absent download is one line."""
    if reason := AVAILABILITY.source_status(wildcards.source):
        raise UserError(reason)
    return AVAILABILITY.source_files(wildcards.source)


def is_released(wildcards):
    return STUDY.dataset(wildcards.dataset)["split"]["kind"] == "released"


def released_lists(wildcards):
    """The authors' lists, for datasets that are split by them."""
    return sorted(STUDY.released_lists(wildcards.dataset).glob("*.txt")) if is_released(wildcards) else []


def released_option(wildcards):
    return f"--lists {STUDY.released_lists(wildcards.dataset)}" if is_released(wildcards) else ""


@one_line
def released_results(wildcards):
    """The authors' prediction files: a folder or an archive; where absent, one line."""
    return AVAILABILITY.released_results()


@one_line
def released_test_lists(wildcards):
    """The authors' lists beside them, for the patients of the test images; nothing where there are none."""
    return AVAILABILITY.released_test_lists() or []


def products_of_mimic():
    """What pre-training reads of MIMIC, up to the cleaned reports; nothing where it is not here."""
    if AVAILABILITY.source_status("mimic"):
        return []
    return multiext("<store>/mimic/", "index.parquet", "images.npy", "reports.parquet")


def products_of_dataset(cell):
    """The checked split of a cell's dataset and the cell's training images; nothing where it is not here."""
    if AVAILABILITY.dataset_status(cell.dataset):
        return []
    folder = f"<interim>/{cell.dataset}"
    return [f"{folder}/check.json", f"{folder}/subset_{cell.ratio}pct.csv"]


def accept_option(wildcards):
    """Leakage that a dataset's entry lives with."""
    return " ".join(
        ["--accept", *accepted] if (accepted := STUDY.dataset(wildcards.dataset).get("accept")) else []
    )


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
    return STUDY.is_imported(method)


def checkpoint_of(wildcards):
    """The file of a method that is imported rather than pre-trained; none where weights are random or downloaded."""
    if STUDY.has_random_checkpoint(wildcards.method):
        return "<interim>/random_vit.npz"
    return STUDY.checkpoint_file(wildcards.method) or []


def checkpoint_option(wildcards, input):
    return input.checkpoint or STUDY.method(wildcards.method)["checkpoint"]


def init_encoder(wildcards):
    """The encoder that pre-training starts from: none, or ImageNet's."""
    start = STUDY.pretrain_settings(wildcards.method)["init"]
    return encoder_path("imagenet") if start == "imagenet" else []


def init_option(wildcards, input):
    return f"--init {input.init}" if input.init else ""


def words_config(wildcards):
    return as_json(STUDY.pretrain_settings(wildcards.method)["words"])


def words_of(wildcards):
    """Visual words, for methods that ask for some."""
    wanted = STUDY.pretrain_settings(wildcards.method)["words"]["count"]
    return f"<interim>/mimic/{wildcards.method}/words.csv" if wanted else []


def words_option(wildcards, input):
    return f"--words {input.words}" if input.words else ""


def encoder_path(method):
    return f"<results>/encoders/{method}/encoder.safetensors"


def methods_where(imported):
    """Regular expression of the methods that are imported, or of those that are pre-trained."""
    return one_of(method for method in config["methods"] if is_imported(method) == imported)


@one_line
def encoder_of_cell(wildcards):
    """The encoder of a fine-tune; a cell outside the study, or one that cannot run, is one line."""
    AVAILABILITY.require(wildcards.method, wildcards.dataset, wildcards.ratio)
    return encoder_path(wildcards.method)


def finetune_config(wildcards):
    return as_json(STUDY.finetune_settings(wildcards.method, wildcards.dataset, wildcards.ratio))


def one_of(names):
    """Regular expression of these names, or of nothing."""
    return "|".join(map(str, names)) or "none"


def keep_option(wildcards):
    """Whether a fine-tune keeps a classifier, for the maps of a figure."""
    saves = STUDY.saves_classifier(wildcards.method, wildcards.dataset, wildcards.ratio)
    return f"--keep {STUDY.seeds[0]}" if saves else ""


def cell_path(method, cell):
    return f"<results>/cells/{method}/{cell.dataset}/{cell.ratio}pct/auc.json"


def test_path(reference, baseline, cell):
    return f"<results>/ttests/{cell.dataset}/{cell.ratio}pct/{reference}_vs_{baseline}.json"


def cells_of(method):
    """Cells of a method that can run here."""
    return [cell_path(method, cell) for cell in STUDY.cells if AVAILABILITY.can_run(method, cell)]


def prediction_paths(method, dataset, ratio):
    """Predictions of every seed of a cell."""
    folder = f"<results>/runs/{method}/{dataset}/{ratio}pct"
    return [f"{folder}/seed{seed}/predictions.parquet" for seed in STUDY.seeds]


@one_line
def seeds_of_cell(wildcards):
    """Predictions behind a cell; one outside the study, or one that cannot run, is one line."""
    AVAILABILITY.require(wildcards.method, wildcards.dataset, wildcards.ratio)
    return prediction_paths(wildcards.method, wildcards.dataset, wildcards.ratio)


def seeds_of_baseline(wildcards):
    return prediction_paths(wildcards.baseline, wildcards.dataset, wildcards.ratio)


def cells_of_tables():
    """(method, cell) pairs behind every table."""
    return sorted({pair for table in config["tables"] for pair in SPECS.table_cells(table)})


def predictions_of_tables():
    """Predictions behind every table. Targets name them, since Snakemake does not miss a lost intermediate file."""
    return [path for method, cell in cells_of_tables() for path in prediction_paths(method, *cell)]


def cells_of_table(wildcards):
    return [cell_path(method, cell) for method, cell in SPECS.table_cells(wildcards.table)]


def tests_of_table(wildcards):
    return [test_path(*triple) for triple in SPECS.table_tests(wildcards.table)]


def labels_of_table(form):
    """What `snakemake --report` lists of a table."""
    return lambda wildcards: {
        "table": config["tables"][wildcards.table].get("label", wildcards.table),
        "title": config["tables"][wildcards.table]["title"],
        "form": form,
    }


def labels_of_figure(form):
    """The same of a figure."""
    return lambda wildcards: {"title": config["figures"][wildcards.figure]["title"], "form": form}


def tests_of_tables():
    """Tests behind every table."""
    triples = {triple for table in config["tables"] for triple in SPECS.table_tests(table)}
    return [test_path(*triple) for triple in sorted(triples)]


def table_spec(wildcards):
    return as_json(SPECS.table(wildcards.table))


def sources_of_figure(wildcards):
    """Inputs of a figure, in the order of its spec's sources."""
    name = wildcards.figure
    kind, cells = config["figures"][name]["kind"], SPECS.figure_cells(name)
    if kind == "rules":
        return ["<results>/rules.csv"]
    if kind == "curves":
        return [f"<results>/encoders/{method}/metrics.jsonl" for method in SPECS.figure(name)["sources"]]
    if kind == "ratios":
        return [cell_path(method, cell) for method, cell in cells]
    if kind == "attention":
        return [f"<results>/attention/{name}/{part}" for part in ("maps.npz", "iou.csv") if cells]
    return [path for method, cell in cells for path in prediction_paths(method, *cell)]


def overlaps_of_figures():
    """iou.csv of every figure of activation maps that can be made, and for each of the others why not."""
    kinds = {name: entry["kind"] for name, entry in config["figures"].items()}
    paths, absent = [], {}
    for name in sorted(name for name, kind in kinds.items() if kind == "attention"):
        if SPECS.figure_cells(name):
            paths.append(f"<results>/attention/{name}/iou.csv")
        else:
            absent[name] = SPECS.figure(name)["methods"][0]["status"]
    return paths, absent


def rule_files():
    return sorted(map(str, Path("rules").glob("*.smk")))


def figure_spec(wildcards):
    return as_json(SPECS.figure(wildcards.figure))


def attention_of(wildcards):
    """Entry of a figure of class activation maps."""
    return config["figures"][wildcards.figure]


def dataset_of_figure(path):
    """Function of a figure's wildcards: `path` with its dataset and source in place."""

    def fill(wildcards):
        name = attention_of(wildcards)["dataset"]
        return path.format(dataset=name, source=STUDY.dataset(name)["source"])

    return fill


def classifier_of_figure(wildcards):
    entry = attention_of(wildcards)
    folder = f"<results>/runs/{entry['methods'][0]}/{entry['dataset']}/{entry['ratio']}pct"
    return f"{folder}/seed{STUDY.seeds[0]}/classifier.safetensors"


def augment_of_figure(wildcards):
    entry = attention_of(wildcards)
    settings = STUDY.finetune_settings(entry["methods"][0], entry["dataset"], entry["ratio"])
    return as_json(settings["training"]["augment"])


def records_of_tables():
    """run.json of every fine-tune behind the tables; none of predictions that came here without it."""
    found = [
        (path.replace("predictions.parquet", "run.json"), AVAILABILITY.training_status(method, cell))
        for method, cell in cells_of_tables()
        for path in prediction_paths(method, *cell)
    ]
    return [path for path, absent in found if not absent or AVAILABILITY.results_exist(path)]


def remake_command():
    """How a reader remakes a target of this study; TARGET stands for its path."""
    overlays = [os.path.relpath(path) for path in workflow.overwrite_configfiles]
    # Values given by --config are often folders of this machine, and those are not published.
    settings = [f"{name}=..." for name in sorted(workflow.config_settings.config)]
    parts = ["snakemake TARGET --cores 8 --resources=gpu=1"]
    parts += ["--configfile", *overlays] if overlays else []
    return " ".join(parts + (["--config", *settings] if settings else []))


DEMO_CONFIG = ["config/config.yaml", "config/demo.yaml"]


def steps_config(wildcards):
    """What decides on the kinds of training steps in a study."""
    names = ("methods", "pretrain", "finetune", "text", "study", "device")
    return as_json({name: config[name] for name in names} | {"plan": {"steps": config["plan"]["steps"]}})


def gpu_to_time(wildcards):
    """A GPU for the calibration where the study wants one and one is here; elsewhere it times processors."""
    return int(config["device"] != "cpu" and not devices.absent("cuda"))


def objective_files():
    """Modules of every objective of the study, which are imported by name."""
    found = {
        STUDY.pretrain_settings(method)["objective"] for method in STUDY.methods if not is_imported(method)
    }
    return [f"refers/methods/{objective}.py" for objective in sorted(found)]


def resources_of_rules(wildcards):
    """Threads and memory that each rule asks for, where they are plain numbers."""
    found = {}
    for each in workflow.rules:
        asked = {"threads": each.resources.get("_cores"), "mem_mb": each.resources.get("mem_mb")}
        found[each.name] = {
            name: resource.value
            for name, resource in asked.items()
            if resource and not resource.is_evaluable()
        }
    return as_json(found)


def plan_of_page(wildcards):
    """The plan that the page shows, and its digest, so that a new plan is a new page; empty where none was made."""
    path = STUDY.resolve(paths.PLAN, form="json")
    return {"path": str(path), "sha256": file_digest(path) if path.exists() else ""}
