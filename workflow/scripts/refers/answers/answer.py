"""What a command says when it has ended: the number that was asked for and where the rest is. Standard library only."""

import csv
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refers.evaluation.cell_file import format_auc, read_cell
from refers.files import read_json
from refers.formatting import span
from refers.study import paths
from refers.study.availability import Availability
from refers.study.specs import Specs
from refers.study.study import Cell, Study

WIDTH = 99  # characters of the table on a terminal
NAME = 28  # characters of a row's name there
Answer = Callable[["Answers", Path, dict[str, str]], list[str]]


@dataclass(frozen=True)
class Answers:
    """Lines about finished targets, read from their files.

    before: cells' files as `remember` read them before the run, where their predictions were made again.
    """

    specs: Specs
    before: dict[Path, dict[str, Any]]

    @property
    def availability(self) -> Availability:
        return self.specs.availability

    @property
    def study(self) -> Study:
        return self.availability.study

    def of(self, targets: Iterable[str]) -> list[str]:
        """Lines about rules and files that were asked for; nothing about those that have nothing to say but their path.

        Raises:
            UserError: a file is not what its job writes.
        """
        wanted, lines = {*targets}, []
        for rule, (pattern, answer) in OF_RULES.items():
            if rule in wanted or (pattern and any(self.fits(pattern, each) is not None for each in wanted)):
                lines += answer(self, self.study.resolve(_any_form(pattern)) if pattern else Path(), {})
        for path in sorted(wanted):
            for pattern, answer in OF_FILES.items():
                if (found := self.fits(pattern, path)) is not None:
                    lines += answer(self, Path(path), found)
        return lines

    def fits(self, pattern: str, path: str) -> dict[str, str] | None:
        """The wildcards of a file of this pattern; None of any other."""
        return paths.parse(pattern, self.study.config.pathvars.model_dump(), path)

    # ---- cells and tables

    def count(self) -> str:
        """How many cells of the study ran, and why the others cannot."""
        cells = [(method, cell) for method in self.study.methods for cell in self.study.cells]
        absent = [pair for pair in cells if not self.cell_file(*pair).exists()]
        reasons = Counter(filter(None, (self.why_not(*pair) for pair in absent)))
        text = f"{len(cells) - len(absent)} of {len(cells)} cells ran"
        if reasons:
            listed = ", ".join(f"{reason} ({count})" for reason, count in reasons.most_common())
            text += f"; {reasons.total()} cannot: {listed}"
        if idle := len(absent) - reasons.total():
            text += f"; {idle} can, and were not asked for"
        return text

    def cell_file(self, method: str, cell: Cell) -> Path:
        return self.study.resolve(paths.CELL, method=method, **cell._asdict())

    def why_not(self, method: str, cell: Cell) -> str:
        """In a few words why a cell cannot run; empty where it can."""
        reason = self.availability.cell_status(method, cell)
        if not reason:
            return ""
        absent = (
            name for name in self.study.config.sources if self.availability.source_status(name) == reason
        )
        found = next(absent, "")
        return f"{found} absent" if found else reason.partition(": ")[2].partition(";")[0]

    def table(self) -> list[str]:
        """The means of the first table of fine-tuned encoders, rows that have any; nothing where it is too wide."""
        name = next(name for name, entry in self.study.config.tables.items() if entry.protocol == "finetune")
        cells = self.specs.table_columns(name)
        datasets = list(dict.fromkeys(cell.dataset for cell in cells))
        heads = {
            cell: "all" if cell.ratio == 100 and len(_of(cell.dataset, cells)) == 1 else f"{cell.ratio}%"
            for cell in cells
        }
        rows = []
        for row in self.specs.study.table_rows(name):
            for method in self.specs.study.row_methods(row):
                files = {cell: self.cell_file(method, cell) for cell in cells}
                found = {
                    cell: f"{100 * read_cell(path)['test']['mean']:.1f}" if path.exists() else ""
                    for cell, path in files.items()
                }
                if any(found.values()):
                    rows.append((self.study.method(method).title, found))
        lines = [
            _line("", [dataset.ljust(_room(dataset, cells)) for dataset in datasets]),
            *(
                _line(
                    title,
                    [
                        "".join(values[cell].ljust(6) for cell in _of(dataset, cells)).ljust(
                            _room(dataset, cells)
                        )
                        for dataset in datasets
                    ],
                )
                for title, values in [("AUC", heads), *rows]
            ),
        ]
        return lines if rows and max(map(len, lines)) <= WIDTH else []


