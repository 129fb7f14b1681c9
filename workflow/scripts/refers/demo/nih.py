"""NIH ChestX-ray14's layout: PNG images in numbered folders, the 2020 entry table, lists by patient, and boxes."""

import numpy as np

from refers.demo.dataset import IMAGE, PATIENT, STUDY, TABLE, DatasetPlan, csv_bytes, generator, key, size
from refers.demo.findings import CATALOGUE, place, sample_places
from refers.demo.style import Picture

ENTRY = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
BOXES = "Image Index,Finding Label,Bbox [x,y,w,h],,,"
WEIGHTS = {
    "atelectasis": 1.35, "cardiomegaly": 1.0, "effusion": 1.4, "infiltration": 1.6, "mass": 1.05, "nodule": 1.1, "pneumonia": 0.85,
    "pneumothorax": 1.05, "consolidation": 1.05, "edema": 0.9, "emphysema": 0.9, "fibrosis": 0.85, "pleural_thickening": 0.95,
    "hernia": 0.8,
}  # fmt: skip
BOXED = (
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
)
FOLDERS = 4
SIDE = 1024  # pixels per side of the official images, to which the boxes refer


def plan(seed: int, scale: float = 1.0) -> DatasetPlan:
    """1,800 images of about 900 patients; a fifth of the patients are on the official test list."""
    wanted = size(1800, scale)
    pictures, truth, entries, names, in_test = [], [], [], [], []
    patient = 0
    while len(pictures) < wanted:
        rng = generator(seed, "nih", TABLE, patient)
        number = min(1 + int(rng.choice(6, p=(0.50, 0.24, 0.12, 0.07, 0.04, 0.03))), wanted - len(pictures))
        test, sex, age = patient % 5 == 3, str(rng.choice(["M", "F"])), int(rng.integers(18, 88))
        for visit in range(number):
            index = len(pictures)
            rng = generator(seed, "nih", STUDY, index)
            places = [] if rng.random() < 0.35 else sample_places(WEIGHTS, (0.42, 0.36, 0.22), rng)
            labels = {CATALOGUE[item.finding].nih: 1.0 for item in places}
            # Tubes and lines are visible but not labelled.
            if rng.random() < 0.12:
                places.append(place("support_device", rng))
            view = str(rng.choice(["PA", "AP"], p=[0.6, 0.4]))
            name = f"{patient + 1:08d}_{visit:03d}.png"
            folder = 1 + index * FOLDERS // wanted
            pictures.append(
                Picture(
                    f"nih/images_{folder:03d}/images/{name}",
                    "frontal" if view == "PA" else "supine",
                    "nih",
                    key(seed, "nih", PATIENT, patient),
                    key(seed, "nih", IMAGE, index),
                    tuple(places),
                )
            )
            truth.append(labels)
            names.append(name)
            in_test.append(test)
            width, height = (int(value) for value in rng.integers(2048, 3057, 2))
            text = "|".join(sorted(labels)) or "No Finding"
            entries.append(
                [name, text, visit, patient + 1, age + visit // 2, sex, view, width, height, 0.143, 0.143]
            )
        patient += 1

    def files(boxes: list) -> dict[str, bytes]:
        drawn = zip(names, pictures, boxes, in_test, strict=True)
        rows = _boxes([item for *item, test in drawn if test])
        train_val = [name for name, test in zip(names, in_test, strict=True) if not test]
        test = [name for name, test in zip(names, in_test, strict=True) if test]
        return {
            "nih/Data_Entry_2017_v2020.csv": csv_bytes(ENTRY, entries),
            "nih/BBox_List_2017.csv": csv_bytes(BOXES, rows),
            "nih/train_val_list.txt": "\n".join(train_val).encode(),
            "nih/test_list.txt": "\n".join(test).encode(),
        }

    return DatasetPlan("nih", pictures, files, truth)


def _boxes(drawn: list) -> list[list[object]]:
    """Rows of BBox_List_2017.csv: the eight classes with radiologists' boxes, under the file's older names."""
    rows = []
    for name, picture, sites in drawn:
        for item, boxes in zip(picture.places, sites, strict=True):
            label = CATALOGUE[item.finding].nih
            if label in BOXED:
                for left, top, right, bottom in boxes:
                    numbers = (np.array([left, top, right - left, bottom - top]) * SIDE).tolist()
                    rows.append([name, "Infiltrate" if label == "Infiltration" else label, *numbers])
    return sorted(rows, key=lambda row: (row[1], row[0]))
