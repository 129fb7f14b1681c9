"""Leakage between the sets of a split, patients or identical pictures in several of them, and labels that are too rare."""

import hashlib
from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from scipy.ndimage import uniform_filter

from refers.data.splits import describe, minority_warnings
from refers.errors import UserError

KINDS = ("patients", "duplicates")
# What each kind is known by: no check sees more than the download says and the store shows.
KNOWN_BY = {
    "patients": "equal ids, as the adapter reads them; one person under two ids is not seen",
    "duplicates": "equal pixels in the store; a picture cut or scaled in another way is not seen",
}
NAMED = 3  # cases listed in a message
THUMBNAIL = 32  # pixels per side
BLUR = 5  # pixels of a thumbnail around each that its mean is taken of
# Measured on 4,661 real radiographs of three sources: copies shrunk to a third and saved as JPEG of quality 20 have 0.91 at
# least, and of the other 5 million pairs none has more than 0.85.
ALIKE = 0.9
COMPARED = 4096  # pictures of a set that are compared at a time


def picture_digests(store: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """A digest of each stored image's content, (N,) uint64: equal images have equal digests, whatever their names."""
    return np.array(
        [int.from_bytes(hashlib.blake2b(store[row], digest_size=8).digest(), "little") for row in rows],
        np.uint64,
    )


def thumbnail(grey: np.ndarray) -> np.ndarray:
    """A picture (H, W) uint8 as `near_copies` compares it: THUMBNAIL pixels a side, uint8."""
    return np.asarray(Image.fromarray(grey).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX))


def near_copies(split: pd.DataFrame, thumbnails: np.ndarray) -> list[tuple[str, str, str, str, float]]:
    """Pairs of pictures in two sets of a split that are one picture, shrunk, encoded anew, or in negative.

    The perceptual hash of a picture is its thumbnail less the mean around every pixel, as a vector of length 1: what is
    common to all chest radiographs is coarser. Two are alike where the product of their vectors is ALIKE at least.

    Args:
        split: see `refers.data.splits.make_split`.
        thumbnails: (N, THUMBNAIL, THUMBNAIL) uint8 of every row of the index.

    Returns:
        (image, set, image, set, product) per pair, the most alike first.
    """
    sets = [(part, rows) for part, rows in split.groupby("split", sort=False)]
    found = []
    for place, (one, rows) in enumerate(sets):
        for start in range(0, len(rows), COMPARED):
            some = rows.iloc[start : start + COMPARED]
            hashes = _hashes(thumbnails[some["row"]])
            for other, others in sets[place + 1 :]:
                for begin in range(0, len(others), COMPARED):
                    against = others.iloc[begin : begin + COMPARED]
                    alike = np.abs(hashes @ _hashes(thumbnails[against["row"]]).T)
                    found += [
                        (
                            some["image_id"].iloc[i],
                            one,
                            against["image_id"].iloc[j],
                            other,
                            float(alike[i, j]),
                        )
                        for i, j in np.argwhere(alike >= ALIKE)
                    ]
    return sorted(found, key=lambda pair: (-pair[-1], pair))


def _hashes(thumbnails: np.ndarray) -> np.ndarray:
    """Perceptual hashes (N, THUMBNAIL^2) float32; zeros for a flat picture, which resembles none."""
    grey = thumbnails.astype(np.float32)
    local = grey - uniform_filter(grey, (0, BLUR, BLUR), mode="nearest")
    local = local.reshape(len(grey), -1)
    return local / np.maximum(np.linalg.norm(local, axis=1, keepdims=True), 1)


def check(
    split: pd.DataFrame,
    views: pd.Series,
    store: np.ndarray,
    accepted: Collection[str],
    dataset: str,
    minority_patients: int = 0,
) -> dict[str, Any]:
    """Check a split for leakage.

    Args:
        split: see `refers.data.splits.make_split`.
        views: view of every row of the index.
        store: packed images (N, S, S); they are compared as training sees them.
        accepted: kinds of leakage (KINDS) that the config accepts.
        dataset: name for messages.
        minority_patients: see `refers.data.splits.minority_warnings`.

    Returns:
        Content of check.json: what the check knows by (`known_by`); the counts of `refers.data.splits.describe`; views by set; patients and duplicate images in
        several sets; classes with a single label in a set, whose AUC is undefined there; and warnings.

    Raises:
        UserError: leakage that is not accepted.
    """
    parts = dict(list(split.groupby("split", sort=False)))
    counts = describe(split)
    digests = pd.Series(picture_digests(store, split["row"].to_numpy()), index=split.index)
    leaks = {"patients": _across(split, split["patient_id"]), "duplicates": _across(split, digests)}
    labels = counts["labels"].items()
    single = {part: [name for name, found in labels if 0 in found[part].values()] for part in parts}
    views_by_set = {part: views.loc[frame["row"]].value_counts().to_dict() for part, frame in parts.items()}
    report = {
        "dataset": dataset,
        **counts,
        "views": views_by_set,
        "duplicates_across_sets": len(leaks["duplicates"]),
        "duplicates_within_sets": sum(int(digests[rows.index].duplicated().sum()) for rows in parts.values()),
        "single_class": {part: found for part, found in single.items() if found},
        "accepted": sorted(accepted),
        "known_by": KNOWN_BY,
        "warnings": [
            f"{part}: {', '.join(found)} with a single label; AUC undefined"
            for part, found in single.items()
            if found
        ]
        + [
            f"{part}: {count} images of view {view}"
            for part, counts in views_by_set.items()
            for view, count in counts.items()
            if view != "frontal"
        ]
        + minority_warnings(counts, minority_patients, dataset),
    }
    for kind in KINDS:
        if leaks[kind] and kind not in accepted:
            cases = "; ".join(leaks[kind][:NAMED])
            more = f"; and {len(leaks[kind]) - NAMED} more" if len(leaks[kind]) > NAMED else ""
            raise UserError(
                f"{dataset}: {kind} in several sets: {cases}{more}; use another split, or accept: [{kind}] in datasets.{dataset}"
            )
        if leaks[kind]:
            known = KNOWN_BY[kind].partition(";")[0]
            report["warnings"].append(f"{len(leaks[kind])} {kind} in several sets ({known}), accepted")
    return report


def _across(split: pd.DataFrame, key: pd.Series) -> list[str]:
    """Values of `key` that occur in more than one set, each shown by one image per set."""
    sets = split.groupby(key)["split"].nunique()
    found = split[key.isin(sets[sets > 1].index)]
    shown = found[["image_id", "split"]].groupby(key[found.index])
    cases = (group.drop_duplicates("split").to_numpy() for _, group in shown)
    return [", ".join(f"{image} ({part})" for image, part in case) for case in cases]