def remember(study: Study, targets: Iterable[str]) -> dict[Path, dict[str, Any]]:
    """The cells' files among these targets as they are now."""
    answers = Answers(Specs(Availability(study)), {})
    cells = [Path(path) for path in targets if any(answers.fits(pattern, path) for pattern in CELLS)]
    return {path: read_json(path) for path in cells if path.exists()}


def _any_form(pattern: str) -> str:
    """One of the files of a pattern that stands for several: what a person reads."""
    return paths.fill(pattern, form="md", file="audit.md")


def _of(dataset: str, cells: list[Cell]) -> list[Cell]:
    return [cell for cell in cells if cell.dataset == dataset]


def _room(dataset: str, cells: list[Cell]) -> int:
    return max(6 * len(_of(dataset, cells)), len(dataset) + 2)


def _line(name: str, parts: list[str]) -> str:
    cut = name if len(name) <= NAME else name[: NAME - 1] + "…"
    return f"{cut:{NAME + 2}}{''.join(parts)}".rstrip()


# ---- one function per kind of target


def _tables(answers: Answers, path: Path, wildcards: dict[str, str]) -> list[str]:
    found = answers.study.resolve(paths.TABLE, table="{table}", form="md")
    table = answers.table()
    claims = (
        _claims(answers, answers.study.resolve(paths.CLAIMS, form="md"), {})
        if answers.study.config.claims
        else []
    )
    return [*table, *([""] if table else []), answers.count(), *claims, f"tables: {found.parent}"]


def _claims(answers: Answers, path: Path, wildcards: dict[str, str]) -> list[str]:
    with path.with_suffix(".csv").open(encoding="utf-8", newline="") as lines:
        verdicts = Counter(line["ours"] for line in csv.DictReader(lines))
    counts = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.most_common())
    return [f"{sum(verdicts.values())} claims of the paper on our numbers: {counts}; {path}"]


def _counted(answers: Answers, path: Path, wildcards: dict[str, str]) -> list[str]:
    return [answers.count()]


def _encoders(answers: Answers, path: Path, wildcards: dict[str, str]) -> list[str]:
    owners = dict.fromkeys(map(answers.study.encoder_owner, answers.study.methods))
    found = [method for method in owners if answers.study.resolve(paths.ENCODER, method=method).exists()]
    folder = answers.study.resolve(paths.ENCODER, method="method").parents[1]
    return [f"{len(found)} of {len(owners)} encoders: {', '.join(found)}; {folder}"]


def _figures(answers: Answers, path: Path, wildcards: dict[str, str]) -> list[str]:
    folder = answers.study.resolve(paths.FIGURE, figure="figure", form="pdf").parent
    return [f"{len(answers.study.config.figures)} figures: {folder}"]


def _datasets(answers: Answers, path: Path, wildcards: dict[str, str]) -> list[str]:
    study, lines = answers.study, []
    funnel = study.resolve(paths.REPORTS_FUNNEL)
    if reason := answers.availability.source_status("mimic"):
        lines.append(f"mimic: {reason}")
    else:
        lines.append(f"mimic: {read_json(funnel)['studies_with_images']:,} studies with images and a report")
    for dataset in study.datasets:
        reason, report = (
            answers.availability.dataset_status(dataset),
            study.resolve(paths.SPLIT_REPORT, dataset=dataset, split=0),
        )
        sizes = (
            ""
            if reason
            else ", ".join(f"{count:,} {part}" for part, count in read_json(report)["images"].items())
        )
        lines.append(f"{dataset}: {reason or f'{sizes} images, checked'}")
    return lines


def _pilots(answers: Answers, path: Path, wildcards: dict[str, str]) -> list[str]:
    with path.with_suffix(".csv").open(encoding="utf-8", newline="") as lines:
        chosen = [line for line in csv.DictReader(lines) if line["chosen"] == "1"]
    found = [
        f"{line['method']}: {line['optimiser']} {line['lr']}" + (f" ({line['note']})" if line["note"] else "")
        for line in chosen
    ]
    return [*found, f"pilots: {path}"]


def _page(answers: Answers, path: Path, wildcards: dict[str, str]) -> list[str]:
    return [f"page: {path}"]


