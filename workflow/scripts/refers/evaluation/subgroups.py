"""AUC by sex, age and projection, and the gaps between such groups of test images; no torch.

A download's table has a characteristic as text. One rule reads it (`read_value`): what it does not read is missing, which is
counted and never guessed. Images without a value are in no group of that characteristic.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from refers.errors import UserError
from refers.evaluation.measures import averaged, of_runs
from refers.evaluation.metrics import auc
from refers.evaluation.predictions import SplitPredictions
from refers.evaluation.statistics import Bootstrap, count_undefined, interval
from refers.files import read_parquet
from refers.measure_names import GAP, GROUPS, group_names

SEXES = {"f": "female", "female": "female", "m": "male", "male": "male"}
PROJECTIONS = {"pa": "PA"} | {f"ap{how}": "AP" for how in ("", " supine", " erect", " semi erect")}
# Units of an age, by their first letter: those of DICOM (PS3.5, value representation AS), also written out.
AGE = re.compile(r"(\d{1,4}(?:\.\d{1,6})?)\s*(y|yrs?|years?|m|months?|w|weeks?|d|days?)?(?:\s*old)?")
PER_YEAR = {"y": 1.0, "m": 12.0, "w": 365.25 / 7, "d": 365.25}
OLDEST = 120  # years; what is above, such as the 411 of some tables, is an error of typing


def read_value(name: str, text: str) -> str | float | None:
    """A characteristic out of a table's text, whatever its case; None where it is blank or not read.

    sex: F, M, female, male. age in years: a number, with a unit (days to years) or without one, up to OLDEST. projection: PA,
    AP, and AP with "supine", "erect" or "semi erect" behind it; other views have none.
    """
    text = " ".join(text.lower().split())
    if name == "sex":
        return SEXES.get(text)
    if name == "projection":
        return PROJECTIONS.get(text)
    found = AGE.fullmatch(text)
    years = float(found[1]) / PER_YEAR[(found[2] or "y")[0]] if found else np.inf
    return years if years <= OLDEST else None


def read_values(name: str, texts: Iterable[str]) -> tuple[list, dict[str, Any]]:
    """`read_value` of a column, and its report: counts of the values, of blanks, and of every text that was not read."""
    texts = list(texts)
    known = {text: read_value(name, text) for text in set(texts)}
    values = [known[text] for text in texts]
    unread = Counter(text for text in texts if text.strip() and known[text] is None)
    report: dict[str, Any] = {"known": sum(value is not None for value in values)}
    if name in GROUPS:
        report["values"] = dict(sorted(Counter(filter(None, values)).items()))
    report |= {"blank": sum(not text.strip() for text in texts), "not_read": dict(sorted(unread.items()))}
    return values, report


def groups_of(name: str, values: Sequence[Any], ages: Sequence[int]) -> np.ndarray:
    """Group of each value (N,), "" of a missing one; a band has its first year and not the first of the next."""
    if name in GROUPS:
        return np.array([value if value in GROUPS[name] else "" for value in values], str)
    names = group_names(name, ages)
    years = np.array([np.nan if value is None else value for value in values], float)
    place = np.searchsorted(ages, np.nan_to_num(years), side="right")
    return np.where(np.isnan(years), "", np.array(names, str)[place])


def read_characteristics(path: Path, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """A value by image of each characteristic that the file has, of the `names`; absent columns have none.

    Raises:
        UserError: the file is missing or not made by characteristics.py.
    """
    frame = read_parquet(path, "characteristics", ("image_id",), rest=True)
    images = frame["image_id"].tolist()
    found = {}
    for name in (name for name in names if name in frame):
        values = [None if value is None or value != value else value for value in frame[name].tolist()]
        wanted = str if name in GROUPS else (int, float)
        if odd := next(
            (value for value in values if value is not None and not isinstance(value, wanted)), None
        ):
            raise UserError(f"{path}: {odd!r} is no {name}; delete it and rerun characteristics.py")
        found[name] = dict(zip(images, values, strict=True))
    return found


# ---- AUC by group


@dataclass(frozen=True)
class Settings:
    """ages: where a band of age ends and the next begins, in years; patients: fewest with each label in a group."""

    ages: list[int]
    patients: int


def summarise_groups(
    sets: Sequence[SplitPredictions],
    classes: list[str],
    values: dict[str, dict[str, Any]],
    settings: Settings,
    bootstrap: Bootstrap,
) -> dict[str, Any]:
    """AUC of a cell by group, with the resamples of its AUC, and the gap of every characteristic.

    A group counts for a class where at least `settings.patients` of its patients have an image with the label and as many one
    without it, in the test set of every split. A group that counts for fewer than half as many classes as another group of
    the characteristic is too small. AUCs are averaged over the classes that all other groups count for, so that groups are
    compared on the same classes. The gap is the largest of these AUCs minus the smallest, and its interval that of the same
    two groups over the resamples, which are paired.

    Args:
        sets: the test set of every split.
        values: by characteristic the value of each image.
        bootstrap: resamples of these images.

    Returns:
        by characteristic: unknown, the number of images without a value; classes, those compared; groups: by name images,
        patients, positives and negatives (summed over the classes compared), undefined (None or why there is no AUC), and
        the runs' AUCs as `of_runs`, with per_class; gap: largest, smallest, difference, interval, undefined_resamples, undefined.
    """
    found = {}
    for name, of_image in values.items():
        groups = [
            groups_of(name, [of_image.get(image) for image in each.ids], settings.ages) for each in sets
        ]
        parts = {
            group: _group(sets, [each == group for each in groups], classes, settings.patients, bootstrap)
            for group in group_names(name, settings.ages)
        }
        unknown = {image for each, of in zip(sets, groups, strict=True) for image in each.ids[of == ""]}
        found[name] = {"unknown": len(unknown)} | _compared(parts, classes, settings.patients)
    return found


@dataclass
class _Group:
    """A group's test images: counts, AUCs (S, n, C) and resampled ones (R, S, n, C), and the classes (C,) it counts for."""

    about: dict[str, Any]
    labels: np.ndarray
    counted: np.ndarray
    values: np.ndarray | None = None
    drawn: np.ndarray | None = None


