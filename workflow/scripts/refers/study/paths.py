"""The one path grammar: every file of a study, written as Snakemake reads it.

<results>, <store>, ... are folders that an overlay may move (Snakemake's pathvars); {method}, {dataset}, ... are wildcards.
Rules use these strings as they stand, `fill` sets some of the wildcards, `locate` gives the file on disk, and `parse` the
wildcards of a file.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from refers.config.study import Pathvars

FOLDERS = Pathvars().model_dump()  # where the config moves none

# ---- official downloads: one index and one image store per source
INDEX = "<store>/{source}/index.parquet"
INDEX_REPORT = "<store>/{source}/index.json"
IMAGES = "<store>/{source}/images.npy"
MANIFEST = "<store>/{source}/images.json"
QUARANTINE = "<store>/{source}/quarantine.csv"

# ---- credentialed text, never below <results>
REPORTS = "<store>/mimic/reports.parquet"
REPORTS_FUNNEL = "<store>/mimic/reports.json"
TEXT_ENCODER = "<interim>/mimic/text_encoder"  # of studies that name no BERT
TEXT_PACKAGE = "<interim>/mimic/text_package"  # copy of one that an installed Python package holds
TOKENS = "<interim>/mimic/tokens.npz"
WORDS = "<interim>/mimic/{method}/words.csv"

# ---- images of other downloads than MIMIC-CXR to pre-train on; a pool is named by its sources
POOL_IMAGES = "<interim>/pools/{pool}/images.npy"
POOL_INDEX = "<interim>/pools/{pool}/index.parquet"
POOL_MANIFEST = "<interim>/pools/{pool}/images.json"

# ---- datasets: who is trained, validated and tested on, by number of the split
_SPLIT = "<interim>/{dataset}/split{split}"
SPLIT = f"{_SPLIT}/split.parquet"
SPLIT_REPORT = f"{_SPLIT}/split.json"
CHECK = f"{_SPLIT}/check.json"
SUBSET = f"{_SPLIT}/subset_{{ratio}}pct.csv"
SUBSET_REPORT = f"{_SPLIT}/subset_{{ratio}}pct.json"

# ---- encoders
RANDOM_VIT = "<interim>/random_vit.npz"
ENCODER = "<results>/encoders/{method}/encoder.safetensors"
ENCODER_RECORD = "<results>/encoders/{method}/run.json"
ENCODER_METRICS = "<results>/encoders/{method}/metrics.jsonl"
MODEL_CARD = "<results>/encoders/{method}/README.md"
EXPORTS = "<results>/export"  # folder: one for each encoder, and README.md

# ---- learning-rate pilots
PILOT = "<results>/pilots/{method}.json"
PILOTS = "<results>/pilots/pilots.{form}"  # csv, md, html, pdf, png

# ---- fine-tunes
RUN = "<results>/runs/{method}/{dataset}/{ratio}pct/split{split}/seed{seed}"
PREDICTIONS = f"{RUN}/predictions.parquet"
RUN_RECORD = f"{RUN}/run.json"
RUN_METRICS = f"{RUN}/metrics.jsonl"
CLASSIFIER = f"{RUN}/classifier.safetensors"
# its scores on the test images of another dataset
EXTERNAL_PREDICTIONS = f"{RUN}/on_{{other}}.parquet"
EXTERNAL_RECORD = f"{RUN}/on_{{other}}.json"

# ---- probes: a second protocol beside fine-tuning, on features of a frozen encoder
FEATURES = "<interim>/features/{method}/{source}.npy"
FEATURES_RECORD = "<interim>/features/{method}/{source}.json"
PROBE = "<results>/probes/{method}/{dataset}/{ratio}pct/split{split}"
PROBE_PREDICTIONS = f"{PROBE}/predictions.parquet"
PROBE_RECORD = f"{PROBE}/run.json"

# ---- results: one table cell is one target, over all splits and seeds
CELL = "<results>/cells/{method}/{dataset}/{ratio}pct/auc.json"
RESAMPLES = "<results>/cells/{method}/{dataset}/{ratio}pct/resamples.parquet"
MEASURES = "<results>/cells/{method}/{dataset}/{ratio}pct/measures.json"
SUBGROUPS = "<results>/cells/{method}/{dataset}/{ratio}pct/subgroups.json"
EXTERNAL = "<results>/cells/{method}/{dataset}/{ratio}pct/on_{other}.json"
PROBE_CELL = "<results>/probes/{method}/{dataset}/{ratio}pct/auc.json"
PROBE_RESAMPLES = "<results>/probes/{method}/{dataset}/{ratio}pct/resamples.parquet"
CHARACTERISTICS = (
    "<results>/characteristics/{source}.parquet"  # sex, age and projection of the images of a download
)
CHARACTERISTICS_REPORT = "<results>/characteristics/{source}.json"
TTEST = "<results>/ttests/{dataset}/{ratio}pct/{method}_vs_{baseline}.json"
TABLE = "<results>/tables/{table}.{form}"  # csv, md, tex, html
CELL_INDEX = "<results>/tables/cells.csv"
CLAIMS = "<results>/claims.{form}"  # csv, md
FIGURE = "<results>/figures/{figure}.{form}"  # pdf, png
MAPS = "<results>/attention/{figure}/maps.npz"
OVERLAP = "<results>/attention/{figure}/iou.csv"
RULES = "<results>/rules.csv"
PAGE = "<results>/index.html"
CRATE = "<results>/crate"  # a folder

# ---- answers to questions about the study
PREFLIGHT = "<results>/preflight.json"
UNREADABLE = "<logs>/unreadable.csv"
EXPLANATION = "<results>/explain/{method}/{dataset}/{ratio}pct.md"
STEP_COSTS = "<results>/plan/steps.json"
STEP_CACHE = "<interim>/step_costs"  # folder of what earlier calibrations counted
PLAN = "<results>/plan/plan.{form}"  # json, csv, md
GPU_CHECK = "<results>/gpu_check.{form}"  # json, csv, md
AUDIT = "<results>/audit/{file}"  # auc.csv, pairs.csv, audit.md


MEASURED = {
    "measures": MEASURES,
    "subgroups": SUBGROUPS,
    "external": EXTERNAL,
}  # files of a cell beside auc.json, by what a table shows


class Protocol(NamedTuple):
    """Files of a cell by how an encoder is evaluated."""

    cell: str
    predictions: str
    record: str


PROTOCOLS = {
    "finetune": Protocol(CELL, PREDICTIONS, RUN_RECORD),
    "probe": Protocol(PROBE_CELL, PROBE_PREDICTIONS, PROBE_RECORD),
}

# Jobs of a rule are told apart by these wildcards, in the names of their logs and benchmark files.
_CELL = "{method}.{dataset}.{ratio}pct"
JOBS = {
    "index_source": "{source}",
    "pack_images": "{source}",
    "split_dataset": "{dataset}.split{split}",
    "check_split": "{dataset}.split{split}",
    "label_subset": "{dataset}.{ratio}pct.split{split}",
    "pool_images": "{pool}",
    "discover_words": "{method}",
    "pilot": "{method}",
    "pretrain": "{method}",
    "import_encoder": "{method}",
    "model_card": "{method}",
    "finetune": f"{_CELL}.split{{split}}",
    "extract_features": "{method}.{source}",
    "probe": f"{_CELL}.split{{split}}",
    "cell": _CELL,
    "predict": f"{_CELL}.on_{{other}}",
    "measures": _CELL,
    "subgroups": _CELL,
    "external": f"{_CELL}.on_{{other}}",
    "characteristics": "{source}",
    "probe_cell": _CELL,
    "explain": _CELL,
    "ttest": "{dataset}.{ratio}pct.{method}_vs_{baseline}",
    "table": "{table}",
    "figure": "{figure}",
    "attend": "{figure}",
}


def log(rule: str) -> str:
    """Log of a rule's jobs."""
    return f"<logs>/{_job(rule)}.log"


