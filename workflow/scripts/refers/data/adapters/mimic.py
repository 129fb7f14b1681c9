"""MIMIC-CXR-JPG: metadata, official split and CheXpert labels; files/pNN/pNNNNNNNN/sNNNNNNNN/<dicom_id>.jpg."""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from refers.columns import LABEL
from refers.data.index import finish
from refers.data.read_tables import (
    digits,
    expect,
    expect_file_names,
    expect_unique,
    is_image_entry,
    match_names,
    numbers,
    read_table,
)
from refers.errors import UserError
from refers.folders import UNFINISHED_DOWNLOAD, is_leftover, is_unfinished

JPG = "mimic-cxr-jpg"
VIEWS = {"PA": "frontal", "AP": "frontal", "LATERAL": "lateral", "LL": "lateral"}
SPLITS = {"train": "train", "validate": "val", "test": "test"}
CLASSES = (
    "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Enlarged Cardiomediastinum", "Fracture", "Lung Lesion",
    "Lung Opacity", "No Finding", "Pleural Effusion", "Pleural Other", "Pneumonia", "Pneumothorax", "Support Devices",
)  # fmt: skip
LABELS = {"1.0": 1, "0.0": 0, "-1.0": -1, "1": 1, "0": 0, "-1": -1, "": np.nan}


def read_index(folder: Path) -> tuple[pd.DataFrame, dict]:
    """Index of the images below `folder`/mimic-cxr-jpg/files; see `refers.data.index`.

    The tables may list more images than exist. The labels of a study without CheXpert labels are blank; such studies are
    counted as `studies_without_labels`.

    Raises:
        UserError: a table or an image folder is wrong; names file, row and what is wrong.
    """
    path = _table(folder, "metadata")
    table = read_table(path, ["dicom_id", "subject_id", "study_id", "ViewPosition", "Rows", "Columns"])
    expect_file_names(path, table["dicom_id"])
    expect_unique(path, table["dicom_id"])
    for name in ("subject_id", "study_id"):
        table[name] = digits(path, table[name], name)
    paths = _paths(table)
    found, skipped = _on_disk(folder / JPG)
    paths = match_names(paths, {path: path for path in found})
    present = paths.notna()
    missing = int((~present).sum())
    skipped["image not in the metadata"] = len(found) - int(present.sum())
    table, paths = table[present], paths[present]
    frame = pd.DataFrame(
        {
            "image_id": table["dicom_id"],
            "patient_id": "p" + table["subject_id"],
            "study_id": "s" + table["study_id"],
            "view": table["ViewPosition"].map(VIEWS).fillna("other"),
            "split": _splits(folder, table["dicom_id"], table["subject_id"]),
            "path": paths,
            "width": numbers(path, table["Columns"], "width"),
            "height": numbers(path, table["Rows"], "height"),
        }
    )
    labels, unlabelled = _labels(folder, table["study_id"], table["subject_id"])
    frame = pd.concat([frame, labels], axis=1)
    index, counts = finish(frame, folder, path, missing, skipped)
    return index, counts | ({"studies_without_labels": unlabelled} if unlabelled else {})


def _table(folder: Path, name: str) -> Path:
    """An official table, gzipped as published or unpacked; versions 2.0.0 and 2.1.0 use the same name."""
    path = folder / JPG / f"mimic-cxr-2.0.0-{name}.csv"
    packed = path.with_name(f"{path.name}.gz")
    return path if path.exists() and not packed.exists() else packed


def _paths(table: pd.DataFrame) -> pd.Series:
    subject = table["subject_id"]
    folders = f"{JPG}/files/p" + subject.str[:2] + "/p" + subject + "/s" + table["study_id"]
    return folders + "/" + table["dicom_id"] + ".jpg"


def _on_disk(folder: Path) -> tuple[set[str], Counter[str]]:
    """Paths of all JPEGs, and what was passed over, by reason.

    Each folder is listed once: 377,000 single look-ups are slow on network disks.
    """
    found: set[str] = set()
    skipped: Counter[str] = Counter()
    waiting = [(str(folder / "files"), f"{JPG}/files")]
    try:
        while waiting:
            path, name = waiting.pop()
            with os.scandir(path) as entries:
                for entry in entries:
                    if is_unfinished(entry.name):
                        skipped[UNFINISHED_DOWNLOAD] += 1
                    elif entry.name.lower().endswith(".jpg"):
                        if is_image_entry(entry):
                            found.add(f"{name}/{entry.name}")
                    elif not is_leftover(entry.name) and entry.is_dir():
                        waiting.append((entry.path, f"{name}/{entry.name}"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); place the images there") from None
    return found, skipped


def _splits(folder: Path, images: pd.Series, subjects: pd.Series) -> pd.Series:
    """Official set of every image; a subject in two sets would leak from training into validation."""
    path = _table(folder, "split")
    table = read_table(path, ["dicom_id", "split"])
    expect_unique(path, table["dicom_id"])
    expect(table["split"].isin(SPLITS), path, table["split"], f"must be one of {', '.join(SPLITS)}")
    owner = table["dicom_id"].map(subjects.set_axis(images))
    first = table["split"].groupby(owner).transform("first")
    expect(
        owner.isna() | (table["split"] == first),
        path,
        table["dicom_id"],
        "belongs to a subject whose earlier images are in another set; download the file again",
    )
    splits = images.map(table.set_index("dicom_id")["split"].map(SPLITS))
    if splits.isna().any():
        raise UserError(
            f"{path}: {splits.isna().sum()} images of the metadata have no row, first {images[splits.isna()].iloc[0]}; download it again"
        )
    return splits


def _labels(folder: Path, studies: pd.Series, subjects: pd.Series) -> tuple[pd.DataFrame, int]:
    """Labels of every image, and the number of studies that the table of labels does not list."""
    path = _table(folder, "chexpert")
    table = read_table(path, ["subject_id", "study_id", *CLASSES])
    for name in ("subject_id", "study_id"):
        table[name] = digits(path, table[name], name)
    expect_unique(path, table["study_id"])
    if len(studies) and not studies.isin(table["study_id"]).any():
        raise UserError(f"{path}: no row for any study with images, as {studies.iloc[0]}; download it again")
    for name in CLASSES:
        expect(
            table[name].isin(LABELS), path, table[name], f"is not a label of {name} (1.0, 0.0, -1.0, blank)"
        )
    owner = table["study_id"].map(subjects.set_axis(studies).groupby(level=0).first())
    shown = "study " + table["study_id"] + " of subject " + table["subject_id"]
    expect(
        owner.isna() | (owner == table["subject_id"]), path, shown, "is of another subject in the metadata"
    )
    values = table[list(CLASSES)].apply(lambda column: column.map(LABELS)).astype(np.float32)
    labels = values.set_axis(table["study_id"]).reindex(studies).set_axis(studies.index)
    unlabelled = studies.drop_duplicates()
    return labels.add_prefix(LABEL), int((~unlabelled.isin(table["study_id"])).sum())
