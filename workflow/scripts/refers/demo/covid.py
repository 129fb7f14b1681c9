"""The COVID-19 Image Data Collection's layout: mixed image files and metadata.csv as released in June 2020."""

import numpy as np

from refers.demo.dataset import IMAGE, PATIENT, STUDY, TABLE, DatasetPlan, csv_bytes, generator, key, size
from refers.demo.findings import Place, place
from refers.demo.style import Picture

HEADER = (
    "patientid,offset,sex,age,finding,survival,intubated,intubation_present,went_icu,in_icu,needed_supplemental_O2,"
    "extubated,temperature,pO2_saturation,leukocyte_count,neutrophil_count,lymphocyte_count,view,modality,date,location,"
    "folder,filename,doi,url,license,clinical_notes,other_notes,"
)
COLUMNS = HEADER.split(",")
# finding: (share of the patients, what is drawn)
FINDINGS = {
    "COVID-19": (0.42, "covid"), "COVID-19, ARDS": (0.03, "covid"), "SARS": (0.045, "viral"), "Varicella": (0.025, "viral"),
    "Influenza": (0.025, "viral"), "Streptococcus": (0.085, "pneumonia"), "Klebsiella": (0.055, "pneumonia"),
    "Mycoplasma Bacterial Pneumonia": (0.04, "pneumonia"), "Legionella": (0.04, "pneumonia"), "E.Coli": (0.03, "pneumonia"),
    "Bacterial": (0.03, "pneumonia"), "Chlamydophila": (0.015, "pneumonia"), "Pneumocystis": (0.045, "edema"),
    "No Finding": (0.06, ""), "Lipoid": (0.015, "consolidation"), "ARDS": (0.01, "edema"), "Pneumonia": (0.01, "infiltration"),
    "todo": (0.02, "infiltration"),
}  # fmt: skip
LICENSES = ("CC BY-NC-SA", "CC BY-NC-SA 4.0", "CC BY 3.0", "")


def _view(rng: np.random.Generator) -> tuple[str, str, str]:
    """Modality and view of a row of the table, and the view that is drawn."""
    draw = rng.random()
    if draw < 0.08:
        return "CT", str(rng.choice(["Axial", "Coronal"], p=[0.8, 0.2])), "ct"
    if draw < 0.18:
        return "X-ray", "L", "lateral"
    view = str(rng.choice(["PA", "AP", "AP Supine"], p=[0.55, 0.22, 0.23]))
    return "X-ray", view, "frontal" if view == "PA" else "supine"


def plan(seed: int, scale: float = 1.0) -> DatasetPlan:
    """330 rows: one to four images per patient, some of them lateral or CT, and a few volumes without an image."""
    wanted = size(330, scale)
    pictures, truth, rows = [], [], []
    patient = 0
    names, shares = list(FINDINGS), np.array([share for share, _ in FINDINGS.values()])
    while len(rows) < wanted:
        rng = generator(seed, "covid", TABLE, patient)
        finding = str(rng.choice(names, p=shares / shares.sum()))
        drawn = FINDINGS[finding][1]
        base: list[Place] = [place(drawn, rng)] if drawn else []
        sex, age = str(rng.choice(["M", "F", ""], p=[0.55, 0.36, 0.09])), int(rng.integers(22, 88))
        for visit in range(min(1 + int(rng.choice(4, p=(0.5, 0.26, 0.16, 0.08))), wanted - len(rows))):
            index = len(rows)
            rng = generator(seed, "covid", STUDY, index)
            modality, view, kind = _view(rng)
            places = list(base)
            if rng.random() < 0.2 and kind != "ct":
                places.append(place("support_device", rng))
            volume = index % 83 == 40
            suffix = ".nii.gz" if volume else str(rng.choice([".jpg", ".jpeg", ".png"], p=[0.6, 0.2, 0.2]))
            name = f"demo-case-{patient + 1:03d}-day{visit * 2}-{chr(97 + visit)}{suffix}"
            row = dict.fromkeys(COLUMNS, "") | {
                "patientid": patient + 1, "offset": visit * 2 if rng.random() < 0.9 else "", "sex": sex, "age": age,
                "finding": finding, "view": "Axial" if volume else view, "modality": "CT" if volume else modality,
                "date": "2020", "folder": "volumes" if volume else "images", "filename": name,
                "license": str(rng.choice(LICENSES)), "location": "Generated",
                "clinical_notes": "A generated picture, \"as real\", for demonstration.",
            }  # fmt: skip
            rows.append([row[column] for column in COLUMNS])
            if volume:
                continue
            pictures.append(
                Picture(
                    f"covid/images/{name}",
                    kind,
                    "covid",
                    key(seed, "covid", PATIENT, patient),
                    key(seed, "covid", IMAGE, index),
                    tuple(places),
                )
            )
            truth.append({"COVID-19": float("COVID-19" in finding), "finding:" + finding: 1.0})
        patient += 1
    return DatasetPlan(
        "covid", pictures, lambda boxes: {"covid/metadata.csv": csv_bytes(HEADER, rows)}, truth
    )
