"""Summaries of a cell over splits and seeds, their standard errors, tests between two methods (paper §4), and the bootstrap.

A cell has S splits with n seeds each. Its predictions are a list of `SplitPredictions`, one per split; its AUCs are arrays
with the leading axes (S, n), its resampled AUCs with (R, S, n). In auc.json the two axes are one list of runs, seeds inside
splits.
"""

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np

from refers.errors import UserError
from refers.evaluation.metrics import ResampledAuc, auc, outranked
from refers.evaluation.predictions import SplitPredictions

LEVEL = 0.95  # confidence level of every interval
# Resamples at a time: their counts of 20,000 images fit into a processor's last-level cache.
BLOCK = 250


@dataclass
class Resamples:
    """Test AUCs of a cell on bootstrap resamples: auc, (R, S, n, C), NaN where a single label was drawn; about: settings."""

    about: dict[str, Any]
    auc: np.ndarray

    def means(self, defined: np.ndarray) -> np.ndarray:
        """AUC averaged over the `defined` ones (C,) of the classes, (R, S, n); NaN where one lost a label."""
        return self.auc[..., defined].mean(axis=-1) if defined.any() else self.auc[..., 0]


class Bootstrap:
    """Resamples of test images, drawn with replacement; the same for every class, seed and method.

    Whole patients are drawn, since images of one patient are not independent: from all patients of the splits' test sets,
    once per resample, so that a patient that several splits test is drawn into all of them or none. This measures the
    variance that is due to the test images; the seeds show the variance of training. One patient alone (or one image, where
    each is a patient) shows no variance: in every resample that keeps the label it is the sample itself. So all resampled AUCs
    of a class are undefined in a test set where fewer than two patients have it or fewer than two have an image without it,
    and with them those of a mean over classes or splits, since what this one varies by is a part of its variance.

    Args:
        patients: of every test set (N,), the patient of each of its images, any values.
        resamples: number of resamples, 1 or more.
        seed: seed of the draws, 0 or more.

    Raises:
        UserError: the number of resamples or the seed is out of range.
    """

    def __init__(self, patients: Sequence[np.ndarray], resamples: int, seed: int) -> None:
        if resamples < 1 or seed < 0:
            raise UserError(
                f"{resamples} resamples with seed {seed}: use 1 or more, with a seed of 0 or more"
            )
        names, units = np.unique(np.concatenate(patients), return_inverse=True)
        self._patients = np.split(units, np.cumsum([len(each) for each in patients])[:-1])
        self._units, self._resamples, self._seed = len(names), resamples, seed
        shared = any(len(np.unique(each)) < len(each) for each in self._patients)
        about = {"level": LEVEL, "resamples": resamples, "seed": seed}
        self.about: dict[str, Any] = {**about, "unit": "patient" if shared else "image", "units": self._units}

    def counts(self) -> Iterator[list[np.ndarray]]:
        """How often each resample contains each image of each test set, (N, up to BLOCK) uint16 at a time."""
        rng = np.random.default_rng(self._seed)
        for start in range(0, self._resamples, BLOCK):
            drawn = [
                np.bincount(rng.integers(0, self._units, self._units), minlength=self._units)
                for _ in range(min(BLOCK, self._resamples - start))
            ]
            of_units = np.stack(drawn, axis=1).astype(np.uint16)
            yield [of_units[places] for places in self._patients]

    def auc(self, labels: Sequence[np.ndarray], scores: Sequence[np.ndarray]) -> list[np.ndarray]:
        """AUC of every resample and class, (R, C) of each test set, for its labels and scores (N, C); NaN as above."""
        return self.measure(ResampledAuc, labels, scores)

    def measure(
        self,
        kind: Callable[[np.ndarray, np.ndarray], Callable[[np.ndarray], np.ndarray]],
        labels: Sequence[np.ndarray],
        scores: Sequence[np.ndarray],
    ) -> list[np.ndarray]:
        """What `kind` measures of every resample and class, (R, C, ...) of each test set; NaN as above.

        kind: makes of labels and scores (N, C) a function of counts (N, R) with values (R, C, ...), as `ResampledAuc` does.
        """
        resampled = [kind(*each) for each in zip(labels, scores, strict=True)]
        blocks = [
            [of_counts(each) for of_counts, each in zip(resampled, counts, strict=True)]
            for counts in self.counts()
        ]
        found = [np.concatenate(parts) for parts in zip(*blocks, strict=True)]
        for each, patients, drawn in zip(labels, self._patients, found, strict=True):
            drawn[:, ~_varies(each, patients)] = np.nan
        return found

    def resample(self, sets: Sequence[SplitPredictions]) -> Resamples:
        """AUCs of a cell whose test sets have the images that this was made for."""
        return Resamples(self.about, self.measure_runs(ResampledAuc, sets))

    def measure_runs(
        self,
        kind: Callable[[np.ndarray, np.ndarray], Callable[[np.ndarray], np.ndarray]],
        sets: Sequence[SplitPredictions],
    ) -> np.ndarray:
        """What `kind`, as for `measure`, measures of every run of such a cell: (R, S, n, C, ...)."""
        seeds, classes = len(sets[0].scores), sets[0].labels.shape[1]
        labels = [np.tile(each.labels, (1, seeds)) for each in sets]
        drawn = np.stack(self.measure(kind, labels, [np.hstack(each.scores) for each in sets]), axis=1)
        return drawn.reshape(len(drawn), len(sets), seeds, classes, *drawn.shape[3:])

    def within(self, kept: Sequence[np.ndarray]) -> "Bootstrap":
        """The same resamples, of some of the images alone: `kept` (N,) bool of each test set."""
        found = copy(self)
        found._patients = [each[part] for each, part in zip(self._patients, kept, strict=True)]
        return found


