"""VinBigData Chest X-ray (Kaggle): train.csv with one row per box and radiologist, train/*.dicom or *.png."""

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from refers.columns import LABEL
from refers.data.index import finish
from refers.data.read_tables import checked_boxes, expect, expect_file_names, list_files, read_table

CLASSES = (
    "Aortic enlargement", "Atelectasis", "Pneumothorax", "Lung Opacity", "Pleural thickening", "ILD", "Pulmonary fibrosis",
    "Calcification", "Pleural effusion", "Consolidation", "Cardiomegaly", "Other lesion", "Nodule-Mass", "Infiltration",
)  # fmt: skip
# The authors' spelling, which can also be a file name.
RENAMED = {"Nodule/Mass": "Nodule-Mass"}
NONE = "No finding"
READERS = 3  # radiologists who marked each image
CORNERS = ["x_min", "y_min", "x_max", "y_max"]
# In order of preference: a converted image is used where the DICOM is absent.
SUFFIXES = (".dicom", ".dcm", ".png", ".jpg", ".jpeg")


def read_index(folder: Path) -> tuple[pd.DataFrame, dict]:
    """Index of the images in `folder`/train; see `refers.data.index`.

    A class is present if any radiologist marked it; images that not three of them read are counted, since rows of theirs are
    lost. Patients are not published: every image counts as its own patient.

    Raises:
        UserError: a table or an image folder is wrong; names file, row and what is wrong.
    """
    path = folder / "train.csv"
    table = _read(path)
    names = table["class_name"]
    codes, images = pd.factorize(table["image_id"], sort=True)
    column = pd.Categorical(names, categories=CLASSES).codes
    labels = np.zeros((len(images), len(CLASSES)), np.float32)
    labels[codes[column >= 0], column[column >= 0]] = 1

    found: dict[str, str] = {}
    skipped: Counter[str] = Counter()
    files = list_files(folder / "train", SUFFIXES, skipped)
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
    columns = pd.Index([LABEL + name for name in CLASSES])
    frame = pd.concat([frame, pd.DataFrame(labels, columns=columns)], axis=1)
    exists = frame["path"].notna()
    skipped |= {
        "image not in train.csv": len(found) - int(exists.sum()),
        "same image in another format": len(files) - len(found),
    }
    index, counts = finish(frame[exists], folder, path, int((~exists).sum()), skipped)
    readers = table.groupby("image_id")["rad_id"].nunique()
    if other := int((readers[index["image_id"]] != READERS).sum()):
        counts["images_of_other_than_three_readers"] = other
    # An error in the boxes is raised now, not when the figure is drawn.
    _boxes(path, table)
    return index, counts


def read_boxes(folder: Path, index: pd.DataFrame) -> pd.DataFrame:
    """Every radiologist's boxes of train.csv; see `refers.data.adapters.read_boxes`."""
    path = folder / "train.csv"
    # With the index, boxes of images that were shrunk beforehand are refused.
    return _boxes(path, _read(path), index)


def _read(path: Path) -> pd.DataFrame:
    # A row that is there twice is one mark of one radiologist.
    table = read_table(path, ["image_id", "class_name", "rad_id", *CORNERS]).drop_duplicates()
    expect_file_names(path, table["image_id"])
    names = table["class_name"] = table["class_name"].replace(RENAMED)
    expect(
        names.isin([*CLASSES, NONE]),
        path,
        names,
        f"is not a class of VinBigData ({CLASSES[0]}, ...)",
    )
    return table


def _boxes(path: Path, table: pd.DataFrame, index: pd.DataFrame | None = None) -> pd.DataFrame:
    """Boxes of the images of an index, checked against the images' sizes; without an index, all boxes."""
    table = table[table["class_name"] != NONE]
    low_x, low_y, high_x, high_y = (pd.to_numeric(table[name], errors="coerce") for name in CORNERS)
    boxes = table[["image_id", "class_name"]].rename(columns={"class_name": "class"})
    boxes = boxes.assign(
        x=table["x_min"], y=table["y_min"], w=(high_x - low_x).astype(str), h=(high_y - low_y).astype(str)
    )
    if index is not None:
        boxes = boxes[boxes["image_id"].isin(index["image_id"])]
        sizes = index.set_index("image_id").loc[boxes["image_id"]].set_axis(boxes.index)
        return checked_boxes(path, boxes, sizes["width"], sizes["height"]).reset_index(drop=True)
    everywhere = pd.Series(np.inf, boxes.index)
    return checked_boxes(path, boxes, everywhere, everywhere)
