"""NIH ChestX-ray14: images_0NN/images/*.png, Data_Entry_2017*.csv and the official lists."""

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from refers.columns import LABEL
from refers.data.index import finish
from refers.data.read_tables import (
    checked_boxes,
    digits,
    expect,
    expect_file_names,
    expect_unique,
    find_pngs,
    match_names,
    numbers,
    read_table,
)
from refers.errors import UserError
from refers.files import expect_regular

CLASSES = (
    "Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax",
    "Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening", "Hernia",
)  # fmt: skip
NONE = "No Finding"
FRONTAL = ("PA", "AP")  # of every image
TABLES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")  # the newer first: it corrects some labels
# "OriginalImage[Width,Height]" in the header is two columns to a CSV reader.
WIDTH, HEIGHT = "OriginalImage[Width", "Height]"
BOXES = "BBox_List_2017.csv"
# Pixels a side of every published PNG and of the boxes; the table has the sizes before that.
SIDE = 1024
BOX_COLUMNS = {"Image Index": "image_id", "Finding Label": "class", "Bbox [x": "x"}
BOX_COLUMNS |= {"y": "y", "w": "w", "h]": "h"}
LISTS = {"train_val": "train_val_list.txt", "test": "test_list.txt"}


# Columns of the entry table by characteristic of an image.
CHARACTERISTICS = {"Patient Gender": "sex", "Patient Age": "age", "View Position": "projection"}


def read_index(folder: Path) -> tuple[pd.DataFrame, dict]:
    """Index of the images below `folder`; see `refers.data.index`. The entry table may list more images than exist.

    Raises:
        UserError: a table or an image folder is wrong; names file, row and what is wrong.
    """
    path = _entry_table(folder)
    table = read_table(path, ["Image Index", "Finding Labels", "Patient ID", "View Position", WIDTH, HEIGHT])
    expect_file_names(path, table["Image Index"])
    expect_unique(path, table["Image Index"])
    expect(table["Patient ID"] != "", path, table["Image Index"], "has no Patient ID; download it again")
    names, patients = table["Image Index"], digits(path, table["Patient ID"], "Patient ID")
    _expect_own_images(path, names, patients)
    labels = _labels(path, table["Finding Labels"])
    views = table["View Position"]
    expect(views.isin(FRONTAL), path, views, f"is not a view of NIH ({', '.join(FRONTAL)})")
    for name, column in (("width", WIDTH), ("height", HEIGHT)):
        # not used, but what is damaged here may be elsewhere too
        numbers(path, table[column], name)
    found, skipped = _images(folder)
    frame = pd.DataFrame(
        {
            "image_id": names,
            "patient_id": patients,
            # A follow-up number has one image.
            "study_id": names.str.removesuffix(".png"),
            "view": "frontal",
            "split": _splits(folder, names, path.name),
            "path": match_names(names, found),
            "width": SIDE,
            "height": SIDE,
        }
    )
    frame = pd.concat([frame, labels], axis=1)
    exists = frame["path"].notna()
    skipped[f"image not in {path.name}"] = len(found) - int(exists.sum())
    if (folder / BOXES).exists():
        # An error in the boxes is raised now, not when the figure is drawn.
        skipped[f"box of an image not in {path.name}"] = int(
            (~_boxes(folder / BOXES)["image_id"].isin(names)).sum()
        )
    return finish(frame[exists], folder, path, int((~exists).sum()), skipped)


def read_characteristics(folder: Path) -> pd.DataFrame:
    """Sex, age and projection of the entry table; see `refers.data.adapters.read_characteristics`."""
    path = _entry_table(folder)
    table = read_table(path, ["Image Index"], CHARACTERISTICS)
    expect_unique(path, table["Image Index"])
    return table.rename(columns={"Image Index": "image_id"} | CHARACTERISTICS)


def _entry_table(folder: Path) -> Path:
    return next((folder / name for name in TABLES if (folder / name).exists()), folder / TABLES[0])


