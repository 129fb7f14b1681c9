"""What a split must not do before anyone trains on it: share patients or pictures between its sets."""

import hashlib
from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd

from refers.data.splits import describe
from refers.errors import UserError

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
    """The report on a split; see `refers.data.splits.make_split` for its columns.

    Args:
        views: view of every row of the index, by row.
        store: packed images; their content is compared as it is trained on.
        accepted: kinds of leakage that the config lives with.

    Returns what `refers.data.splits.describe` counts; views by set; patients and pictures that stand in several sets; classes
    with one label only in a set, whose AUC is undefined there; and warnings.

    Raises:
        UserError: leakage that is not accepted.
    """
    parts = dict(list(split.groupby("split", sort=False)))
    counts = describe(split)
    digests = pd.Series(picture_digests(store, split["row"].to_numpy()), index=split.index)
    leaks = {"patients": _across(split, split["patient_id"]), "duplicates": _across(split, digests)}
    single = {
        part: [name for name, found in counts["labels"].items() if 0 in found[part].values()]
        for part in parts
    }
    shown = {part: views.loc[frame["row"]].value_counts().to_dict() for part, frame in parts.items()}
    report = {
        "dataset": dataset,
        **counts,
        "views": shown,
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
