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
    is_file_or_link,
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
    paths = match_names(paths, dict(zip(found, found, strict=True)))
    present = paths.notna()
    missing = int((~present).sum())
    skipped["image not in the metadata"] = len(found) - int(present.sum())
    if missing:
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
    names = (table[name].tolist() for name in ("subject_id", "study_id", "dicom_id"))
    paths = [
        f"{JPG}/files/p{subject[:2]}/p{subject}/s{study}/{image}.jpg"
        for subject, study, image in zip(*names, strict=True)
    ]
    return pd.Series(paths, table.index, dtype=object)


def _on_disk(folder: Path) -> tuple[list[str], Counter[str]]:
    """Paths of all JPEGs, and what was passed over, by reason.

    Each folder is listed once: 377,000 single look-ups are slow on network disks.
    """
    found: list[str] = []
    skipped: Counter[str] = Counter()
    waiting = [str(folder / "files")]
    start = len(waiting[0]) - len(f"{JPG}/files")
    try:
        while waiting:
            path = waiting.pop()
            with os.scandir(path) as entries:
                for entry in entries:
                    name = entry.name
                    if name.lower().endswith(".jpg"):
                        if not is_leftover(name) and is_file_or_link(entry):
                            found.append(entry.path[start:])
                    elif is_unfinished(name):
                        skipped[UNFINISHED_DOWNLOAD] += 1
                    elif not is_leftover(name) and entry.is_dir():
                        waiting.append(entry.path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); place the images there") from None
    return found, skipped


def _splits(folder: Path, images: pd.Series, subjects: pd.Series) -> pd.Series:
    """Official set of every image; a subject in two sets would leak from training into validation."""
    path = _table(folder, "split")
    table = read_table(path, ["dicom_id", "split"])
    expect_unique(path, table["dicom_id"])
    expect(table["split"].isin(SPLITS), path, table["split"], f"must be one of {', '.join(SPLITS)}")
    # Row of `images` of each row of the table, -1 where it has none.
    places = pd.Index(images).get_indexer(pd.Index(table["dicom_id"]))
    owner = pd.Series(subjects.factorize()[0]).reindex(places).set_axis(table.index)
    first = table["split"].groupby(owner).transform("first")
    expect(
        owner.isna() | (table["split"] == first),
        path,
        table["dicom_id"],
        "belongs to a subject whose earlier images are in another set; download the file again",
    )
    listed = table["split"].map(SPLITS).set_axis(places)[places >= 0]
    splits = listed.reindex(range(len(images))).set_axis(images.index)
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
    codes, names = studies.factorize()
    # Row of the table of each study, -1 where it has none.
    places = pd.Index(table["study_id"]).get_indexer(names)
    is_listed = places >= 0
    if len(studies) and not is_listed.any():
        raise UserError(f"{path}: no row for any study with images, as {studies.iloc[0]}; download it again")
    values = pd.DataFrame(index=range(len(table)))
    for name in CLASSES:
        kinds, texts = table[name].factorize()
        if not LABELS.keys() >= {*texts}:
            what = f"is not a label of {name} (1.0, 0.0, -1.0, blank)"
            expect(table[name].isin(LABELS), path, table[name], what)
        values[name] = np.array([LABELS[text] for text in texts], np.float32)[kinds]
    rows = table[["subject_id", "study_id"]].take(places[is_listed])
    owner = subjects[~studies.duplicated()].to_numpy()[is_listed]
    wrong = rows[owner != rows["subject_id"].to_numpy()].sort_index()
    shown = "study " + wrong["study_id"] + " of subject " + wrong["subject_id"]
    expect(pd.Series(False, wrong.index), path, shown, "is of another subject in the metadata")
    labels = values.reindex(places[codes]).set_axis(studies.index)
    return labels.add_prefix(LABEL), int((~is_listed).sum())
