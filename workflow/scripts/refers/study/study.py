"""The study as its config describes it: the grid of cells, and the resolved settings of every job.

The one grid of methods x (dataset, label ratio) x seeds behind every target, table and message. Nothing is looked up on
disk (see `refers.study.availability`), and no torch is needed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from refers import config
from refers.config.study import PACKAGE, Dataset, Figure, Method, Source, StudyConfig, Table
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
    """Questions that the rules ask of a config whose keys are checked; see `refers.study.check` for its references."""

    config: StudyConfig

    # ---- the grid

    @property
    def cells(self) -> list[Cell]:
        """Columns in table order."""
        return [
            Cell(columns.dataset, ratio) for columns in self.config.study.cells for ratio in columns.ratios
        ]

    @property
    def datasets(self) -> list[str]:
        """Datasets of the columns, in table order."""
        return list(dict.fromkeys(cell.dataset for cell in self.cells))

    @property
    def methods(self) -> list[str]:
        """Methods to run, in table order: the study's, then the user's own."""
        return list(dict.fromkeys([*self.config.study.methods, *self.own_methods]))

    @property
    def own_methods(self) -> list[str]:
        """Methods marked `own`: they run, and every table prints them below its rows."""
        return [name for name, entry in self.config.methods.items() if entry.own]

    @property
    def seeds(self) -> list[int]:
        """Fine-tuning seeds."""
        return self.config.study.seeds

    def splits(self, dataset: str) -> list[int]:
        """Numbers of the splits that are drawn of a dataset: 0, 1, ..."""
        own = (columns.splits for columns in self.config.study.cells if columns.dataset == dataset)
        return list(range(next(filter(None, own), self.config.study.splits)))

    def runs(self, dataset: str) -> list[tuple[int, int]]:
        """(split, seed) of every fine-tune of a cell of a dataset: all seeds of the first split, then of the next."""
        return [(split, seed) for split in self.splits(dataset) for seed in self.seeds]

    def files_of_runs(self, pattern: str, method: str, cell: Cell) -> list[str]:
        """A file of each run of a cell; of a pattern without {seed}, as a probe's, one of each split."""
        runs = self.runs(cell.dataset)
        filled = (
            paths.fill(pattern, method=method, split=split, seed=seed, **cell._asdict())
            for split, seed in runs
        )
        return list(dict.fromkeys(filled))

    @property
    def saved_classifiers(self) -> dict[str, list]:
        """Methods, datasets and label ratios whose fine-tunes save classifiers: for class activation maps and external tests."""
        found: dict[str, set] = {"method": set(), "dataset": set(), "ratio": set()}
        for entry in self.config.figures.values():
            if entry.kind == "attention":
                found["method"].update(entry.methods or [])
                found["dataset"].update(filter(None, [entry.dataset]))
                found["ratio"].update(filter(None, [entry.ratio]))
        for name in self.external_tables:
            found["method"].update(
                method for row in self.table_rows(name) for method in self.row_methods(row)
            )
            for cell in self.table(name).columns or []:
                dataset, _, ratio = cell.partition("/")
                found["dataset"].add(dataset)
                found["ratio"].add(int(ratio))
        return {kind: sorted(names) for kind, names in found.items()}

    @property
    def saved_seeds(self) -> list[int]:
        """Seeds whose classifiers such fine-tunes save: the first for maps, all of them where any is tested on another dataset."""
        return self.seeds if self.external_tables else self.seeds[:1]

    @property
    def external_tables(self) -> list[str]:
        """Tables of classifiers on the test images of another dataset."""
        return [name for name, table in self.config.tables.items() if table.shows == "external"]

    @property
    def tested_on(self) -> list[str]:
        """Datasets whose test images classifiers of others predict."""
        return list(dict.fromkeys(self.table(name).tested_on for name in self.external_tables))

    def shared_findings(self, dataset: str, other: str) -> dict[str, dict[str, list[str]]]:
        """Findings that two datasets label: by finding, the classes that are it in each, `here` and on the `other` one."""
        here, there = (self.dataset(name).findings for name in (dataset, other))
        return {
            finding: {"here": here[finding], "other": there[finding]} for finding in here if finding in there
        }

    @property
    def wants_apex(self) -> bool:
        """Whether any job computes with NVIDIA Apex."""
        return any(
            str(value).startswith("apex") for value in _values_of("precision", self.config.model_dump())
        )

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

    def saves_classifier(self, method: str, dataset: str, ratio: int, split: int = 0) -> bool:
        """Whether a cell saves classifiers on a split, those of `saved_seeds`: on the first one, for maps or an external test."""
        saved = self.saved_classifiers
        wanted = method in saved["method"] and dataset in saved["dataset"] and int(ratio) in saved["ratio"]
        return wanted and int(split) == 0

    # ---- entries of the config

    def method(self, name: str) -> Method:
        """A method's entry."""
        return _entry("method", name, self.config.methods)

    def dataset(self, name: str) -> Dataset:
        """A dataset's entry."""
        return _entry("dataset", name, self.config.datasets)

    def source(self, name: str) -> Source:
        """A source's entry."""
        return _entry("source", name, self.config.sources)

    def row_methods(self, row: str) -> list[str]:
        """Methods behind a table row: several for a row that prints the best of a group."""
        groups = self.config.groups
        return groups[row].best_of if row in groups else [row]

    def table_rows(self, name: str) -> list[str]:
        """Rows of a table: those that it names, then the user's own methods."""
        return list(dict.fromkeys([*self.table(name).rows, *self.own_methods]))

    def table(self, name: str) -> Table:
        """A table's entry."""
        return _entry("table", name, self.config.tables)

    def figure(self, name: str) -> Figure:
        """A figure's entry."""
        return _entry("figure", name, self.config.figures)

    def encoder_owner(self, method: str) -> str:
        """The method whose encoder is fine-tuned: the method itself, or the one that `encoder_of` names."""
        return self.method(method).encoder_of or method

    def is_imported(self, method: str) -> bool:
        """Whether a method's encoder is imported from a checkpoint rather than pre-trained."""
        return self.method(self.encoder_owner(method)).checkpoint is not None

    def is_pretrained(self, method: str) -> bool:
        """Whether a method has a pre-training of its own."""
        return self.encoder_owner(method) == method and not self.is_imported(method)

    def reads_mimic(self, method: str) -> bool:
        """Whether a method's encoder is pre-trained on MIMIC-CXR, with its reports; other downloads are pooled."""
        return not self.is_imported(method) and self.pretrain_settings(method).sources == ["mimic"]

    def pool(self, method: str) -> str:
        """Name of the pool of images that a method is pre-trained on: its sources."""
        return "-".join(self.pretrain_settings(method).sources)

    def pools(self) -> dict[str, list[str]]:
        """Sources of every pool that a method of the config is pre-trained on."""
        names = [
            name for name in self.config.methods if self.is_pretrained(name) and not self.reads_mimic(name)
        ]
        return {self.pool(name): self.pretrain_settings(name).sources for name in names}

    def datasets_of(self, source: str) -> list[str]:
        """Datasets of the study's columns that read a source."""
        return [name for name in self.datasets if self.dataset(name).source == source]

    def has_random_checkpoint(self, method: str) -> bool:
        """Whether a method is imported from the random checkpoint that stands in for ImageNet's file.

        Any other method with `checkpoint: random` keeps the initialisation that pre-training would start from.
        """
        owner = self.encoder_owner(method)
        return (
            owner == "imagenet"
            and self.method(owner).checkpoint == "random"
            and self.model_settings(owner).architecture == "transformer"
        )

    def incomparable(self) -> dict[str, str]:
        """Datasets whose results are not judged against the paper's numbers -> why; "" stands for the whole study."""
        if not self.config.comparable:
            return {"": "the data are not the paper's (comparable: false)"}
        return {
            name: f"its test set is known to differ from the paper's (datasets.{name}.comparable: false)"
            for name, entry in self.config.datasets.items()
            if not entry.comparable
        }

    # ---- settings of jobs

    def pretrain_settings(self, method: str) -> config.Pretrain:
        """Resolved settings of a pre-training run, checked.

        Raises:
            UserError: a setting that no job would accept, or a start whose weights mean something else in this encoder.
        """
        method = self.encoder_owner(method)
        values = config.merge(self.config.pretrain, self.method(method).pretrain)
        values["model"] = self._model(method)
        settings = config.load(config.Pretrain, values, f"config.methods.{method}.pretrain")
        if settings.init == "imagenet":
            # the import folds the input of a checkpoint into the weights of a radiograph transformer
            start = self.model_settings("imagenet").replace(input=None)
            wanted, found = map(config.to_dict, (settings.model, start))
            if differs := config.mismatch(wanted, found):
                raise UserError(
                    f"config.methods.{method}.pretrain.init: the encoder of imagenet has {differs};"
                    f" make the two agree, or set init: scratch for {method}"
                )
            if not isinstance(settings.model, config.Transformer):
                raise UserError(
                    f"config.methods.{method}.pretrain.init: only a radiograph transformer can start from imagenet;"
                    " set init: scratch"
                )
        return settings

    @property
    def judged_tables(self) -> list[str]:
        """Tables that the paper has too, by which claims are judged."""
        return [
            name
            for name, entry in self.config.tables.items()
            if entry.protocol == "finetune"
            and entry.shows == "auc"
            and entry.comparable
            and not entry.against
        ]

    @property
    def priced_methods(self) -> list[str]:
        """Methods whose training a plan prices: those of the study and of its tiers, and those whose encoders they take."""
        asked = [*self.methods, *(name for tier in self.config.plan.tiers for name in tier.add)]
        names = {*asked, *map(self.encoder_owner, asked)}
        starts = (not self.is_imported(each) and self.pretrain_settings(each).init for each in names)
        if "imagenet" in set(starts):
            names |= {"imagenet", self.encoder_owner("imagenet")}
        return [method for method in self.config.methods if method in names]

    def uses_pilot(self, method: str) -> bool:
        """Whether a pilot chooses the optimiser and the rate of a method's pre-training."""
        return not self.is_imported(method) and self.pretrain_settings(method).rate == "pilot"

    def pilot_training(self, method: str) -> config.Training:
        """The training of one candidate of a method's pilot.

        Raises:
            UserError: the budget of the pilots is less than a step per candidate, or the configured rate is 0.
        """
        training = self.pretrain_settings(method).training
        if not training.optimiser.lr:
            raise UserError(
                f"config.methods.{method}.pretrain.training.optimiser.lr: 0 is no candidate of a pilot; set a rate above 0,"
                " or rate: fixed"
            )
        try:
            return self.config.pilots.shortened(training)
        except ValueError as error:
            raise UserError(f"config.pilots.budget, for {method}: {error}") from None

    def model_settings(self, method: str) -> config.Model:
        """Resolved architecture of a method's encoder, checked."""
        return config.load_model(self._model(method), f"config.methods.{method}.model")

    def _model(self, method: str) -> dict:
        method = self.encoder_owner(method)
        shared, own = self.config.pretrain.get("model", {}), self.method(method).model
        if "architecture" in own:
            # another kind of encoder shares the input size and nothing else
            shared = {key: value for key, value in shared.items() if key == "image_size"}
        elif self._starts_from_imagenet(method):
            # weights trained with GELU compute something else with ReLU
            start = config.to_dict(self.model_settings("imagenet"))
            shared = {key: start[key] for key in ("activation",) if key in start} | shared
        return config.merge(shared, own)

    def _starts_from_imagenet(self, method: str) -> bool:
        init = self.method(method).pretrain.get("init", self.config.pretrain.get("init"))
        untrained = self.method(method).checkpoint == "random" and method != self.encoder_owner("imagenet")
        if (self.is_imported(method) and not untrained) or init != "imagenet":
            return False
        if not self.is_imported("imagenet"):
            raise UserError(
                f"config.methods.{method}.pretrain.init: methods.imagenet has no checkpoint to start from; add one"
            )
        return True

    def finetune_settings(self, method: str, dataset: str, ratio: int) -> config.Finetune:
        """Resolved settings of a fine-tune: defaults, then dataset, then cell, then method; checked."""
        tuning, cell = self.config.finetune, str(Cell(dataset, int(ratio)))
        parts = [tuning.datasets.get(dataset, {}), tuning.cells.get(cell, {})]
        parts += [self.method(name).finetune for name in dict.fromkeys([self.encoder_owner(method), method])]
        where = f"config.finetune, merged for {method}/{cell}"
        return config.load(config.Finetune, config.merge(tuning.defaults, *parts), where)

    def probe_settings(self, method: str, dataset: str, ratio: int) -> config.Probe:
        """Settings of probe.py."""
        labels = self.finetune_settings(method, dataset, ratio).labels
        return config.Probe(labels=labels, **self.config.probe.model_dump(exclude={"features"}))

    def split_settings(self, dataset: str, split: int) -> config.Split:
        """Settings of split_dataset.py: those of the config, with a seed of its own for each split.

        Raises:
            UserError: the study draws no such split of the dataset.
        """
        entry = self.dataset(dataset)
        if split not in self.splits(dataset):
            raise UserError(
                f"no split {split} of {dataset}: the study has {len(self.splits(dataset))}; see study.splits"
            )
        rule = config.to_dict(entry.split)
        rule["seed"] += split
        return config.Split(dataset=dataset, classes=entry.classes, views=list(entry.views), **rule)

    @property
    def audit(self) -> dict:
        """Settings of audit_released.py."""
        entry = self.config.audit
        cells = []
        for folder, name in entry.cells.items():
            dataset, _, ratio = name.partition("/")
            classes = self.dataset(dataset).classes
            cells.append({"folder": folder, "dataset": dataset, "ratio": int(ratio), "classes": classes})
        lists = {
            dataset: {
                "list": f"{self.dataset(dataset).released}/test.txt",
                "patient": pattern,
                "classes": len(self.dataset(dataset).classes),
            }
            for dataset, pattern in entry.patients.items()
        }
        return {
            "cells": cells,
            "lists": lists,
            "folders": [Path(entry.results).name, self.released_lists().name],
            "reference": self.table(entry.table).reference,
            **entry.model_dump(include={"methods", "table", "alike"}),
        }

    # ---- where files are expected

    def resolve(self, pattern: str, **wildcards: object) -> Path:
        """The file of a pattern of `refers.study.paths` in this study."""
        return paths.locate(pattern, config.to_dict(self.config.pathvars), **wildcards)

    def folder(self, source: str) -> Path:
        """Folder of a source's official download."""
        return Path(self.config.data_root) / self.source(source).folder

    def released_lists(self, dataset: str = "") -> Path:
        """Folder of the authors' lists, of one dataset or of all."""
        folder = Path(self.config.data_root) / self.config.released_lists
        return folder / str(self.dataset(dataset).released) if dataset else folder

    @property
    def text_encoder(self) -> Path | None:
        """Folder of the downloaded BERT; None where it is built from the reports or copied from a Python package."""
        named = self.config.text.encoder
        return Path(named) if named and not self.text_package else None

    @property
    def text_package(self) -> str:
        """Name of the BERT in a Python package, package:PACKAGE/FOLDER; empty where it is another."""
        named = self.config.text.encoder or ""
        return named if named.startswith(PACKAGE) else ""

    @property
    def text_encoder_folder(self) -> str:
        """Pattern of the folder that jobs read the BERT from."""
        made = paths.TEXT_PACKAGE if self.text_package else paths.TEXT_ENCODER
        return str(self.text_encoder or made)

    def checkpoint_file(self, method: str) -> Path | None:
        """The file that a method is imported from; None where it is pre-trained, random or downloaded from timm."""
        checkpoint = self.method(self.encoder_owner(method)).checkpoint or "random"
        return None if checkpoint == "random" or checkpoint.startswith("timm:") else Path(checkpoint)


def _entry(kind: str, name: str, entries: dict[str, Any]) -> Any:
    if name not in entries:
        raise UserError(
            f"no such {kind}: {name}{did_you_mean(name, entries)}; config has {', '.join(entries)}"
        )
    return entries[name]


def _values_of(key: str, values: Any) -> Iterator[Any]:
    """Every value of `key` in nested maps."""
    if isinstance(values, dict):
        for name, inner in values.items():
            yield from (inner,) if name == key else _values_of(key, inner)
