"""Rows of the audit's tables: AUCs of the released files beside the printed ones, and measures of pairs of files.

The measures of pairs do not depend on the method: a file is a path, and its lines are in the order of the images.
"""

from collections import defaultdict
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from refers.audit.released import MethodScores, ReleasedFiles
from refers.audit.similarity import KINDS, LABELS, compare_files
from refers.evaluation.metrics import auc
from refers.evaluation.statistics import Bootstrap, interval

MEAN = "mean"
AUC_FIELDS = (
    "cell", "method", "class", "file", "status", "positives", "negatives", "distinct_scores", "auc", "low", "high",
    "unit", "units", "printed", "minus_printed", "rounds_to_printed", "baseline", "minus_baseline", "minus_baseline_low",
    "minus_baseline_high",
)  # fmt: skip
SHARES = tuple(f"{name}_{label}" for name in ("identical", "expected", "correlation") for label in LABELS)
GAMMAS = tuple(f"gamma_{kind}" for kind in KINDS)
PAIR_FIELDS = ("dataset", "class", "first", "second", *LABELS, *SHARES, *GAMMAS, "relation")


# ---- AUCs


def auc_rows(
    released: ReleasedFiles, printed: dict[tuple[str, str], str], reference: str, resamples: int, seed: int
) -> list[dict[str, Any]]:
    """Rows of auc.csv (`AUC_FIELDS`), in percent: every class and then their mean, for every cell and method.

    Intervals are percentiles of a bootstrap over patients if they are known, otherwise over images; `unit` and `units` say
    which and how many. The baseline of a cell is the complete method with the highest mean AUC other than the reference;
    differences from it are paired.

    Args:
        released: the released files.
        printed: the paper's number by (method, cell).
        reference: the method that the paper compares with the others.
        resamples, seed: settings of the bootstrap.
    """
    rows, cells = [], defaultdict(list)
    for scored in released.methods:
        cells[scored.cell].append(scored)
    for cell, group in cells.items():
        values = [100 * auc(each.labels, each.scores) for each in group]
        drawn, samples = [], []
        for each in group:
            units = np.arange(len(each.labels)) if each.patients is None else each.patients
            drawn.append(Bootstrap([units], resamples, seed))
            samples.append(100 * drawn[-1].auc([each.labels], [each.scores])[0])
        means = [
            np.nanmean(each) if not np.isnan(each).all() and not one.missing else np.nan
            for one, each in zip(group, values, strict=True)
        ]
        known = (place for place, mean in enumerate(means) if not np.isnan(mean))
        others = (place for place in known if group[place].method != reference)
        best = max(others, key=lambda place: means[place], default=None)
        for place, each in enumerate(group):
            about = {"cell": str(cell), "method": each.method}
            about |= {key: drawn[place].about[key] for key in ("unit", "units")}
            against, note = None, ""
            if best not in (None, place) and not each.missing:
                if np.array_equal(each.labels, group[best].labels):
                    about["baseline"], against = group[best].method, (values[best], samples[best])
                else:
                    note = f"; labels differ from those of {group[best].method}"
            rows += _class_rows(each, about, values[place], samples[place], against)
            row = _mean_row(each, about, values[place], samples[place], against, printed)
            rows.append(row | {"status": row["status"] + note})
    for cell, method, path in released.missing:
        about = {"cell": str(cell), "method": method, "file": path, "class": PurePosixPath(path).stem}
        rows.append(dict.fromkeys(AUC_FIELDS, "") | about | {"status": "missing"})
    return rows


def _class_rows(
    each: MethodScores, about: dict, values: np.ndarray, samples: np.ndarray, against
) -> list[dict]:
    rows = []
    for place, (name, path) in enumerate(each.files.items()):
        one = slice(place, place + 1)
        row = dict.fromkeys(AUC_FIELDS, "") | about | {"class": name, "file": path}
        row["positives"] = int(each.labels[:, place].sum())
        row["negatives"] = len(each.labels) - row["positives"]
        row["distinct_scores"] = len(np.unique(each.scores[:, place]))
        row["status"] = "undefined: one label only" if np.isnan(values[place]) else "ok"
        baseline = against and [part[..., one] for part in against]
        rows.append(row | _measured(values[one], samples[:, one], baseline))
    return rows


def _mean_row(
    each: MethodScores, about: dict, values: np.ndarray, samples: np.ndarray, against, printed: dict
) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(AUC_FIELDS, "") | about | {"class": MEAN, "file": each.folder}
    defined = ~np.isnan(values)
    undefined = [name for name, good in zip(each.files, defined, strict=True) if not good]
    if each.missing or not defined.any():
        what = "missing" if each.missing else "undefined"
        return row | {"status": f"{what}: {', '.join(each.missing or undefined)}"}
    row["status"] = f"undefined: {', '.join(undefined)}" if undefined else "ok"
    baseline = against and [part[..., defined] for part in against]
    row |= _measured(values[defined], samples[:, defined], baseline)
    if text := printed.get((each.method, str(each.cell))):
        decimals = len(text.partition(".")[2])
        row |= {"printed": text, "minus_printed": row["auc"] - float(text)}
        row["rounds_to_printed"] = "yes" if f"{row['auc']:.{decimals}f}" == text else "no"
    return row


def _measured(values: np.ndarray, samples: np.ndarray, against) -> dict[str, Any]:
    """AUC, interval and difference from `against`, averaged over the given classes; undefined ones are left out."""
    found = {}
    mean, drawn = values.mean(), samples.mean(axis=1)
    if not np.isnan(mean):
        found["auc"] = float(mean)
        found["low"], found["high"] = interval(drawn) or ("", "")
        if against:
            found["minus_baseline"] = float(mean - against[0].mean())
            low, high = interval(drawn - against[1].mean(axis=1)) or ("", "")
            found["minus_baseline_low"], found["minus_baseline_high"] = low, high
    return found


# ---- pairs of files


def pair_rows(released: ReleasedFiles, gamma: float, kappa: float) -> list[dict[str, Any]]:
    """Rows of pairs.csv (`PAIR_FIELDS`): every two files of one class with the same labels in the same order.

    gamma, kappa: see `refers.audit.similarity.compare_files`.
    """
    groups: dict[tuple[str, str, bytes], list[tuple[str, np.ndarray, np.ndarray]]] = defaultdict(list)
    for each in released.methods:
        for place, (name, path) in enumerate(each.files.items()):
            labels = each.labels[:, place]
            key = each.cell.dataset, name, np.packbits(labels).tobytes() + len(labels).to_bytes(8, "big")
            groups[key].append((path, labels, each.scores[:, place]))
    rows = []
    for (dataset, name, _), files in groups.items():
        labels, scores = files[0][1], np.column_stack([scores for _, _, scores in files])
        for first, second, measured in compare_files(labels, scores, gamma, kappa):
            about = {"dataset": dataset, "class": name, "first": files[first][0], "second": files[second][0]}
            rows.append(about | measured)
    return rows
