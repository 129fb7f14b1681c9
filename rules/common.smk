# The config, checked, and every helper of the rules; nothing else.

import ast
import contextlib
import io
import json
import logging
import os
import re
import shlex
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from types import SimpleNamespace

from snakemake.cli import parse_args
from snakemake.common import NOTHING_TO_BE_DONE_MSG
from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.resources import Resource, Resources

sys.path.insert(0, str(Path(workflow.basedir) / "workflow/scripts"))

from refers import devices
from refers.answers.answer import Answers, remember
from refers.config import Section, to_dict
from refers.config.read import merge_layers, read_arguments, read_file, read_settings
from refers.config.study import TrainingPart
from refers.errors import UserError, did_you_mean
from refers.files import file_digest, large_file_digest, read_json, remembered_digest
from refers.provenance.code_digests import code_of
from refers.sharing.crate import publication_of, workflow_files
from refers.study import paths
from refers.study.availability import Availability
from refers.study.check import check
from refers.study.bert_files import files_read, package_files, package_folder
from refers.study.specs import Specs
from refers.study.study import Cell


def checked_study():
    """The config as a study, read from its files anew: Snakemake's reader lets doubled keys and odd numbers pass."""
    overlays = workflow.overwrite_configfiles
    replaced = workflow.config_settings.replace_workflow_config
    base = [] if replaced else [path for path in workflow.configfiles if path not in overlays]
    try:
        given = read_arguments(dict(workflow.config_settings.config))
        return check(merge_layers([*map(read_settings, map(Path, [*base, *overlays])), given]))
    except UserError as error:
        raise WorkflowError(str(error)) from None


def uses_conda():
    return "conda" in map(str, workflow.deployment_settings.deployment_method)


def check_project():
    """Refuse a project folder that Snakemake cannot quote: in the script of a long command, or where it activates conda."""
    found = re.search(r'["$`\\{}\x00-\x1f]', os.getcwd())
    if not found and uses_conda():
        found = re.search("'", os.getcwd())
    if found:
        raise WorkflowError(
            f"project folder {os.getcwd()!r} contains {found[0]!r}, which breaks commands; rename it"
        )


def as_list(value):
    """Entries of a setting that is one value or several."""
    return value if isinstance(value, list) else [value] if value else []


def configs_of_profile(path):
    """The configs that a file of a profile names."""
    content = read_file(path)
    return as_list(content.get("configfile")) if isinstance(content, dict) else []


def expect_configs_of_profile(profile):
    """Refuse a --configfile in whose command the profile's own is missing: it replaces it, and the published study runs."""
    # a profile of one's own has the name that Snakemake gives it, config.yaml
    files = [profile] if profile.is_file() else sorted(profile.glob("*.yaml"))
    try:
        own = [config for path in files for config in configs_of_profile(path)]
    except UserError as error:
        raise WorkflowError(str(error)) from None
    given = {os.path.realpath(path) for path in workflow.overwrite_configfiles}
    if own and given.isdisjoint(os.path.realpath(Path(workflow.basedir) / path) for path in own):
        named = " ".join(os.path.relpath(path) for path in workflow.overwrite_configfiles)
        raise WorkflowError(
            f"--configfile {named} replaces {' '.join(own)} of the profile; give both: --configfile {' '.join(own)} {named}"
        )


def check_profile():
    """Refuse a workflow profile that is not there, in whose place Snakemake runs the published study without a word."""
    option, given = "--workflow-profile", None
    for word, following in zip(sys.argv, [*sys.argv[1:], ""]):
        # an option may be shortened
        name, _, value = word.partition("=")
        if name.startswith("--wo") and option.startswith(name):
            given = value or following
    if given in (None, "", "none"):
        return
    # where Snakemake looks; --directory may have changed the folder since
    starts = [Path(workflow.workdir_init), Path(os.environ.get("PWD", ".")), Path(workflow.basedir)]
    places = [start / folder / given for start in starts for folder in (".", "profiles")]
    if found := next((place for place in places if place.exists()), None):
        expect_configs_of_profile(found)
    else:
        known = sorted(each.parent.name for each in Path(workflow.basedir).glob("profiles/*/profile.yaml"))
        near = did_you_mean(Path(given).name, known)
        raise WorkflowError(
            f"{option}: no profile {given!r}{near}; choose one of profiles/: {', '.join(known)}"
        )


check_project()
check_profile()
STUDY = checked_study()
CONFIG = STUDY.config
AVAILABILITY = Availability(STUDY)
SPECS = Specs(AVAILABILITY)

# A cluster sends SIGTERM, and Ctrl-C SIGINT, to every process of a job: the shell waits, so that a training job can
# save its state.
shell.prefix("set -euo pipefail; trap : TERM INT; ")


def asked_too(name, other):
    """Let the threads and resources that a command or a profile sets for rule `other` hold for rule `name` as well."""
    for kind in ("overwrite_threads", "overwrite_resources"):
        found = dict(getattr(workflow.resource_settings, kind))
        if other in found and name not in found:
            setattr(workflow.resource_settings, kind, found | {name: found[other]})


def set_resource(resource):
    """Value of a resource that a command or a profile sets; there a text is an expression of Python or stands for itself."""
    with contextlib.suppress(ValueError, SyntaxError, TypeError):
        return ast.literal_eval(resource.raw)
    return resource.raw