def _varies(labels: np.ndarray, patients: np.ndarray) -> np.ndarray:
    """Whether two or more patients (N,) have a positive of each class (N, C), and two or more a negative: (C,) bool."""
    return np.array(
        [min(len(np.unique(patients[column == side])) for side in (0, 1)) > 1 for column in labels.T], bool
    )


def interval(samples: np.ndarray) -> list[float] | None:
    """Percentile interval of the defined ones among resampled values (R,); None if there are none."""
    samples = samples[~np.isnan(samples)]
    if not len(samples):
        return None
    return np.percentile(samples, [50 * (1 - LEVEL), 50 * (1 + LEVEL)]).tolist()


# ---- spread and standard error


def spread(values: np.ndarray) -> dict[str, float | None]:
    """Mean of AUCs (S, n), and sample standard deviations; None where undefined.

    `sd` is that over the seeds of a split (root of the mean variance within splits), `sd_splits` that over the splits' means.
    """
    if np.isnan(values).any():
        return {"mean": None, "sd": None, "sd_splits": None}
    splits, seeds = values.shape
    sd = float(np.sqrt(values.var(axis=1, ddof=1).mean())) if seeds > 1 else None
    sd_splits = float(values.mean(axis=1).std(ddof=1)) if splits > 1 else None
    return {"mean": float(values.mean()), "sd": sd, "sd_splits": sd_splits}


