"""What of a study is available: downloads, released lists, checkpoints and results; and why something is not."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from refers import config
from refers.config.settings import BERT_FILES
from refers.errors import UserError
from refers.files import read_json
from refers.folders import matching
from refers.study import paths
from refers.study.bert_files import package_files
from refers.study.study import Cell, Study

RELEASED = "https://github.com/funnyzhou/REFERS"  # the authors' repository
ADVICE = "docs/data.md says how to get it"


def trained_settings(study: Study, method: str) -> config.Pretrain:
    """Settings of a method's pre-training as its run.json records them: where a pilot chose the rate, with that rate."""
    settings, path = study.pretrain_settings(method), study.resolve(paths.PILOT, method=method)
    if settings.rate == "fixed" or not path.exists():
        return settings
    return settings.at(config.load(config.Candidate, read_json(path).get("chosen"), str(path)))


class OnDisk:
    """Looks for files on disk."""

    def has_download(self, path: Path, pattern: str = "") -> bool:
        """Whether a path exists or, with a pattern ("this|or that"), whether one of its alternatives matches below it."""
        if not pattern:
            return path.exists()
        return next(matching(path, pattern), None) is not None

    def has_result(self, path: Path) -> bool:
        """Whether an earlier run, maybe on another machine, left this file."""
        return path.exists()

    def package_problem(self, name: str) -> str:
        """Why there is no BERT in an installed Python package; empty where there is one."""
        try:
            package_files(name)
        except UserError as error:
            return str(error)
        return ""


class AssumeAvailable:
    """Answers as a disk would that holds every download and no result yet: what a plan assumes."""

    def has_download(self, path: Path, pattern: str = "") -> bool:
        return True

    def has_result(self, path: Path) -> bool:
        return False

    def package_problem(self, name: str) -> str:
        return ""