def on_several_nodes(name):
    """Ask Slurm for one task on each node where rule `name` is to run on several, as its executor does for MPI.

    The executor then starts Snakemake once, in the job's batch script, and leaves the tasks to the rule's program.
    """
    found = workflow.resource_settings.overwrite_resources
    asked = {key: set_resource(resource) for key, resource in found.get(name, {}).items()}
    if (nodes := asked.get("nodes", 1)) == 1:
        return
    gpus, wrong = asked.get("gpu", 1), f"--set-resources {name}:nodes={nodes}"
    if not isinstance(nodes, int) or nodes < 1:
        raise WorkflowError(f"{wrong} is not a number of nodes; give a whole number from 1")
    if not isinstance(gpus, int) or gpus % nodes:
        raise WorkflowError(
            f"{wrong}: {gpus} GPUs in all cannot be shared evenly; set {name}:gpu to a multiple"
        )
    model = f"{asked['gpu_model']}:" if "gpu_model" in asked else ""
    # --gpus alone may give one node more of them than another
    each = f"--ntasks-per-node=1 --gpus-per-node={model}{gpus // nodes}"
    extra = asked.get("slurm_extra", "")
    several = {"tasks": nodes, "tasks_per_gpu": 0, "mpi": "srun"}
    several["slurm_extra"] = extra if each in extra else f"{extra} {each}".strip()
    # the job's own Snakemake reads texts as expressions too
    added = {key: Resource(key, value, raw=repr(value)) for key, value in several.items()}
    setattr(
        workflow.resource_settings,
        "overwrite_resources",
        {**found, name: Resources({**found[name], **added})},
    )


# before the first rule, which takes its threads and resources from there
asked_too("finetune_kept", "finetune")
on_several_nodes("pretrain")

# For a job that reads a package beside Snakemake, in whatever environment it runs. A parameter would rerun the job where
# only the place of Python differs.
os.environ.update(SNAKEMAKE_PYTHON=sys.executable)


def one_of(names):
    """Regular expression of these names; with none of them it matches nothing."""
    return "|".join(re.escape(str(name)) for name in names) or "(?!)"


wildcard_constraints:
    source=one_of(CONFIG.sources),
    pool=one_of(STUDY.pools()),
    dataset=one_of(CONFIG.datasets),
    other=one_of(STUDY.tested_on),
    method=one_of(CONFIG.methods),
    baseline=one_of(CONFIG.methods),
    table=one_of(CONFIG.tables),
    figure=one_of(CONFIG.figures),
    ratio=r"\d+",
    split=r"\d+",
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


def is_value(word):
    """Whether a word that is no target may be an option's value: a path that is there, unless another study made the file."""
    return os.path.exists(word) and not (os.path.isfile(word) and option_of_study(word))


def requested_targets():
    """Targets on Snakemake's command line, if any may be unknown."""
    # Snakemake reads the rules before it tells them what was asked for. Its parser takes a twentieth of a second, so it
    # is called only if some word of the command is neither a target nor plainly something else.
    words = [word for word in sys.argv[1:] if not word.startswith("-") and "=" not in word]
    if all(word.isdigit() or is_target(word) or is_value(word) for word in words):
        return []
    with contextlib.redirect_stderr(io.StringIO()):
        return parse_args(sys.argv[1:])[1].targets


def known_targets(depth):
    """Names of rules that can be asked for, and the files of this study that are `depth` folders down."""
    names = {"seed": STUDY.seeds, "ratio": sorted({cell.ratio for cell in STUDY.cells})}
    names["split"] = sorted({split for name in STUDY.datasets for split in STUDY.splits(name)})
    names |= {
        kind: list(getattr(CONFIG, f"{kind}s")) for kind in ("source", "dataset", "method", "table", "figure")
    }
    names |= {"baseline": names["method"], "pool": list(STUDY.pools()), "other": STUDY.tested_on}
    for each in workflow.rules:
        if not each.has_wildcards():
            yield each.name
        for output in each.output:
            if output.count("/") == depth:
                pattern = re.sub(r"\{(\w+),[^{}]*\}", r"{\1}", output)
                yield from expand(pattern, **{name: names[name] for name in each.wildcard_names})


def option_of_study(target):
    """The option that chooses the study whose folders hold a file: that of a profile, or else of a config's overlay."""
    files = {
        f"--workflow-profile {path.parent}": configs_of_profile(path)
        for path in sorted(Path("profiles").glob("*/profile.yaml"))
    }
    files |= {f"--configfile {path}": [path] for path in sorted(Path("config").glob("*.yaml"))}
    for option, overlays in files.items():
        read = [content for content in map(read_file, map(Path, overlays)) if isinstance(content, dict)]
        folders = [each for content in read for each in content.get("pathvars", {}).values()]
        if any(os.path.normpath(target).startswith(f"{folder}/") for folder in folders):
            return option
    return ""


def refuse_unknown_targets():
    """One line for a target that no rule makes, with the nearest one that a rule does."""
    by_command = "snakemake" in (Path(sys.argv[0]).name, Path(sys.argv[0]).parent.name)
    for target in requested_targets() if by_command and workflow.is_main_process else []:
        if not is_target(target):
            hint = did_you_mean(target, known_targets(target.count("/")))
            if option := option_of_study(target):
                raise WorkflowError(f"{target} belongs to another study: add {option}")
            raise WorkflowError(
                f"no such target: {target}{hint}; `snakemake --list` has the rules, refers/study/paths.py the files"
            )


def stop_without_gpu():
    """One line before any job where a GPU job cannot run on this machine; a cluster's own machines are not asked."""
    jobs = workflow.dag.needrun_jobs()
    if workflow.local_exec and not workflow.touch and any(job.resources.get("gpu") for job in jobs):
        if reason := devices.absent(CONFIG.device):
            raise WorkflowError(reason)


def stop_without_allocation():
    """One line before any job where a job is to run on several nodes, but here and not in a Slurm job."""
    for job in workflow.dag.needrun_jobs() if workflow.local_exec and not workflow.touch else []:
        if job.resources.get("nodes", 1) > 1 and "SLURM_JOB_ID" not in os.environ:
            raise WorkflowError(
                f"{job.rule.name}: {job.resources.nodes} nodes, but Snakemake runs it on this machine and in no Slurm job; "
                f"set {job.rule.name}:nodes=1, or use --workflow-profile profiles/slurm"
            )


