"""Every job that a study comes to, data here or not: the rules' graph as the grid alone gives it."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refers import config
from refers.errors import UserError
from refers.provenance.run_record import digest
from refers.study import paths
from refers.study.availability import AssumeAvailable, Availability
from refers.study.specs import Specs
from refers.study.study import Cell, Study

DEMO, STUDY = "demo", "study"


def read_files(paths: list[Path]) -> dict:
    """The config of several files, each over those before it.

    Raises:
        UserError: a file cannot be read, or is no map.
    """
    import yaml

    found: dict = {}
    for path in paths:
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise UserError(f"{path}: cannot be read as YAML ({str(error).splitlines()[0]})") from None
        if not isinstance(values, dict):
            raise UserError(f"{path}: no map of settings; give a config file")
        found = config.merge(found, values)
    return found


def read_studies(text: str, demo: list[Path]) -> dict[str, dict]:
    """Configs by name: the demo's, out of its files in order, and the study's, out of JSON."""
    study = config.parse_json(text, "config")
    return ({DEMO: read_files(demo)} if demo else {}) | {STUDY: study}


@dataclass(frozen=True)
class Job:
    """One job of a rule.

    target: its first output, by which other jobs name it in `needs`. benchmark: its file below <benchmarks>, without
    the suffix. about: the rule's wildcards.
    """

    rule: str
    target: str
    benchmark: str
    needs: tuple[str, ...]
    about: dict[str, Any]


class JobGraph:
    def __init__(self, study: Study) -> None:
        self.study, self.jobs = study, {}
        self.specs = Specs(Availability(study, AssumeAvailable()))
        where = paths.FOLDERS | study.values.get("pathvars", {})
        self.results, self.store, self.interim = where["results"], where["store"], where["interim"]
        self.mimic = f"{self.store}/mimic"
        self.tokens = f"{self.interim}/mimic/tokens.npz"
        self.text = f"{self.interim}/mimic/text_encoder/config.json"

    def add(
        self, rule: str, target: str, needs: Iterable[str] = (), benchmark: str = "", **about: Any
    ) -> str:
        name = f"{rule}/{benchmark}" if benchmark else rule
        self.jobs[target] = Job(rule, target, name, tuple(dict.fromkeys(needs)), about)
        return target

    def source(self, source: str) -> list[str]:
        folder = f"{self.store}/{source}"
        index = self.add("index_source", f"{folder}/index.parquet", (), source, source=source)
        return [index, self.add("pack_images", f"{folder}/images.npy", [index], source, source=source)]

    def reports(self) -> list[str]:
        """Files of MIMIC that pre-training reads."""
        index, store = self.source("mimic")
        reports = self.add("clean_reports", f"{self.mimic}/reports.parquet", [index])
        text = [] if self.study.text_encoder else [self.add("build_text_encoder", self.text, [reports])]
        return [index, store, self.add("tokenize_reports", self.tokens, [reports, *text]), *text]

    def encoder(self, method: str) -> str:
        target = f"{self.results}/encoders/{method}/encoder.safetensors"
        if target in self.jobs:
            return target
        if self.study.is_imported(method):
            checkpoint = f"{self.interim}/random_vit.npz"
            needs = (
                [self.add("generate_checkpoint", checkpoint)]
                if self.study.has_random_checkpoint(method)
                else []
            )
            return self.add("import_encoder", target, needs, method, method=method)
        needs, settings = self.reports(), self.study.pretrain_settings(method)
        if settings["init"] == "imagenet":
            needs.append(self.encoder("imagenet"))
        if settings["words"]["count"]:
            words = f"{self.interim}/mimic/{method}/words.csv"
            needs.append(self.add("discover_words", words, self.reports()[:3], method, method=method))
        return self.add("pretrain", target, needs, method, method=method)

    def finetune(self, method: str, cell: Cell) -> str:
        dataset, ratio = cell
        index, store = self.source(self.study.dataset(dataset)["source"])
        folder, where = f"{self.interim}/{dataset}", {"dataset": dataset}
        split = self.add("split_dataset", f"{folder}/split.parquet", [index, store], dataset, **where)
        check = self.add("check_split", f"{folder}/check.json", [split, store], dataset, **where)
        name = f"{dataset}.{ratio}pct"
        subset = self.add(
            "label_subset", f"{folder}/subset_{ratio}pct.csv", [split], name, ratio=ratio, **where
        )
        seed = f"seed{self.study.seeds[0]}"
        return self.add(
            "finetune",
            f"{self.results}/runs/{method}/{dataset}/{ratio}pct/{seed}/predictions.parquet",
            [self.encoder(method), store, split, subset, check],
            f"{method}.{name}",
            method=method,
            ratio=ratio,
            **where,
        )

    def cell(self, method: str, cell: Cell) -> str:
        return self.add(
            "cell",
            f"{self.results}/cells/{method}/{cell.dataset}/{cell.ratio}pct/auc.json",
            [self.finetune(method, cell)],
            f"{method}.{cell.dataset}.{cell.ratio}pct",
            method=method,
            **cell._asdict(),
        )

    def table(self, name: str) -> str:
        needs = [self.cell(method, cell) for method, cell in self.specs.table_cells(name)]
        for reference, baseline, cell in self.specs.table_tests(name):
            pair = [self.cell(method, cell) for method in (reference, baseline)]
            place = f"{cell.dataset}/{cell.ratio}pct"
            needs.append(
                self.add(
                    "ttest",
                    f"{self.results}/ttests/{place}/{reference}_vs_{baseline}.json",
                    pair,
                    f"{place.replace('/', '.')}.{reference}_vs_{baseline}",
                    **cell._asdict(),
                )
            )
        return self.add("table", f"{self.results}/tables/{name}.csv", needs, name)

    def figure(self, name: str) -> str:
        entry, cells = self.study.values["figures"][name], self.specs.figure_cells(name)
        if entry["kind"] == "curves":
            needs = [self.encoder(method) for method in self.specs.figure(name)["sources"]]
        elif entry["kind"] == "ratios":
            needs = [self.cell(*pair) for pair in cells]
        else:
            needs = [self.finetune(*pair) for pair in cells]
        if entry["kind"] == "attention" and cells:
            maps = f"{self.results}/attention/{name}/maps.npz"
            needs = [self.add("attend", maps, needs, name, dataset=entry["dataset"])]
        return self.add("figure", f"{self.results}/figures/{name}.pdf", needs, name)

    def everything(self) -> None:
        tables = [self.table(name) for name in self.study.values["tables"]]
        self.add("cell_index", f"{self.results}/tables/cells.csv", tables)
        for name in self.study.values["figures"]:
            self.figure(name)
        maps = [target for target, job in self.jobs.items() if job.rule == "attend"]
        self.add("claims", f"{self.results}/claims.csv", [*tables, *maps])
        for method in self.study.methods:
            for cell in self.study.cells:
                self.cell(method, cell)


def jobs_of(
    values: dict, methods: Iterable[str] | None = None, cells: Iterable[str] | None = None
) -> dict[str, Job]:
    """Jobs of a study by target, each after those that it needs: all of them, or those behind some cells.

    Args:
        values: the study's config.
        methods, cells: rows and columns (`nih/1`), of which those in the study count; with neither, tables and figures
            are among the jobs.
    """
    study = Study(values)
    graph = JobGraph(study)
    if methods is None and cells is None:
        graph.everything()
    else:
        wanted = None if cells is None else set(cells)
        rows = study.methods if methods is None else [name for name in study.methods if name in set(methods)]
        for method in rows:
            for cell in study.cells:
                if wanted is None or str(cell) in wanted:
                    graph.cell(method, cell)
    return graph.jobs


# ---- kinds of training steps


def pretrain_key(study: Study, method: str) -> str:
    """Name of what a pre-training step of a method costs; methods that differ in nothing that counts share one."""
    settings = study.pretrain_settings(method)
    training = settings["training"]
    parts = [settings["objective"], settings["settings"], settings["words"]["count"]]
    return _key(study, "pretrain", settings["model"], training, *parts)


def finetune_key(study: Study, method: str, dataset: str, ratio: int) -> str:
    """The same for a step of a fine-tune."""
    training = study.finetune_settings(method, dataset, ratio)["training"]
    return _key(study, "finetune", study.model_settings(method), training)


def speed_key(study: Study, method: str, precision: str) -> str:
    """Name of the speed at which an encoder is trained; activations and the aggregation leave it alone."""
    model = study.model_settings(method)
    sizes = {
        name: value for name, value in model.items() if type(value) is int or name in ("architecture", "name")
    }
    return "speed-" + digest([sizes, precision, study.values["device"]])[:12]


def _key(study: Study, kind: str, model: dict, training: dict, *more: Any) -> str:
    parts = [training["batch_size"], training["precision"], training["optimiser"]["name"]]
    return f"{kind}-" + digest([model, parts, study.values["text"], *more])[:12]