def _preflight(answers: Answers, path: Path, wildcards: dict[str, str]) -> list[str]:
    found = read_json(answers.study.resolve(paths.PREFLIGHT))
    lines = [
        f"{line['name']}: {line['state']}" + (f"; next: {line['next']}" if line["next"] else "")
        for line in found["lines"]
    ]
    cells = found["study"]
    report = answers.study.resolve(paths.log("preflight"))
    return [
        *lines,
        f"{cells['cells']} of {cells['of']} cells can run with the files found; the whole report: {report}",
    ]


def _plan(answers: Answers, path: Path, wildcards: dict[str, str]) -> list[str]:
    tiers = read_json(path.with_suffix(".json"))["tiers"]
    lines = [
        f"{tier['title']}: {tier['jobs']:,} jobs, training {span(tier['training_hours'])} {tier['on']}"
        for tier in tiers
    ]
    return [*lines, f"plan: {path}"]


def _gpu_check(answers: Answers, path: Path, wildcards: dict[str, str]) -> list[str]:
    found = read_json(path.with_suffix(".json"))
    return [f"{len(found['rows'])} checks on {found['device']}, none failed: {path}"]


def _audit(answers: Answers, path: Path, wildcards: dict[str, str]) -> list[str]:
    with path.with_name("auc.csv").open(encoding="utf-8", newline="") as lines:
        aucs = sum(1 for _ in csv.DictReader(lines))
    return [f"{aucs} AUCs of released predictions beside the printed ones: {path}"]


def _cell(answers: Answers, path: Path, wildcards: dict[str, str]) -> list[str]:
    cell = read_cell(path)
    test = {
        key: None if cell["test"].get(key) is None else 100 * cell["test"][key]
        for key in ("mean", "sd", "sd_splits")
    }
    mean = "undefined" if test["mean"] is None else format_auc(test["mean"], test["sd"], test["sd_splits"])
    runs = f"{len(cell['seeds'])} run" + ("s" if len(cell["seeds"]) > 1 else "")
    line = f"{cell['method']} {cell['dataset']} {cell['ratio']} %: AUC {mean} ({runs}); {path}"
    return [line, *_compared(cell, answers.before.get(path))]


def _compared(cell: dict[str, Any], before: dict[str, Any] | None) -> list[str]:
    """Predictions that were made again beside those of the previous run."""
    if before is None:
        return []
    made, previous = cell["predictions_sha256"], before.get("predictions_sha256", [])
    if made == previous:
        return ["predictions identical to the previous run"]
    changed = sum(digest not in previous for digest in made)
    auc = before.get("test", {}).get("mean")
    was = "undefined" if auc is None else f"{100 * auc:.2f}"
    now = "undefined" if cell["test"]["mean"] is None else f"{100 * cell['test']['mean']:.2f}"
    return [
        f"{changed} of {len(made)} predictions differ from the previous run: mean AUC {was} before, {now} now"
    ]


def _explain(answers: Answers, path: Path, wildcards: dict[str, str]) -> list[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    verdict = next((line for line in lines if " digests are as recorded" in line), "")
    return [*([verdict] if verdict else []), f"the account: {path}"]


def _log_of(rule: str) -> Answer:
    """What the job of a rule said, where that is short and is the answer."""

    def answer(answers: Answers, path: Path, wildcards: dict[str, str]) -> list[str]:
        return answers.study.resolve(paths.log(rule)).read_text(encoding="utf-8").splitlines()

    return answer


CELLS = (paths.CELL, paths.PROBE_CELL)
# rules that are asked for by name, with the files that ask for the same
OF_RULES: dict[str, tuple[str, Answer]] = {
    "preflight": (paths.PREFLIGHT, _preflight),
    "datasets": ("", _datasets),
    "plan": (paths.PLAN, _plan),
    "gpu_check": (paths.GPU_CHECK, _gpu_check),
    "pilots": (paths.PILOTS, _pilots),
    "encoders": ("", _encoders),
    "cells": ("", _counted),
    "tables": ("", _tables),
    "claims": (paths.CLAIMS, _claims),
    "figures": ("", _figures),
    "page": (paths.PAGE, _page),
    "audit": (paths.AUDIT, _audit),
    "export": (paths.EXPORTS, _log_of("export")),
    "crate": (paths.CRATE, _log_of("crate")),
}
OF_FILES: dict[str, Answer] = {**dict.fromkeys(CELLS, _cell), paths.EXPLANATION: _explain}