def benchmark(rule: str) -> str:
    """Snakemake's measurements of a rule's jobs."""
    return f"<benchmarks>/{_job(rule)}.jsonl"


def _job(rule: str) -> str:
    return f"{rule}/{JOBS[rule]}" if rule in JOBS else rule


def fill(pattern: str, **wildcards: object) -> str:
    """The pattern with these wildcards set; other wildcards and the folders stay as they are."""
    return re.sub(r"\{(\w+)\}", lambda found: str(wildcards.get(found[1], found[0])), pattern)


def locate(pattern: str, folders: Mapping[str, str], **wildcards: object) -> Path:
    """The file of a pattern, relative to the project.

    Args:
        folders: the config's pathvars; `FOLDERS` holds where the others are.

    Raises:
        KeyError: a wildcard of the pattern is not given, or no folder has such a name.
    """
    where = FOLDERS | dict(folders)
    filled = pattern.format(**wildcards)  # first, since a folder may hold braces
    return Path(re.sub(r"<(\w+)>", lambda found: where[found[1]], filled))


def parse(pattern: str, folders: Mapping[str, str], path: str | Path) -> dict[str, str] | None:
    """The wildcards of a file that `locate` gives for this pattern; None of any other file."""
    where = FOLDERS | dict(folders)
    parts = re.split(r"(<\w+>|\{\w+\})", pattern)
    for place, part in enumerate(parts):
        if part.startswith("{"):
            parts[place] = f"(?P<{part[1:-1]}>[^/]+)"
        else:
            parts[place] = re.escape(where[part[1:-1]] if part.startswith("<") else part)
    found = re.fullmatch("".join(parts), Path(path).as_posix())
    return found and found.groupdict()