def _group(
    sets: Sequence[SplitPredictions],
    kept: Sequence[np.ndarray],
    classes: list[str],
    least: int,
    bootstrap: Bootstrap,
) -> _Group:
    parts = [_part(each, part) for each, part in zip(sets, kept, strict=True)]
    ids = np.concatenate([each.ids for each in parts])
    _, first = np.unique(ids, return_index=True)
    patients = np.unique(np.concatenate([each.patients for each in parts]))
    labels = np.concatenate([each.labels for each in parts])[first] == 1
    counted = np.array(
        [
            all(
                len(np.unique(each.patients[each.labels[:, place] == label])) >= max(1, least)
                for each in parts
                for label in (0, 1)
            )
            for place in range(len(classes))
        ],
        bool,
    )
    group = _Group({"images": len(first), "patients": len(patients)}, labels, counted)
    if counted.any():
        group.values = np.stack([[auc(each.labels, one) for one in each.scores] for each in parts])
        group.drawn = bootstrap.within(kept).resample(parts).auc
    return group


def _part(each: SplitPredictions, kept: np.ndarray) -> SplitPredictions:
    return SplitPredictions(
        each.ids[kept], each.patients[kept], each.labels[kept], [one[kept] for one in each.scores]
    )


def _compared(groups: dict[str, _Group], classes: list[str], least: int) -> dict[str, Any]:
    """What is reported of the groups of one characteristic, on the classes that they share."""
    most = max(group.counted.sum() for group in groups.values())
    large = {name: group for name, group in groups.items() if most and 2 * group.counted.sum() >= most}
    shared = np.logical_and.reduce(
        [group.counted for group in large.values()] or [np.zeros(len(classes), bool)]
    )
    found: dict[str, Any] = {
        "classes": [name for name, there in zip(classes, shared, strict=True) if there],
        "groups": {},
    }
    means, drawn = {}, {}
    for name, group in groups.items():
        about = group.about | {
            "positives": int(group.labels[:, shared].sum()),
            "negatives": int((~group.labels[:, shared]).sum()),
            "undefined": _reason(name in large, bool(shared.any()), group.about["images"], least),
        }
        if not about["undefined"] and group.values is not None and group.drawn is not None:
            means[name], drawn[name] = averaged(group.values, shared), averaged(group.drawn, shared)
            about |= of_runs(means[name], drawn[name])
            about["per_class"] = {
                each: of_runs(group.values[..., place], group.drawn[..., place])
                for place, each in enumerate(classes)
                if shared[place]
            }
        found["groups"][name] = about
    return found | {GAP: _gap(means, drawn)}


def _reason(large: bool, shared: bool, images: int, least: int) -> str | None:
    """Why a group has no AUC; None where it has one."""
    if not images:
        return "undefined: no test image"
    what = f"{least} patients with it and {least} without it"
    if not large:
        return f"undefined: too few classes have {what} in this group"
    return None if shared else f"undefined: no class has {what} in every group"


def _gap(means: dict[str, np.ndarray], drawn: dict[str, np.ndarray]) -> dict[str, Any]:
    """The largest mean AUC over groups minus the smallest, and its interval over the resamples that both share."""
    if len(means) < 2:
        return {"undefined": "undefined: fewer than two groups have an AUC"}
    largest, smallest = (choose(means, key=lambda name: means[name].mean()) for choose in (max, min))
    over = (drawn[largest] - drawn[smallest]).mean(axis=(1, 2))
    return {
        "largest": largest,
        "smallest": smallest,
        "difference": float(means[largest].mean() - means[smallest].mean()),
        "interval": interval(over),
        "undefined_resamples": count_undefined(over),
        "undefined": None,
    }
