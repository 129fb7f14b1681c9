"""Measures of predictions beside the AUC: average precision, Brier score, calibration error, sensitivity; no torch.

Each is of one class against the rest, whose score is taken as its probability, and they are averaged over classes and runs
as the AUC is: over the classes that have both labels in the test set of every split. With labels y and scores s of N images,
P of them positive:

- average_precision: sum over the distinct scores t of (R(t) - R(t+)) P(t), where P(t) and R(t) are precision and recall of
  "s >= t" and t+ is the next higher score. Nothing is interpolated; images of equal score count together.
- brier: mean of (s - y)^2 (Brier, Monthly Weather Review 1950, for the positive label).
- calibration_error: sum over B bins of equal width of n_b / N |mean of y - mean of s|, of the n_b images whose score is in the
  bin (Naeini et al., AAAI 2015, on the probability of the class). A score on an edge is in the upper bin, 1 in the last.
- sensitivity: the largest share of positives with "s >= t" over the thresholds t at which the specificity, the share of
  negatives with "s < t", is at least the one asked for. It is a point of the test set's ROC curve: the threshold is of these
  images and is carried nowhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from refers.evaluation.metrics import is_present, narrowed, segments, selection
from refers.evaluation.predictions import SplitPredictions
from refers.evaluation.statistics import (
    Bootstrap,
    count_undefined,
    distinct_labels,
    interval,
    listed,
    spread,
    standard_error,
)
from refers.measure_names import MEASURES


@dataclass(frozen=True)
class Settings:
    """bins: of the calibration error; specificity: in percent, at which the sensitivity is taken."""

    bins: int
    specificity: float


class ResampledMeasures:
    """MEASURES of every class on many resamples of the same images, which are sorted only once.

    Args:
        labels: (N, C), 1 present and 0 absent.
        scores: (N, C), in [0, 1].
        settings: bins and specificity.

    Raises:
        UserError: as `refers.evaluation.metrics.auc`.
    """

    def __init__(self, labels: np.ndarray, scores: np.ndarray, settings: Settings) -> None:
        present, scores = is_present(labels, scores), np.asarray(scores, np.float64)
        self._images, self._settings = len(present), settings
        self._curves = [segments(*each) for each in zip(present.T, scores.T, strict=True)]
        self._excess = present - scores
        self._bins = bin_of(scores, settings.bins)

    def __call__(self, counts: np.ndarray) -> np.ndarray:
        """Measures of resamples.

        Args:
            counts: (N, R) integers, how often each resample contains each image.

        Returns:
            (R, C, 4) float64 in the order of MEASURES; NaN where a resample contains a single label of a class.
        """
        counts, totals = narrowed(counts)
        weights = counts.astype(np.float64)
        found = np.full((counts.shape[1], len(self._curves), len(MEASURES)), np.nan)
        brier = (self._excess.T**2 @ weights) / np.maximum(totals, 1)
        for place, (rare, common) in enumerate(self._curves):
            rare, common = (selection(part, self._images, counts.dtype) @ counts for part in (rare, common))
            positives = rare.sum(axis=0, dtype=np.int64)
            both = (positives > 0) & (positives < totals)
            values = (
                *self._of_curve(rare, common, positives, totals - positives),
                brier[place],
                self._calibration_error(place, weights, totals),
            )
            order = ("average_precision", "sensitivity", "brier", "calibration_error")
            for name, value in zip(order, values, strict=True):
                found[both, place, MEASURES.index(name)] = value[both]
        return found

    def _of_curve(
        self, rare: np.ndarray, common: np.ndarray, positives: np.ndarray, negatives: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Average precision and sensitivity, (R,) each, of the images in each segment of the sorted scores.

        Only the scores of positives are thresholds at which the recall changes.
        """
        true = _from_above(rare)
        false = _from_above(common)[1::2]
        precision = np.divide(true, true + false, out=np.zeros(true.shape), where=true > 0)
        some = np.maximum(positives, 1)
        # whole numbers on both sides, so that a specificity that is just reached counts
        reached = 100 * (negatives - false) >= self._settings.specificity * negatives
        return (rare * precision).sum(axis=0) / some, np.where(reached, true, 0).max(axis=0, initial=0) / some

    def _calibration_error(self, place: int, weights: np.ndarray, totals: np.ndarray) -> np.ndarray:
        """Calibration error (R,) of a class: n_b times the difference of two means is a difference of two sums."""
        from scipy.sparse import csr_array

        rows, images = self._bins[:, place], np.arange(self._images)
        shape = (self._settings.bins, self._images)
        sums = csr_array((self._excess[:, place], (rows, images)), shape=shape) @ weights
        return np.abs(sums).sum(axis=0) / np.maximum(totals, 1)


