"""audit.md: what the rows of the audit's auc.csv and pairs.csv say, in short."""

from collections import defaultdict
from typing import Any

import numpy as np

from refers.audit import HALVES, MEAN, SHARES, Released
from refers.similarity import FEW, MIN_LEVELS, NONE, RELATIONS

SHARE_TITLES = [name.replace("_", ", ") for name in SHARES]


def to_markdown(
    rows: list[dict[str, Any]], pairs: list[dict[str, Any]], released: Released, resamples: int
) -> str:
    """Render.

    Args:
        rows: of auc.csv.
        pairs: of pairs.csv.
        released: what was read.
        resamples: of the bootstrap behind the intervals.
    """
    means = [row for row in rows if row["class"] == MEAN]
    heads = [
        "Cell",
        "Method",
        "Mean AUC",
        "95 % interval",
        "Printed",
        "Difference",
        "Rounds to it",
        "Baseline",
        "Minus baseline",
    ]
    lines = [
        "# Audit of the released prediction files",
        "",
        f"Measured on {sum(len(each.files) for each in released.scored)} files of {len(released.scored)} cells and methods. "
        "AUC in percent. Full numbers, every class: auc.csv; every pair of files: pairs.csv.",
        "",
        "## Mean AUC and the printed number",
        "",
        f"Intervals: {resamples} bootstrap resamples of the test images (the files name no patient). Baseline: the complete "
        "method with the highest mean AUC of the cell, the paper's own aside; differences from it are paired.",
        "",
        *_table(heads, [_mean_cells(row) for row in means]),
        "",
        "## Positives and negatives",
        "",
        *_table(["Dataset", "Class", "Positives", "Negatives"], _label_counts(released)),
        "",
        "## Missing and unread files",
        "",
        *(_missing(released) or ["Every expected file is there."]),
        *(f"- not read, since no cell and method of the config has it: {path}" for path in released.unread),
        "",
        "## Pairs of files over the same test images",
        "",
        "Every two files of one class with the same labels in the same order are compared, whatever they are called. Two files "
        "are related by *one monotone map* when no two images are in opposite order in them, and by a *monotone map by label* "
        "when that holds among the positives and among the negatives, but not over both. *Too few distinct scores*: a file "
        f"has fewer than {MIN_LEVELS} within a label, where orders may agree by chance. *Expected* is the share that would "
        "be identical if one file's scores were shuffled within the label. These measures say how files relate, not how they came "
        "to be.",
        "",
        *_table(["Dataset", "Pairs", *RELATIONS], _relation_counts(pairs)),
        "",
        "Medians over those pairs:",
        "",
        *_table(["Dataset", *SHARE_TITLES], _medians(pairs)),
        "",
        "Pairs that a map relates, or that are identical on every positive or on every negative:",
        "",
        *(_related(pairs) or ["There is none."]),
    ]
    return "\n".join(lines) + "\n"


def _mean_cells(row: dict[str, Any]) -> list[str]:
    if row["auc"] == "":
        return [row["cell"], row["method"], row["status"], *[""] * 6]
    mean = f"{row['auc']:.2f}" + ("" if row["status"] == "ok" else f" ({row['status']})")
    printed = [f"{row['minus_printed']:+.2f}", row["rounds_to_printed"]] if row["printed"] else ["", ""]
    return [
        row["cell"],
        row["method"],
        mean,
        _range(row["low"], row["high"]),
        row["printed"],
        *printed,
        row["baseline"],
        f"{row['minus_baseline']:+.2f} ({_range(row['minus_baseline_low'], row['minus_baseline_high'])})"
        if row["baseline"]
        else "",
    ]


def _range(low: float | str, high: float | str) -> str:
    return "undefined" if low == "" else f"{low:.2f} to {high:.2f}"


def _label_counts(released: Released) -> list[list[str]]:
    counts = {
        (each.cell.dataset, name, int(labels.sum()), int((~labels).sum())): None
        for each in released.scored
        for name, labels in zip(each.files, each.labels.T, strict=True)
    }
    return [list(map(str, key)) for key in counts]


def _missing(released: Released) -> list[str]:
    """One line a folder that lacks files."""
    folders: dict[str, list[str]] = defaultdict(list)
    expected = {}
    for cell, _, path in released.missing:
        folder, _, name = path.rpartition("/")
        folders[folder].append(name)
        expected[folder] = len(cell.classes)
    return [
        f"- missing: {folder}/"
        + (f" (all {len(names)})" if len(names) == expected[folder] else ", ".join(names))
        for folder, names in folders.items()
    ]


def _by_dataset(pairs: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    found = defaultdict(list)
    for pair in pairs:
        found[pair["dataset"]].append(pair)
    return found


def _relation_counts(pairs: list[dict[str, Any]]) -> list[list[str]]:
    return [
        [
            dataset,
            str(len(group)),
            *(str(sum(pair["relation"] == name for pair in group)) for name in RELATIONS),
        ]
        for dataset, group in _by_dataset(pairs).items()
    ]


def _medians(pairs: list[dict[str, Any]]) -> list[list[str]]:
    rows = []
    for dataset, group in _by_dataset(pairs).items():
        columns = [[pair[name] for pair in group if pair[name] is not None] for name in SHARES]
        rows.append([dataset, *(f"{np.median(column):.3f}" if column else "undefined" for column in columns)])
    return rows


def _related(pairs: list[dict[str, Any]]) -> list[str]:
    rows = []
    for pair in pairs:
        whole = [
            half
            for half in HALVES
            if pair[half] and pair[f"identical_{half}"] == 1 > pair[f"expected_{half}"]
        ]
        if pair["relation"] in (NONE, FEW) and not whole:
            continue
        numbers = ["undefined" if pair[name] is None else f"{pair[name]:.3f}" for name in SHARES]
        rows.append([pair["class"], pair["first"], pair["second"], pair["relation"], *numbers])
    return _table(["Class", "First", "Second", "Relation", *SHARE_TITLES], rows) if rows else []


def _table(heads: list[str], rows: list[list[str]]) -> list[str]:
    lines = [heads, [":--"] * len(heads), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]
