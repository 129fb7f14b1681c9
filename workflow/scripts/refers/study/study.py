"""The study as the config describes it: which cells there are, what each job is told, what can run here.

The one grid of methods x (dataset, label ratio) x seeds behind every target, table and message. No torch, no files
read but for the question whether something exists.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from refers import config
from refers.errors import UserError

SCRIPTS = Path(__file__).parents[2]
PLACES = {
    "results": "results",
    "store": "build/store",
    "interim": "build/interim",
    "benchmarks": "benchmarks",
}
RELEASED = "https://github.com/funnyzhou/REFERS"  # the authors' repository


class Cell(NamedTuple):
    """One column of the tables: a dataset at a label ratio in percent."""

    dataset: str
    ratio: int

    def __str__(self) -> str:
        return f"{self.dataset}/{self.ratio}"


@dataclass(frozen=True, eq=False)
class Study:
    """Questions that the rules ask of a validated config map."""

    values: dict[str, Any]

    # ---- the grid

    @property
    def cells(self) -> list[Cell]:
        """Columns in table order."""
        return [
            Cell(entry["dataset"], ratio)
            for entry in self.values["study"]["cells"]
            for ratio in entry["ratios"]
        ]

    @property
    def methods(self) -> list[str]:
        """Methods to run, in table order: the study's, then those of your own."""
        return [*self.values["study"]["methods"], *self.own_methods]

    @property
    def own_methods(self) -> list[str]:
        """Methods marked `own`: they run, and every table prints them below its rows."""
        return [name for name, entry in self.values["methods"].items() if entry.get("own")]

    @property
    def seeds(self) -> list[int]:
        """Fine-tuning seeds."""
        return self.values["study"]["seeds"]

    @property
    def wants_apex(self) -> bool:
        """Whether any job computes with NVIDIA Apex."""
        return any(str(value).startswith("apex") for value in _values_of("precision", self.values))

    def method(self, name: str) -> dict:
        """A method's entry."""
        if name not in self.values["methods"]:
            raise UserError(f"no such method: {name}; config has {', '.join(self.values['methods'])}")
        return self.values["methods"][name]

    def dataset(self, name: str) -> dict:
        """A dataset's entry."""
        if name not in self.values["datasets"]:
            raise UserError(f"no such dataset: {name}; config has {', '.join(self.values['datasets'])}")
        return self.values["datasets"][name]

    def require(self, method: str, dataset: str, ratio: int) -> None:
        """Raise a UserError unless the cell is part of the study and can run here."""
        self.method(method)
        self.dataset(dataset)
        if Cell(dataset, int(ratio)) not in self.cells or method not in self.methods:
            known = ", ".join(str(cell) for cell in self.cells)
            raise UserError(
                f"no such cell: {method}/{dataset}/{ratio}; the study has {known} for {', '.join(self.methods)}"
            )
        if reason := self.cell_status(method, Cell(dataset, int(ratio))):
            raise UserError(f"{method}/{dataset}/{ratio}: {reason}")

    # ---- what jobs are told

    def pretrain_settings(self, method: str) -> dict:
        """Resolved settings of a pre-training run, checked.

        Raises:
            UserError: a setting that no job would accept, or a start whose weights mean something else in this encoder.
        """
        values = config.merge(self.values["pretrain"], self.method(method).get("pretrain", {}))
        values["model"] = self._model(method)
        settings = config.to_dict(config.load(config.Pretrain, values, f"methods.{method}.pretrain"))
        if settings["init"] == "imagenet":
            differs = config.mismatch(settings["model"], self.model_settings("imagenet"))
            if differs:
                raise UserError(
                    f"methods.{method}.pretrain.init: the encoder of imagenet has {differs};"
                    f" make the two agree, or set init: scratch for {method}"
                )
        return settings

    def model_settings(self, method: str) -> dict:
        """Resolved architecture of a method's encoder, checked."""
        return config.to_dict(config.load_model(self._model(method), f"methods.{method}.model"))

    def _model(self, method: str) -> dict:
        shared, own = self.values["pretrain"].get("model", {}), self.method(method).get("model", {})
        if "architecture" in own:  # another kind of encoder shares the input size and nothing else
            shared = {key: value for key, value in shared.items() if key == "image_size"}
        elif self._starts_from_imagenet(method):
            # weights trained with GELU compute something else with ReLU
            start = self.model_settings("imagenet")
            shared = {key: start[key] for key in ("activation",) if key in start} | shared
        return config.merge(shared, own)

    def _starts_from_imagenet(self, method: str) -> bool:
        entry = self.method(method)
        init = entry.get("pretrain", {}).get("init", self.values["pretrain"].get("init"))
        if "checkpoint" in entry or init != "imagenet":
            return False
        if "checkpoint" not in self.method("imagenet"):
            raise UserError(
                f"methods.{method}.pretrain.init: methods.imagenet has no checkpoint to start from; give it one"
            )
        return True

    def finetune_settings(self, method: str, dataset: str, ratio: int) -> dict:
        """Resolved settings of a fine-tune: defaults, then dataset, then cell, then method; checked."""
        tuning = self.values["finetune"]
        values = config.merge(
            tuning["defaults"],
            tuning.get("datasets", {}).get(dataset, {}),
            tuning.get("cells", {}).get(str(Cell(dataset, int(ratio))), {}),
            self.method(method).get("finetune", {}),
        )
        return config.to_dict(config.load(config.Finetune, values, f"finetune.{method}/{dataset}/{ratio}"))

    def split_settings(self, dataset: str) -> dict:
        """What split_dataset.py is told."""
        entry = self.dataset(dataset)
        return {"dataset": dataset, "classes": entry["classes"], "views": entry["views"], **entry["split"]}

    @property
    def audit(self) -> dict:
        """What audit_released.py is told."""
        entry = self.values["audit"]
        cells = []
        for folder, name in entry["cells"].items():
            dataset, _, ratio = name.partition("/")
            classes = self.dataset(dataset)["classes"]
            cells.append({"folder": folder, "dataset": dataset, "ratio": int(ratio), "classes": classes})
        lists = {
            dataset: {
                "list": f"{self.dataset(dataset)['released']}/test.txt",
                "patient": pattern,
                "classes": len(self.dataset(dataset)["classes"]),
            }
            for dataset, pattern in entry["patients"].items()
        }
        return {
            "cells": cells,
            "lists": lists,
            "folders": [Path(entry["results"]).name, Path(self.values["released_lists"]).name],
            "reference": self.values["tables"][entry["table"]]["reference"],
            **{key: entry[key] for key in ("methods", "table", "alike")},
        }

    # ---- what is here

    def place(self, name: str) -> str:
        """Where a pathvar points."""
        return self.values.get("pathvars", {}).get(name, PLACES[name])

    def lies(self, *paths: str) -> bool:
        """Whether these files below <results> are here, of an earlier run or another machine's."""
        return all(Path(self.place("results"), path).exists() for path in paths)

    def folder(self, source: str) -> Path:
        """Where the official download of a source lies."""
        return Path(self.values["data_root"]) / self.values["sources"][source]["folder"]

    def source_files(self, source: str) -> list[Path]:
        """The tables of a source that its index is made from."""
        found = (self._matches(source, pattern) for pattern in self.values["sources"][source]["files"])
        return [paths[-1] for paths in found if paths]

    def _matches(self, source: str, pattern: str) -> list[Path]:
        """Files of the first alternative of `pattern` ("this|or that") that matches any, sorted by name."""
        found = (sorted(self.folder(source).glob(part)) for part in pattern.split("|"))
        return next((paths for paths in found if paths), [])

    def released_lists(self, dataset: str) -> Path:
        """Folder of the authors' lists of a dataset."""
        return (
            Path(self.values["data_root"]) / self.values["released_lists"] / self.dataset(dataset)["released"]
        )

    @property
    def clone(self) -> Path:
        """Where a clone of the authors' repository is looked for."""
        return (Path(self.values["data_root"]) / self.values["released_lists"]).parent

    @property
    def released_results(self) -> Path:
        """The authors' prediction files: a folder of the clone, an archive of it there, or one of the whole repository.

        Raises:
            UserError: none is there, or two archives are.
        """
        folder = self.clone / self.values["audit"]["results"]
        if folder.is_dir():
            return folder
        for path in (folder, self.clone):
            if found := _archives(path):
                if len(found) > 1:
                    raise UserError(f"{found[0]} and {found[1].name}: keep one of the two")
                return found[0]
        raise UserError(
            f"data absent: {folder} not found; git clone {RELEASED} {self.clone}"
            f" or save the repository's archive as {self.clone}.zip"
        )

    @property
    def released_test_lists(self) -> Path | None:
        """Where the audit finds the authors' lists: their folder in the clone, or the archive of the repository."""
        folder, results = (
            Path(self.values["data_root"]) / self.values["released_lists"],
            self.released_results,
        )
        if folder.is_dir():
            return folder
        return results if results in _archives(self.clone) else None

    @property
    def text_encoder(self) -> Path | None:
        """Folder of the downloaded BERT, or None when one is built from the reports."""
        path = self.values["text"].get("encoder")
        return Path(path) if path else None

    @cache  # noqa: B019 - one study lives as long as the process
    def missing(self, source: str) -> list[str]:
        """Patterns of a source's files, images and reports that match nothing on disk."""
        entry, folder = self.values["sources"][source], self.folder(source)
        wanted = [*entry["files"], entry["images"], *filter(None, [entry.get("reports")])]
        return [
            pattern
            for pattern in wanted
            if all(next(folder.glob(part), None) is None for part in pattern.split("|"))
        ]

    def boxes_status(self, source: str) -> str:
        """Empty when the radiologists' boxes of a source are on disk; otherwise why not."""
        where, boxes = self.folder(source), self.values["sources"][source]["boxes"]
        here = next(where.glob(boxes), None)
        return "" if here else f"data absent: {where}/{boxes} not found; docs/data.md says how to get it"

    def source_status(self, source: str) -> str:
        """Empty when the source is on disk; otherwise why not and what to do."""
        absent = [pattern.replace("|", " or ") for pattern in self.missing(source)]
        where = self.folder(source)
        return (
            f"data absent: {where}/{absent[0]} not found; docs/data.md says how to get it" if absent else ""
        )

    @cache  # noqa: B019
    def dataset_status(self, dataset: str) -> str:
        """Empty when the dataset can be split and read; otherwise why not and what to do."""
        entry = self.dataset(dataset)
        if entry["split"]["kind"] == "released":
            if "released" not in entry:
                return f"data absent: the authors released no lists of {dataset}; choose another split"
            lists = self.released_lists(dataset)
            if not (lists / "test.txt").exists():
                return f"data absent: {lists}/test.txt not found; clone the authors' repository there or choose another split"
        return self.source_status(entry["source"])

    def checkpoint_file(self, method: str) -> Path | None:
        """The file that a method is imported from; None where it is pre-trained, random or downloaded from timm."""
        checkpoint = self.method(method).get("checkpoint", "random")
        return None if checkpoint == "random" or checkpoint.startswith("timm:") else Path(checkpoint)

    def line_status(self, method: str) -> str:
        """Empty when a table or figure can show the method; otherwise why not."""
        return self.method_status(method) if method in self.methods else "not run: not in study.methods"

    @cache  # noqa: B019
    def method_status(self, method: str) -> str:
        """Empty when the method's encoder can be made; otherwise why not and what to do."""
        entry = self.method(method)
        if checkpoint := entry.get("checkpoint"):
            path = self.checkpoint_file(method)
            here = path is None or path.exists()
            return "" if here else f"not run: {checkpoint} not found; docs/data.md says how to get it"
        settings = self.pretrain_settings(method)
        objective = SCRIPTS / "refers/methods" / f"{settings['objective']}.py"
        if not objective.exists():
            return f"not run: objective {settings['objective']} is not built yet"
        if settings["init"] == "imagenet" and (reason := self.method_status("imagenet")):
            return reason
        if self.text_encoder and not (self.text_encoder / "config.json").exists():
            return f"not run: no BERT in {self.text_encoder}; docs/data.md says how to get it"
        return self.source_status("mimic")

    def training_status(self, method: str, cell: Cell) -> str:
        """Empty when a cell can be trained here; otherwise why not and what to do."""
        return self.method_status(method) or self.dataset_status(cell.dataset)

    @cache  # noqa: B019
    def cell_status(self, method: str, cell: Cell) -> str:
        """Empty when a cell can be trained here, or its predictions are: without the downloads they are read as they lie."""
        reason = self.training_status(method, cell)
        folder = f"runs/{method}/{cell.dataset}/{cell.ratio}pct"
        kept = reason and self.lies(*(f"{folder}/seed{seed}/predictions.parquet" for seed in self.seeds))
        return "" if kept else reason

    def runs(self, method: str, cell: Cell) -> bool:
        """Whether a cell of the grid is asked for and can be shown here."""
        return method in self.methods and not self.cell_status(method, cell)

    # ---- tables

    def row_methods(self, row: str) -> list[str]:
        """Methods behind a table row: several for a row that prints the best of a group."""
        groups = self.values.get("groups", {})
        return groups[row]["best_of"] if row in groups else [row]

    def table_rows(self, name: str) -> list[str]:
        """Rows of a table: those that it names, then the methods of your own."""
        return [*self.values["tables"][name]["rows"], *self.own_methods]

    def table(self, name: str) -> dict:
        """The table's description as table.py takes it."""
        entry = self.values["tables"][name]
        groups = self.values.get("groups", {})
        rows = []
        for row in self.table_rows(name):
            about = groups[row] if row in groups else self.method(row)
            rows.append(
                {
                    "id": row,
                    "title": about["title"],
                    "methods": self.row_methods(row),
                    "note": about.get("note", ""),
                    "marks": entry.get("marks", {}).get(row, []),
                }
            )
        status = {method: self.line_status(method) for row in rows for method in row["methods"]}
        status |= {cell.dataset: self.dataset_status(cell.dataset) for cell in self.cells}
        return {
            "name": name,
            "title": entry["title"],
            "label": entry.get("label", ""),
            "note": self.values.get("note", ""),
            **{key: entry[key] for key in ("reference", "baseline") if key in entry},
            "rows": rows,
            "columns": [
                column
                for cell in self.table_columns(name)
                for column in self._columns(cell, "per_class" in entry)
            ],
            "verdict": self.values["verdict"],
            "undefined_resamples": self.values["study"]["bootstrap"]["undefined"],
            "status": {key: reason for key, reason in status.items() if reason},
        }

    def _columns(self, cell: Cell, per_class: bool) -> list[dict]:
        """One column of a cell, or one for each of its classes."""
        ratios = [other.ratio for other in self.cells if other.dataset == cell.dataset]
        title = "All" if ratios == [100] else f"{cell.ratio}%"
        about = {
            "dataset": cell.dataset,
            "ratio": cell.ratio,
            "group": self.dataset(cell.dataset)["title"],
            "title": title,
        }
        if not per_class:
            return [{"id": str(cell), **about}]
        about["group"] = f"{about['group']} {title}"
        return [
            about | {"id": f"{cell}/{name}", "title": name.replace("_", " "), "class": name}
            for name in self.dataset(cell.dataset)["classes"]
        ]

    def table_columns(self, name: str) -> list[Cell]:
        """Cells behind a table's columns: those that it names, those of its `per_class` dataset, or all of the study."""
        entry = self.values["tables"][name]
        return [
            cell
            for cell in self.cells
            if str(cell) in entry.get("columns", [str(cell)])
            and cell.dataset == entry.get("per_class", cell.dataset)
        ]

    def table_cells(self, name: str) -> list[tuple[str, Cell]]:
        """(method, cell) pairs that a table prints and that can run."""
        rows = self.table_rows(name)
        methods = [method for row in rows for method in self.row_methods(row)]
        return [
            (method, cell)
            for method in methods
            for cell in self.table_columns(name)
            if self.runs(method, cell)
        ]

    def table_tests(self, name: str) -> list[tuple[str, str, Cell]]:
        """(reference, baseline, cell) triples whose tests a table may print; it makes a class's t-test itself."""
        entry = self.values["tables"][name]
        if "reference" not in entry:
            return []
        others = [row for row in self.table_rows(name) if row != entry["reference"]]
        rows = others if entry["baseline"] == "best" else [entry["baseline"]]
        return [
            (entry["reference"], method, cell)
            for row in rows
            for method in self.row_methods(row)
            for cell in self.table_columns(name)
            if self.runs(method, cell) and self.runs(entry["reference"], cell)
        ]

    # ---- figures

    @property
    def kept(self) -> dict[str, list]:
        """Methods, datasets and label shares whose fine-tunes keep a classifier, for class activation maps."""
        entries = [entry for entry in self.values["figures"].values() if entry["kind"] == "attention"]
        return {
            "method": sorted({method for entry in entries for method in entry["methods"]}),
            "dataset": sorted({entry["dataset"] for entry in entries}),
            "ratio": sorted({entry["ratio"] for entry in entries}),
        }

    def figure(self, name: str) -> dict:
        """The figure's description as figure.py takes it; `sources` names the method behind each of its inputs."""
        entry = self.values["figures"][name]
        cells = self.figure_cells(name)
        shown = {method for method, _ in cells}
        methods = []
        for method in entry.get("methods", self.methods):
            absent = self.dataset_status(entry["dataset"]) if "dataset" in entry else ""
            reason = self.line_status(method) or absent
            if entry["kind"] == "attention":
                reason = reason or self._map_status(name)
            kept = entry["kind"] == "curves" and self.lies(f"encoders/{method}/metrics.jsonl")
            if method in self.methods and (method in shown or kept):
                reason = ""
            methods.append({"id": method, "title": self.method(method)["title"], "status": reason})
        if entry["kind"] == "curves":
            methods = [method for method in methods if "checkpoint" not in self.method(method["id"])]
        copies = len(self.seeds) if entry["kind"] == "roc" else 1
        sources = [method for method, _ in cells for _ in range(copies)]
        if entry["kind"] == "attention":
            sources = sources[:1]
        if entry["kind"] == "curves":
            sources = [method["id"] for method in methods if not method["status"]]
        return {
            "kind": entry["kind"],
            "title": entry["title"],
            "note": self.values.get("note", ""),
            **({"threshold": entry["threshold"]} if entry["kind"] == "attention" else {}),
            "methods": methods,
            "sources": sources,
        }

    def _map_status(self, name: str) -> str:
        """Empty when a figure's boxes and class activation maps are there or can be made of its cell; otherwise why not."""
        entry = self.values["figures"][name]
        dataset, method = entry["dataset"], entry["methods"][0]
        source = self.dataset(dataset)["source"]
        if Cell(dataset, entry["ratio"]) not in self.cells:
            return f"not run: {dataset}/{entry['ratio']} is no cell of the study"
        if self.lies(f"attention/{name}/maps.npz"):
            return ""
        if self.model_settings(method).get("classifier", "mean") != "mean":
            return f"not run: {method}'s classifier reads the aggregation output alone and has no such map"
        if not self.values["sources"][source].get("boxes"):
            return f"not run: sources.{source} names no boxes"
        return self.boxes_status(source)

    def figure_cells(self, name: str) -> list[tuple[str, Cell]]:
        """(method, cell) pairs that a figure shows and that can run."""
        entry = self.values["figures"][name]
        if "dataset" not in entry or (entry["kind"] == "attention" and self._map_status(name)):
            return []
        cells = [cell for cell in self.cells if cell.dataset == entry["dataset"]]
        if "ratio" in entry:
            cells = [cell for cell in cells if cell.ratio == entry["ratio"]]
        found = [(method, cell) for method in entry["methods"] for cell in cells if self.runs(method, cell)]
        if entry["kind"] == "attention" and not self.lies(f"attention/{name}/maps.npz"):
            found = [pair for pair in found if not self.training_status(*pair)]  # predictions give no maps
        return found


