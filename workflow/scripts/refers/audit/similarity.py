"""Similarity of the score files of one test set, label by label, regardless of where a file comes from."""

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np

from refers.evaluation.metrics import midranks

# With fewer distinct scores within a label, two orders may agree by chance.
MIN_LEVELS = 10
LABELS = ("positives", "negatives")
# Kinds of pairs of images: two positives, two negatives, one of each.
KINDS = (*LABELS, "between")
IDENTICAL, ONE_MAP, MAP_BY_LABEL = "identical", "one monotone map", "monotone map by label"
NEARLY, SHARED = "nearly a monotone map by label", "many identical scores"
FEW, NONE = "too few distinct scores", "none"
RELATIONS = (IDENTICAL, ONE_MAP, MAP_BY_LABEL, NEARLY, SHARED, FEW, NONE)


def compare_files(
    labels: np.ndarray, scores: np.ndarray, gamma: float, kappa: float
) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Compare every two score files of one test set, among its positives and among its negatives.

    Args:
        labels: (N,) bool.
        scores: (N, M), one column per file.
        gamma: smallest absolute value of Goodman and Kruskal's gamma at which two orders are nearly the same, in (0, 1].
        kappa: smallest Cohen's kappa of equal scores at which these are many, in (0, 1].

    Yields:
        (first, second, measures) with first < second. For each label: `identical`, the share of images with equal scores;
        `expected`, that share if one file's scores were shuffled among the label's images; `correlation`, Spearman's, None
        if a file is constant (all three None if the label does not occur). For each label, and for pairs of one positive
        and one negative, `gamma`: of the pairs of images that are tied in neither file, the share in the same order minus
        the share in opposite order, None without such a pair. It is 1 exactly where both files can be increasing maps
        of one score, however rounded, and -1 where one of the maps is decreasing. `relation` is one of RELATIONS; a map may
        increase on one label and decrease on the other.
    """
    masks = dict(zip(LABELS, (labels, ~labels), strict=True))
    codes = np.empty(scores.shape, np.int64)
    for place, column in enumerate(scores.T):
        codes[:, place] = np.unique(column, return_inverse=True)[1]
    shared, expected, ranked, levels = {}, {}, {}, {}
    for label, mask in masks.items():
        shared[label], expected[label] = _identical(scores[mask])
        ranked[label] = _rank_correlation(scores[mask])
        levels[label] = np.array([len(np.unique(column)) for column in codes[mask].T])
    inside = {label: codes[mask] for label, mask in masks.items()}
    for first, second in combinations(range(scores.shape[1]), 2):
        pair = [first, second]
        row: dict[str, Any] = {label: int(mask.sum()) for label, mask in masks.items()}
        for label in LABELS:
            for name, measure in (("identical", shared), ("expected", expected), ("correlation", ranked)):
                value = float(measure[label][first, second])
                row[f"{name}_{label}"] = None if np.isnan(value) else value
        orders = {label: _orders(*inside[label].T[pair]) for label in LABELS}
        # The remaining pairs of images have one image of each label.
        orders["between"] = _orders(*codes.T[pair]) - sum(orders.values())
        for kind in KINDS:
            net, untied = map(int, orders[kind])
            row[f"gamma_{kind}"] = net / untied if untied else None
        varied = {label: levels[label][pair].min() >= MIN_LEVELS for label in LABELS}
        same = (scores[:, first] == scores[:, second]).all()
        yield first, second, row | {"relation": IDENTICAL if same else _relation(row, varied, gamma, kappa)}


def _relation(row: dict[str, Any], varied: dict[str, bool], gamma: float, kappa: float) -> str:
    """The first of RELATIONS after IDENTICAL that the measures of a pair show."""
    found = [row[f"gamma_{label}"] for label in LABELS]
    alike = all(value is None or abs(value) >= gamma for value in found)
    if alike and all(varied.values()):
        if {row[f"gamma_{kind}"] for kind in KINDS} in ({1}, {-1}):
            return ONE_MAP
        return MAP_BY_LABEL if all(abs(value) == 1 for value in found) else NEARLY
    if any(varied[label] and _kappa(row, label) >= kappa for label in LABELS):
        return SHARED
    return FEW if alike else NONE


def _kappa(row: dict[str, Any], label: str) -> float:
    """Cohen's kappa of equal scores; both files must have several scores within this label."""
    return (row[f"identical_{label}"] - row[f"expected_{label}"]) / (1 - row[f"expected_{label}"])


def _identical(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shares of equal scores between the columns of (n, M): measured, and expected from the frequency of each score."""
    images, files = values.shape
    if not images:
        return np.full((files, files), np.nan), np.full((files, files), np.nan)
    shared = np.array([(values == column[:, None]).mean(axis=0) for column in values.T])
    levels, codes = np.unique(values, return_inverse=True)
    columns = codes.reshape(values.shape).T
    counts = np.stack([np.bincount(column, minlength=len(levels)) for column in columns])
    return shared, counts @ counts.T / images**2


def _rank_correlation(values: np.ndarray) -> np.ndarray:
    """Spearman's correlation between the columns of (n, M); NaN for a constant column."""
    ranks = midranks(values) - (len(values) + 1) / 2
    norms = np.sqrt((ranks**2).sum(axis=0))
    scale = np.divide(1, norms, out=np.full(len(norms), np.nan), where=norms > 0)
    return np.clip(ranks.T @ ranks * np.outer(scale, scale), -1, 1)


def _orders(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Number of pairs of images in the same minus those in opposite order, and of pairs tied in neither file.

    Args:
        first, second: (n,) integers from 0 in the order of a file's scores.
    """
    from scipy.stats import kendalltau

    pairs = len(first) * (len(first) - 1) // 2
    both = np.unique(first * (second.max(initial=0) + 1) + second, return_counts=True)[1]
    tied = [_pairs(np.bincount(codes)) for codes in (first, second)]
    untied = pairs - sum(tied) + _pairs(both)
    if not untied:
        return np.zeros(2, np.int64)
    # SciPy counts the pairs in n log n and returns Kendall's tau-b, whose numerator is an integer.
    tau = kendalltau(first, second).statistic
    return np.array([round(tau * np.sqrt(pairs - tied[0]) * np.sqrt(pairs - tied[1])), untied], np.int64)


def _pairs(counts: np.ndarray) -> int:
    return int((counts * (counts - 1) // 2).sum())
