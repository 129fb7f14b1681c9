"""Simultaneous intervals of comparisons between cells, by other test images, seeds and splits: what claims are judged with.

AUCs are in percent, so that a difference is in points.
"""

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from refers.evaluation.statistics import LEVEL


@dataclass(frozen=True)
class Sample:
    """How an AUC, averaged over its runs, would vary.

    images: (R,) deviations over the resamples of the test images; row i of every cell of a dataset has the same patients.
    seeds: (R,) deviations over other seeds, normal, of the variance of the mean over runs; one draw for all classes.
    by_split: (S,) AUC of every split, averaged over its seeds.
    df: degrees of freedom of the variance over seeds, S (n - 1) for n seeds a split.
    patients: number that was resampled.
    """

    images: np.ndarray
    seeds: np.ndarray
    by_split: np.ndarray
    df: int
    patients: int


def sample(
    cell: Mapping[str, Any], resamples: Mapping[str, np.ndarray], name: str, undefined: float
) -> Sample | str:
    """The sample of one AUC of a cell, or the reason why it has none.

    Args:
        cell: content of auc.json, with runs in the order of `splits` and `seeds`.
        resamples: columns of resamples.parquet, (R,) each.
        name: a class, or "mean".
        undefined: largest share of resamples in which the AUC may be undefined; they are left out.
    """
    test = cell["test"]
    values = test["mean_auc"] if name == "mean" else test["per_class"][name]["auc"]
    if None in values:
        return "undefined: the test set holds one label only"
    splits = np.unique(cell.get("splits", [0] * len(values)), return_inverse=True)[1]
    runs = 100 * np.stack([np.array(values, float)[splits == each] for each in range(splits.max() + 1)])
    count, seeds = runs.shape
    if count * seeds == 1:
        return "one run does not show how runs differ"
    patients = int(test["bootstrap"]["units"])
    if patients < 2:
        return "undefined: the test set has one patient only"
    drawn = 100 * np.asarray(resamples[name], float)
    if (lost := int(np.isnan(drawn).sum())) > undefined * len(drawn):
        return f"undefined: {lost:,} of {len(drawn):,} resamples leave a class with one label only"
    # Other seeds are drawn once for a cell, so that its classes vary together.
    about = zlib.crc32("/".join(str(cell[key]) for key in ("method", "dataset", "ratio")).encode())
    weights = np.random.default_rng(about).standard_normal((len(drawn), count * seeds))
    apart = (runs - runs.mean(axis=1, keepdims=True)).ravel()
    scale = np.sqrt(runs.size * max(1, count * (seeds - 1)))
    deviations = drawn - np.nanmean(drawn)
    return Sample(deviations, weights @ apart / scale, runs.mean(axis=1), count * (seeds - 1), patients)


@dataclass(frozen=True)
class Estimate:
    """A compared quantity: draws (R,) of what other images and seeds would give, its standard error and its df.

    limits: the values that it may have.
    """

    value: float
    draws: np.ndarray
    se: float
    df: float
    limits: tuple[float, float] = (-np.inf, np.inf)


def estimate(
    compute: Callable[[np.ndarray], Any], values: Sequence[float], samples: Sequence[Sample], terms: int
) -> Estimate:
    """A function of N AUCs, such as a difference, with its standard error.

    The variance over images is that of the paired resamples, the one over seeds the sum of the cells'. Where a dataset is
    split several times the splits' own values, paired as they are, may differ by more than both: then their variance is
    taken (the method of moments for a variance between splits that is not below zero). Degrees of freedom: Satterthwaite,
    Biometrics Bulletin 1946.

    Args:
        compute: (N, ...) -> (...).
        values, samples: N each.
        terms: number of AUCs that enter the result, each with the variance of its own seeds.
    """
    points = np.array(values, float)[:, None]
    images, seeds = (np.stack([getattr(each, part) for each in samples]) for part in ("images", "seeds"))
    draws = compute(points + images + seeds)
    over_images, over_seeds = (float(np.nanvar(compute(points + part), ddof=1)) for part in (images, seeds))
    # A dataset that is split once has the same value in every split of another one.
    count = min((len(each.by_split) for each in samples if len(each.by_split) > 1), default=1)
    by_split = np.stack([np.resize(each.by_split, count) for each in samples])
    over_splits = float(np.var(compute(by_split), ddof=1)) / count if count > 1 else 0.0
    several = np.array([len(each.by_split) > 1 for each in samples])[:, None]
    shown = sum(float(np.nanvar(compute(points + several * part), ddof=1)) for part in (images, seeds))
    parts = [
        (over_images, min(each.patients for each in samples) - 1),
        (over_seeds, terms * min(each.df for each in samples)),
        (max(0.0, over_splits - shown), count - 1),
    ]
    total = sum(variance for variance, _ in parts)
    spread = sum(variance**2 / df for variance, df in parts if variance)
    return Estimate(
        float(compute(points)[0]), draws, float(np.sqrt(total)), total**2 / spread if spread else 1.0
    )


def hit_rate(hits: np.ndarray, images: np.ndarray, resamples: int) -> Estimate:
    """Percentage of findings that are hits, over resamples of the images that they are on.

    Two images more, one with a hit and one with a miss, are resampled too, so that a few findings that are all alike do
    not pass for certain (Agresti and Coull, The American Statistician 1998).

    Args:
        hits: (N,) of bool. images: (N,) image of each, any values.
    """
    names, place = np.unique(images, return_inverse=True)
    counts = np.append(np.bincount(place), [1, 1])
    found = np.append(np.bincount(place, weights=hits), [1, 0])
    size = len(counts)
    drawn = np.random.default_rng(0).multinomial(size, np.full(size, 1 / size), resamples)
    draws = 100 * (drawn @ found) / (drawn @ counts)
    return Estimate(100 * float(hits.mean()), draws, float(draws.std(ddof=1)), len(names) + 1, (0, 100))


def simultaneous(estimates: Sequence[Estimate]) -> list[tuple[float, float]]:
    """Intervals that cover all K quantities at once with probability LEVEL.

    The largest standardised deviation over the K quantities has its LEVEL quantile at c in the joint draws (Westfall and
    Young 1993, chapter 2). An interval reaches as far as the quantile of Student's t, with the estimate's own degrees of
    freedom, at the level that c has in a normal distribution. One quantity alone has its usual interval.
    """
    from scipy.special import ndtr, stdtrit

    if not estimates:
        return []
    size = min(len(each.draws) for each in estimates)
    draws = np.stack([each.draws[:size] for each in estimates])
    apart = draws - np.nanmean(draws, axis=1, keepdims=True)
    spread = np.nanstd(draws, axis=1, ddof=1, keepdims=True)
    scaled = np.abs(np.divide(apart, spread, out=np.zeros_like(apart), where=spread > 0))
    largest = np.nan_to_num(scaled).max(axis=0)
    level = ndtr(np.quantile(largest, LEVEL))
    reaches = [float(stdtrit(each.df, level)) * each.se for each in estimates]
    return [
        (max(each.value - reach, each.limits[0]), min(each.value + reach, each.limits[1]))
        for each, reach in zip(estimates, reaches, strict=True)
    ]