def _from_above(parts: np.ndarray) -> np.ndarray:
    """Sums over each row of (K, R) and all rows below it, which have the higher scores."""
    return np.cumsum(parts[::-1], axis=0, dtype=np.int64)[::-1]


def bin_of(scores: np.ndarray, bins: int) -> np.ndarray:
    """Number of the bin of each score in [0, 1], from 0."""
    return np.minimum((scores * bins).astype(np.int64), bins - 1)


def measure(labels: np.ndarray, scores: np.ndarray, settings: Settings) -> np.ndarray:
    """MEASURES of every class, (C, 4); NaN for a class with a single label. Arguments as for `ResampledMeasures`."""
    return ResampledMeasures(labels, scores, settings)(np.ones((len(labels), 1), np.int64))[0]


def reliability(labels: np.ndarray, scores: np.ndarray, bins: int) -> dict[str, list]:
    """Points of the reliability curve of one class (N,): per bin images, mean score and share of positives; None where empty."""
    place = bin_of(np.asarray(scores, np.float64), bins)
    images = np.bincount(place, minlength=bins)
    sums = (np.bincount(place, weights=each, minlength=bins) for each in (scores, labels))
    means = [listed(np.divide(each, images, out=np.full(bins, np.nan), where=images > 0)) for each in sums]
    return {"images": images.tolist(), "mean_score": means[0], "positive": means[1]}


def summarise_measures(
    sets: Sequence[SplitPredictions], classes: list[str], settings: Settings, bootstrap: Bootstrap
) -> dict[str, Any]:
    """The measures of a cell, with the resamples of its AUC.

    Args:
        sets: the test set of every split, with the same number of seeds in each.
        classes: C names.
        bootstrap: resamples of these images.

    Returns:
        images; undefined classes, which have a single label in the test set of a split; bootstrap: its settings; measures:
        by name `values` per run, `spread` of them, se (`standard_error`), interval, undefined_resamples and per_class, which
        has the same but for se; per_class: positives, negatives, and reliability per run.
    """

    def kind(labels: np.ndarray, scores: np.ndarray) -> ResampledMeasures:
        return ResampledMeasures(labels, scores, settings)

    # (S, n, C, 4) and (R, S, n, C, 4)
    values = np.stack([[measure(each.labels, one, settings) for one in each.scores] for each in sets])
    drawn = bootstrap.measure_runs(kind, sets)
    defined = np.asarray(~np.isnan(values).any(axis=(0, 1, 3)))
    labels = distinct_labels(sets)
    found: dict[str, Any] = {
        "images": len(labels),
        "undefined": [name for name, there in zip(classes, defined, strict=True) if not there],
        "bootstrap": bootstrap.about,
        "measures": {},
        "per_class": {},
    }
    for place, name in enumerate(classes):
        positives = int(labels[:, place].sum())
        curves = [
            reliability(each.labels[:, place], one[:, place], settings.bins)
            for each in sets
            for one in each.scores
        ]
        counts = {"positives": positives, "negatives": len(labels) - positives}
        found["per_class"][name] = counts | {"reliability": curves}
    for place, name in enumerate(MEASURES):
        one, resampled = values[..., place], drawn[..., place]
        means, over = averaged(one, defined), averaged(resampled, defined)
        about = of_runs(means, over) | {"se": standard_error(means, over, bootstrap.about["units"])}
        of_classes = {
            each: of_runs(
                one[..., column] if defined[column] else np.full(means.shape, np.nan), resampled[..., column]
            )
            for column, each in enumerate(classes)
        }
        found["measures"][name] = about | {"per_class": of_classes}
    return found


def averaged(values: np.ndarray, defined: np.ndarray) -> np.ndarray:
    """Values (..., C) averaged over the `defined` (C,) classes; NaN where one is undefined, and where there are none."""
    return values[..., defined].mean(axis=-1) if defined.any() else np.full(values.shape[:-1], np.nan)


def of_runs(values: np.ndarray, drawn: np.ndarray) -> dict[str, Any]:
    """Values (S, n) per run with their spread, and the interval of their mean over resamples (R, S, n) of the images."""
    over_runs = drawn.mean(axis=(1, 2))
    about = {"interval": interval(over_runs), "undefined_resamples": count_undefined(over_runs)}
    return {"values": listed(values), **spread(values), **about}
