"""Localisation: boxes predicted from class activation maps against radiologists' boxes (paper, Figure 3); no torch."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import ndimage

from refers.array_files import read_npz
from refers.errors import UserError
from refers.files import MAKERS, atomic_path, check_column, file_digest, read_frame

# Columns of iou.csv, which has one row per boxed finding; area: share of the input image that its boxes cover.
OVERLAP = ["image_id", "class", "score", "iou", "area"]
HIT = 0.5  # IoU from which a predicted box has found a finding; the examples of Figure 3 are hits and misses
AGAIN = f"delete it and rerun {MAKERS['overlaps']}"
NO_BOX = "undefined: no test image has a radiologist's box"


def stretched(evidence: np.ndarray, side: int) -> np.ndarray:
    """A map (n, n) resized bilinearly to (side, side), its minimum scaled to 0 and its maximum to 1; a constant map is 0."""
    places = (np.arange(side) + 0.5) * evidence.shape[0] / side - 0.5
    rows, columns = np.meshgrid(places, places, indexing="ij")
    large = ndimage.map_coordinates(evidence.astype(np.float64), [rows, columns], order=1, mode="nearest")
    span = large.max() - large.min()
    return (large - large.min()) / span if span > 0 else np.zeros_like(large)


def predicted_boxes(attention: np.ndarray, threshold: float) -> np.ndarray:
    """Boxes (K, 4) of x, y, w, h in pixels around the connected components of a map (S, S) at or above `threshold`."""
    parts, _ = ndimage.label(attention >= threshold)
    found = [
        (columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start)
        for rows, columns in ndimage.find_objects(parts)
    ]
    return np.array(found, float).reshape(-1, 4)


def boxes_on_crop(
    boxes: np.ndarray, original: np.ndarray, scale: float | np.ndarray, side: int
) -> np.ndarray:
    """Boxes (K, 4) in an original of (width, height) pixels -> in its central crop of share `scale`, `side` pixels wide.

    `scale` is one share of both sides or (2,), of width and height.
    """
    shares = boxes / np.tile(original, 2)
    shares[:, :2] = (shares[:, :2] - (1 - scale) / 2) / scale
    shares[:, 2:] /= scale
    return shares * side


def covered(boxes: np.ndarray, side: int) -> np.ndarray:
    """Mask (S, S) of the pixels whose centre is in at least one of `boxes` (K, 4)."""
    centres = np.arange(side) + 0.5
    x, y, w, h = boxes.T[..., None]
    inside_x, inside_y = (x <= centres) & (centres < x + w), (y <= centres) & (centres < y + h)
    return (inside_y[:, :, None] & inside_x[:, None, :]).any(0)


def intersection_over_union(first: np.ndarray, second: np.ndarray, side: int) -> float:
    """IoU of the areas that two sets of boxes cover in an image of `side` pixels; 0 where both are empty."""
    one, two = covered(first, side), covered(second, side)
    union = (one | two).sum()
    return float((one & two).sum() / union) if union else 0.0


class Maps(NamedTuple):
    """Class activation maps that a figure draws.

    images: (K, S, S) uint8; maps: (K, S, S) float16 in [0, 1]; facts: of each image its image_id, class, score and iou, and
    the boxes `red` (radiologists') and `green` (predicted), (x, y, w, h) each.
    about: SHA-256 by name of what the maps were made from, and of the overlaps beside them as `overlap`.
    """

    images: np.ndarray
    maps: np.ndarray
    facts: list[dict[str, Any]]
    about: dict[str, str]


def write_maps(path: Path, found: Maps) -> None:
    """Write maps.npz."""
    with atomic_path(path) as temporary, open(temporary, "wb") as opened:
        facts, about = json.dumps(found.facts), json.dumps(found.about)
        np.savez_compressed(opened, images=found.images, maps=found.maps, facts=facts, about=about)


def read_maps(path: Path, overlap: Path) -> Maps:
    """The maps.npz of attend.py.

    Raises:
        UserError: the file is missing, damaged or something else, or of other overlaps than those in the file `overlap`.
    """
    arrays = read_npz(path, "not maps", AGAIN, ["images", "maps", "facts", "about"])
    try:
        texts = (json.loads(str(arrays[name])) for name in ("facts", "about"))
        found = Maps(arrays["images"], arrays["maps"], *texts)
        fault = _fault_of_maps(found)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        fault = f"{type(error).__name__} {error}"
    if fault:
        raise UserError(f"{path}: not maps of images with boxes ({fault}); {AGAIN}")
    if found.about.get("overlap") != file_digest(overlap):
        raise UserError(f"{path}: made with other overlaps than {overlap}; delete both and rerun attend.py")
    return found


def _fault_of_maps(found: Maps) -> str:
    images, maps, facts = found.images, found.maps, found.facts
    if not isinstance(found.about, dict):
        return "it does not say what it was made from"
    if images.dtype != np.uint8 or images.ndim != 3 or maps.shape != images.shape or maps.dtype.kind != "f":
        return f"images are {images.dtype} {images.shape}, maps {maps.dtype} {maps.shape}"
    if len(facts) != len(images):
        return f"{len(images)} images, {len(facts)} descriptions"
    if not ((maps >= 0) & (maps <= 1)).all():
        return "a map has a value outside [0, 1]"
    for fact in facts:
        if not all(0 <= fact[name] <= 1 for name in ("score", "iou")) or not isinstance(fact["class"], str):
            return f"image {fact['image_id']}: score or IoU outside [0, 1]"
        for name in ("red", "green"):
            boxes = np.array(fact[name], float).reshape(-1, 4)
            if not np.isfinite(boxes).all():
                return f"image {fact['image_id']}: a box is not finite"
    return ""


def read_overlap(path: Path) -> pd.DataFrame:
    """The iou.csv of attend.py: OVERLAP of every boxed finding (N rows); empty if no test image has a box.

    Raises:
        UserError: as `read_rows`; or a score, IoU or area is not a number from 0 to 1, or a name is blank.
    """
    found = read_frame(path, "overlaps", OVERLAP)[OVERLAP]
    for name in ("image_id", "class"):
        check_column(found[name].ne(""), path, found, name, "is blank", AGAIN)
    for name in ("score", "iou", "area"):
        shares = pd.to_numeric(found[name], errors="coerce")
        check_column(shares.between(0, 1), path, found, name, "is not a number from 0 to 1", AGAIN)
        found[name] = shares.astype(float)
    return found.reset_index(drop=True)
