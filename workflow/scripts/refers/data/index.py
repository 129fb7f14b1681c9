"""The index of a source: the one schema behind which every official download looks alike.

An index has one row per image on disk, sorted by image_id; row i is row i of the image store:

    image_id    unique; the official table's own name        view    frontal, lateral, ct or other
    patient_id  shared by the images of one patient          split   official set: train, val, test, train_val or ""
    study_id    shared by the images of one examination      width, height   int32, pixels of the published file; 0 where
                                                             the header is unreadable, which the store will report
    path        relative to the source's folder, with "/"
    label:X     float32: 1 present, 0 absent, -1 uncertain, NaN not mentioned or undefined
"""

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from refers.columns import LABEL
from refers.data.read_tables import read_sizes
from refers.errors import UserError
from refers.files import check_column, is_below, read_parquet

TEXT_COLUMNS = ("image_id", "patient_id", "study_id", "view", "split", "path")
COLUMNS = ("image_id", "patient_id", "study_id", "view", "split", "width", "height", "path")
VIEWS = ("frontal", "lateral", "ct", "other")
# What an adapter may count beside the images that it leaves out, in words.
COUNTED = {
    "studies_without_labels": "studies without a row in the table of labels",
    "images_of_other_than_three_readers": "images with rows of other than three radiologists",
}
SPLITS = ("train", "val", "test", "train_val", "")
SIZES = ("width", "height")


def finish(frame: pd.DataFrame, folder: Path, table: Path, missing: int, skipped: dict[str, int]) -> tuple:
    """Sort an adapter's rows into the schema and check them: (index, counts), as `read_index` of an adapter returns them.

    Args:
        frame: rows of the images on disk; without a column width, the sizes are read from the image headers.
        folder: folder of the source.
        table: the official table, for messages.
        missing: rows of the table without an image on disk.
        skipped: what was left out, by reason.

    Raises:
        UserError: there is no image, or a value departs from the schema.
    """
    if not len(frame):
        raise UserError(f"{table}: none of its {missing} images is in {folder}; place the images there")
    labels = [name for name in frame.columns if name.startswith(LABEL)]
    if "width" not in frame:
        frame = frame.assign(**dict(zip(("width", "height"), read_sizes(folder, frame["path"]), strict=True)))
    # Python sorts texts in a third of the time of pandas.
    names = frame["image_id"].tolist()
    order = sorted(range(len(names)), key=names.__getitem__)
    frame = frame[[*COLUMNS, *labels]].take(order)
    frame.index = pd.RangeIndex(len(frame))
    frame = frame.astype(dict.fromkeys(labels, np.float32) | {"width": np.int32, "height": np.int32})
    validate_index(frame, str(folder))
    counts = {
        "missing_images": int(missing),
        "skipped": {reason: int(count) for reason, count in skipped.items() if count},
    }
    if unreadable := int((frame["width"] == 0).sum()):
        counts["unreadable_headers"] = unreadable
    return frame, counts


def read_index(path: Path, columns: Iterable[str]) -> pd.DataFrame:
    """An index with at least these columns; every column of the schema that it has is checked, and its labels.

    Raises:
        UserError: the file is missing, not an index or without rows, or a value departs from the schema.
    """
    frame = read_parquet(path, "index", list(columns), rest=True)
    if frame.empty:
        raise UserError(f"{path}: an index without rows; index the source again")
    _check_values(frame, path)
    return frame


def _are_labels(values: pd.Series) -> pd.Series:
    if values.dtype.kind not in "fiub":
        return pd.Series(False, values.index)
    return values.eq(1) | values.eq(0) | values.eq(-1) | values.isna()


