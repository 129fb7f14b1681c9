"""Shenzhen tuberculosis set: CHNCXR_NNNN_{0,1}.png, where 1 is tuberculosis, in the layout of the NLM or of Kaggle.

NLM: CXR_png/*.png and ClinicalReadings/*.txt, one reading per image. Kaggle: images/*.png, or one folder deeper, and
shenzhen_metadata.csv. Where both tables exist, the CSV is used.
"""

import re
from pathlib import Path

import pandas as pd

from refers.columns import LABEL
from refers.data.index import finish
from refers.data.read_tables import expect, expect_unique, find_pngs, list_files, match_names, read_table
from refers.errors import UserError
from refers.files import read_utf8

NAME = re.compile(r"(CHNCXR_\d+)_([01])\.png")
TABLE, READINGS = "shenzhen_metadata.csv", "ClinicalReadings"
IMAGES = ("images", "images/images", "CXR_png")
NORMAL = "normal"


def read_index(folder: Path) -> tuple[pd.DataFrame, dict]:
    """Index of the images below `folder`; see `refers.data.index`. The label is the file name's suffix.

    Raises:
        UserError: a table or an image folder is wrong; names file, row and what is wrong.
    """
    path = _table(folder)
    names = _readings(path) if path.name == READINGS else _listed(path)
    found, skipped = find_pngs(folder, [images for images in IMAGES if (folder / images).exists()])
    parts = names.str.extract(NAME.pattern)
    frame = pd.DataFrame(
        {
            "image_id": names,
            "patient_id": parts[0],
            "study_id": parts[0],
            "view": "frontal",
            "split": "",
            "path": match_names(names, found),
            f"{LABEL}Tuberculosis": parts[1].astype(float),
        }
    )
    exists = frame["path"].notna()
    skipped[f"image not in {path.name}"] = len(found) - int(exists.sum())
    return finish(frame[exists], folder, path, int((~exists).sum()), skipped)


def read_characteristics(folder: Path) -> pd.DataFrame:
    """Sex and age, of the table or of the first line of each reading, such as "Male 45yrs"; see
    `refers.data.adapters.read_characteristics`."""
    path = _table(folder)
    if path.name != READINGS:
        table = read_table(path, ["study_id"], ["sex", "age"])
        return table.rename(columns={"study_id": "image_id"})
    names = _readings(path)
    texts = [read_utf8(path / f"{Path(name).stem}.txt", "the download") for name in names]
    first = [next((line.split() for line in text.splitlines() if line.strip()), []) for text in texts]
    parts = [" ".join(words).replace(",", " ").partition(" ") for words in first]
    return pd.DataFrame(
        {"image_id": names, "sex": [each[0] for each in parts], "age": [each[2].strip() for each in parts]}
    )


def _table(folder: Path) -> Path:
    """The table, or the folder of readings where there is no table."""
    path = folder / TABLE
    return folder / READINGS if not path.exists() and (folder / READINGS).is_dir() else path


def _listed(path: Path) -> pd.Series:
    table = read_table(path, ["study_id", "findings"])
    names, findings = table["study_id"], table["findings"].str.lower()
    good = names.map(lambda name: NAME.fullmatch(name) is not None)
    expect(good, path, names, "is not CHNCXR_NNNN_0.png or _1.png")
    expect_unique(path, names)
    expect(findings != "", path, names, "has no findings")
    agree = names.str.endswith("_0.png") == (findings == NORMAL)
    expect(agree, path, findings, "contradicts the image's name (_0 normal, _1 tuberculosis)")
    return names


def _readings(folder: Path) -> pd.Series:
    names = [name[: -len(".txt")] + ".png" for name in list_files(folder, (".txt",))]
    for name in names:
        if not NAME.fullmatch(name):
            raise UserError(
                f"{folder / Path(name).stem}.txt: is not CHNCXR_NNNN_0.txt or _1.txt; rename or delete it"
            )
    return pd.Series(names, dtype=object)