def standard_error(values: np.ndarray, samples: np.ndarray, units: int) -> dict[str, Any]:
    """Standard error of an AUC averaged over splits and seeds, put together from its three sources.

    A source has `sd`, what one more draw of it would change, `se`, what it adds to the error of the mean, and `df`:

    - seeds: sd within splits, se = sd / sqrt(S n), df = S (n - 1);
    - images: standard deviation over the resamples, of a split's mean (sd, root mean square over splits) and of the mean of
      all splits (se); df = patients - 1;
    - splits: what the splits' means differ by beyond seeds and test images (by the method of moments, not below zero):
      sd^2 = var(means) - sd_seeds^2 / n - what resampling makes them differ by; se = sd / sqrt(S), df = S - 1. With one
      seed per split its variance is in here.

    `total` is the root of the sum of the squared se, `df` its degrees of freedom (Satterthwaite, Biometrics Bulletin 1946).
    A source that one run or one split cannot show is None and listed in `undefined`. A total over one split is thus that of
    this split; without any spread over runs, or without resamples, there is no total.

    Args:
        values: AUCs (S, n).
        samples: the same, resampled (R, S, n); resamples with NaN are left out.
        units: number of patients that were resampled.
    """
    splits, seeds = values.shape
    means, drawn = values.mean(axis=1), samples.mean(axis=2)
    drawn = drawn[~np.isnan(drawn).any(axis=1)]
    defined = not np.isnan(values).any()
    within = values.var(axis=1, ddof=1).mean() if seeds > 1 and defined else None
    found: dict[str, Any] = dict.fromkeys(("seeds", "splits", "images"))
    if within is not None:
        found["seeds"] = _source(within, within / (splits * seeds), splits * (seeds - 1))
    if len(drawn) > 1:
        found["images"] = _source(drawn.var(axis=0, ddof=1).mean(), drawn.mean(axis=1).var(ddof=1), units - 1)
        if splits > 1:
            by_images = (drawn - means).var(axis=1, ddof=1).mean()
            between = max(0.0, means.var(ddof=1) - (within or 0.0) / seeds - by_images)
            found["splits"] = _source(between, between / splits, splits - 1)
    known = [(each["se"] ** 2, each["df"]) for each in found.values() if each]
    complete = found["images"] and (found["seeds"] or found["splits"])
    total, df = combine(known) if complete else (None, None)
    return {"total": total, "df": df, **found, "undefined": [name for name in found if not found[name]]}


def _source(one: float, mean: float, df: int) -> dict[str, Any]:
    return {"sd": float(np.sqrt(one)), "se": float(np.sqrt(mean)), "df": df}


