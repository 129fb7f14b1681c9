"""The whole check of a config before any work: every key, every name that refers to another entry, every job's settings."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from refers import config
from refers.config.expand import expand
from refers.config.objective import declared_settings, reads_reports
from refers.config.parse import fragment_problems
from refers.config.study import Dataset, StudyConfig
from refers.errors import UserError, did_you_mean
from refers.study.study import Study

METHOD, ROW = "method", "method or group"
PAPER = "paper"  # source of the paper's own numbers in config/reported.csv
OWNER = "method with an encoder of its own"
ENTRIES = ("sources", "datasets", "methods", "groups", "reported", "tables", "figures")
ADAPTERS = Path(__file__).parents[1] / "data/adapters"


def check(values: dict) -> Study:
    """A study whose every key, reference and setting is checked.

    Raises:
        UserError: unknown or missing keys, values out of range, names without an entry, or settings that no job would
            accept; one line with the path of each key and the nearest known name. Keys come first, then names, then settings.
    """
    given = config.load(StudyConfig, without_removed(values))
    # Keys are checked where they are written, so that the message names the entry to correct; then what they merge to.
    _report(filter(None, _fragments(given)))
    study = Study(expand(given))
    _report([*_unknown_names(study), *_contradictions(study)])
    _report(_unusable_settings(study))
    return study


def without_removed(values: dict) -> dict:
    """The config without entries that an overlay sets to null, such as `tables: {table3: null}`."""
    return values | {
        kind: {name: entry for name, entry in values[kind].items() if entry is not None}
        for kind in ENTRIES
        if isinstance(values.get(kind), dict)
    }


def _report(problems: Iterable[str]) -> None:
    if found := list(dict.fromkeys(problems)):
        raise UserError("; ".join(found))


def _unknown_names(study: Study) -> Iterator[str]:
    """Names that stand for no entry."""
    checked = study.config
    known = {
        METHOD: list(checked.methods),
        ROW: [*checked.methods, *checked.groups],
        OWNER: [name for name, entry in checked.methods.items() if not entry.encoder_of],
        "dataset": list(checked.datasets),
        "source": list(checked.sources),
        "table": list(checked.tables),
        "cell": [str(cell) for cell in study.cells],
        "adapter": sorted(path.stem for path in ADAPTERS.glob("[a-z]*.py")),
    }
    for key, kind, name in _references(study):
        if name not in known[kind]:
            hint = did_you_mean(name, known[kind])
            yield f"config.{key}: no {kind} {name!r}{hint}; known are {', '.join(known[kind])}"


def _contradictions(study: Study) -> Iterator[str]:
    """What is wrong with entries beside each other."""
    checked = study.config
    if not study.cells:
        yield "config.study.cells: the study has no column; list some, or mark a dataset as own: true"
    if "cells" in checked.tables:
        yield "config.tables.cells: cells.csv beside the tables lists every number; rename the table"
    for name in checked.groups.keys() & checked.methods.keys():
        yield f"config.groups.{name}: a method has this name too; rename one"
    yield from _equal_titles(study)
    yield from _untestable(study)
    if PAPER in checked.reported:
        yield f"config.reported.{PAPER}: the paper's numbers need no entry; remove it or rename the source"
    for name, pattern in checked.audit.patients.items():
        if name in checked.datasets and not study.dataset(name).released:
            yield f"config.audit.patients: the authors released no lists of {name}; remove it"
        try:
            re.compile(pattern)
        except re.error as error:
            yield f"config.audit.patients.{name}: {pattern!r} is not a regular expression ({error})"
    for name in filter(checked.datasets.get, study.datasets):
        if repeated := _repeated_run(study, name):
            yield f"config.study: {repeated}"


def _untestable(study: Study) -> Iterator[str]:
    """External tests that test nothing, or on images that a classifier may have been trained on."""
    datasets, concerned = study.config.datasets, set()
    for name, table in study.config.tables.items():
        tested = {cell.partition("/")[0] for cell in table.columns or []} & datasets.keys()
        for other in sorted(tested) if table.tested_on in datasets else []:
            where, pair = f"config.tables.{name}.tested_on", f"{other} and {table.tested_on}"
            concerned |= {other, table.tested_on}
            if datasets[other].source == datasets[table.tested_on].source:
                yield (
                    f"{where}: {pair} have the images of one download, {datasets[other].source}; name a dataset of another"
                )
            elif table.tested_on not in study.datasets:
                yield (
                    f"{where}: {table.tested_on} is no column of the study, so pre-training may read its test images;"
                    " add it to study.cells"
                )
            elif not study.shared_findings(other, table.tested_on):
                known = (
                    f"{each} has {', '.join(datasets[each].findings) or 'none'}"
                    for each in (other, table.tested_on)
                )
                yield f"{where}: {pair} share no finding; name some in both datasets' findings ({'; '.join(known)})"
    for each in sorted(concerned):
        yield from _absent_classes(each, datasets[each])


def _absent_classes(name: str, dataset: Dataset) -> Iterator[str]:
    """Findings of classes that a dataset does not have; its classes may be others than those that its findings were stated for."""
    for finding, classes in dataset.findings.items():
        if absent := [each for each in classes if each not in dataset.classes]:
            yield (
                f"config.datasets.{name}: findings.{finding}: no class {absent[0]!r}{did_you_mean(absent[0], dataset.classes)};"
                f" classes are {', '.join(dataset.classes)}"
            )


def _equal_titles(study: Study) -> Iterator[str]:
    """Entries that a reader could not tell apart."""
    for kinds in (("methods", "groups"), ("datasets",), ("tables",), ("figures",), ("reported",)):
        first: dict[str, str] = {}
        for kind in kinds:
            for name, entry in getattr(study.config, kind).items():
                place = f"{kind}.{name}"
                title = " ".join(unicodedata.normalize("NFC", entry.title).split())
                if (other := first.setdefault(title, place)) != place:
                    yield f"config.{place}.title: {title!r} is the title of {other} too; change one of the two"


def _unusable_settings(study: Study) -> Iterator[str]:
    """Settings that no job would accept, each as its job would refuse them."""
    for method in study.config.methods:
        questions: list[Callable[[], object]] = [partial(_check_encoder, study, method)]
        questions += [partial(study.finetune_settings, method, *cell) for cell in study.cells]
        for ask in questions:
            try:
                ask()
            except UserError as error:
                yield str(error)


def _check_encoder(study: Study, method: str) -> None:
    if study.is_imported(method):
        study.model_settings(method)
        return
    settings = study.pretrain_settings(method)
    kind = declared_settings(settings.objective)
    config.load(kind, settings.settings, f"config.methods.{method}.pretrain.settings")
    if reads_reports(settings.objective) and not study.reads_mimic(method):
        raise UserError(
            f"config.methods.{method}.pretrain.sources: {settings.objective} pairs images with reports, which only"
            " mimic has; set sources: [mimic]"
        )
    if method in study.methods and study.uses_pilot(method):
        study.pilot_training(method)


def _fragments(checked: StudyConfig) -> Iterator[str]:
    """Problems of each map that gives a part of the keys of some settings."""
    yield fragment_problems(config.Pretrain, checked.pretrain, "config.pretrain")
    yield fragment_problems(config.Finetune, checked.finetune.defaults, "config.finetune.defaults")
    for name, values in checked.finetune.datasets.items():
        yield fragment_problems(config.Finetune, values, f"config.finetune.datasets.{name}")
    for name, values in checked.finetune.cells.items():
        yield fragment_problems(config.Finetune, values, f"config.finetune.cells.{name}")
    for name, entry in checked.methods.items():
        where = f"config.methods.{name}"
        yield fragment_problems(config.Pretrain, {"model": entry.model}, where)
        yield fragment_problems(config.Pretrain, entry.pretrain, f"{where}.pretrain")
        yield fragment_problems(config.Finetune, entry.finetune, f"{where}.finetune")


def _repeated_run(study: Study, dataset: str) -> str:
    """Why several splits of a dataset would be one run made several times; empty where each is another."""
    ratios = [cell.ratio for cell in study.cells if cell.dataset == dataset]
    splits, kind = len(study.splits(dataset)), study.dataset(dataset).split.kind
    if splits == 1 or kind != "released" or 100 not in ratios:
        return ""
    return (
        f"{splits} splits of {dataset} at 100 % would be the same run {splits} times, since its lists are released and no"
        f" subset is drawn; set splits: 1 for it in study.cells, or datasets.{dataset}.split.kind: random"
    )


def _references(study: Study) -> Iterator[tuple[str, str, str]]:
    """(key, kind of entry, name) of every name in the config that stands for another entry."""
    checked = study.config
    for name, source in checked.sources.items():
        yield f"sources.{name}.layout", "adapter", source.layout
    for name, dataset in checked.datasets.items():
        yield f"datasets.{name}.source", "source", dataset.source
    if checked.publication:
        yield from (("publication.encoders", OWNER, name) for name in checked.publication.encoders)
    yield from (("study.methods", METHOD, name) for name in study.methods)
    yield from (("study.cells", "dataset", cell.dataset) for cell in study.cells)
    for name, entry in checked.methods.items():
        if entry.encoder_of:
            yield f"methods.{name}.encoder_of", OWNER, entry.encoder_of
        yield from (
            (f"methods.{name}.pretrain.sources", "source", of) for of in entry.pretrain.get("sources", [])
        )
    yield from (("pretrain.sources", "source", name) for name in checked.pretrain.get("sources", []))
    for group, members in checked.groups.items():
        yield from ((f"groups.{group}", METHOD, name) for name in members.best_of)
    for name, table in checked.tables.items():
        yield from ((f"tables.{name}.rows", ROW, row) for row in table.rows)
        yield from ((f"tables.{name}.marks", ROW, row) for row in table.marks)
        yield from ((f"tables.{name}.columns", "cell", cell) for cell in table.columns or [])
        if table.reference:
            yield f"tables.{name}.reference", METHOD, table.reference
        if table.baseline and table.baseline != "best":
            yield f"tables.{name}.baseline", ROW, table.baseline
        if table.per_class:
            yield f"tables.{name}.per_class", "dataset", table.per_class
        if table.against:
            yield f"tables.{name}.against", METHOD, table.against
        if table.tested_on:
            yield f"tables.{name}.tested_on", "dataset", table.tested_on
    for name, source in checked.reported.items():
        yield from ((f"reported.{name}.numbers", ROW, number.row) for number in source.numbers)
        columns = [number.column for number in source.numbers]
        for column in columns:
            dataset = column.partition("/")[0]
            yield (
                f"reported.{name}.numbers",
                *(("cell", column) if dataset in study.datasets else ("dataset", dataset)),
            )
    for name, figure in checked.figures.items():
        yield from ((f"figures.{name}.methods", METHOD, method) for method in figure.methods or [])
        if figure.dataset:
            yield f"figures.{name}.dataset", "dataset", figure.dataset
    yield from (("finetune.datasets", "dataset", name) for name in checked.finetune.datasets)
    # Settings may wait for a column that the study does not have, of any dataset at one of its ratios.
    for name in checked.finetune.cells:
        dataset, _, ratio = name.partition("/")
        if dataset not in study.datasets:
            yield "finetune.cells", "dataset", dataset
        elif ratio not in map(str, checked.datasets[dataset].ratios if dataset in checked.datasets else ()):
            yield "finetune.cells", "cell", name
    for tier in checked.plan.tiers:
        names = [*(tier.methods or []), *tier.checkpoints, *tier.add]
        yield from (("plan.tiers", METHOD, name) for name in names)
    yield "audit.table", "table", checked.audit.table
    yield "plan.table", "table", checked.plan.table
    yield from (("audit.methods", METHOD, name) for name in checked.audit.methods.values())
    yield from (("audit.cells", "dataset", name.partition("/")[0]) for name in checked.audit.cells.values())
    yield from (("audit.patients", "dataset", name) for name in checked.audit.patients)