def cuda_of_conda():
    """CUDA of the torch in the GPU jobs' conda environment; a line says so where an old driver chooses it."""
    found = devices.driver() if CONFIG.cuda == "auto" and uses_conda() else None
    needed = int(devices.DRIVERS[13])
    if found is None or found >= needed:
        return 13 if CONFIG.cuda == "auto" else CONFIG.cuda
    if workflow.is_main_process:
        print(
            f"driver {found} is older than {needed}: GPU jobs run in envs/refers-cu12.yaml", file=sys.stderr
        )
    return 12


def gpu_environment():
    """Conda environment of the GPU jobs: one that builds NVIDIA Apex where a setting asks for it, or one for older drivers."""
    cuda = cuda_of_conda()
    if not STUDY.wants_apex:
        return "../envs/refers-cu12.yaml" if cuda == 12 else "../envs/refers.yaml"
    if cuda == 12:
        raise WorkflowError(
            "precision apex-*: its conda environment is for CUDA 13 and driver 580; choose fp16, or run without --sdm conda"
        )
    return "../envs/apex.yaml"


GPU_ENVIRONMENT = gpu_environment()


def as_json(settings):
    """Settings as one canonical command-line argument."""
    return json.dumps(to_dict(settings) if isinstance(settings, Section) else settings, sort_keys=True)


ABSENT = "_absent"  # in the place of a name: a file that no rule makes


def literal(text):
    """Parameter that holds text of the config: in a plain string Snakemake would look for wildcards."""
    return lambda wildcards: text


def option(name, value):
    """An option with its value as one word of a command; no word where there is no value."""
    return f"{name}={value}" if value else ""


STUDY_JSON = as_json(CONFIG)  # for commands that read the whole config

# ---- data


def source_of(wildcards):
    """Source of a dataset."""
    return STUDY.dataset(wildcards.dataset).source


def of_source(pattern):
    """Function of a dataset's wildcards: a file of its source."""
    return lambda wildcards: paths.fill(pattern, source=source_of(wildcards))


@cache
def is_as_packed(path):
    """Whether an image store has the content that its manifest states; the digest is remembered by size and times."""
    with contextlib.suppress(UserError, OSError, KeyError, TypeError):
        stated = read_json(path.with_suffix(".json"))["sha256"]
        size = path.stat().st_size / 1e9
        if size > 1 and not remembered_digest(path):
            print(f"{path}: hashing {size:.1f} GB, once, to know whether it changed", file=sys.stderr)
        return stated == large_file_digest(path)
    return False


