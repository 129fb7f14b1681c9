"""Every job of a study, whether or not its data are available: the graph of the rules, from the grid alone."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refers import config
from refers.config.read import read_files
from refers.provenance.run_record import digest
from refers.study import paths
from refers.study.availability import AssumeAvailable, Availability
from refers.study.check import check
from refers.study.specs import Specs
from refers.study.study import Cell, Study

DEMO, STUDY = "demo", "study"
TARGETS = ("tables", "figures", "cells")


def read_studies(text: str, demo: list[Path]) -> dict[str, Study]:
    """Studies by name: the demo's, out of its config files in order, and the study's, out of JSON."""
    study = check(config.parse_json(text, "config"))
    return ({DEMO: check(read_files(demo))} if demo else {}) | {STUDY: study}


@dataclass(frozen=True)
class Job:
    """One job of a rule.

    target: its first output, by which other jobs name it in `needs`. benchmark: where Snakemake writes its measurements.
    """

    rule: str
    target: str
    benchmark: str
    needs: tuple[str, ...]
    wildcards: dict[str, Any]


class JobGraph:
    """The jobs of a study by target, each after those that it needs, as if every download were available.

    Every method adds a job with all that it needs, and returns its target. Rules, wildcards and edges are those of
    rules/*.smk: tests/test_plan.py compares them with Snakemake's own graph.
    """

    def __init__(self, study: Study) -> None:
        self.study, self.jobs = study, {}
        self.specs = Specs(Availability(study, AssumeAvailable()))

    def add(self, rule: str, output: str, needs: Iterable[str] = (), **wildcards: Any) -> str:
        """Add a job of a rule whose first output has the pattern `output`."""
        target = str(self.study.resolve(output, **wildcards))
        benchmark = str(self.study.resolve(paths.benchmark(rule), **wildcards))
        self.jobs[target] = Job(rule, target, benchmark, tuple(dict.fromkeys(needs)), wildcards)
        return target

    def images(self, source: str) -> list[str]:
        """Index and image store of a source."""
        index = self.add("index_source", paths.INDEX, source=source)
        return [index, self.add("pack_images", paths.IMAGES, [index], source=source)]

    def split(self, dataset: str, split: int) -> list[str]:
        """One split of a dataset, index and image store of its source."""
        images = self.images(self.study.dataset(dataset).source)
        return [self.add("split_dataset", paths.SPLIT, images, dataset=dataset, split=split), *images]

    def labels(self, cell: Cell, split: int) -> list[str]:
        """One split of a cell's dataset, its label subset and its check, and the image store."""
        table, index, store = self.split(cell.dataset, split)
        check = self.add("check_split", paths.CHECK, [table, index, store], dataset=cell.dataset, split=split)
        subset = self.add("label_subset", paths.SUBSET, [table], **cell._asdict(), split=split)
        return [table, subset, check, store]

    def mimic(self) -> list[str]:
        """Index, image store and tokens, which pre-training reads; and the text encoder where one is made."""
        index, store = self.images("mimic")
        reports = self.add("clean_reports", paths.REPORTS, [index])
        output = f"{self.study.text_encoder_folder}/config.json"
        if self.study.text_encoder:
            text = []
        elif self.study.text_package:
            text = [self.add("copy_text_encoder", output)]
        else:
            text = [self.add("build_text_encoder", output, [reports])]
        return [index, store, self.add("tokenize_reports", paths.TOKENS, [reports, *text]), *text]

    def pool(self, method: str) -> list[str]:
        """Index and images of the pool that a method is pre-trained on; one job writes both."""
        sources = self.study.pretrain_settings(method).sources
        needs = [target for source in sources for target in self.images(source)]
        for source in sources:
            for dataset in self.study.datasets_of(source):
                needs += [self.split(dataset, split)[0] for split in self.study.splits(dataset)]
        return [self.add("pool_images", paths.POOL_IMAGES, needs, pool=self.study.pool(method))]

    def encoder(self, method: str) -> str:
        method = self.study.encoder_owner(method)
        if self.study.is_imported(method):
            random = self.study.has_random_checkpoint(method)
            needs = [self.add("generate_checkpoint", paths.RANDOM_VIT)] if random else []
            return self.add("import_encoder", paths.ENCODER, needs, method=method)
        settings = self.study.pretrain_settings(method)
        needs = self.mimic() if self.study.reads_mimic(method) else self.pool(method)
        if settings.words.count:
            needs.append(self.add("discover_words", paths.WORDS, needs[:3], method=method))
        if settings.init == "imagenet":
            needs.append(self.encoder("imagenet"))
        if self.study.uses_pilot(method):
            needs.append(self.add("pilot", paths.PILOT, needs, method=method))
        return self.add("pretrain", paths.ENCODER, needs, method=method)

    def finetune(self, method: str, cell: Cell, split: int) -> str:
        """The runs of a cell on one split, seed after seed."""
        table, subset, check, store = self.labels(cell, split)
        output = paths.fill(paths.PREDICTIONS, seed=self.study.seeds[0])
        needs = [self.encoder(method), store, table, subset, check]
        return self.add("finetune", output, needs, method=method, **cell._asdict(), split=split)

    def finetunes(self, method: str, cell: Cell) -> list[str]:
        """The runs of a cell on every split."""
        return [self.finetune(method, cell, split) for split in self.study.splits(cell.dataset)]

    def features(self, method: str, source: str) -> str:
        needs = [self.encoder(method), *self.images(source)]
        owner = self.study.encoder_owner(method)
        return self.add("extract_features", paths.FEATURES, needs, method=owner, source=source)

    def probe(self, method: str, cell: Cell, split: int) -> str:
        table, subset, check, _ = self.labels(cell, split)
        features = self.features(method, self.study.dataset(cell.dataset).source)
        needs = [features, table, subset, check]
        return self.add("probe", paths.PROBE_PREDICTIONS, needs, method=method, **cell._asdict(), split=split)

    def probe_cell(self, method: str, cell: Cell) -> str:
        needs = [self.probe(method, cell, split) for split in self.study.splits(cell.dataset)]
        return self.add("probe_cell", paths.PROBE_CELL, needs, method=method, **cell._asdict())

    def cell(self, method: str, cell: Cell) -> str:
        needs = self.finetunes(method, cell)
        return self.add("cell", paths.CELL, needs, method=method, **cell._asdict())

    def ttest(self, method: str, baseline: str, cell: Cell) -> str:
        needs = [self.cell(each, cell) for each in (method, baseline)]
        needs += [target for each in (method, baseline) for target in self.finetunes(each, cell)]
        return self.add("ttest", paths.TTEST, needs, method=method, baseline=baseline, **cell._asdict())

    def measured(self, shows: str, method: str, cell: Cell, other: str) -> str:
        """The job of a cell's measures, of its subgroups, or of its test on the other dataset."""
        needs, place = self.finetunes(method, cell), {"method": method, **cell._asdict()}
        if shows == "subgroups":
            source = self.study.dataset(cell.dataset).source
            needs.append(self.add("characteristics", paths.CHARACTERISTICS, source=source))
        if shows == "external":
            there = Cell(other, cell.ratio)
            needs.append(self.predict(method, cell, other))
            needs += [self.finetune(method, there, 0)] if there in self.study.cells else []
            place["other"] = other
        return self.add(shows, paths.MEASURED[shows], needs, **place)

    def predict(self, method: str, cell: Cell, other: str) -> str:
        """The predictions of another dataset's test images by the classifiers of a cell's first split."""
        table, index, store = self.split(other, 0)
        check = self.add("check_split", paths.CHECK, [table, index, store], dataset=other, split=0)
        output = paths.fill(paths.EXTERNAL_PREDICTIONS, seed=self.study.seeds[0], split=0)
        needs = [self.finetune(method, cell, 0), table, check, store]
        return self.add("predict", output, needs, method=method, **cell._asdict(), other=other)

    def table(self, name: str) -> str:
        add = self.probe_cell if self.study.table(name).protocol == "probe" else self.cell
        needs = [add(*pair) for pair in self.specs.table_cells(name)]
        entry = self.study.table(name)
        needs += [
            self.measured(entry.shows, *pair, entry.tested_on) for pair in self.specs.table_measured(name)
        ]
        needs += [self.ttest(*triple) for triple in self.specs.table_tests(name)]
        return self.add("table", paths.fill(paths.TABLE, form="csv"), needs, table=name)

    def figure(self, name: str) -> str:
        kind, cells = self.study.figure(name).kind, self.specs.figure_cells(name)
        if kind == "curves":
            needs = [self.encoder(method) for method in self.specs.figure(name)["sources"]]
        elif kind == "attention":
            needs = [self.attend(name, *cells[0])] if cells else []
        else:
            needs = [self.cell(*pair) if kind == "ratios" else self.finetune(*pair, 0) for pair in cells]
        return self.add("figure", paths.fill(paths.FIGURE, form="pdf"), needs, figure=name)

    def attend(self, figure: str, method: str, cell: Cell) -> str:
        needs = [self.finetune(method, cell, 0), *self.split(cell.dataset, 0)]
        return self.add("attend", paths.MAPS, needs, figure=figure)

    def counts(self) -> list[str]:
        """Cells behind the tables, and the jobs whose reports say how many images and steps there were."""
        tables = {
            name: table for name, table in self.study.config.tables.items() if table.protocol == "finetune"
        }
        pairs = [pair for name in tables for pair in self.specs.table_cells(name)]
        found = [self.cell(*pair) for pair in pairs]
        if not self.study.config.comparable:
            return found
        for method, cell in pairs:
            for split in self.study.splits(cell.dataset):
                found += self.split(cell.dataset, split)[:2]
            if method in {table.reference for table in tables.values()}:
                found.append(self.encoder(method))
            if self.study.reads_mimic(method):
                index, _ = self.images("mimic")
                found += [index, self.add("clean_reports", paths.REPORTS, [index])]
        return found

    def tables(self) -> None:
        """What the default target needs: every table, the index of their cells, and the claims."""
        tables = {name: self.table(name) for name in self.study.config.tables}
        self.add("cell_index", paths.CELL_INDEX, [*tables.values()])
        if not self.study.config.claims:
            return
        blocked, judged = self.study.incomparable(), []
        for name, figure in self.study.config.figures.items():
            if figure.kind == "attention" and not {"", figure.dataset} & {*blocked}:
                judged += [self.attend(name, *pair) for pair in self.specs.figure_cells(name)[:1]]
        compared = [tables[name] for name in self.study.judged_tables]
        self.add("claims", paths.fill(paths.CLAIMS, form="csv"), [*compared, *judged, *self.counts()])

    def figures(self) -> None:
        for name in self.study.config.figures:
            self.figure(name)

    def cells(self, methods: Collection[str] | None = None, cells: Collection[str] | None = None) -> None:
        """Cells of rows and columns, of which those in the study count; of all by default."""
        for method in self.study.methods:
            for cell in self.study.cells:
                if (methods is None or method in methods) and (cells is None or str(cell) in cells):
                    self.cell(method, cell)


def jobs_of(
    study: Study,
    methods: Collection[str] | None = None,
    cells: Collection[str] | None = None,
    targets: Collection[str] = (),
) -> dict[str, Job]:
    """Jobs of a study by target, each after those that it needs: all of them, or those behind some targets or cells.

    Args:
        methods, cells: rows and columns (`nih/1`), of which those in the study count; then only their cells are made.
        targets: of `tables`, `figures` and `cells`, which are the targets that Snakemake makes; all by default.
    """
    graph = JobGraph(study)
    if methods is not None or cells is not None:
        graph.cells(methods, cells)
        return graph.jobs
    for target in targets or TARGETS:
        getattr(graph, target)()
    return graph.jobs


# ---- kinds of training steps


def pretrain_key(study: Study, method: str, precision: str = "") -> str:
    """Key of a pre-training step's cost in steps.json, in another precision where one is given; methods whose steps cost
    the same share one."""
    settings = study.pretrain_settings(method)
    training = settings.training.replace(precision=precision) if precision else settings.training
    parts = [settings.objective, settings.settings, settings.words.count]
    return _key(study, "pretrain", settings.model, training, *parts)


def finetune_key(study: Study, method: str, dataset: str, ratio: int) -> str:
    """Key of a fine-tuning step's cost, the same on every split."""
    training = study.finetune_settings(method, dataset, ratio).training
    return _key(study, "finetune", study.model_settings(method), training)


def speed_key(study: Study, method: str, precision: str) -> str:
    """Key of the speed at which an encoder is trained; activations and the aggregation do not change it."""
    model = config.to_dict(study.model_settings(method))
    sizes = {
        name: value for name, value in model.items() if type(value) is int or name in ("architecture", "name")
    }
    return "speed-" + digest([sizes, precision, study.config.device])[:12]


def _key(study: Study, kind: str, model: config.Model, training: config.Training, *more: Any) -> str:
    parts = [training.batch_size, training.precision, training.optimiser.name]
    return f"{kind}-" + digest([*map(config.to_dict, (model, study.config.text)), parts, *more])[:12]