def validate_index(frame: pd.DataFrame, origin: str) -> None:
    """Check a frame against the index schema.

    Raises:
        UserError: the first value that departs from it, with its row; the message begins with `origin`.
    """
    labels = [name for name in frame.columns if name.startswith(LABEL)]
    if list(frame.columns) != [*COLUMNS, *labels] or not labels:
        raise UserError(f"{origin}: columns are {list(frame.columns)[:9]}, expected {COLUMNS} and labels")
    _check_values(frame, origin)
    if not frame["image_id"].is_monotonic_increasing:
        raise UserError(f"{origin}: rows are not sorted by image_id; index the source again")
    for name in ("width", "height", *labels):
        if frame[name].dtype != (wanted := np.int32 if name in SIZES else np.float32):
            raise UserError(
                f"{origin}: column {name} is of type {frame[name].dtype}, not {np.dtype(wanted)}; index the source again"
            )


def _check_values(frame: pd.DataFrame, origin: str | Path) -> None:
    """Raise a UserError naming the first value that departs from the schema, in those of its columns that a frame has."""

    def check(name: str, good: Callable[[pd.Series], Any], what: str) -> None:
        if name in frame:
            check_column(good(frame[name]), origin, frame, name, what, "index the source again")

    for name in TEXT_COLUMNS:
        check(name, are_texts, "is not text")
    for name in ("image_id", "patient_id", "study_id"):
        check(name, lambda values: values.ne(""), "is blank")
    check("view", lambda values: values.isin(VIEWS), f"must be one of {', '.join(VIEWS)}")
    check("split", lambda values: values.isin(SPLITS), "is not an official set")
    check("path", _are_below, "is not a path below the source's folder")
    for name in ("image_id", "path"):
        check(name, lambda values: ~values.duplicated(), "is duplicated")
    for name in SIZES:
        check(name, are_sizes, "is not an int32 of at least 0")
    for name in (name for name in frame.columns if name.startswith(LABEL)):
        check(name, _are_labels, "is not a float32 label of 1, 0, -1 or NaN")


def are_texts(values: pd.Series) -> pd.Series:
    """Whether each value is text."""
    # Ten times faster than to ask every value, which only a message needs.
    if pd.api.types.infer_dtype(values, skipna=False) in ("string", "empty"):
        return pd.Series(True, values.index)
    return values.map(type).eq(str)


def _are_below(values: pd.Series) -> pd.Series:
    """Whether each of some texts is a path below the source's folder."""
    # A path that leads out has one of these marks; to ask every path takes twenty times as long.
    texts = values.tolist()
    joined, heads = "\n".join(texts), {text[:1] for text in texts}
    if not any(mark in joined for mark in ("..", "\\", "\0")) and not heads & {"", "/", "."}:
        return pd.Series(True, values.index)
    return values.map(is_below)


def are_sizes(values: pd.Series) -> pd.Series:
    """Whether each value is a width or height: a whole number, 0 where it is not known."""
    return values.ge(0) if values.dtype.kind in "iu" else pd.Series(False, values.index)


def aspects(frame: pd.DataFrame) -> np.ndarray | None:
    """Width over height (N,) float32 of the pictures of an index or a split; 1 where unknown, None where no column says."""
    if not {"width", "height"} <= {*frame.columns}:
        return None
    width, height = (frame[name].to_numpy(np.float32) for name in ("width", "height"))
    is_known = (width > 0) & (height > 0)
    return np.divide(width, height, out=np.ones_like(width), where=is_known)


def summarise(frame: pd.DataFrame, source: str, counts: dict) -> dict:
    """Content of index.json: sizes, what was left out, and the labels of each class."""
    labels = {}
    for column in (name for name in frame.columns if name.startswith(LABEL)):
        values = frame[column]
        labels[column.removeprefix(LABEL)] = {
            "positive": int((values == 1).sum()),
            "negative": int((values == 0).sum()),
            "uncertain": int((values == -1).sum()),
            "blank": int(values.isna().sum()),
        }
    return {
        "source": source,
        "rows": len(frame),
        "patients": int(frame["patient_id"].nunique()),
        "studies": int(frame["study_id"].nunique()),
        "views": dict(Counter(frame["view"])),
        **counts,
        "labels": labels,
    }
