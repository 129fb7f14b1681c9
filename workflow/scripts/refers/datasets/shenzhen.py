"""Shenzhen tuberculosis set: images/CHNCXR_NNNN_{0,1}.png, where 1 is tuberculosis, and shenzhen_metadata.csv."""

import re
from pathlib import Path

import pandas as pd

from refers.datasets import LABEL, expect, expect_unique, finish, list_files, read_table

NAME = re.compile(r"(CHNCXR_\d+)_([01])\.png")


def read_index(folder: Path) -> tuple[pd.DataFrame, dict]:
    """Index of the images in `folder`/images; see `refers.datasets`. The label is the file name's suffix.

    Raises:
        UserError: file, row and what is wrong with it.
    """
    path = folder / "shenzhen_metadata.csv"
    names = read_table(path, ["study_id"])["study_id"].str.strip()
    parts = names.str.extract(NAME.pattern)
    expect(
        names.map(lambda name: NAME.fullmatch(name) is not None),
        path,
        names,
        "is not CHNCXR_NNNN_0.png or _1.png",
    )
    expect_unique(path, names, "is listed")
    here = list_files(folder / "images", (".png",)) if (folder / "images").exists() else []
    frame = pd.DataFrame(
        {
            "image_id": names,
            "patient_id": parts[0],
            "study_id": parts[0],
            "view": "frontal",
            "split": "",
            "path": "images/" + names,
            f"{LABEL}Tuberculosis": parts[1].astype(float),
        }
    )
    present = names.isin(here)
    skipped = {f"image not in {path.name}": len(here) - int(present.sum())}
    return finish(frame[present], folder, path, int((~present).sum()), skipped)
