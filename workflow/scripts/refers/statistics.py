"""Per-cell summaries over seeds and the test between two methods (paper §4, "statistical significance")."""

from typing import Any

import numpy as np

from refers.metrics import auc


def mean_sd(values: list[float | None]) -> tuple[float | None, float | None]:
    """Mean and sample standard deviation (ddof 1) over seeds; None where undefined."""
    if not values or any(value is None for value in values):
        return None, None
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None


def summarise(labels: np.ndarray, scores: list[np.ndarray], classes: list[str]) -> dict[str, Any]:
    """One half ("test" or "validation") of auc.json.

    Args:
        labels: (N, C) of 0 and 1, the same for every seed.
        scores: one (N, C) per seed.
        classes: C names.

    Returns:
        images, mean_auc per seed over the defined classes, mean, sd, undefined classes, per_class.
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
    return {
        "images": len(labels),
        "mean_auc": means,
        "mean": mean,
        "sd": sd,
        "undefined": [name for name, there in zip(classes, defined, strict=True) if not there],
        "per_class": per_class,
    }


def compare(reference: list[float | None], baseline: list[float | None]) -> dict[str, Any]:
    """Two-sided t-tests on independent samples of per-seed mean-class AUC.

    `student` assumes equal variances, as the paper's test does; `welch` does not.

    Returns:
        difference of the means, student and welch as {"t", "p", "df"}, and undefined: None or the reason why there
        is no test (then every t, p and df is None).
    """
    nothing = {"t": None, "p": None, "df": None}
    result = {"difference": None, "student": dict(nothing), "welch": dict(nothing), "undefined": None}
    if None in reference or None in baseline:
        side = "reference" if None in reference else "baseline"
        return result | {"undefined": f"the mean AUC of the {side} is undefined"}
    if not reference or not baseline:
        return result | {"undefined": "there is no seed"}
    first, second = np.asarray(reference, np.float64), np.asarray(baseline, np.float64)
    difference = float(first.mean() - second.mean())
    result["difference"] = difference
    sizes = np.array([len(first), len(second)])
    if sizes.min() < 2:
        reason = f"a variance needs two seeds at least; there are {sizes[0]} of the reference, {sizes[1]} of the baseline"
        return result | {"undefined": reason}
    # Equal seeds may differ in the last bit once averaged; that is no spread to divide by.
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