def _archives(folder: Path) -> list[Path]:
    """Archives of a folder beside it: its name, also with a branch or commit behind a hyphen, and an archive's suffix."""
    name = re.compile(re.escape(folder.name) + r"(-.+)?\.(zip|tgz|tar(\.(gz|bz2|xz))?)")
    beside = folder.parent
    return sorted(path for path in beside.iterdir() if name.fullmatch(path.name)) if beside.is_dir() else []


def check(values: dict) -> Study:
    """A study whose every reference and every setting is checked.

    Raises:
        UserError: a name without an entry, or a setting that no job would accept; one line with the key's path.
    """
    study = Study(values)
    known = set(values["methods"]) | set(values.get("groups", {}))
    named = [("study.methods", name) for name in study.methods]
    named += [
        (f"groups.{group}", name)
        for group, entry in values.get("groups", {}).items()
        for name in entry["best_of"]
    ]
    named += [("audit.methods", name) for name in values["audit"]["methods"].values()]
    for tier in values["plan"]["tiers"]:
        named += [("plan.tiers", name) for name in [*tier.get("methods", []), *tier.get("checkpoints", {})]]
    for table, entry in values["tables"].items():
        named += [(f"tables.{table}.rows", name) for name in entry["rows"]]
        named += [
            (f"tables.{table}.{key}", entry[key])
            for key in ("reference", "baseline")
            if entry.get(key, "best") != "best"
        ]
        named += [(f"tables.{table}.marks", name) for name in entry.get("marks", {})]
        if "per_class" in entry:
            study.dataset(entry["per_class"])
    for where, name in named:
        if name not in known:
            raise UserError(f"{where}: no method {name!r}; methods are {', '.join(sorted(known))}")
    for cell in study.cells:
        source = study.dataset(cell.dataset)["source"]
        if source not in values["sources"]:
            raise UserError(
                f"datasets.{cell.dataset}.source: no source {source!r}; sources are {', '.join(values['sources'])}"
            )
    for name, entry in values.get("figures", {}).items():
        for method in entry.get("methods", []):
            study.method(method)
        if entry["kind"] not in ("curves", "rules") and not {"dataset", "methods"} <= entry.keys():
            raise UserError(f"figures.{name}: kind {entry['kind']} needs a dataset and methods")
        if entry["kind"] == "attention" and not {"ratio", "images", "threshold"} <= entry.keys():
            raise UserError(f"figures.{name}: kind attention needs ratio, images and threshold")
        if "dataset" in entry:
            study.dataset(entry["dataset"])
    for name in values["finetune"].get("datasets", {}):
        study.dataset(name)
    for name in values["finetune"].get("cells", {}):
        if name not in map(str, study.cells):
            raise UserError(f"finetune.cells: no cell {name!r}; cells are {', '.join(map(str, study.cells))}")
    if values["audit"]["table"] not in values["tables"]:
        raise UserError(
            f"audit.table: no table {values['audit']['table']!r}; tables are {', '.join(values['tables'])}"
        )
    for name in values["audit"]["cells"].values():
        study.dataset(name.partition("/")[0])
    for name, pattern in values["audit"]["patients"].items():
        if "released" not in study.dataset(name):
            raise UserError(f"audit.patients: the authors released no lists of {name}; leave it out")
        try:
            re.compile(pattern)
        except re.error as error:
            raise UserError(
                f"audit.patients.{name}: {pattern!r} is no regular expression ({error})"
            ) from None
    for name, entry in values["methods"].items():
        study.model_settings(name) if "checkpoint" in entry else study.pretrain_settings(name)
        for cell in study.cells:
            study.finetune_settings(name, *cell)
    return study


def _values_of(key: str, values: Any) -> Iterator[Any]:
    """Every value of `key` in nested maps."""
    if isinstance(values, dict):
        for name, inner in values.items():
            yield from (inner,) if name == key else _values_of(key, inner)
