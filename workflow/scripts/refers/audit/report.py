"""audit.md: a summary of the audit's auc.csv and pairs.csv."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np

from refers.audit.released import ReleasedFiles
from refers.audit.rows import GAMMAS, MEAN, SHARES
from refers.audit.similarity import FEW, LABELS, MIN_LEVELS, NONE, RELATIONS

Rows = list[dict[str, Any]]
MEAN_TITLES = [
    "Cell", "Method", "Mean AUC", "95 % interval", "Resampled", "Printed", "Difference", "Rounds to it", "Baseline",
    "Minus baseline",
]  # fmt: skip
MEASURES = (*SHARES, *GAMMAS)
OTHERS = tuple(name for name in MEASURES if not name.startswith(("identical", "expected")))


def to_markdown(
    rows: Rows, pairs: Rows, released: ReleasedFiles, resamples: int, gamma: float, kappa: float
) -> str:
    """Render audit.md.

    Args:
        rows: rows of auc.csv.
        pairs: rows of pairs.csv.
        released: the released files.
        resamples: number of bootstrap resamples behind the intervals.
        gamma, kappa: thresholds of `refers.audit.similarity.compare_files`.
    """
    means = [row for row in rows if row["class"] == MEAN]
    related = [pair for pair in pairs if pair["relation"] not in (FEW, NONE)]
    lines = [
        "# Audit of the released prediction files",
        "",
        f"Measured on {sum(len(each.files) for each in released.methods)} files of {len(released.methods)} cells and methods. "
        "AUC in percent. Full precision and every class: auc.csv; every pair of files: pairs.csv.",
        "",
        *_beside_printed(means),
        f"- {len(released.missing)} expected files are missing.",
        f"- {len(related)} of {len(pairs)} pairs of files for the same test images have one of the relations below.",
        "",
        "## Mean AUC and the printed number",
        "",
        f"Intervals: {resamples} bootstrap resamples. Whole patients are drawn if the labels of the files equal those of a "
        "released test list row for row and its image names contain the patient (`audit.patients` in the config), single "
        "images otherwise. Baseline: the complete method with the highest mean AUC of the cell, except the paper's own; "
        "differences from it are paired.",
        "",
        *_table(MEAN_TITLES, [_mean_cells(row) for row in means]),
        "",
        "## Positives and negatives",
        "",
        *_table(["Dataset", "Class", "Positives", "Negatives"], _label_counts(released)),
        "",
        "## Missing and unread files",
        "",
        *(_missing(released) or ["Every expected file exists."]),
        *(f"- not read, as it belongs to no cell and method: {path}" for path in released.unread),
        *(f"- read as {expected}: {path}" for path, expected in released.renamed),
        "",
        "## Pairs of files for the same test images",
        "",
        *_definitions(gamma, kappa),
        *_table(["Dataset", "Pairs", *RELATIONS], _relation_counts(pairs)),
        "",
        "Medians over all pairs:",
        "",
        *_table(["Dataset", *map(_title, MEASURES)], _medians(pairs)),
        "",
        "Pairs with a relation, one row per pair of folders; numbers are the minimum and the maximum over their classes:",
        "",
        *(_related(related, pairs) or ["None."]),
    ]
    return "\n".join(lines) + "\n"


def _definitions(gamma: float, kappa: float) -> list[str]:
    """What the measures and relations of pairs of files mean."""
    return [
        "Every two files of one class with the same labels in the same order are compared, whatever their names, among the "
        "positives and among the negatives. These measures say how files are related, not how they were made.",
        "",
        "- *Identical*: the share of images with equal scores. *Expected*: that share if one file's scores were shuffled within "
        "the label.",
        "- *Correlation*: Spearman's, within the label.",
        "- *Gamma* (Goodman and Kruskal's): of the pairs of images that are tied in neither file, the share in the same order "
        "minus the share in opposite order; *between*: pairs of a positive and a negative. 1 means an increasing map, however "
        "scores are rounded, -1 a decreasing one, and 0 no relation between the orders.",
        "",
        "The relation of a pair of files is the first of these that applies:",
        "",
        "- *identical*: all scores are equal.",
        "- *one monotone map*: all three gammas are 1, or all are -1.",
        "- *monotone map by label*: gamma is 1 or -1 among the positives and among the negatives, without one map for both.",
        f"- *nearly a monotone map by label*: the absolute value of both gammas is at least {gamma:g}, so that at most "
        f"{50 * (1 - gamma):.3g} % of the pairs of images that are tied in neither file depart from the map.",
        f"- *many identical scores*: among the positives or among the negatives, (identical - expected) / (1 - expected) is at "
        f"least {kappa:g}.",
        f"- *too few distinct scores*: the orders agree as above, but a file has fewer than {MIN_LEVELS} distinct scores within "
        "a label, so that they may agree by chance.",
        "",
    ]


def _beside_printed(means: Rows) -> list[str]:
    compared = [row for row in means if row["printed"]]
    if not compared:
        return []
    most = max(compared, key=lambda row: abs(row["minus_printed"]))
    rounds = sum(row["rounds_to_printed"] == "yes" for row in compared)
    return [
        f"- {rounds} of {len(compared)} mean AUCs round to the printed number; the largest difference is "
        f"{most['minus_printed']:+.2f} ({most['cell']}, {most['method']})."
    ]


def _mean_cells(row: dict[str, Any]) -> list[str]:
    if row["auc"] == "":
        return [row["cell"], row["method"], row["status"], *[""] * 7]
    mean = f"{row['auc']:.2f}" + ("" if row["status"] == "ok" else f" ({row['status']})")
    printed = [f"{row['minus_printed']:+.2f}", row["rounds_to_printed"]] if row["printed"] else ["", ""]
    return [
        row["cell"],
        row["method"],
        mean,
        _range(row["low"], row["high"]),
        f"{row['units']} {row['unit']}s",
        row["printed"],
        *printed,
        row["baseline"],
        f"{row['minus_baseline']:+.2f} ({_range(row['minus_baseline_low'], row['minus_baseline_high'])})"
        if row["baseline"]
        else "",
    ]


def _range(low: float | str, high: float | str) -> str:
    return "undefined" if low == "" else f"{low:.2f} to {high:.2f}"


def _label_counts(released: ReleasedFiles) -> list[list[str]]:
    counts = {
        (each.cell.dataset, name, int(labels.sum()), int((~labels).sum())): None
        for each in released.methods
        for name, labels in zip(each.files, each.labels.T, strict=True)
    }
    return [list(map(str, key)) for key in counts]


def _missing(released: ReleasedFiles) -> list[str]:
    """One line per cell that lacks all files of some methods, and one per folder that lacks some files."""
    folders: dict[str, list[str]] = defaultdict(list)
    classes = {}
    for cell, _, path in released.missing:
        folder, _, name = path.rpartition("/")
        folders[folder].append(name)
        classes[folder] = len(cell.classes)
    whole: dict[str, list[str]] = defaultdict(list)
    lines = []
    for folder, names in folders.items():
        if len(names) == classes[folder]:
            cell, _, name = folder.rpartition("/")
            whole[cell].append(name)
        else:
            lines.append(
                f"- missing: {folder}/{{{', '.join(names)}}}"
                if len(names) > 1
                else f"- missing: {folder}/{names[0]}"
            )
    return [f"- missing: all files in {cell}/ of {', '.join(names)}" for cell, names in whole.items()] + lines


def _by_dataset(pairs: Rows) -> dict[str, Rows]:
    found = defaultdict(list)
    for pair in pairs:
        found[pair["dataset"]].append(pair)
    return found


def _relation_counts(pairs: Rows) -> list[list[str]]:
    rows = []
    for dataset, group in _by_dataset(pairs).items():
        counts = Counter(pair["relation"] for pair in group)
        rows.append([dataset, str(len(group)), *(str(counts[name]) for name in RELATIONS)])
    return rows


def _medians(pairs: Rows) -> list[list[str]]:
    return [
        [dataset, *(_over(np.median, (pair[name] for pair in group)) for name in MEASURES)]
        for dataset, group in _by_dataset(pairs).items()
    ]


def _related(related: Rows, pairs: Rows) -> list[str]:
    """One row per pair of folders: the number of classes by relation, and the range of each measure."""
    compared = Counter(map(_folders, pairs))
    groups = defaultdict(list)
    for pair in related:
        groups[_folders(pair)].append(pair)
    rows = []
    for folders in filter(groups.__contains__, compared):
        group = groups[folders]
        relations = Counter(pair["relation"] for pair in group)
        of = f" of {compared[folders]} classes" if compared[folders] > 1 else ""
        shown = [f"{name} ({count}{of})" if of else name for name, count in relations.items()]
        identical = [
            f"{_span(group, f'identical_{label}')} ({_span(group, f'expected_{label}')})" for label in LABELS
        ]
        others = [_span(group, name) for name in OTHERS]
        rows.append([*folders, "; ".join(shown), *identical, *others])
    heads = [f"{_title(f'identical_{label}')} (expected)" for label in LABELS]
    return _table(["First", "Second", "Relation", *heads, *map(_title, OTHERS)], rows) if rows else []


def _folders(pair: dict[str, Any]) -> tuple[str, str]:
    return pair["first"].rpartition("/")[0], pair["second"].rpartition("/")[0]


def _span(group: Rows, name: str) -> str:
    low, high = (_over(function, (pair[name] for pair in group)) for function in (min, max))
    return low if low == high else f"{low} to {high}"


def _over(function, values: Iterable[float | None]) -> str:
    """A statistic of the values that are defined."""
    defined = [value for value in values if value is not None]
    if not defined:
        return "undefined"
    value = function(defined)
    # 1 and -1 have a meaning of their own: other values are not rounded to them.
    if 0.9995 <= abs(value) < 1 - 1e-12:
        return ">0.999" if value > 0 else "<-0.999"
    return f"{value:.3f}"


def _title(measure: str) -> str:
    return measure.replace("_", ", ").capitalize()


def _table(heads: list[str], rows: list[list[str]]) -> list[str]:
    lines = [heads, [":--"] * len(heads), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]
