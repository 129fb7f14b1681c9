"""Write, read and check the predictions.parquet files of a cell; no torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from refers.columns import LABEL, SCORE
from refers.errors import UserError
from refers.files import expect_regular, why_unreadable

RERUN = "delete it and rerun the fine-tune"


@dataclass
class SplitPredictions:
    """Predictions for the test or the validation set of one split of a cell, sorted by image id.

    ids: (N,); patients: (N,), the image's own id where the patient is unknown; labels: (N, C) of 0 and 1; scores: one
    (N, C) per seed, in [0, 1].
    """

    ids: np.ndarray
    patients: np.ndarray
    labels: np.ndarray
    scores: list[np.ndarray]


@dataclass
class Predictions:
    """Predictions of one split of a cell; `path` is the file of the first seed, for messages."""

    path: Path
    classes: list[str]
    test: SplitPredictions
    val: SplitPredictions


def frame_of(rows: Any, classes: list[str], scores: np.ndarray, split: str) -> Any:
    """Rows of predictions.parquet: split, image_id, patient_id, labels as 0/1, scores in [0, 1].

    Args:
        rows: pandas frame of images with a column of labels per class.
        scores: (N, C).
    """
    # reading needs no pandas, and its import takes as long as the rest of a table cell
    import pandas as pd

    columns = {"split": split, **{name: rows[name].to_numpy() for name in ("image_id", "patient_id")}}
    columns |= {LABEL + name: rows[LABEL + name].to_numpy(np.int8) for name in classes}
    columns |= {SCORE + name: scores[:, place] for place, name in enumerate(classes)}
    return pd.DataFrame(columns)


def read_seeds(paths: list[Path]) -> Predictions:
    """Predictions of every seed of a split; all must contain the same images, patients and labels.

    Raises:
        UserError: a file does not contain predictions, or does not belong to the others.
    """
    found = _read(paths[0])
    for path in paths[1:]:
        other = _read(path)
        same_images(found, other, "the seeds of a split share its images; rerun the older fine-tune")
        _expect_own_scores(found, other)
        found.test.scores += other.test.scores
        found.val.scores += other.val.scores
    return found


def _expect_own_scores(found: Predictions, other: Predictions) -> None:
    """Raise a UserError where the scores of one more seed are those of another one: a file was copied.

    Scores that do not vary show nothing: a classifier may give the same constant with every seed.
    """
    for name in ("test", "val"):
        mine = getattr(other, name).scores[0]
        for scores in getattr(found, name).scores if np.ptp(mine, axis=0).any() else ():
            if np.array_equal(scores, mine):
                raise UserError(
                    f"{other.path}: its {name} scores are those of another seed of {found.path}; {RERUN}"
                )


def read_runs(paths: list[Path], splits: list[int], seeds: list[int]) -> list[Predictions]:
    """Predictions of a cell, one per split, each with every seed.

    Args:
        paths, splits, seeds: one per run, split by split, with the same seeds in each.

    Raises:
        UserError: they are in another order, or `read_seeds` finds a fault.
    """
    parts, each = dict.fromkeys(splits), list(dict.fromkeys(seeds))
    wanted = [(split, seed) for split in parts for seed in each]
    fitting = len(paths) == len(splits) == len(seeds)
    if not fitting or list(zip(splits, seeds, strict=True)) != wanted:
        raise UserError(
            f"{len(paths)} files of predictions for splits {splits} and seeds {seeds}; give one file per seed of every split,"
            " split by split, with the same seeds in each"
        )
    found = [read_seeds(paths[start : start + len(each)]) for start in range(0, len(paths), len(each))]
    known: dict[str, tuple] = {}
    for other in found:
        same_classes(found[0], other, "the splits of a cell share one dataset; rerun the older fine-tune")
        for part in (other.test, other.val):
            for image, *about in zip(part.ids, part.patients, part.labels.tolist(), strict=True):
                if about != (first := known.setdefault(image, (about, other.path)))[0]:
                    raise UserError(
                        f"{other.path}: labels or patient of image {image} differ from {first[1]}; rerun the older fine-tune"
                    )
    return found


def same_classes(first: Predictions, other: Predictions, advice: str) -> None:
    """Raise a UserError ending in `advice` unless the classes are the same."""
    if other.classes != first.classes:
        raise UserError(
            f"{other.path}: classes {', '.join(other.classes)}, but {first.path} has {', '.join(first.classes)}; {advice}"
        )


def same_images(first: Predictions, other: Predictions, advice: str) -> None:
    """Raise a UserError ending in `advice` unless classes, images, patients and labels are the same."""
    same_classes(first, other, advice)
    for name in ("test", "val"):
        one, two = getattr(first, name), getattr(other, name)
        if odd := set(one.ids) ^ set(two.ids):
            raise UserError(
                f"{other.path}: {name} image {min(odd)} is only in one of this file and {first.path} ({len(odd)} such images); {advice}"
            )
        for what, differ in (
            ("labels", (one.labels != two.labels).any(axis=1)),
            ("patient", one.patients != two.patients),
        ):
            if differ.any():
                raise UserError(
                    f"{other.path}: {what} of {name} image {one.ids[differ][0]} differ from {first.path}; {advice}"
                )


def _read(path: Path) -> Predictions:
    import pyarrow.parquet as parquet

    try:
        expect_regular(path)
        with parquet.ParquetFile(path, page_checksum_verification=True) as opened:
            table = opened.read()
    # pyarrow's errors are ValueErrors.
    except (OSError, ValueError) as error:
        reason = why_unreadable(path, error)
        raise UserError(f"{path}: cannot be read as Parquet ({reason}); {RERUN}") from None
    names = table.column_names
    classes = [name.removeprefix(LABEL) for name in names if name.startswith(LABEL)]
    scored = [name.removeprefix(SCORE) for name in names if name.startswith(SCORE)]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"{path}: column {twice!r} is there twice; {RERUN}")
    if not classes or set(classes) != set(scored) or not {"split", "image_id"} <= set(names):
        raise UserError(
            f"{path}: columns are {', '.join(names)}, expected split, image_id and for every class a {LABEL} and a {SCORE} column; {RERUN}"
        )
    for name in (kind + each for kind in (LABEL, SCORE) for each in classes):
        if table[name].to_numpy().dtype.kind not in "fiub":
            raise UserError(
                f"{path}: column {name!r} is of type {table.schema.field(name).type}, not of numbers; {RERUN}"
            )
    parts, ids = table["split"].to_pylist(), table["image_id"].to_pylist()
    if odd := [row for row, part in enumerate(parts) if part not in ("val", "test")]:
        raise UserError(f"{path}: row {odd[0]}: split {parts[odd[0]]!r} must be one of val, test; {RERUN}")
    split = np.array(parts, str)
    if odd := [row for row, name in enumerate(ids) if not isinstance(name, str) or not name]:
        raise UserError(f"{path}: row {odd[0]}: image_id {ids[odd[0]]!r} is not a name; {RERUN}")
    ids = np.array(ids, str)
    known = table["patient_id"].to_pylist() if "patient_id" in names else []
    if odd := [row for row, name in enumerate(known) if name is not None and not isinstance(name, str)]:
        raise UserError(f"{path}: row {odd[0]}: patient_id {known[odd[0]]!r} is not a name; {RERUN}")
    patients = np.array([str(patient or image) for patient, image in zip(known or ids, ids, strict=True)])
    labels = np.column_stack([table[LABEL + name].to_numpy() for name in classes])
    scores = np.column_stack([table[SCORE + name].to_numpy() for name in classes])
    _check_values(path, ids, classes, labels, scores)
    splits = {}
    for name in ("test", "val"):
        rows = np.flatnonzero(split == name)
        if not len(rows):
            raise UserError(f"{path}: no {name} image; rerun the split, then the fine-tune")
        rows = rows[np.argsort(ids[rows], kind="stable")]
        if (twice := ids[rows][1:] == ids[rows][:-1]).any():
            raise UserError(f"{path}: {name} image {ids[rows][1:][twice][0]} is duplicated; {RERUN}")
        splits[name] = SplitPredictions(ids[rows], patients[rows], labels[rows], [scores[rows]])
    return Predictions(path, classes, **splits)


def _check_values(path: Path, ids: np.ndarray, classes: list, labels: np.ndarray, scores: np.ndarray) -> None:
    checks = [
        ("label", labels, (labels == 0) | (labels == 1), "0 or 1"),
        ("score", scores, (scores >= 0) & (scores <= 1), "a number in [0, 1]"),
    ]
    for kind, values, good, expected in checks:
        if not good.all():
            row, column = np.argwhere(~good)[0]
            raise UserError(
                f"{path}: row {row} (image {ids[row]}): {kind} of {classes[column]} is {values[row, column]}, expected {expected}; {RERUN}"
            )
