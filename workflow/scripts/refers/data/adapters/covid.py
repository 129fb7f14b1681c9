"""COVID-19 Image Data Collection: metadata.csv (words or paths in column finding) and images/*."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from refers.columns import LABEL
from refers.data.index import finish
from refers.data.read_tables import (
    expect,
    expect_file_names,
    list_files,
    match_names,
    merged_patients,
    read_table,
)

COVID = r"\bCOVID-19\b"
VIRAL = r"\b(?:viral|COVID-19|SARS|MERS|influenza|varicella|H1N1|herpes)\b"
BACTERIAL = (
    r"\b(?:bacterial|streptococcus|klebsiella|legionella|mycoplasma|E\.? ?coli|chlamydophila|nocardia|staphylococcus"
    r"|tuberculosis)\b"
)
# Every word of the findings in both versions of the table. An unknown or misspelt one would silently mean "not COVID-19".
WORDS = {
    "todo", "unknown", "pneumonia", "viral", "bacterial", "fungal", "lipoid", "aspiration", "ards",
    "covid-19", "sars", "mers", "mers-cov", "influenza", "h1n1", "varicella", "herpes", "streptococcus", "klebsiella",
    "legionella", "mycoplasma", "e.coli", "e.", "e", "coli", "chlamydophila", "nocardia", "staphylococcus", "mrsa",
    "tuberculosis", "pneumocystis", "aspergillosis",
}  # fmt: skip
# Alone: in a longer finding "no" would deny what the other words say.
NONE = "no finding"
UNKNOWN = "(?:todo|unknown)?"
FRONTAL = ("pa", "ap", "ap supine", "ap erect", "ap semi erect")
# All that either version has; a view or modality of another column would silently be no frontal radiograph.
VIEWS = (*FRONTAL, "l", "axial", "coronal", "?", "")
MODALITIES = ("x-ray", "ct")
SUFFIXES = (".png", ".jpg", ".jpeg")


def read_index(folder: Path) -> tuple[pd.DataFrame, dict]:
    """Index of the images in `folder`/images, CT slices and lateral views included; see `refers.data.index`.

    Column finding holds words (release of June 2020) or a path such as Pneumonia/Viral/COVID-19 (final release).
    RT_PCR_positive, which only the final release has, is not read: it is blank in most rows, and the finding says
    COVID-19 wherever the test is positive.
    Labels: COVID-19 against every other known finding, and Viral (COVID-19 included) against bacterial. A finding that
    names both a virus and a bacterium, or neither, has no Viral label.

    Raises:
        UserError: a table or an image folder is wrong; names file, row and what is wrong.
    """
    path = folder / "metadata.csv"
    table = read_table(path, ["patientid", "offset", "finding", "view", "modality", "filename"])
    names = table["filename"]
    volumes = names.str.lower().str.endswith((".nii.gz", ".nii"))
    expect(names != "", path, table["patientid"], "(patientid) has no filename; complete or delete the row")
    expect_file_names(path, names)
    expect(
        table["finding"].map(_is_known),
        path,
        table["finding"],
        "is not a known finding; correct it, or add the word to WORDS in refers/data/adapters/covid.py",
    )
    for name, values in (("modality", MODALITIES), ("view", VIEWS)):
        known = table[name].str.lower().isin(values)
        expect(known, path, table[name], f"is not a {name} of the collection ({', '.join(values[:2])}, ...)")
    # pandas saves a column of numbers with blanks as 1.0, 2.0, ...
    patients = table["patientid"].str.replace(r"^(\d+)\.0$", r"\1", regex=True)
    expect(patients != "", path, names, "has no patientid; complete or delete the row")
    again = names.duplicated()
    same = ~again | table.duplicated(["filename", "finding", "view", "modality"])
    expect(same, path, names, "is listed twice with different findings or views; keep one row")
    patients = merged_patients(names, patients)

    skipped: Counter[str] = Counter()
    files = list_files(folder / "images", SUFFIXES, skipped)
    paths = match_names(names, {name: f"images/{name}" for name in files})
    frame = pd.DataFrame(
        {
            "image_id": names,
            "patient_id": patients,
            "study_id": patients + "_" + table["offset"],
            "view": _views(table["modality"], table["view"]),
            "split": "",
            "path": paths,
            **_labels(table["finding"]),
        }
    )
    present = paths.notna() & ~again
    skipped |= {
        "volume (.nii.gz)": int(volumes.sum()),
        "row of an image listed before": int(again.sum()),
        f"image not in {path.name}": len(files) - int(present.sum()),
    }
    return finish(frame[present], folder, path, int((~present & ~volumes & ~again).sum()), skipped)


def read_characteristics(folder: Path) -> pd.DataFrame:
    """Sex, age and projection of an image's first row; see `refers.data.adapters.read_characteristics`."""
    table = read_table(folder / "metadata.csv", ["filename"], ["sex", "age", "view"])
    return table.drop_duplicates("filename").rename(columns={"filename": "image_id", "view": "projection"})


def _is_known(finding: str) -> bool:
    """Whether a finding is blank, says that there is none, or has words of the table alone."""
    words = {*re.split(r"[/,\s]+", finding.lower())} - {""}
    return finding.lower() in ("", NONE) or (bool(words) and words <= WORDS)


def _views(modality: pd.Series, view: pd.Series) -> np.ndarray:
    modality, view = modality.str.lower(), view.str.lower()
    radiograph = modality == "x-ray"
    return np.select(
        [radiograph & view.isin(FRONTAL), radiograph & (view == "l"), modality == "ct"],
        ["frontal", "lateral", "ct"],
        "other",
    )


def _labels(finding: pd.Series) -> dict[str, np.ndarray]:
    def says(pattern: str) -> pd.Series:
        return finding.str.contains(pattern, case=False, regex=True)

    unknown = finding.str.fullmatch(UNKNOWN, case=False)
    viral, bacterial = says(VIRAL), says(BACTERIAL)
    return {
        f"{LABEL}COVID-19": np.where(unknown, np.nan, says(COVID).astype(float)),
        f"{LABEL}Viral": np.select([viral & ~bacterial, bacterial & ~viral], [1.0, 0.0], np.nan),
    }
