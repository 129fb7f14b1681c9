"""Summaries of a cell over seeds, tests between two methods (paper §4, "statistical significance"), and the bootstrap."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from refers.evaluation.metrics import ResampledAuc, auc, outranked

LEVEL = 0.95  # confidence level of every interval
# Resamples at a time: their counts of 20,000 images fit into a processor's last-level cache.
BLOCK = 250


class Bootstrap:
    """Resamples of a test set, drawn with replacement; the same for every class, seed and method.

    Whole patients are drawn, since images of one patient are not independent. This measures the variance that is due to
    the test set; the seeds show the variance of training.

    Args:
        patients: (N,) patient of every image, any values.
        resamples: number of resamples.
        seed: seed of the draws.
    """

    def __init__(self, patients: np.ndarray, resamples: int, seed: int) -> None:
        names, self._patient = np.unique(patients, return_inverse=True)
        self._units, self._resamples, self._seed = len(names), resamples, seed
        unit = "patient" if self._units < len(patients) else "image"
        about = {"level": LEVEL, "resamples": resamples, "seed": seed}
        self.about: dict[str, Any] = {**about, "unit": unit, "units": self._units}

    def counts(self) -> Iterator[np.ndarray]:
        """How often each resample contains each image, (N, up to BLOCK) uint16 at a time."""
        rng = np.random.default_rng(self._seed)
        for start in range(0, self._resamples, BLOCK):
            drawn = [
                np.bincount(rng.integers(0, self._units, self._units), minlength=self._units)
                for _ in range(min(BLOCK, self._resamples - start))
            ]
            yield np.stack(drawn, axis=1).astype(np.uint16)[self._patient]

    def auc(self, labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """AUC of every resample and class, (R, C), for labels and scores (N, C); NaN where a single label was drawn."""
        resampled = ResampledAuc(labels, scores)
        return np.concatenate([resampled(counts) for counts in self.counts()])


def interval(samples: np.ndarray) -> list[float] | None:
    """Percentile interval of the defined ones among resampled values (R,); None if there are none."""
    samples = samples[~np.isnan(samples)]
    if not len(samples):
        return None
    return np.percentile(samples, [50 * (1 - LEVEL), 50 * (1 + LEVEL)]).tolist()


def mean_sd(values: list[float | None]) -> tuple[float | None, float | None]:
    """Mean and sample standard deviation (ddof 1) over seeds; None where undefined."""
    defined = [value for value in values if value is not None]
    if not defined or len(defined) < len(values):
        return None, None
    return float(np.mean(defined)), float(np.std(defined, ddof=1)) if len(defined) > 1 else None


def summarise(
    labels: np.ndarray, scores: list[np.ndarray], classes: list[str], bootstrap: Bootstrap | None = None
) -> dict[str, Any]:
    """One set ("test" or "validation") of auc.json.

    Args:
        labels: (N, C) of 0 and 1, the same for every seed.
        scores: one (N, C) per seed.
        classes: C names.
        bootstrap: adds intervals, and DeLong's standard errors as a check of them.

    Returns:
        images, mean_auc per seed over the defined classes, mean, sd, undefined classes, per_class. With a bootstrap
        also `bootstrap`: its settings, the number of resamples in which a class lost a label (they are left out), and
        intervals of mean_auc per seed and of mean; and per class an interval, the number of resamples left out, and
        delong_se of the mean over seeds.
    """
    values = np.stack([auc(labels, each) for each in scores])  # (seeds, C)
    defined = ~np.isnan(values[0])
    means = values[:, defined].mean(axis=1).tolist() if defined.any() else [None] * len(scores)
    positives = (labels == 1).sum(axis=0)
    per_class = {}
    for place, name in enumerate(classes):
        each = values[:, place].tolist() if defined[place] else [None] * len(scores)
        mean, sd = mean_sd(each)
        per_class[name] = {
            "auc": each,
            "mean": mean,
            "sd": sd,
            "positives": int(positives[place]),
            "negatives": int(len(labels) - positives[place]),
        }
    mean, sd = mean_sd(means)
    drawn = {}
    if bootstrap:
        samples = _over_seeds(bootstrap, labels, scores)  # (R, seeds, C)
        each = samples[:, :, defined].mean(axis=2) if defined.any() else samples[:, :, 0]
        drawn["bootstrap"] = bootstrap.about | {
            "undefined_resamples": _undefined(each[:, 0]),
            "mean_auc": [interval(column) for column in each.T],
            "mean": interval(each.mean(axis=1)),
        }
        _, variance = delong(labels, scores)
        for place, name in enumerate(classes):
            per_class[name]["interval"] = interval(samples[:, :, place].mean(axis=1))
            per_class[name]["undefined_resamples"] = _undefined(samples[:, 0, place])
            per_class[name]["delong_se"] = _or_none(np.sqrt(variance[place]))
    return {
        "images": len(labels),
        "mean_auc": means,
        "mean": mean,
        "sd": sd,
        "undefined": [name for name, there in zip(classes, defined, strict=True) if not there],
        "per_class": per_class,
    } | drawn


def _over_seeds(bootstrap: Bootstrap, labels: np.ndarray, scores: Sequence[np.ndarray]) -> np.ndarray:
    """Resampled AUCs (R, seeds, C)."""
    samples = bootstrap.auc(np.tile(labels, (1, len(scores))), np.hstack(scores))
    return samples.reshape(len(samples), len(scores), labels.shape[1])


def _undefined(samples: np.ndarray) -> int:
    """Number of undefined values among resampled ones (R,), where a class lost a label."""
    return int(np.isnan(samples).sum())


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def compare(reference: list[float | None], baseline: list[float | None]) -> dict[str, Any]:
    """Two-sided t-tests for independent samples, on per-seed AUCs averaged over classes.

    `student` assumes equal variances, as the paper's test does; `welch` does not.

    Returns:
        difference of the means, student and welch as {"t", "p", "df"}, and undefined: None or the reason why there
        is no test (every t, p and df is then None).
    """
    nothing = {"t": None, "p": None, "df": None}
    result = {"difference": None, "student": dict(nothing), "welch": dict(nothing), "undefined": None}
    if None in reference or None in baseline:
        side = "reference" if None in reference else "baseline"
        return result | {"undefined": f"the mean AUC of the {side} is undefined"}
    if not reference or not baseline:
        return result | {"undefined": "there are no seeds"}
    first, second = np.asarray(reference, np.float64), np.asarray(baseline, np.float64)
    difference = float(first.mean() - second.mean())
    result["difference"] = difference
    sizes = np.array([len(first), len(second)])
    if sizes.min() < 2:
        reason = f"a variance needs at least two seeds; the reference has {sizes[0]}, the baseline {sizes[1]}"
        return result | {"undefined": reason}
    # The averages of equal seeds may differ in the last bit, which is not a variance to divide by.
    if max(np.ptp(first), np.ptp(second)) < 1e-12:
        return result | {"undefined": "zero variance: every seed of both methods has the same AUC"}
    variances = np.array([first.var(ddof=1), second.var(ddof=1)])
    freedom = float(sizes.sum() - 2)
    pooled = ((sizes - 1) * variances).sum() / freedom
    result["student"] = _two_sided(difference, pooled * (1 / sizes).sum(), freedom)
    parts = variances / sizes
    freedom = float(parts.sum() ** 2 / (parts**2 / (sizes - 1)).sum())
    result["welch"] = _two_sided(difference, parts.sum(), freedom)
    return result


def _two_sided(difference: float, variance: float, df: float) -> dict[str, float]:
    from scipy.special import stdtr

    t = float(difference / np.sqrt(variance))
    return {"t": t, "p": float(2 * stdtr(df, -abs(t))), "df": df}


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment of a family of p-values, in the given order.

    An undefined test (None or NaN) stays None and does not count as a member of the family.
    """
    values = np.array([np.nan if p is None else p for p in p_values], np.float64)
    order = np.argsort(values)[: np.count_nonzero(~np.isnan(values))]  # NaN sorts last
    steps = values[order] * np.arange(len(order), 0, -1)
    values[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return [_or_none(value) for value in values]


def delong(
    labels: np.ndarray, scores: Sequence[np.ndarray], baseline: Sequence[np.ndarray] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """AUC averaged over seeds, minus the baseline's if there is one, and DeLong's variance over test images.

    DeLong, DeLong and Clarke-Pearson, Biometrics 1988. The placement values of an average of AUCs are the average of their
    placement values, so that averaging over seeds is exact.

    Args:
        labels: (N, C) of 0 and 1.
        scores: one (N, C) per seed.
        baseline: one (N, C) per seed, of the same images.

    Returns:
        value and variance, (C,) each; NaN for a class with a single label, and the variance also where a label occurs
        only once.
    """
    present = labels == 1
    places = sum((outranked(labels, each) for each in scores), np.zeros(labels.shape)) / len(scores)
    if baseline:
        places = places - sum(outranked(labels, each) for each in baseline) / len(baseline)
    value, variance = np.full((2, labels.shape[1]), np.nan)
    for column, (mask, place) in enumerate(zip(present.T, places.T, strict=True)):
        positives, negatives = int(mask.sum()), int((~mask).sum())
        if min(positives, negatives) == 0:
            continue
        of_positives, of_negatives = place[mask] / negatives, place[~mask] / positives
        value[column] = of_positives.mean()
        if min(positives, negatives) >= 2:
            variance[column] = of_positives.var(ddof=1) / positives + of_negatives.var(ddof=1) / negatives
    return value, variance


def compare_paired(
    labels: np.ndarray,
    reference: list[np.ndarray],
    baseline: list[np.ndarray],
    classes: list[str],
    bootstrap: Bootstrap,
) -> dict[str, Any]:
    """Paired comparison of two methods on the same test images, with AUCs averaged over seeds.

    Args:
        labels: (N, C) of 0 and 1.
        reference, baseline: one (N, C) per seed.
        classes: C names.
        bootstrap: resamples of these N images.

    Returns:
        `bootstrap`: its settings, the number of resamples in which a class lost a label (they are left out), the interval
        of the difference of the mean AUCs and its two-sided p. `per_class`: difference, interval, the number of resamples
        left out, and DeLong's z and p.
    """
    from scipy.special import ndtr

    first, second = (_over_seeds(bootstrap, labels, each).mean(axis=1) for each in (reference, baseline))
    samples = first - second  # (R, C)
    value, variance = delong(labels, reference, baseline)
    present = (labels == 1).sum(axis=0)
    defined = (present > 0) & (present < len(labels))
    means = samples[:, defined].mean(axis=1) if defined.any() else samples[:, 0]
    per_class = {}
    for place, name in enumerate(classes):
        # No z where both rank alike, or where DeLong's variance is undefined.
        z = float(value[place] / np.sqrt(variance[place])) if variance[place] > 0 else None
        per_class[name] = {
            "difference": _or_none(value[place]),
            "interval": interval(samples[:, place]),
            "undefined_resamples": _undefined(samples[:, place]),
            "delong": {"z": z, "p": float(2 * ndtr(-abs(z))) if z is not None else None},
        }
    about = {**bootstrap.about, "undefined_resamples": _undefined(means)}
    about |= {"interval": interval(means), "p": bootstrap_p(means)}
    return {"bootstrap": about, "per_class": per_class}


def bootstrap_p(differences: np.ndarray) -> float | None:
    """Two-sided p of no difference: twice the smaller share of resampled differences (R,) on one side of zero.

    The sample itself counts as one resample, so that the smallest p is 2 / (R + 1).
    """
    differences = differences[~np.isnan(differences)]
    if not len(differences):
        return None
    smaller = min(np.count_nonzero(differences <= 0), np.count_nonzero(differences >= 0))
    return float(min(1, 2 * (smaller + 1) / (len(differences) + 1)))
