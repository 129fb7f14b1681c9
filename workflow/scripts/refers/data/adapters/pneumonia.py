"""Paediatric chest radiographs of Kermany et al. (2018): chest_xray/{train,test}/{NORMAL,PNEUMONIA}/*.jpeg, no table.

Kind and a person's number are in the names: person1000_virus_1681.jpeg, person1_bacteria_2.jpeg; of the normal ones the number
behind IM, IM-0115-0001.jpeg or NORMAL2-IM-0246-0001-0002.jpeg. Nobody says how the numbers were given. Hundreds occur with
both kinds and some in both official parts, so most likely they start anew with each kind and part. A person here is kind and
number: images that share both may be of one person, and a draw keeps them together, as it does those of persons who share a
picture (30 files have a byte-identical twin in the same part). Whether the normal children with one number in both official
parts are the same cannot be known; a dataset with the official split accepts that by name (`accept: [patients]`).

Mendeley's archive has the parts train and test. Kaggle's has moved 16 of the training images to a part val, too few to choose by;
both are read as train_val, of which validation is drawn.
"""

import re
from collections import Counter
from pathlib import Path

import pandas as pd

from refers.columns import LABEL
from refers.data.index import finish
from refers.data.read_tables import list_files, merged_patients
from refers.errors import UserError
from refers.files import file_digest
from refers.folders import IMAGE_SUFFIXES, name_key

FOLDER = "chest_xray"
PARTS = {"train": "train_val", "val": "train_val", "test": "test"}
SUFFIX = ".jpeg"
IMAGES = tuple(f".{suffix}" for suffix in IMAGE_SUFFIXES)
NAMES = {
    "NORMAL": re.compile(r"(?:NORMAL2-)?IM-(?P<number>\d+)(?:-\d+)+\.jpeg", re.IGNORECASE),
    "PNEUMONIA": re.compile(r"person(?P<number>\d+)_(?P<cause>bacteria|virus)(?:_\d+)+\.jpeg", re.IGNORECASE),
}


def read_index(folder: Path) -> tuple[pd.DataFrame, dict]:
    """Index of the images below `folder`/chest_xray; see `refers.data.index`. Every one is frontal.

    Labels: Pneumonia against normal, and Viral against bacterial, which normal images do not have.

    Raises:
        UserError: a folder of the official layout is absent, or a file's name does not say what it shows.
    """
    skipped: Counter[str] = Counter()
    found = [
        (part, kind, name)
        for part in PARTS
        if part != "val" or (folder / FOLDER / part).is_dir()
        for kind in NAMES
        for name in list_files(folder / FOLDER / part / kind, IMAGES, skipped)
    ]
    # A converted copy is not the published picture, and a second one of the same would be in the data twice.
    rows = [_row(folder, *each) for each in found if each[-1].lower().endswith(SUFFIX)]
    skipped[f"image that is no {SUFFIX}"] = len(found) - len(rows)
    columns = ["image_id", "patient_id", "study_id", "split", "path", f"{LABEL}Pneumonia", f"{LABEL}Viral"]
    frame = pd.DataFrame(rows, columns=pd.Index(columns)).assign(view="frontal")
    frame["patient_id"] = merged_patients(_contents(folder, frame["path"]), frame["patient_id"])
    return finish(frame, folder, folder / FOLDER, 0, skipped)


def _contents(folder: Path, paths: pd.Series) -> pd.Series:
    """What tells the pictures apart: a digest of each file; of one whose size no other file has, its path."""
    sizes = pd.Series([(folder / path).stat().st_size for path in paths], index=paths.index)
    alone = ~sizes.duplicated(keep=False)
    return paths.where(
        alone, [path if one else file_digest(folder / path) for path, one in zip(paths, alone, strict=True)]
    )


def _row(folder: Path, part: str, kind: str, name: str) -> tuple[str, str, str, str, str, float, float]:
    path = f"{FOLDER}/{part}/{kind}/{name}"
    if not (found := NAMES[kind].fullmatch(name)):
        what = "a number behind IM" if kind == "NORMAL" else "person, number, and bacteria or virus"
        raise UserError(f"{folder / path}: its name has not {what}; remove it or download it again")
    cause = "normal" if kind == "NORMAL" else found["cause"].lower()
    viral = {"virus": 1.0, "bacteria": 0.0, "normal": float("nan")}[cause]
    # The same name may occur in two parts; a suffix in capitals is no other image.
    image = f"{part}/{name_key(name)}"
    return (
        image,
        f"{cause}-{int(found['number'])}",
        image,
        PARTS[part],
        path,
        float(kind == "PNEUMONIA"),
        viral,
    )