@dataclass(frozen=True, eq=False)
class Availability:
    """Questions about what a study can run and show with the files that there are.

    Every `..._status` is empty when the thing is available, and otherwise one line that says why not and what to do.
    """

    study: Study
    files: OnDisk | AssumeAvailable = OnDisk()

    # ---- downloads

    def missing(self, source: str) -> list[str]:
        """Patterns of a source's files, images and reports that match nothing."""
        entry, folder = self.study.source(source), self.study.folder(source)
        wanted = [*entry.files, entry.images, *filter(None, [entry.reports])]
        return [pattern for pattern in wanted if not self.files.has_download(folder, pattern)]

    def source_files(self, source: str) -> list[Path]:
        """The tables on disk that a source's index is made from, the first alternative of each pattern that matches."""
        folder = self.study.folder(source)
        found = []
        for pattern in self.study.source(source).files:
            matches = (sorted(matching(folder, part)) for part in pattern.split("|"))
            found += next(filter(None, matches), [])[-1:]
        return found

    @cache  # noqa: B019 - one object lives as long as the process
    def source_status(self, source: str) -> str:
        """Status of a source's download."""
        absent = [pattern.replace("|", " or ") for pattern in self.missing(source)]
        return f"data absent: {self.study.folder(source)}/{absent[0]} not found; {ADVICE}" if absent else ""

    def boxes_status(self, source: str) -> str:
        """Status of the radiologists' boxes of a source."""
        folder, boxes = self.study.folder(source), self.study.source(source).boxes
        found = self.files.has_download(folder, boxes)
        return "" if found else f"data absent: {folder}/{boxes} not found; {ADVICE}"

    def characteristics_status(self, dataset: str) -> str:
        """Status of sex, age and projection of a dataset's images, read out of its download or left by an earlier run."""
        source = self.study.dataset(dataset).source
        if not self.study.source(source).characteristics:
            return f"not run: sources.{source} names no characteristics"
        if self.results_exist(paths.fill(paths.CHARACTERISTICS, source=source)):
            return ""
        reason = self.source_status(source)
        kept = self.study.resolve(paths.CHARACTERISTICS, source=source)
        return f"{reason}, or copy {kept} from where it was made" if reason else ""

    @cache  # noqa: B019
    def dataset_status(self, dataset: str) -> str:
        """Status of what a dataset is split and read from."""
        entry = self.study.dataset(dataset)
        if reason := self.source_status(entry.source):
            return reason
        if entry.split.kind == "released":
            if not entry.released:
                return f"data absent: the authors released no lists of {dataset}; choose another split"
            lists = self.study.released_lists(dataset)
            if not self.files.has_download(lists / "test.txt"):
                clone = self.study.released_lists().parent
                return (
                    f"data absent: {lists}/test.txt not found; git clone {RELEASED} {clone},"
                    f" or set datasets.{dataset}.split.kind to official or random"
                )
        return ""

    def released_results(self) -> Path:
        """The authors' prediction files: a folder of the clone, an archive of that folder, or one of the whole repository.

        Raises:
            UserError: there is none, or there are two archives.
        """
        clone = self.study.released_lists().parent
        folder = clone / self.study.config.audit.results
        if folder.is_dir():
            return folder
        for path in (folder, clone):
            if found := _archives(path):
                if len(found) > 1:
                    raise UserError(f"{found[0]} and {found[1].name}: keep one of the two")
                return found[0]
        raise UserError(
            f"data absent: {folder} not found; git clone {RELEASED} {clone}"
            f" or save the repository's archive as {clone}.zip"
        )

    def released_test_lists(self) -> Path | None:
        """Where the audit reads the authors' lists: their folder in the clone, or the archive of the repository."""
        folder, results = self.study.released_lists(), self.released_results()
        if folder.is_dir():
            return folder
        return results if results in _archives(folder.parent) else None

    # ---- results

    def results_exist(self, *patterns: str) -> bool:
        """Whether files of `refers.study.paths`, wildcards filled in, were left by an earlier run or another machine."""
        return all(self.files.has_result(self.study.resolve(pattern)) for pattern in patterns)

    # ---- methods and cells

    @cache  # noqa: B019
    def method_status(self, method: str) -> str:
        """Status of what a method's encoder is made from."""
        if self.study.is_imported(method):
            path = self.study.checkpoint_file(method)
            found = path is None or self.files.has_download(path)
            own = self.study.method(method).own
            advice = f"place it there, or correct methods.{method}.checkpoint" if own else ADVICE
            return "" if found else f"not run: {path} not found; {advice}"
        settings = self.study.pretrain_settings(method)
        if settings.init == "imagenet" and (reason := self.method_status("imagenet")):
            return reason
        reads = self.study.reads_mimic(method)
        package, bert = (self.study.text_package, self.study.text_encoder) if reads else (None, None)
        if package and (reason := self.files.package_problem(package)):
            return f"not run: {reason}"
        absent = (each for each in BERT_FILES if not self.files.has_download(bert, each)) if bert else ()
        for files in absent:
            return f"not run: no BERT in {bert} ({files.replace('|', ' or ')} not found); {ADVICE}"
        return next(filter(None, map(self.source_status, settings.sources)), "")

    def row_status(self, method: str) -> str:
        """Status of a method as a row of a table or a line of a figure."""
        return self.method_status(method) if method in self.study.methods else "not run: not in study.methods"

    def training_status(self, method: str, cell: Cell) -> str:
        """Status of what the training of a cell reads."""
        return self.method_status(method) or self.dataset_status(cell.dataset)

    @cache  # noqa: B019
    def cell_status(self, method: str, cell: Cell, protocol: str = "finetune") -> str:
        """Status of a cell: its predictions exist, which then need no downloads, or it can be trained."""
        reason = self.training_status(method, cell)
        saved = reason and self.results_exist(
            *self.study.files_of_runs(paths.PROTOCOLS[protocol].predictions, method, cell)
        )
        return "" if saved else reason

    def can_run(self, method: str, cell: Cell, protocol: str = "finetune") -> bool:
        """Whether a cell is part of the study and can be run or shown on this machine."""
        return method in self.study.methods and not self.cell_status(method, cell, protocol)

    def require(self, method: str, dataset: str, ratio: int, protocol: str = "finetune") -> None:
        """Raise a UserError unless the cell is part of the study and can be run or shown on this machine."""
        cell = self.study.cell(method, dataset, ratio)
        if reason := self.cell_status(method, cell, protocol):
            raise UserError(f"{method}/{cell}: {reason}")

    def external_status(self, method: str, cell: Cell, other: str) -> str:
        """Status of a cell's predictions of another dataset's test images: they exist, or its classifiers can make them."""
        saved = self._exist_on_first_split(paths.EXTERNAL_PREDICTIONS, method, cell, other=other)
        return "" if saved else self.predicting_status(method, cell, other)

    def predicting_status(self, method: str, cell: Cell, other: str) -> str:
        """Status of what makes such predictions: the other dataset, and classifiers that were kept or can be trained."""
        kept = self._exist_on_first_split(paths.CLASSIFIER, method, cell)
        return self.dataset_status(other) or ("" if kept else self.training_status(method, cell))

    def _exist_on_first_split(self, pattern: str, method: str, cell: Cell, **names: object) -> bool:
        """Whether a file is there of every seed of a cell's first split."""
        names |= {"method": method, "split": 0, **cell._asdict()}
        return self.results_exist(*(paths.fill(pattern, seed=seed, **names) for seed in self.study.seeds))

    def maps_status(self, figure: str) -> str:
        """Status of the class activation maps of a figure and the boxes on them."""
        entry = self.study.figure(figure)
        if not (entry.dataset and entry.ratio and entry.methods):
            return "not run: it draws no class activation maps"
        dataset, method = entry.dataset, entry.methods[0]
        source = self.study.dataset(dataset).source
        if Cell(dataset, entry.ratio) not in self.study.cells:
            return f"not run: {dataset}/{entry.ratio} is not a cell of the study"
        if self.results_exist(paths.fill(paths.MAPS, figure=figure)):
            return ""
        if getattr(self.study.model_settings(method), "classifier", "mean") != "mean":
            return f"not run: {method}'s classifier reads the aggregation output alone and has no such map"
        if not self.study.source(source).boxes:
            return f"not run: sources.{source} names no boxes"
        return self.boxes_status(source)


def _archives(folder: Path) -> list[Path]:
    """Archives of a folder beside it: its name, also with a branch or commit behind a hyphen, and an archive's suffix."""
    name = re.compile(re.escape(folder.name) + r"(-.+)?\.(zip|tgz|tar(\.(gz|bz2|xz))?)")
    beside = folder.parent
    return sorted(path for path in beside.iterdir() if name.fullmatch(path.name)) if beside.is_dir() else []