def combine(parts: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Root of the sum of variances, and its degrees of freedom by Satterthwaite, of pairs (variance, df)."""
    total = sum(variance for variance, _ in parts)
    if total == 0:
        return 0.0, min(df for _, df in parts)
    return float(np.sqrt(total)), total**2 / sum(variance**2 / df for variance, df in parts if variance)


def implied_sd(difference: float, p: float, runs: int) -> float:
    """Standard deviation over runs that a two-sample t-test of `runs` against `runs` implies by its difference and p.

    The t-test with equal variances divides the difference by sd * sqrt(2 / runs).
    """
    from scipy.special import stdtrit

    return float(abs(difference) * np.sqrt(runs / 2) / -stdtrit(2 * runs - 2, p / 2))


# ---- a cell


def summarise(
    sets: Sequence[SplitPredictions], classes: list[str], resamples: Resamples | None = None
) -> dict[str, Any]:
    """One set ("test" or "validation") of auc.json.

    Args:
        sets: the set in every split; the same number of seeds in each.
        classes: C names.
        resamples: adds intervals and standard errors, and DeLong's standard errors as a check of them.

    Returns:
        images (distinct ones, and images_per_split), mean_auc per run over the classes that every split defines, `spread`
        of it, undefined classes, per_class. With resamples also `se` (`standard_error`) and `bootstrap`: its settings, the
        number of resamples in which a class lost a label (they are left out), and intervals of mean_auc per run and of
        mean; and per class an interval, the number of resamples left out, se, and delong_se of the mean.
    """
    values = np.stack([[auc(each.labels, scores) for scores in each.scores] for each in sets])  # (S, n, C)
    defined = np.asarray(~np.isnan(values).any(axis=(0, 1)))
    means = values[..., defined].mean(axis=-1) if defined.any() else np.full(values.shape[:2], np.nan)
    labels = distinct_labels(sets)
    found = {
        "images": len(labels),
        "images_per_split": [len(each.ids) for each in sets],
        "mean_auc": listed(means),
        **spread(means),
        "undefined": [name for name, there in zip(classes, defined, strict=True) if not there],
    }
    per_class: dict[str, dict[str, Any]] = {}
    for place, name in enumerate(classes):
        positives = int(labels[:, place].sum())
        counts = {"positives": positives, "negatives": len(labels) - positives}
        each = values[..., place] if defined[place] else np.full(values.shape[:2], np.nan)
        per_class[name] = {"auc": listed(each), **spread(each), **counts}
    if resamples:
        drawn, units = resamples.means(defined), resamples.about["units"]
        over_runs = drawn.mean(axis=(1, 2))
        found["se"] = standard_error(means, drawn, units)
        found["bootstrap"] = resamples.about | {
            "undefined_resamples": count_undefined(over_runs),
            "mean_auc": [interval(column) for column in drawn.reshape(len(drawn), -1).T],
            "mean": interval(over_runs),
        }
        _, variance = delong(sets)
        for place, name in enumerate(classes):
            each = resamples.auc[..., place]
            per_class[name]["interval"] = interval(each.mean(axis=(1, 2)))
            per_class[name]["undefined_resamples"] = count_undefined(each.mean(axis=(1, 2)))
            per_class[name]["se"] = (
                standard_error(values[..., place], each, units) if defined[place] else None
            )
            per_class[name]["delong_se"] = float(np.sqrt(variance[place])) if variance[place] >= 0 else None
    return found | {"per_class": per_class}


def resample_columns(
    resamples: Resamples, summary: dict[str, Any], classes: list[str]
) -> dict[str, np.ndarray]:
    """Columns of resamples.parquet, (R,) each: AUC averaged over runs, as `mean` over the summary's classes and by class."""
    defined = np.array([name not in summary["undefined"] for name in classes])
    columns = {"mean": resamples.means(defined)}
    columns |= {name: resamples.auc[..., place] for place, name in enumerate(classes)}
    return {name: values.mean(axis=(1, 2)) for name, values in columns.items()}


def over_splits(values: list[float | None], seeds: list[int]) -> list[float | None]:
    """Values per run averaged over the splits of each seed, in the order of the seeds; None where one is undefined."""
    runs: dict[int, list[float]] = {seed: [] for seed in seeds}
    for seed, value in zip(seeds, values, strict=True):
        runs[seed].append(np.nan if value is None else value)
    return [_or_none(float(np.mean(each))) for each in runs.values()]


def distinct_labels(sets: Sequence[SplitPredictions]) -> np.ndarray:
    """Labels (images, C) of the images that any split holds, each once."""
    _, first = np.unique(np.concatenate([each.ids for each in sets]), return_index=True)
    return np.concatenate([each.labels for each in sets])[first] == 1


def listed(values: np.ndarray) -> list[float | None]:
    """Values (S, n) per run, None for NaN."""
    return [_or_none(value) for value in values.ravel()]


def count_undefined(samples: np.ndarray) -> int:
    """Number of undefined values among resampled ones (R,), where a class lost a label."""
    return int(np.isnan(samples).sum())


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


# ---- tests


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
    sets: Sequence[SplitPredictions], baseline: Sequence[SplitPredictions] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """AUC averaged over splits and seeds, minus the baseline's if there is one, and its variance over test images.

    DeLong's variance (Biometrics 1988) for images that are grouped in patients (Obuchowski, Biometrics 1997, 53:567): with
    a_i and b_i the deviations of a patient's positives and negatives from the AUC, summed and divided by the number of
    positives and negatives, I10, I01 and I the patients with positives, with negatives and all,

        I10 / (I10 - 1) sum a_i^2 + I01 / (I01 - 1) sum b_i^2 + 2 I / (I - 1) sum a_i b_i,

    which is DeLong's where every patient has one image. Averages and differences of AUCs have the average and the
    difference of their deviations, so that seeds, splits with common patients and pairs of methods are covered exactly.

    Args:
        sets: the test set of every split, with every seed.
        baseline: the same images with another method's scores.

    Returns:
        value and variance, (C,) each; NaN for a class with a single label, and the variance also where only one patient has
        a label.
    """
    names, units = np.unique(np.concatenate([each.patients for each in sets]), return_inverse=True)
    shape = (len(names), sets[0].labels.shape[1])
    value = np.zeros(shape[1])
    # of positives, then of negatives
    deviations, there = np.zeros((2, *shape)), np.zeros((2, *shape), bool)
    start = 0
    for place, each in enumerate(sets):
        of = units[start : start + len(each.ids)]
        start += len(each.ids)
        present = each.labels == 1
        positives, negatives = present.sum(axis=0), (~present).sum(axis=0)
        pairs = np.where(positives * negatives > 0, positives * negatives, np.nan)
        places = _placements(each) - (_placements(baseline[place]) if baseline else 0)
        value += np.where(present, places, 0).sum(axis=0) / pairs / len(sets)
        # A negative is above as many positives as it takes from the AUC.
        for side, (members, count, sign) in enumerate(((present, positives, 1), (~present, negatives, -1))):
            centre = np.where(members, places, 0).sum(axis=0) / np.maximum(count, 1)
            shares = sign * (places - centre) / pairs / len(sets)
            np.add.at(deviations[side], of, np.where(members, shares, 0))
            np.logical_or.at(there[side], of, members)
    patients = np.array([*there.sum(axis=1), np.full(shape[1], len(names))])
    factors = np.divide(patients, patients - 1, out=np.full(patients.shape, np.nan), where=patients > 1)
    first, second = deviations
    squares = np.stack([(first**2).sum(axis=0), (second**2).sum(axis=0), 2 * (first * second).sum(axis=0)])
    return value, np.where(np.isnan(value), np.nan, (factors * squares).sum(axis=0))


def _placements(each: SplitPredictions) -> np.ndarray:
    """For each image and class, the images of the other label below it, averaged over seeds: (N, C)."""
    places = sum((outranked(each.labels, scores) for scores in each.scores), np.zeros(each.labels.shape))
    return places / len(each.scores)


def compare_paired(
    reference: Sequence[SplitPredictions],
    baseline: Sequence[SplitPredictions],
    classes: list[str],
    bootstrap: Bootstrap,
) -> dict[str, Any]:
    """Paired comparison of two methods on the same test images, with AUCs averaged over splits and seeds.

    Args:
        reference, baseline: the test set of every split.
        classes: C names.
        bootstrap: resamples of these images.

    Returns:
        `bootstrap`: its settings, the number of resamples in which a class lost a label (they are left out), the interval
        of the difference of the mean AUCs and its two-sided p. `per_class`: difference, interval, the number of resamples
        left out, and DeLong's z and p.
    """
    from scipy.special import ndtr

    first, second = (bootstrap.resample(each).auc.mean(axis=(1, 2)) for each in (reference, baseline))
    samples = first - second  # (R, C)
    value, variance = delong(reference, baseline)
    defined = ~np.isnan(value)
    means = samples[:, defined].mean(axis=1) if defined.any() else samples[:, 0]
    per_class = {}
    for place, name in enumerate(classes):
        # No z where both rank alike, or where DeLong's variance is undefined.
        z = float(value[place] / np.sqrt(variance[place])) if variance[place] > 0 else None
        per_class[name] = {
            "difference": _or_none(value[place]),
            "interval": interval(samples[:, place]),
            "undefined_resamples": count_undefined(samples[:, place]),
            "delong": {"z": z, "p": float(2 * ndtr(-abs(z))) if z is not None else None},
        }
    about = {**bootstrap.about, "undefined_resamples": count_undefined(means)}
    about |= {"interval": interval(means), "p": bootstrap_p(means)}
    return {"bootstrap": about, "per_class": per_class}


def bootstrap_p(differences: np.ndarray) -> float | None:
    """Two-sided p of no difference: twice the smaller share of resampled differences (R,) on one side of zero.

    The sample itself counts as one resample, so that the smallest p is 2 / (R + 1): the true one may be below it.
    """
    differences = differences[~np.isnan(differences)]
    if not len(differences):
        return None
    smaller = min(np.count_nonzero(differences <= 0), np.count_nonzero(differences >= 0))
    return float(min(1, 2 * (smaller + 1) / (len(differences) + 1)))
