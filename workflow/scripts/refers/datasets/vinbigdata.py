"""VinBigData Chest X-ray (Kaggle): train.csv with one row a box and radiologist, train/*.dicom or *.png."""

from pathlib import Path

import numpy as np
import pandas as pd

from refers.datasets import LABEL, expect, finish, list_files, read_table

CLASSES = (
    "Aortic enlargement", "Atelectasis", "Pneumothorax", "Lung Opacity", "Pleural thickening", "ILD", "Pulmonary fibrosis",
    "Calcification", "Pleural effusion", "Consolidation", "Cardiomegaly", "Other lesion", "Nodule-Mass", "Infiltration",
)  # fmt: skip
RENAMED = {"Nodule/Mass": "Nodule-Mass"}  # the authors' spelling, which also makes a file name
NONE = "No finding"
SUFFIXES = (".dicom", ".dcm", ".png", ".jpg", ".jpeg")  # converted images stand in where the DICOM is absent


def read_index(folder: Path) -> tuple[pd.DataFrame, dict]:
    """Index of the images in `folder`/train; see `refers.datasets`.

    A class is present where any radiologist saw it. Patients are not published: every image is its own.

    Raises:
        UserError: file, row and what is wrong with it.
    """
    path = folder / "train.csv"
    table = read_table(path, ["image_id", "class_name"])
    names = table["class_name"].str.strip().replace(RENAMED)
    expect(table["image_id"] != "", path, table["image_id"], "is no image_id; download the file again")
    expect(
        names.isin([*CLASSES, NONE]), path, names, f"is no class of this dataset ({CLASSES[0]}, ..., {NONE})"
    )
    codes, images = pd.factorize(table["image_id"], sort=True)
    column = pd.Categorical(names, categories=CLASSES).codes
    labels = np.zeros((len(images), len(CLASSES)), np.float32)
    labels[codes[column >= 0], column[column >= 0]] = 1

    found: dict[str, str] = {}
    files = list_files(folder / "train", SUFFIXES)
    for suffix in SUFFIXES:
        for name in files:
            if name.lower().endswith(suffix):
                found.setdefault(name[: -len(suffix)], f"train/{name}")
    images = pd.Series(images, dtype=object)
    frame = pd.DataFrame(
        {
            "image_id": images,
            "patient_id": images,
            "study_id": images,
            "view": "frontal",
            "split": "",
            "path": images.map(found),
        }
    )
    frame = pd.concat([frame, pd.DataFrame(labels, columns=[LABEL + name for name in CLASSES])], axis=1)
    here = frame["path"].notna()
    skipped = {
        "image not in train.csv": len(found) - int(here.sum()),
        "same image in another format": len(files) - len(found),
    }
    return finish(frame[here], folder, path, int((~here).sum()), skipped)
