"""The study as its config describes it: the grid of cells, and the resolved settings of every job.

The one grid of methods x (dataset, label ratio) x seeds behind every target, table and message. Nothing is looked up on
disk (see `refers.study.availability`), and no torch is needed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from refers import config
from refers.errors import UserError, did_you_mean
from refers.study import paths


class Cell(NamedTuple):
    """One column of the tables: a dataset at a label ratio in percent."""

    dataset: str
    ratio: int

    def __str__(self) -> str:
        return f"{self.dataset}/{self.ratio}"


@dataclass(frozen=True, eq=False)
class Study:
    """A config map: its grid, its entries, and what they resolve to for each job."""

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
        """Methods to run, in table order: the study's, then the user's own."""
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
    def saved_classifiers(self) -> dict[str, list]:
        """Methods, datasets and label ratios whose fine-tunes save a classifier, for class activation maps."""
        entries = [entry for entry in self.values["figures"].values() if entry["kind"] == "attention"]
        return {
            "method": sorted({method for entry in entries for method in entry["methods"]}),
            "dataset": sorted({entry["dataset"] for entry in entries}),
            "ratio": sorted({entry["ratio"] for entry in entries}),
        }

    @property
    def wants_apex(self) -> bool:
        """Whether any job computes with NVIDIA Apex."""
        return any(str(value).startswith("apex") for value in _values_of("precision", self.values))

    def cell(self, method: str, dataset: str, ratio: int) -> Cell:
        """A cell of the grid.

        Raises:
            UserError: the study has no such method, dataset or cell; the message names the nearest.
        """
        self.method(method)
        self.dataset(dataset)
        found = Cell(dataset, int(ratio))
        if method not in self.methods or found not in self.cells:
            names = [f"{each}/{cell}" for each in self.methods for cell in self.cells]
            raise UserError(
                f"no such cell: {method}/{found}{did_you_mean(f'{method}/{found}', names)};"
                f" the study has {', '.join(map(str, self.cells))} for {', '.join(self.methods)}"
            )
        return found

    def saves_classifier(self, method: str, dataset: str, ratio: int) -> bool:
        """Whether the first seed of a cell saves its classifier."""
        saved = self.saved_classifiers
        return method in saved["method"] and dataset in saved["dataset"] and int(ratio) in saved["ratio"]

    # ---- entries of the config

    def method(self, name: str) -> dict:
        """A method's entry."""
        return self._entry("method", name)

    def dataset(self, name: str) -> dict:
        """A dataset's entry."""
        return self._entry("dataset", name)

    def source(self, name: str) -> dict:
        """A source's entry."""
        return self._entry("source", name)

    def table(self, name: str) -> dict:
        """A table's entry."""
        return self._entry("table", name)

    def figure(self, name: str) -> dict:
        """A figure's entry."""
        return self._entry("figure", name)

    def _entry(self, kind: str, name: str) -> dict:
        entries = self.values[f"{kind}s"]
        if name not in entries:
            raise UserError(
                f"no such {kind}: {name}{did_you_mean(name, entries)}; config has {', '.join(entries)}"
            )
        return entries[name]

    def is_imported(self, method: str) -> bool:
        """Whether a method's encoder is imported from a checkpoint rather than pre-trained."""
        return "checkpoint" in self.method(method)

    def has_random_checkpoint(self, method: str) -> bool:
        """Whether a method is imported from the random checkpoint that generate_checkpoint.py writes."""
        return (
            self.method(method).get("checkpoint") == "random"
            and self.model_settings(method)["architecture"] == "transformer"
        )

    # ---- settings of jobs

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
        if "architecture" in own:
            # another kind of encoder shares the input size and nothing else
            shared = {key: value for key, value in shared.items() if key == "image_size"}
        elif self._starts_from_imagenet(method):
            # weights trained with GELU compute something else with ReLU
            start = self.model_settings("imagenet")
            shared = {key: start[key] for key in ("activation",) if key in start} | shared
        return config.merge(shared, own)

    def _starts_from_imagenet(self, method: str) -> bool:
        init = self.method(method).get("pretrain", {}).get("init", self.values["pretrain"].get("init"))
        if self.is_imported(method) or init != "imagenet":
            return False
        if not self.is_imported("imagenet"):
            raise UserError(
                f"methods.{method}.pretrain.init: methods.imagenet has no checkpoint to start from; add one"
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
        """Settings of split_dataset.py."""
        entry = self.dataset(dataset)
        return {"dataset": dataset, "classes": entry["classes"], "views": entry["views"], **entry["split"]}

    @property
    def audit(self) -> dict:
        """Settings of audit_released.py."""
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
            "folders": [Path(entry["results"]).name, self.released_lists().name],
            "reference": self.table(entry["table"])["reference"],
            **{key: entry[key] for key in ("methods", "table", "alike")},
        }

    # ---- where files are expected

    def resolve(self, pattern: str, **wildcards: object) -> Path:
        """The file of a pattern of `refers.study.paths` in this study."""
        return paths.locate(pattern, self.values.get("pathvars", {}), **wildcards)

    def folder(self, source: str) -> Path:
        """Folder of a source's official download."""
        return Path(self.values["data_root"]) / self.source(source)["folder"]

    def released_lists(self, dataset: str = "") -> Path:
        """Folder of the authors' lists, of one dataset or of all."""
        folder = Path(self.values["data_root"]) / self.values["released_lists"]
        return folder / self.dataset(dataset)["released"] if dataset else folder

    @property
    def text_encoder(self) -> Path | None:
        """Folder of the downloaded BERT, or None when one is built from the reports."""
        path = self.values["text"].get("encoder")
        return Path(path) if path else None

    def checkpoint_file(self, method: str) -> Path | None:
        """The file that a method is imported from; None where it is pre-trained, random or downloaded from timm."""
        checkpoint = self.method(method).get("checkpoint", "random")
        return None if checkpoint == "random" or checkpoint.startswith("timm:") else Path(checkpoint)


def _values_of(key: str, values: Any) -> Iterator[Any]:
    """Every value of `key` in nested maps."""
    if isinstance(values, dict):
        for name, inner in values.items():
            yield from (inner,) if name == key else _values_of(key, inner)
