"""Readers of what the pipeline writes: indexes, stores, tokens, splits, subsets, predictions, results; and the config."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import made_measures as measured
import made_tables
import numpy as np
import pandas as pd
from field import artefacts
from helpers import write_studies
from refers import config
from refers.claims.claims import FIELDS as CLAIM
from refers.claims.claims import read_verdicts
from refers.config.read import read_files
from refers.config.study import StudyConfig
from refers.data.index import read_index
from refers.data.mimic_studies import MimicStudies
from refers.data.splits import read_split, read_subset
from refers.data.store import INDEX_DIGEST
from refers.evaluation.cell_file import read_cell, read_measured
from refers.evaluation.localisation import read_maps, read_overlap
from refers.evaluation.predictions import read_runs, read_seeds
from refers.evaluation.probe import open_features
from refers.files import file_digest, write_parquet
from refers.formatting import csv_text
from refers.provenance.run_files import read_metrics, read_pilot
from refers.reporting.rule_graph import read_csv as read_graph
from refers.reporting.table_formats import read_csv, to_csv, to_markdown
from refers.text.report_files import read_cleaned

from fuzz import Reader
from fuzz.damage import ARCHIVE, ARRAY, BYTES, JSON, LINES, PARQUET, TABLE, WHOLE

CONFIG = Path(__file__).parents[2] / "config/config.yaml"
TEXT = ("letter", "number", "sign", "flip", "byte", "head", "insert", "remove")
# Files of a valid form that another program could have written.
ROWS = ("value", "row less", "row twice", "rows mixed", "column of", "column less", "column named")
ANY_TEXT = (
    *TEXT,
    "repeat",
    "cut",
    "lines cut",
    "lines mixed",
    "line less",
    "line twice",
    "node",
    "columns",
    "nul",
    "zeros",
)


# ---- what pre-training reads


def _studies(file: str) -> Callable[[Path], Path]:
    """Index, store with its manifest, and tokens of eight studies."""

    def make(folder: Path) -> Path:
        random = np.random.default_rng(0)
        images = random.integers(0, 256, (16, 6, 6), dtype=np.uint8)
        tokens = random.integers(5, 50, (8, 6)).astype(np.uint16)
        labels = {"Edema": random.choice([1, 0, -1, np.nan], 8), "Mass": random.choice([1, 0], 8)}
        write_studies(folder, [2] * 8, ["train"] * 5 + ["val"] * 3, images, tokens, labels)
        index, store = folder / "index.parquet", folder / "images.npy"
        write_parquet(index, pd.read_parquet(index))
        manifest = {"count": 16, "size": 6, "sha256": file_digest(store), "quarantined": [3]}
        manifest |= {"remarks": {}, INDEX_DIGEST: file_digest(index)}
        (folder / "images.json").write_text(json.dumps(manifest, indent=1))
        return folder / file

    return make


def _read_studies(file: Path) -> dict[str, Any]:
    paths = (file.with_name(name) for name in ("index.parquet", "images.npy", "tokens.npz", "images.json"))
    studies = MimicStudies(*paths)
    names = (
        "rows",
        "first",
        "count",
        "tokens",
        "swapped",
        "lengths",
        "labels",
        "image_ids",
        "frontal",
        "splits",
    )
    return {name: getattr(studies, name) for name in names} | {"store": np.array(studies.store)}


WORDS = "image_id,x,y,size,label,rank,split\n" + "".join(
    f"d{row // 2:03d}{row % 2},{row % 3},1,2,{row // 2},{row % 2},{'train' if row < 10 else 'val'}\n"
    for row in range(16)
    if row != 3
)


def _words(folder: Path) -> Path:
    _studies("index.parquet")(folder)
    (folder / "words.csv").write_text(WORDS)
    return folder / "words.csv"


def _read_words(file: Path) -> Any:
    paths = (file.with_name(name) for name in ("index.parquet", "images.npy", "tokens.npz", "images.json"))
    studies = MimicStudies(*paths, file)
    return studies.words, studies.crops


PRETRAINING = (
    Reader("cleaned reports", artefacts.reports_with(), read_cleaned, BYTES | WHOLE | PARQUET, contents=ROWS),
    Reader("words.csv", _words, _read_words, BYTES | WHOLE | TABLE, contents=ANY_TEXT),
    Reader("index and store: index.parquet", _studies("index.parquet"), _read_studies, BYTES | WHOLE | PARQUET),
    Reader("index and store: images.npy", _studies("images.npy"), _read_studies, BYTES | WHOLE | ARRAY),
    Reader("index and store: images.json", _studies("images.json"), _read_studies, BYTES | WHOLE | JSON, contents=(*TEXT, "node", "absent", "line less")),
    Reader("tokens.npz", _studies("tokens.npz"), _read_studies, BYTES | WHOLE | ARCHIVE, contents=("member byte", "member of another")),
    Reader("index alone", _studies("index.parquet"), lambda file: read_index(file, ("image_id", "study_id", "view", "split")), BYTES | WHOLE | PARQUET, contents=ROWS),
)  # fmt: skip


# ---- what fine-tuning reads


def _split(folder: Path) -> Path:
    rows = np.arange(12)
    names = [f"a{row}" for row in rows]
    parts = np.array(["train", "val", "test"])[np.minimum(rows // 4, 2)]
    frame = pd.DataFrame({"row": rows, "image_id": names, "patient_id": names, "split": parts})
    write_parquet(
        folder / "split.parquet",
        frame.assign(**{"label:A": (rows % 2).astype(np.float32), "width": np.int32(9)}),
    )
    return folder / "split.parquet"


def _subset(folder: Path) -> Path:
    _split(folder)
    (folder / "subset.csv").write_text("row,image_id,seed\n0,a0,0\n1,a1,0\n2,a2,0\n0,a0,1\n3,a3,1\n")
    return folder / "subset.csv"


def _read_subset(file: Path) -> pd.DataFrame:
    split = file.with_name("split.parquet")
    return read_subset(file, read_split(split), split, 0)


def _features(folder: Path) -> Path:
    np.save(folder / "features.npy", np.random.default_rng(0).random((5, 3), np.float32))
    return folder / "features.npy"


FINETUNING = (
    Reader("split", _split, read_split, BYTES | WHOLE | PARQUET, contents=ROWS),
    Reader("subset", _subset, _read_subset, BYTES | WHOLE | TABLE, contents=ANY_TEXT),
    Reader(
        "features", _features, lambda file: np.array(open_features(file)), BYTES | WHOLE | ARRAY,
        contents=("flip", "byte", "head", "zeros", "insert", "remove", "repeat", "array"),
    ),
)  # fmt: skip


# ---- results


def _predictions(folder: Path) -> Path:
    names = [f"a{row}" for row in range(8)]
    scores = np.random.default_rng(0).random((8, 2), np.float32)
    frame = pd.DataFrame({"split": ["test"] * 5 + ["val"] * 3, "image_id": names, "patient_id": names})
    frame = frame.assign(**{"label:A": np.int8([0, 1] * 4), "label:B": np.int8([1, 0] * 4)})
    write_parquet(
        folder / "predictions.parquet", frame.assign(**{"score:A": scores[:, 0], "score:B": scores[:, 1]})
    )
    return folder / "predictions.parquet"


def _read_predictions(file: Path) -> Any:
    found = read_seeds([file])
    return found.classes, [
        (each.ids, each.patients, each.labels, each.scores) for each in (found.test, found.val)
    ]


def _written(name: str, content: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_text(content)
        return folder / name

    return make


def _table(file: Path) -> str:
    return to_markdown(made_tables.table_of([read_cell(file), made_tables.C2L], tests=[]))


def _measures(file: Path) -> str:
    return to_markdown(measured.table_of(measured.of_measures(), [read_measured(file, "measures")]))


def _subgroups(file: Path) -> str:
    columns = measured.of_groups("sex", "female", "male", "gap")
    return to_markdown(measured.table_of(columns, [read_measured(file, "subgroups")]))


MEASURES = json.dumps(measured.measures_of("refers", 0.5, 0.1, 0.2, 0.6), indent=1)
GAP = {"largest": "male", "smallest": "female", "difference": 0.05, "undefined": None}
GAP |= {"interval": [-0.01, 0.11], "undefined_resamples": 0}
SEX = {
    "unknown": 7,
    "classes": ["Mass"],
    "groups": {"female": measured.group(0.7), "male": measured.group(0.75)},
}
SUBGROUPS = json.dumps(measured.groups_of("refers", sex=SEX | {"gap": GAP}), indent=1)
CLAIMS = csv_text(CLAIM, [{name: f"{name} {row}" for name in CLAIM} for row in range(3)])
GRAPH = "rule,stage,needs\na,data,\nb,data,a\nc,report,a b\n"


def _maps(file: Path) -> Any:
    found = read_maps(file, file.with_name("iou.csv"))
    return found.images, found.maps, found.facts


def _tied(file: Path) -> Any:
    """Predictions of two seeds, whose records say which they are."""
    paths = [file.parents[1] / f"seed{seed}/predictions.parquet" for seed in (0, 1)]
    return artefacts.tied(paths), [each.test.scores for each in read_runs(paths, [0, 0], [0, 1])]


AUC = json.dumps(made_tables.REFERS, indent=1)
METRICS = "".join(json.dumps({"step": step, "train": {"loss": 1 / step}}) + "\n" for step in range(1, 6))
OVERLAP = "image_id,class,score,iou,area\n" + "".join(f"a{row},Mass,0.{row},0.2,0.1\n" for row in range(4))
RESULTS = (
    Reader("predictions", _predictions, _read_predictions, BYTES | WHOLE | PARQUET, contents=ROWS),
    Reader("run.json", lambda folder: artefacts.runs_with()(folder)[1].with_name("run.json"), _tied, BYTES | WHOLE | JSON, contents=(*ANY_TEXT, "absent")),
    Reader("pilot", artefacts.json_file("c2l.json", artefacts.PILOT), read_pilot, BYTES | WHOLE | JSON, contents=ANY_TEXT),
    Reader("maps.npz", lambda folder: artefacts.maps_with()(folder)[0], _maps, BYTES | WHOLE | ARCHIVE, contents=("member byte", "member of another")),
    Reader("claims.csv", _written("claims.csv", CLAIMS), read_verdicts, BYTES | WHOLE | TABLE, contents=ANY_TEXT),
    Reader("rules.csv", _written("rules.csv", GRAPH), read_graph, BYTES | WHOLE | TABLE, contents=ANY_TEXT),
    Reader("auc.json", _written("auc.json", AUC), _table, BYTES | WHOLE | JSON, contents=ANY_TEXT),
    Reader("measures.json", _written("measures.json", MEASURES), _measures, BYTES | WHOLE | JSON, contents=ANY_TEXT),
    Reader("subgroups.json", _written("subgroups.json", SUBGROUPS), _subgroups, BYTES | WHOLE | JSON, contents=ANY_TEXT),
    Reader("metrics.jsonl", _written("metrics.jsonl", METRICS), read_metrics, BYTES | WHOLE | LINES, contents=ANY_TEXT),
    Reader("table as CSV", _written("table1.csv", to_csv(made_tables.table_of([made_tables.REFERS, made_tables.C2L]))), read_csv, BYTES | WHOLE | TABLE, contents=ANY_TEXT),
    Reader("iou.csv", _written("iou.csv", OVERLAP), read_overlap, BYTES | WHOLE | TABLE, contents=ANY_TEXT),
)  # fmt: skip


# ---- config


def _study(file: Path) -> Any:
    return config.to_dict(config.load(StudyConfig, read_files([file])))


CONFIGS = (Reader("config", _written("config.yaml", CONFIG.read_text()), _study, BYTES | WHOLE | LINES, contents=ANY_TEXT),)  # fmt: skip

READERS = (*PRETRAINING, *FINETUNING, *RESULTS, *CONFIGS)
