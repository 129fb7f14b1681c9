"""Visual words of TransVW: crops at the same position of radiographs that look alike share a label.

F. Haghighi et al., "Transferable visual words", IEEE TMI 40(10), 2021. For every word a random reference image and a
random position are drawn; the images nearest to the reference show the word at the same position. Only frontal images are
used: lateral ones do not share coordinates with them. The words of the training set are also searched in the held-out set.

Differs from the original: its features come from an auto-encoder. Here the auto-encoder is linear, whose optimum is known:
principal components of the images at 32 x 32 pixels, each scaled to zero mean and unit variance. A crop that is nearly
constant or largely black (collimation) cannot be a word.
"""

import numpy as np
import pandas as pd

from refers.config import Words
from refers.data.mimic_studies import MimicStudies
from refers.errors import UserError

SIDE, TRIES, CHUNK = 32, 200, 4096
# Grey levels: a pixel below BLACK is black; a crop with a standard deviation below FLAT is nearly constant.
BLACK, FLAT = 16, 8.0
COLUMNS = ["image_id", "x", "y", "size", "label", "rank", "split"]


def thumbnails(store: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Images of the store reduced to 32 x 32 pixels by area averaging, (N, 1024) uint8."""
    stored = store.shape[1]
    edges = np.arange(SIDE + 1) * stored / SIDE
    pixel = np.arange(stored)
    overlap = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    average = (overlap.clip(min=0) * SIDE / stored).astype(np.float32)
    found = np.empty((len(rows), SIDE * SIDE), np.uint8)
    for start in range(0, len(rows), CHUNK):
        part = rows[start : start + CHUNK]
        found[start : start + len(part)] = (average @ store[part] @ average.T).round().reshape(len(part), -1)
    return found


def principal_components(images: dict[str, np.ndarray], width: int) -> dict[str, np.ndarray]:
    """Features (N, width) of thumbnails (N, 1024) in each split, on the components of `train`."""

    def scaled(part: np.ndarray) -> np.ndarray:
        centred = part - part.mean(1, keepdims=True, dtype=np.float32)
        return centred / np.maximum(centred.std(1, keepdims=True), 1e-6)

    def chunks(part: np.ndarray):
        return (scaled(part[start : start + CHUNK]) for start in range(0, len(part), CHUNK))

    train = images["train"]
    mean = sum(part.sum(0, dtype=np.float64) for part in chunks(train)) / len(train)
    spread = sum(part.T.astype(np.float64) @ part for part in chunks(train)) / len(train)
    components = np.linalg.eigh(spread - np.outer(mean, mean))[1][:, ::-1][:, :width].astype(np.float32)
    return {
        name: np.concatenate([(part - mean.astype(np.float32)) @ components for part in chunks(members)])
        for name, members in images.items()
    }


def is_informative(crop: np.ndarray, settings: Words) -> bool:
    """Whether a reference's crop has enough contrast and few enough black pixels to be a word."""
    return crop.std() >= FLAT and (crop < BLACK).mean() <= settings.black


def discover(data: MimicStudies, settings: Words) -> pd.DataFrame:
    """Visual words of the studies, one row per instance.

    Columns: image_id; x, y, the crop's left and top, and its side `size`, in pixels of the stored image; label; rank, 0 for
    the reference; and split.

    Raises:
        UserError: there are too few frontal images, or no position is left that is far enough from those of earlier words.
    """
    rng = np.random.default_rng(settings.seed)
    rows = {}
    for split, wanted in (("train", settings.instances), ("val", settings.held_out)):
        found = data.images_of(data.splits[split])[0]
        rows[split] = found[data.frontal[found]]
        if len(rows[split]) < wanted:
            raise UserError(
                f"words: {len(rows[split])} frontal {split} images, fewer than {wanted} instances per word; lower words.instances or words.held_out"
            )
    features = principal_components(
        {name: thumbnails(data.store, part) for name, part in rows.items()}, settings.features
    )
    stored = data.store.shape[1]
    size, apart = round(settings.size * stored), settings.distance * stored
    corners: list[np.ndarray] = []
    tables = []
    for reference in rng.permutation(len(rows["train"])):
        corner = _free_corner(data.store[rows["train"][reference]], corners, size, apart, settings, rng)
        if corner is None:
            continue
        label = len(corners)
        corners.append(corner)
        for split, wanted in (("train", settings.instances), ("val", settings.held_out)):
            away = np.square(features[split] - features["train"][reference]).sum(1)
            nearest = np.argpartition(away, wanted - 1)[:wanted]
            nearest = nearest[np.argsort(away[nearest], kind="stable")]
            place = {"x": corner[1], "y": corner[0], "size": size, "label": label}
            names = data.image_ids[rows[split][nearest]]
            place |= {"rank": np.arange(wanted), "split": split}
            tables.append(pd.DataFrame({"image_id": names} | place))
        if len(corners) == settings.count:
            return pd.concat(tables, ignore_index=True)[COLUMNS]
    raise UserError(
        f"words: positions for {len(corners)} of {settings.count} words only; lower words.count or words.distance"
    )


def _free_corner(
    image: np.ndarray,
    taken: list[np.ndarray],
    size: int,
    apart: float,
    settings: Words,
    rng: np.random.Generator,
) -> np.ndarray | None:
    """Top-left corner of an informative crop far enough from those `taken`, or None after TRIES draws."""
    for _ in range(TRIES):
        corner = rng.integers(0, image.shape[0] - size + 1, 2)
        crop = image[corner[0] : corner[0] + size, corner[1] : corner[1] + size]
        if all(np.hypot(*(corner - other)) >= apart for other in taken) and is_informative(crop, settings):
            return corner
    return None