def read_boxes(folder: Path, index: pd.DataFrame) -> pd.DataFrame:
    """Boxes of BBox_List_2017.csv, with "Infiltrate" spelled as the class; see `refers.data.adapters.read_boxes`."""
    boxes = _boxes(folder / BOXES)
    return boxes[boxes["image_id"].isin(index["image_id"])].reset_index(drop=True)


def _boxes(path: Path) -> pd.DataFrame:
    """Boxes of all images, each once."""
    table = read_table(path, BOX_COLUMNS).rename(columns=BOX_COLUMNS).drop_duplicates()
    expect_file_names(path, table["image_id"])
    table["class"] = table["class"].replace({"Infiltrate": "Infiltration"})
    expect(
        table["class"].isin(CLASSES),
        path,
        table["class"],
        f"is not a class of NIH ({CLASSES[0]}, ...)",
    )
    square = pd.Series(SIDE, table.index)
    return checked_boxes(path, table, square, square)


def _expect_own_images(path: Path, names: pd.Series, patients: pd.Series) -> None:
    """Raise a UserError naming the first image whose name, NNNNNNNN_FFF.png, has the number of another patient.

    With other ids, a patient's images would be shared out to training and test set, and no check would see it.
    """
    named = names.str.extract(r"^0*(\d+)_\d+\.")[0]
    shown = names + " of patient " + patients
    expect(named.isna() | (named == patients), path, shown, "does not have its patient's number")


def _labels(path: Path, findings: pd.Series) -> pd.DataFrame:
    """One column per class; only the few hundred distinct combinations of findings are parsed."""
    codes, combinations = pd.factorize(findings)
    parts = [{part.strip() for part in text.split("|")} for text in combinations]
    # "No Finding" beside a class contradicts it.
    good = np.array([part == {NONE} or (bool(part) and part <= {*CLASSES}) for part in parts], bool)
    expect(
        pd.Series(good[codes], findings.index),
        path,
        findings,
        f"is not a finding of NIH ({NONE}, {CLASSES[0]}, ...)",
    )
    table = np.array([[name in part for name in CLASSES] for part in parts], np.float32)
    return pd.DataFrame(table[codes], findings.index, pd.Index([LABEL + name for name in CLASSES]))


def _images(folder: Path) -> tuple[dict[str, str], Counter[str]]:
    # Archives may be in the same folder.
    tops = sorted(path for path in folder.glob("images*") if path.is_dir())
    return find_pngs(
        folder, [f"{top.name}/images" if (top / "images").is_dir() else top.name for top in tops]
    )


def _splits(folder: Path, names: pd.Series, table: str) -> pd.Series:
    """Official set of every image; each image of the table must be in one list."""
    known = set(names)
    splits = pd.Series("", index=names.index)
    taken: set[str] = set()
    for split, file in LISTS.items():
        try:
            expect_regular(folder / file)
            lines = (folder / file).read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{folder / file}: cannot be read ({error}); download it again") from None
        entries = pd.Series(lines, dtype=object).str.strip()
        for row, name in enumerate(entries, 1):
            if name and name not in known:
                raise UserError(
                    f"{folder / file}: row {row}: {name[:80]!r} is not an image of {table}; download the list again"
                )
        listed = set(entries) - {""}
        if not listed:
            raise UserError(f"{folder / file}: lists no image; download the official list")
        if both := taken & listed:
            raise UserError(
                f"{folder / file}: {min(both)} is also in {LISTS['train_val']}; download both again"
            )
        taken |= listed
        splits[names.isin(listed)] = split
    if (absent := names[splits == ""]).size:
        raise UserError(
            f"{folder / LISTS['train_val']}: {absent.size} images of {table} are neither in this list nor in"
            f" {LISTS['test']}, first {absent.iloc[0]}; download the lists again"
        )
    return splits
