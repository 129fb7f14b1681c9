"""How alike score files of one test set are, label by label; blind to where a file comes from."""

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np

from refers.metrics import midranks

MIN_LEVELS = (
    10  # distinct scores of a label below which two orders may agree by chance: 1 in 10! from here on
)
IDENTICAL, ONE_MAP, MAP_BY_LABEL = "identical", "one monotone map", "monotone map by label"
FEW, NONE = "too few distinct scores", "none"
RELATIONS = (IDENTICAL, ONE_MAP, MAP_BY_LABEL, FEW, NONE)


def compare_files(labels: np.ndarray, scores: np.ndarray) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """How alike any two score files of one test set are, among its positives and among its negatives.

    Args:
        labels: (N,) bool.
        scores: (N, M), a column a file.

    Yields:
        (first, second, measures) with first < second. For either label: `identical`, the share of images with equal
        scores; `expected`, that share if one file's scores were shuffled among the label's images; `correlation`,
        Spearman's, None where a file is constant (all three None where the label does not occur); `monotone`, whether no two images are in opposite order, so that both
        files can be monotone maps of one score, however rounded. `monotone` without a label asks it of all images.
        `relation` is one of RELATIONS.
    """
    halves = {"positives": scores[labels], "negatives": scores[~labels]}
    sizes = {half: len(values) for half, values in halves.items()}
    shared, expected, ranked, ordered = {}, {}, {}, {}
    for half, values in halves.items():
        shared[half], expected[half] = _identical(values)
        ranked[half], ordered[half] = _rank_correlation(values), _same_order(values)
    everywhere = _same_order(scores)
    levels = np.array([[len(np.unique(column)) for column in values.T] for values in halves.values()]).min(
        axis=0
    )
    for first, second in combinations(range(scores.shape[1]), 2):
        pair = first, second
        row: dict[str, Any] = dict(sizes)
        for half in halves:
            for name, measure in (("identical", shared), ("expected", expected), ("correlation", ranked)):
                value = float(measure[half][pair])
                row[f"{name}_{half}"] = None if np.isnan(value) else value
            row[f"monotone_{half}"] = bool(ordered[half][pair])
        row["monotone"] = bool(everywhere[pair])
        if (scores[:, first] == scores[:, second]).all():
            relation = IDENTICAL
        elif not (row["monotone_positives"] and row["monotone_negatives"]):
            relation = NONE
        elif min(levels[first], levels[second]) < MIN_LEVELS:
            relation = FEW
        else:
            relation = ONE_MAP if row["monotone"] else MAP_BY_LABEL
        yield first, second, row | {"relation": relation}


def _identical(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shares of equal scores between the columns of (n, M), measured and expected from how often each score occurs."""
    images, files = values.shape
    if not images:
        return np.full((2, files, files), np.nan)
    shared = np.array([(values == column[:, None]).mean(axis=0) for column in values.T])
    levels, codes = np.unique(values, return_inverse=True)
    counts = np.stack(
        [np.bincount(column, minlength=len(levels)) for column in codes.reshape(values.shape).T]
    )
    return shared, counts @ counts.T / images**2


def _rank_correlation(values: np.ndarray) -> np.ndarray:
    """Spearman's correlation between the columns of (n, M); NaN for a constant column."""
    ranks = midranks(values) - (len(values) + 1) / 2
    norms = np.sqrt((ranks**2).sum(axis=0))
    scale = np.divide(1, norms, out=np.full(len(norms), np.nan), where=norms > 0)
    return np.clip(ranks.T @ ranks * np.outer(scale, scale), -1, 1)


def _same_order(values: np.ndarray) -> np.ndarray:
    """(M, M) bool: no two rows of (n, M) are in strictly opposite order in the two columns."""
    found = np.ones((values.shape[1], values.shape[1]), bool)
    if not len(values):
        return found
    for place, column in enumerate(values.T):
        order = np.argsort(column)
        starts = np.flatnonzero(np.diff(column[order], prepend=-np.inf))
        others = values[order, place + 1 :]
        highest = np.maximum.accumulate(np.maximum.reduceat(others, starts, axis=0), axis=0)
        lowest = np.minimum.reduceat(others, starts, axis=0)
        found[place, place + 1 :] = (lowest[1:] >= highest[:-1]).all(axis=0)
    return found & found.T