def with_pages(megabytes):
    """Memory of a job that reads image stores: what it allocates, and on a cluster the stores, since a scheduler charges the
    pages of a mapped file to the job that reads them; with less they leave the memory and are read again."""

    def answer(wildcards, input):
        read = [input.store] if isinstance(input.store, str) else input.store
        return megabytes + (sum(map(os.path.getsize, read)) // 2**20 if workflow.non_local_exec else 0)

    return answer


def stores(question):
    """Function of wildcards: the image stores of a pattern, or of such a function; the manifest must be an input too.

    The date of a store that is as its manifest states says nothing. One that is not reruns what reads it, which refuses it.
    """

    def answer(wildcards):
        found = question(wildcards) if callable(question) else paths.fill(question, **dict(wildcards.items()))
        asked = [found] if isinstance(found, str) else found
        given = [ancient(path) if is_as_packed(STUDY.resolve(path)) else path for path in asked]
        return given[0] if isinstance(found, str) else given

    return answer


def of_mimic(pattern):
    """A file of MIMIC-CXR, on which a method is pre-trained unless its entry names other sources."""
    return paths.fill(pattern, source="mimic")


def source_folder(wildcards):
    return STUDY.folder(wildcards.source)


def layout_of(wildcards):
    return STUDY.source(wildcards.source).layout


def adapter_code(wildcards):
    return code_of("index_source", adapters=[layout_of(wildcards)])


@one_line
def source_tables(wildcards):
    """Official tables of a source; an absent download is one line."""
    if reason := AVAILABILITY.source_status(wildcards.source):
        raise UserError(reason)
    return AVAILABILITY.source_files(wildcards.source)


def is_released(wildcards):
    return STUDY.dataset(wildcards.dataset).split.kind == "released"


def released_lists(wildcards):
    """The authors' lists, for datasets that are split by them."""
    return sorted(STUDY.released_lists(wildcards.dataset).glob("*.txt")) if is_released(wildcards) else []


def released_option(wildcards):
    return option("--lists", STUDY.released_lists(wildcards.dataset) if is_released(wildcards) else "")


@one_line
def released_results(wildcards):
    """The authors' prediction files: a folder or an archive; where absent, one line."""
    return AVAILABILITY.released_results()


@one_line
def released_test_lists(wildcards):
    """The authors' lists beside them, for the patients of the test images; nothing where there are none."""
    return AVAILABILITY.released_test_lists() or []


def products_of_mimic():
    """What pre-training reads of MIMIC-CXR, up to the cleaned reports; nothing where its download is not available."""
    if AVAILABILITY.source_status("mimic"):
        return []
    return [of_mimic(pattern) for pattern in (paths.INDEX, paths.IMAGES, paths.REPORTS)]


@one_line
def split_config(wildcards):
    return as_json(STUDY.split_settings(wildcards.dataset, int(wildcards.split)))


def subset_seed(wildcards):
    """Seed of the subsets of a split."""
    return CONFIG.subset.seed + int(wildcards.split)


def training_seeds_option():
    """Fine-tuning seeds that have subsets of their own; nothing where they share one."""
    return ["--training-seeds", *STUDY.seeds] if CONFIG.subset.per_seed else []


def products_of_dataset(cell):
    """The checked splits of a cell's dataset and the cell's training images; nothing where the dataset is not available."""
    if AVAILABILITY.dataset_status(cell.dataset):
        return []
    return [
        paths.fill(pattern, split=split, **cell._asdict())
        for split in STUDY.splits(cell.dataset)
        for pattern in (paths.CHECK, paths.SUBSET)
    ]


def accept_option(wildcards):
    """Kinds of leakage that a dataset's entry accepts."""
    accepted = STUDY.dataset(wildcards.dataset).accept
    return ["--accept", *accepted] if accepted else []


# ---- encoders

TEXT_ENCODER_FILES = (
    "config.json",
    "model.safetensors",
    "vocab.txt",
    "tokenizer.json",
)  # as build_text_encoder writes it


def package_copies():
    """Names of what is copied of a Python package, or those expected where the package is absent."""
    with contextlib.suppress(UserError):
        return files_read(package_folder(STUDY.text_package)) if STUDY.text_package else TEXT_ENCODER_FILES
    return TEXT_ENCODER_FILES


def text_encoder_files(wildcards):
    """The downloaded BERT, the copy of the one in a Python package, or the one that is built from the reports."""
    names = TEXT_ENCODER_FILES
    if STUDY.text_package:
        names = package_copies()
    elif STUDY.text_encoder:
        names = files_read(STUDY.text_encoder)
    return [f"{STUDY.text_encoder_folder}/{name}" for name in names]


def text_encoder_folder(wildcards, input):
    return os.path.dirname(input.text_encoder[0])


def to_pretrain(of_mimic_alone, of_pool):
    """Function of a method's wildcards: the file that its pre-training reads, of MIMIC-CXR or of a pool of other images."""

    def answer(wildcards):
        if STUDY.reads_mimic(wildcards.method):
            return of_mimic(of_mimic_alone)
        return paths.fill(of_pool, pool=STUDY.pool(wildcards.method))

    return answer


def tokens_of(wildcards):
    """Tokens of the reports, where the images have some."""
    return paths.TOKENS if STUDY.reads_mimic(wildcards.method) else []


def text_encoder_of(wildcards):
    """The text encoder, where the images have reports."""
    return text_encoder_files(wildcards) if STUDY.reads_mimic(wildcards.method) else []


def tokens_option(wildcards, input):
    return option("--tokens", input.tokens)


def text_encoder_option(wildcards, input):
    return option("--text-encoder", text_encoder_folder(wildcards, input) if input.text_encoder else "")


def sources_of_pool(wildcards):
    return STUDY.pools()[wildcards.pool]


def of_pool_sources(pattern):
    """Function of a pool's wildcards: a file of each of its sources."""
    return lambda wildcards: [paths.fill(pattern, source=source) for source in sources_of_pool(wildcards)]


def splits_of_pool(wildcards):
    """(source, file) of every split that the study draws of a pool's sources."""
    return [
        (source, paths.fill(paths.SPLIT, dataset=dataset, split=split))
        for source in sources_of_pool(wildcards)
        for dataset in STUDY.datasets_of(source)
        for split in STUDY.splits(dataset)
    ]


@one_line
def package_digests(wildcards):
    """Digests of the files of the BERT in a Python package, which is copied again when they change."""
    files = package_files(STUDY.text_package) if STUDY.text_package else []
    return {path.name: file_digest(path) for path in files}


def pretrain_config(wildcards):
    return as_json(STUDY.pretrain_settings(wildcards.method))


def objective_code(wildcards):
    objective = STUDY.pretrain_settings(wildcards.method).objective
    return code_of("pretrain", methods=[objective])


def pilot_code(wildcards):
    objective = STUDY.pretrain_settings(wildcards.method).objective
    return code_of("pilot", methods=[objective])


def pilot_of(wildcards):
    """The pilot that chooses the rate of a method, for those that ask for one."""
    return paths.fill(paths.PILOT, method=wildcards.method) if STUDY.uses_pilot(wildcards.method) else []


def pilot_option(wildcards, input):
    return option("--pilot", input.pilot)


def piloted(available):
    """Methods of the study whose rates a pilot chooses: those whose pilot can run, or the others."""
    return [
        method
        for method in dict.fromkeys(map(STUDY.encoder_owner, STUDY.methods))
        if STUDY.uses_pilot(method) and available == (not AVAILABILITY.method_status(method))
    ]


def pilots_spec(wildcards):
    """What pilots.py is told: titles, and why a pilot cannot run."""
    titles = {method: entry.title for method, entry in CONFIG.methods.items()}
    status = {method: AVAILABILITY.method_status(method) for method in piloted(available=False)}
    return as_json({"titles": titles, "status": status, "note": CONFIG.note})


def is_imported(method):
    return STUDY.is_imported(method)


def checkpoint_of(wildcards):
    """The file of a method that is imported rather than pre-trained; none where weights are random or downloaded."""
    if STUDY.has_random_checkpoint(wildcards.method):
        return paths.RANDOM_VIT
    return STUDY.checkpoint_file(wildcards.method) or []


def checkpoint_name(wildcards):
    """`random` or `timm:NAME`, a change of which makes another encoder; nothing where the checkpoint is a file."""
    return "" if STUDY.checkpoint_file(wildcards.method) else STUDY.method(wildcards.method).checkpoint


def checkpoint_option(wildcards, input):
    return option("--checkpoint", input.checkpoint or checkpoint_name(wildcards))


def checkpoint_key_option(wildcards):
    """Which network of the checkpoint's file is imported, where the config says so."""
    return option("--key", STUDY.method(wildcards.method).checkpoint_key)


def init_encoder(wildcards):
    """The encoder that pre-training starts from: none, or ImageNet's."""
    start = STUDY.pretrain_settings(wildcards.method).init
    return encoder_of("imagenet") if start == "imagenet" else []


def init_option(wildcards, input):
    return option("--init", input.init)


def words_config(wildcards):
    return as_json(STUDY.pretrain_settings(wildcards.method).words)


def words_of(wildcards):
    """Visual words, for methods that ask for some."""
    wanted = STUDY.pretrain_settings(wildcards.method).words.count
    return paths.fill(paths.WORDS, method=wildcards.method) if wanted else []


def words_option(wildcards, input):
    return option("--words", input.words)


def encoder_of(method):
    """The encoder that a method is fine-tuned from, its own or another method's."""
    return paths.fill(paths.ENCODER, method=STUDY.encoder_owner(method))


def card_of(method):
    """The model card of a method's encoder."""
    return paths.fill(paths.MODEL_CARD, method=STUDY.encoder_owner(method))


def facts_of_encoder(method):
    """What the config says of an encoder to those who load it: names, the checkpoint or the data that it learnt from."""
    entry, sources = STUDY.method(method), []
    if not is_imported(method):
        sources = ["mimic"] if STUDY.reads_mimic(method) else STUDY.pretrain_settings(method).sources
    told = ("origin", "access", "credit")
    return {
        "method": method,
        "title": entry.title,
        "note": CONFIG.note,
        # a folder of this machine is not published
        "checkpoint": os.path.basename(entry.checkpoint or ""),
        "sources": [
            {"name": name} | {key: getattr(STUDY.source(name), key) for key in told} for name in sources
        ],
    }


def card_facts(wildcards):
    return as_json(facts_of_encoder(wildcards.method))


def existing_encoders(wildcards):
    """Facts of every encoder that is there; none is made for this."""
    found = {}
    for method in CONFIG.methods:
        files = [STUDY.resolve(pattern, method=method) for pattern in (paths.ENCODER, paths.ENCODER_RECORD)]
        if STUDY.encoder_owner(method) == method and all(map(os.path.exists, files)):
            found[method] = facts_of_encoder(method) | {"encoder": str(files[0])}
    return as_json(found)


def methods_where(imported):
    """Regular expression of the methods that are imported, or of those that are pre-trained."""
    owners = [method for method in CONFIG.methods if STUDY.encoder_owner(method) == method]
    return one_of(method for method in owners if is_imported(method) == imported)


@one_line
def encoder_of_cell(wildcards):
    """The encoder of a fine-tune; a cell outside the study, or one that cannot run, is one line.

    Where only an earlier run's predictions are there, a file that is not, so that Snakemake takes these. It would go on where it
    has found once that a store cannot be made, and choose `finetune` for one seed and `finetune_kept` for another.
    """
    AVAILABILITY.require(wildcards.method, wildcards.dataset, wildcards.ratio)
    cell = Cell(wildcards.dataset, int(wildcards.ratio))
    if AVAILABILITY.training_status(wildcards.method, cell):
        return paths.fill(paths.ENCODER, method=ABSENT)
    return encoder_of(wildcards.method)


def finetune_config(wildcards):
    return as_json(STUDY.finetune_settings(wildcards.method, wildcards.dataset, wildcards.ratio))


# ---- probes


@one_line
def encoder_of_method(wildcards):
    """The encoder whose features are extracted."""
    if reason := AVAILABILITY.method_status(wildcards.method):
        raise UserError(f"{wildcards.method}: {reason}")
    return encoder_of(wildcards.method)


def features_config(wildcards):
    return as_json(CONFIG.probe.features)


@one_line
def features_of_cell(wildcards):
    """Features of the encoder of a probe, on the images of its dataset's source."""
    AVAILABILITY.require(wildcards.method, wildcards.dataset, wildcards.ratio, "probe")
    owner = STUDY.encoder_owner(wildcards.method)
    return paths.fill(paths.FEATURES, method=owner, source=source_of(wildcards))


def probe_config(wildcards):
    return as_json(STUDY.probe_settings(wildcards.method, wildcards.dataset, wildcards.ratio))


def keep_option(wildcards, output):
    """Seeds whose classifiers a fine-tune keeps, where they are among its outputs. Snakemake compares no parameter that is made of
    outputs with that of an earlier run: a cell that has run stays as it is, whether it kept them or not."""
    return ["--keep", *STUDY.saved_seeds] if "classifiers" in output.keys() else []


@one_line
def classifiers_of_cell(wildcards):
    """The kept classifiers of a cell that is tested on another dataset; a cell that cannot run is one line.

    Where they cannot be made and their predictions are there, files that are not, so that Snakemake takes the predictions.
    """
    AVAILABILITY.require(wildcards.method, wildcards.dataset, wildcards.ratio)
    cell = Cell(wildcards.dataset, int(wildcards.ratio))
    if reason := AVAILABILITY.external_status(wildcards.method, cell, wildcards.other):
        raise UserError(f"{wildcards.method}/{cell} on {wildcards.other}: {reason}")
    names = dict(wildcards.items())
    if AVAILABILITY.predicting_status(wildcards.method, cell, wildcards.other):
        return paths.fill(paths.CLASSIFIER, split=0, seed=ABSENT, **names)
    return every_seed(paths.CLASSIFIER, split=0, **names)


def of_other(pattern):
    """Function of wildcards: a file of the other dataset's first split, or of its source."""
    return lambda wildcards: paths.fill(
        pattern, dataset=wildcards.other, split=0, source=STUDY.dataset(wildcards.other).source
    )


def predictions_of_other(wildcards):
    """Predictions of the same method on the other dataset's first split, where that is a cell that can run."""
    cell = Cell(wildcards.other, int(wildcards.ratio))
    if cell not in STUDY.cells or not AVAILABILITY.can_run(wildcards.method, cell):
        return []
    return every_seed(paths.PREDICTIONS, split=0, method=wildcards.method, **cell._asdict())


def shared_findings(wildcards):
    return as_json(STUDY.shared_findings(wildcards.dataset, wildcards.other))


# ---- results


def cell_path(method, cell, protocol="finetune"):
    return paths.fill(paths.PROTOCOLS[protocol].cell, method=method, **cell._asdict())


def test_path(reference, baseline, cell):
    return paths.fill(paths.TTEST, method=reference, baseline=baseline, **cell._asdict())


def cells_of(method):
    """Cells of a method that can run."""
    return [cell_path(method, cell) for cell in STUDY.cells if AVAILABILITY.can_run(method, cell)]


def every_seed(pattern, **wildcards):
    """The file of each seed on one split."""
    return [paths.fill(pattern, seed=seed, **wildcards) for seed in STUDY.seeds]


def predictions_of(method, dataset, ratio, protocol="finetune"):
    """Predictions of every run of a cell."""
    cell = Cell(dataset, int(ratio))
    return STUDY.files_of_runs(paths.PROTOCOLS[protocol].predictions, method, cell)


def runs_of_cell(protocol):
    """Function of a cell's wildcards: the predictions behind it; a cell that is not of the study or cannot run is one line."""

    @one_line
    def answer(wildcards):
        AVAILABILITY.require(wildcards.method, wildcards.dataset, wildcards.ratio, protocol)
        return predictions_of(wildcards.method, wildcards.dataset, wildcards.ratio, protocol)

    return answer


def runs_of_baseline(wildcards):
    return predictions_of(wildcards.baseline, wildcards.dataset, wildcards.ratio)


def splits_of_runs(wildcards):
    """Split of each file of predictions of a cell."""
    return [split for split, _ in STUDY.runs(wildcards.dataset)]


def seeds_of_runs(wildcards):
    """Seed of each file of predictions of a cell."""
    return [seed for _, seed in STUDY.runs(wildcards.dataset)]


def cells_of_tables():
    """(method, cell, protocol) triples behind every table."""
    found = ((table, pair) for table in CONFIG.tables for pair in SPECS.table_cells(table))
    return sorted({(*pair, STUDY.table(table).protocol) for table, pair in found})


def predictions_of_tables():
    """Predictions behind every table. Targets name them, since Snakemake does not miss a lost intermediate file."""
    found = [
        path
        for method, cell, protocol in cells_of_tables()
        for path in predictions_of(method, *cell, protocol)
    ]
    for table in STUDY.external_tables:
        names = {"split": 0, "other": STUDY.table(table).tested_on}
        for method, cell in SPECS.table_measured(table):
            found += every_seed(paths.EXTERNAL_PREDICTIONS, method=method, **cell._asdict(), **names)
    return found


def finetuned_of_tables():
    """(method, cell) pairs behind the tables of fine-tuned encoders, which alone are compared with the paper."""
    return [(method, cell) for method, cell, protocol in cells_of_tables() if protocol == "finetune"]


def judged_tables():
    """Tables that claims are judged by."""
    return expand(paths.TABLE, table=STUDY.judged_tables, form="csv")


def claims_of_study(form):
    """The checked claims, where the study checks some."""
    return paths.fill(paths.CLAIMS, form=form) if CONFIG.claims else []


def claims_option(wildcards, input):
    return option("--claims", input.claims)


def resamples_of_tables():
    """Resampled AUCs of every fine-tuned cell behind the tables."""
    pairs = finetuned_of_tables()
    return [paths.fill(paths.RESAMPLES, method=method, **cell._asdict()) for method, cell in pairs]


def cells_of_table(wildcards):
    protocol = STUDY.table(wildcards.table).protocol
    return [cell_path(method, cell, protocol) for method, cell in SPECS.table_cells(wildcards.table)]


def measured_of_table(wildcards):
    """Measures, subgroups or external tests of the cells of a table that shows them."""
    entry = STUDY.table(wildcards.table)
    pattern = paths.MEASURED.get(entry.shows)
    pairs = SPECS.table_measured(wildcards.table) if pattern else []
    return [
        paths.fill(pattern, method=method, other=entry.tested_on, **cell._asdict()) for method, cell in pairs
    ]


@one_line
def characteristics_of(wildcards):
    """Sex, age and projection of the images of a cell's dataset."""
    AVAILABILITY.require(wildcards.method, wildcards.dataset, wildcards.ratio)
    if reason := AVAILABILITY.characteristics_status(wildcards.dataset):
        raise UserError(f"{wildcards.dataset}: {reason}")
    return paths.fill(paths.CHARACTERISTICS, source=source_of(wildcards))


def tables_of_characteristics(wildcards):
    """Official tables of a source; of an absent download one that is not there, so that Snakemake takes what an earlier run left."""
    kept = AVAILABILITY.results_exist(paths.fill(paths.CHARACTERISTICS, source=wildcards.source))
    if kept and (absent := AVAILABILITY.missing(wildcards.source)):
        return [str(STUDY.folder(wildcards.source) / absent[0])]
    return source_tables(wildcards)


def characteristics_of_source(wildcards):
    return STUDY.source(wildcards.source).characteristics


def characteristics_of_dataset(wildcards):
    return STUDY.source(source_of(wildcards)).characteristics


def characteristics_code(wildcards):
    return code_of("characteristics", adapters=[layout_of(wildcards)])


def tests_of_table(wildcards):
    return [test_path(*triple) for triple in SPECS.table_tests(wildcards.table)]


def labels(**texts):
    """What `snakemake --report` lists of a file; braces would be wildcards there."""
    return {name: re.sub("[{}]", "|", text) for name, text in texts.items()}


def labels_of_table(form):
    def answer(wildcards):
        entry = STUDY.table(wildcards.table)
        return labels(table=entry.label or wildcards.table, title=entry.title, form=form)

    return answer


def labels_of_figure(form):
    return lambda wildcards: labels(title=STUDY.figure(wildcards.figure).title, form=form)


def tests_of_tables():
    """Tests behind every table."""
    triples = {triple for table in CONFIG.tables for triple in SPECS.table_tests(table)}
    return [test_path(*triple) for triple in sorted(triples)]


def table_spec(wildcards):
    return as_json(SPECS.table(wildcards.table))


def sources_of_figure(wildcards):
    """Inputs of a figure, in the order of its spec's sources."""
    name = wildcards.figure
    kind, cells = STUDY.figure(name).kind, SPECS.figure_cells(name)
    if kind == "rules":
        return [paths.RULES]
    if kind == "curves":
        return [paths.fill(paths.ENCODER_METRICS, method=method) for method in SPECS.figure(name)["sources"]]
    if kind == "ratios":
        return [cell_path(method, cell) for method, cell in cells]
    if kind == "attention":
        return [paths.fill(pattern, figure=name) for pattern in (paths.MAPS, paths.OVERLAP) if cells]
    # curves of one split, since each split has other test images
    return [
        path
        for method, cell in cells
        for path in every_seed(paths.PREDICTIONS, split=0, method=method, **cell._asdict())
    ]


def overlaps_of_figures():
    """iou.csv of every figure of activation maps that can be made, and why the others cannot."""
    kinds = {name: entry.kind for name, entry in CONFIG.figures.items()}
    found, absent = [], {}
    reasons = STUDY.incomparable()
    for name in sorted(name for name, kind in kinds.items() if kind == "attention"):
        if reason := reasons.get("") or reasons.get(STUDY.figure(name).dataset):
            absent[name] = reason
        elif SPECS.figure_cells(name):
            found.append(paths.fill(paths.OVERLAP, figure=name))
        else:
            absent[name] = SPECS.figure(name)["methods"][0]["status"]
    return found, absent


def reports_of_cells(pairs):
    """Reports with counts that the paper states too, behind (method, cell) pairs: of data and of the encoder compared."""
    compared = {table.reference for table in CONFIG.tables.values()}
    for method, cell in pairs:
        for split in STUDY.splits(cell.dataset):
            yield paths.fill(paths.SPLIT_REPORT, dataset=cell.dataset, split=split)
        yield paths.fill(paths.INDEX_REPORT, source=STUDY.dataset(cell.dataset).source)
        if method in compared:
            yield paths.fill(paths.ENCODER_RECORD, method=STUDY.encoder_owner(method))
        if STUDY.reads_mimic(method):
            yield from map(of_mimic, (paths.INDEX_REPORT, paths.REPORTS_FUNNEL))


def reports_of_tables():
    """Reports behind the tables: of what is trained here, and what was kept of a training elsewhere."""
    pairs = finetuned_of_tables() if CONFIG.comparable else []
    made = {*reports_of_cells(pair for pair in pairs if not AVAILABILITY.training_status(*pair))}
    return sorted(
        path for path in {*reports_of_cells(pairs)} if path in made or AVAILABILITY.results_exist(path)
    )


def rule_files():
    return sorted(map(str, Path("rules").glob("*.smk")))


def figure_spec(wildcards):
    return as_json(SPECS.figure(wildcards.figure))


def attention_of(wildcards):
    """Entry of a figure of class activation maps."""
    return STUDY.figure(wildcards.figure)


def source_of_figure(wildcards):
    """Source of the images of a figure."""
    return STUDY.dataset(attention_of(wildcards).dataset).source


def of_figure(pattern):
    """Function of a figure's wildcards: a file of its dataset's first split, or of the source of that."""
    return lambda wildcards: paths.fill(
        pattern, split=0, dataset=attention_of(wildcards).dataset, source=source_of_figure(wildcards)
    )


def layout_of_figure(wildcards):
    return STUDY.source(source_of_figure(wildcards)).layout


def attend_code(wildcards):
    return code_of("attend", adapters=[layout_of_figure(wildcards)])


def classifier_of_figure(wildcards):
    entry = attention_of(wildcards)
    cell = {"method": entry.methods[0], "dataset": entry.dataset, "ratio": entry.ratio}
    return paths.fill(paths.CLASSIFIER, split=0, seed=STUDY.seeds[0], **cell)


def augment_of_figure(wildcards):
    entry = attention_of(wildcards)
    settings = STUDY.finetune_settings(entry.methods[0], entry.dataset, entry.ratio)
    return as_json(settings.training.augment)


def records_of_tables():
    """run.json of every run behind the tables; none of predictions that were copied without it."""
    return [
        path
        for method, cell, protocol in cells_of_tables()
        for path in STUDY.files_of_runs(paths.PROTOCOLS[protocol].record, method, cell)
        if not AVAILABILITY.training_status(method, cell) or AVAILABILITY.results_exist(path)
    ]


def records_of_encoders():
    """run.json of every encoder behind the tables; none of encoders that are only known by their predictions."""
    found = {}
    for method, cell, _ in cells_of_tables():
        path = paths.fill(paths.ENCODER_RECORD, method=STUDY.encoder_owner(method))
        if not AVAILABILITY.training_status(method, cell) or AVAILABILITY.results_exist(path):
            found[path] = None
    return list(found)


@one_line
def files_of_workflow(wildcards):
    """What runs the study; a crate without a publication in the config, or without its library, is one line."""
    publication_of(CONFIG)
    return workflow_files()


def encoders_to_publish():
    """Encoders that the config lets out."""
    named = CONFIG.publication.encoders if CONFIG.publication else []
    return [paths.fill(paths.ENCODER, method=method) for method in named]


def remake_command():
    """Command that makes a target of this study again; TARGET stands for its path."""
    overlays = [shlex.quote(os.path.relpath(path)) for path in workflow.overwrite_configfiles]
    # A value that is a folder of this machine is not published; one relative to the project is.
    settings = [
        shlex.quote(f"{name}={'...' if os.path.isabs(os.path.expanduser(str(value))) else value}")
        for name, value in sorted(workflow.config_settings.config.items())
    ]
    parts = ["snakemake TARGET --cores 8"]
    parts += ["--configfile", *overlays] if overlays else []
    return " ".join(parts + (["--config", *settings] if settings else []))


DEMO_CONFIG = ["config/config.yaml", "config/demo.yaml"]


def steps_config(wildcards):
    """The part of the config that the kinds of training steps depend on."""
    return as_json(CONFIG.model_dump(include={*TrainingPart.model_fields}))


def gpu_to_time(wildcards):
    """A GPU for the calibration where the study wants one and one is available; elsewhere it times processors."""
    return int(CONFIG.device != "cpu" and not devices.absent("cuda"))


def priced_objectives():
    """Objectives that a method whose training a plan prices is pre-trained with."""
    methods = [method for method in STUDY.priced_methods if not is_imported(method)]
    return sorted({STUDY.pretrain_settings(method).objective for method in methods})


def resources_of_rules(wildcards):
    """Threads and memory that each rule asks for, without the pages of image stores; what a command line gives as an
    expression is left out."""
    found = {}
    for each in workflow.rules:
        asked = {"threads": each.resources.get("_cores"), "mem_mb": each.resources.get("mem_mb")}
        found[each.name] = {}
        for name, resource in asked.items():
            with contextlib.suppress(TypeError, WorkflowError):
                if resource:
                    found[each.name][name] = resource.evaluate({}, input=SimpleNamespace(store=[])).value
    return as_json(found)


def pilots_of_page(form):
    """The table or the figure of the pilots, where any of them can run."""
    return [paths.fill(paths.PILOTS, form=form)] if piloted(available=True) else []


def captions_of_page(wildcards):
    titles = {name: entry.title for name, entry in CONFIG.figures.items()}
    return as_json({"pilots": "Learning-rate pilots", **titles})


def tables_of_auc():
    """Tables whose numbers are AUCs, which the page's head counts."""
    return [name for name, entry in CONFIG.tables.items() if entry.shows == "auc"]


def encoders_on_page(wildcards):
    """run.json of the encoders that exist, and their digest, so that a new one is a new page."""
    records = [STUDY.resolve(paths.ENCODER_RECORD, method=method) for method in STUDY.methods]
    there = [path for path in records if path.exists()]
    return {"path": [*map(str, there)], "sha256": [*map(file_digest, there)]}


def shown_on_page(pattern):
    """A file that the page shows where it exists, and its digest, so that a new one is a new page."""

    def answer(wildcards):
        path = STUDY.resolve(pattern, form="json")
        return {"path": str(path), "sha256": file_digest(path) if path.exists() else ""}

    return answer


# ---- what a run says


class AnswerWithNothingToDo(logging.Filter):
    """Adds the answer to Snakemake's word that nothing is to be done, upon which it runs no `onsuccess`."""

    def filter(self, record):
        if record.msg == NOTHING_TO_BE_DONE_MSG:
            record.msg = "\n".join([record.msg, *answers()])
        return True


PREVIOUS = {}  # cells that are made again, as they were before
if workflow.is_main_process:
    logger.filters[:] = [AnswerWithNothingToDo()]


def asked_for():
    """Targets of this run, files as this study names them."""
    targets = workflow.dag_settings.targets or [workflow.default_target]
    return [target if workflow.is_rule(target) else os.path.relpath(target) for target in targets]


def answers():
    """What the targets hold now, in a few lines; a file that cannot be read is one of them."""
    try:
        return Answers(SPECS, PREVIOUS).of(asked_for())
    except UserError as error:
        return [str(error)]


def prepare_answer():
    """Before any job: keep what cells were, and tell the logger what there is to do (workflow/logger)."""
    jobs = list(workflow.dag.needrun_jobs())
    if any(job.rule.name in TRAINED for job in jobs):
        PREVIOUS.update(remember(STUDY, asked_for()))
    work = {job.jobid: work_of(job) for job in jobs}
    logger.info("", extra={"work": work, "speed": measured_speed(jobs)})


def give_answer():
    """After the last job."""
    for line in answers():
        logger.info(line, extra={"answer": True})


TRAINED = ("finetune", "finetune_kept", "probe")


def work_of(job):
    """Kind and amount of a job's work, comparable within its kind, and whether it trains.

    Of a training these are its stage and network, and its steps; of another job its rule, and 1.
    """
    names, name = job.wildcards_dict, job.rule.name
    if name == "pretrain":
        stage, steps = "pretrain", STUDY.pretrain_settings(names["method"]).training.steps
    elif name == "pilot":
        candidates = CONFIG.pilots.candidates(STUDY.pretrain_settings(names["method"]).training.optimiser)
        stage, steps = "pretrain", STUDY.pilot_training(names["method"]).steps * len(candidates)
    elif name in ("finetune", "finetune_kept"):
        cell = (names["method"], names["dataset"], int(names["ratio"]))
        stage, steps = "finetune", STUDY.finetune_settings(*cell).training.steps * len(STUDY.seeds)
    else:
        return name, 1, False
    model = STUDY.model_settings(names["method"])
    return f"{stage} {getattr(model, 'name', model.architecture)}", steps, True


def measured_speed(jobs):
    """Kind of work -> seconds per amount, from benchmark files of these jobs' earlier runs."""
    seconds, amounts = Counter(), Counter()
    for job in jobs:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            line = Path(job.benchmark).read_text(encoding="utf-8").splitlines()[-1]
            kind, amount, _ = work_of(job)
            seconds[kind] += float(json.loads(line)["s"])
            amounts[kind] += amount
    return {kind: seconds[kind] / amounts[kind] for kind in seconds if amounts[kind]}
