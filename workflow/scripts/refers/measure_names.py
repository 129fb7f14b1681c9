"""Names of what is measured of a cell beside its AUC, which rules, files and tables share; nothing is imported for them."""

from collections.abc import Sequence

MEASURES = ("average_precision", "brier", "calibration_error", "sensitivity")
ERRORS = ("brier", "calibration_error")  # the smaller, the better
CHARACTERISTICS = ("sex", "age", "projection")
GROUPS = {"sex": ("female", "male"), "projection": ("PA", "AP")}
GAP = "gap"  # beside the groups of a characteristic


def group_names(name: str, ages: Sequence[int]) -> list[str]:
    """Groups of a characteristic, in the order of a table; of age the bands between `ages` in years, such as 18-39."""
    if name in GROUPS:
        return [*GROUPS[name]]
    starts = [0, *ages]
    return [f"{low}-{high - 1}" for low, high in zip(starts, ages, strict=False)] + [f"{starts[-1]}+"]
