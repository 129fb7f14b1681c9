"""What a split must not do before anyone trains on it: share patients or pictures between its sets."""

import hashlib
from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd

from refers.errors import UserError
from refers.schema import LABEL

KINDS = ("patients", "duplicates")
NAMED = 3  # cases that a message names


def picture_digests(store: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """A digest of each stored picture's content, (N,) uint64: equal pictures, whatever their files were called, agree."""
    return np.array(
        [int.from_bytes(hashlib.blake2b(store[row], digest_size=8).digest(), "little") for row in rows],
        np.uint64,
    )


def check(
    split: pd.DataFrame, views: pd.Series, store: np.ndarray, accepted: Collection[str], dataset: str
) -> dict[str, Any]:
    """The report on a split; see `refers.splits.make_split` for its columns.

    Args:
        views: view of every row of the index, by row.
        store: packed images; their content is compared as it is trained on.
        accepted: kinds of leakage that the config lives with.

    Returns sizes, labels and views by set; `patients` and `duplicates`: cases that stand in several sets; classes with
    one label only in a set, whose AUC is undefined there; and warnings.

    Raises:
        UserError: leakage that is not accepted.
    """
    names = [name for name in split.columns if name.startswith(LABEL)]
    parts = dict(list(split.groupby("split", sort=False)))
    digests = pd.Series(picture_digests(store, split["row"].to_numpy()), index=split.index)
    leaks = {"patients": _across(split, split["patient_id"]), "duplicates": _across(split, digests)}
    single = {
        part: [name.removeprefix(LABEL) for name in names if frame[name].nunique() < 2]
        for part, frame in parts.items()
    }
    shown = {part: views.loc[frame["row"]].value_counts().to_dict() for part, frame in parts.items()}
    report = {
        "dataset": dataset,
        "images": {part: len(frame) for part, frame in parts.items()},
        "positives": {
            part: {name.removeprefix(LABEL): int((frame[name] == 1).sum()) for name in names}
            for part, frame in parts.items()
        },
        "views": shown,
        "patients_across_sets": len(leaks["patients"]),
        "duplicates_across_sets": len(leaks["duplicates"]),
        "duplicates_within_sets": int(
            sum(digests[frame.index].duplicated().sum() for frame in parts.values())
        ),
        "single_class": {part: found for part, found in single.items() if found},
        "accepted": sorted(accepted),
        "warnings": [
            f"{part}: {', '.join(found)} with one label only; AUC undefined"
            for part, found in single.items()
            if found
        ]
        + [
            f"{part}: {count} images of view {view}"
            for part, counts in shown.items()
            for view, count in counts.items()
            if view != "frontal"
        ],
    }
    for kind in KINDS:
        if leaks[kind] and kind not in accepted:
            cases = "; ".join(leaks[kind][:NAMED])
            more = f"; and {len(leaks[kind]) - NAMED} more" if len(leaks[kind]) > NAMED else ""
            raise UserError(
                f"{dataset}: {kind} in several sets: {cases}{more}; use another split, or accept: [{kind}] in datasets.{dataset}"
            )
        if leaks[kind]:
            report["warnings"].append(f"{len(leaks[kind])} {kind} in several sets, accepted")
    return report


def _across(split: pd.DataFrame, key: pd.Series) -> list[str]:
    """Cases of `key` in more than one set, each as the images that show it."""
    sides = split.groupby(key)["split"].nunique()
    found = split[key.isin(sides[sides > 1].index)]
    return [
        ", ".join(
            f"{image} ({side})" for image, side in zip(group["image_id"][:4], group["split"][:4], strict=True)
        )
        for _, group in found.groupby(key[found.index])
    ]
