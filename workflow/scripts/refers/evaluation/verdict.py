"""Our AUC against the one that the paper prints: the difference, its confidence interval, and the verdict in words.

With d our mean minus the printed number, and a t-distribution, the interval is d -+ t(level, df) * se, where

    se^2 = seeds^2 (1 / (S n) + 1 / 3) + splits^2 (1 / S + 1) + images.se^2 + r images.sd^2 + u^2 / 12

- seeds, splits, images: standard deviations of one more draw of each, over our S splits with n seeds
  (`refers.evaluation.statistics.standard_error`); df by Satterthwaite, so that few seeds widen the interval;
- 1 / 3: the paper prints means of three runs and not their spread, which is taken to be that of ours;
- 1 / S + 1: the paper's split is one more draw; where its lists are released, splits are label subsets, and those that
  the paper drew are not among them;
- r: 1 where the paper's test images are another draw from the same pool; 0 where they are those of the released list.
  There both numbers have the same noise of test images; counted once it is an upper bound, as long as their correlation
  over images is at least one half;
- u: a unit of the last printed decimal, since the printed number is rounded.

What one split cannot show, the effect of another split, is left out of a study with one split, and the table says so.
"""

from typing import Any

import numpy as np

from refers.evaluation.statistics import combine

CONSISTENT, DIFFERENT, TOO_NOISY = "consistent", "different", "too noisy to tell"
UNREPORTED, INCOMPARABLE, UNDEFINED = "not reported", "not comparable", "undefined"
# Fine-tunes behind each printed number (paper §4, "replication of experimental results").
PAPER_RUNS = 3
SIGNS = {CONSISTENT: "=", DIFFERENT: "≠", TOO_NOISY: "?"}


def difference_interval(
    mean: float,
    error: dict[str, Any],
    printed: str,
    level: float,
    same_images: bool,
    runs: int = PAPER_RUNS,
) -> tuple[float, float] | None:
    """Interval of our AUC minus the printed one, in points; None where our standard error is undefined.

    Args:
        mean: ours in percent.
        error: its `standard_error`, of fractions.
        printed: the paper's number in percent, as printed.
        level: confidence level.
        same_images: whether the paper's number is of the same test images.
        runs: fine-tunes behind it.
    """
    from scipy.special import stdtrit

    if error["total"] is None:
        return None
    again = {"seeds": 1 / runs, "splits": 1, "images": 0 if same_images else 1}
    known = [(error[name], share) for name, share in again.items() if error[name]]
    parts = [(100**2 * (each["se"] ** 2 + share * each["sd"] ** 2), each["df"]) for each, share in known]
    unit = 10.0 ** -len(printed.partition(".")[2])
    se, df = combine([*parts, (unit**2 / 12, np.inf)])
    difference, width = mean - float(printed), float(stdtrit(df, (1 + level) / 2)) * se
    return difference - width, difference + width


def judge(low: float, high: float, margin: float) -> str:
    """The verdict on the interval of a difference: consistent within the margin, different from zero, or neither.

    Consistent: the whole interval lies within `margin` of zero (equivalence); different: it excludes zero and is not within
    the margin; too noisy to tell: the rest.
    """
    if -margin <= low and high <= margin:
        return CONSISTENT
    return DIFFERENT if low > 0 or high < 0 else TOO_NOISY


def sign(verdict: str) -> str:
    """A verdict as one character between our number and the printed one; "" where there is none."""
    return SIGNS.get(verdict, "")
