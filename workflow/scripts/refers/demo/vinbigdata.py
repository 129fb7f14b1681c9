"""The VinBigData (Kaggle) layout: DICOM images and train.csv with the boxes of three radiologists per image."""

import hashlib

from refers.demo.anatomy import SIZE
from refers.demo.dataset import IMAGE, PATIENT, STUDY, TABLE, DatasetPlan, csv_bytes, generator, key, size
from refers.demo.findings import CATALOGUE, place, sample_places
from refers.demo.style import Picture

HEADER = "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max"
CLASSES = (
    "Aortic enlargement", "Atelectasis", "Calcification", "Cardiomegaly", "Consolidation", "ILD", "Infiltration",
    "Lung Opacity", "Nodule/Mass", "Other lesion", "Pleural effusion", "Pleural thickening", "Pneumothorax",
    "Pulmonary fibrosis", "No finding",
)  # fmt: skip  # a class's position is its class_id on Kaggle
WEIGHTS = {
    "aortic_enlargement": 1.4, "atelectasis": 0.8, "calcification": 1.0, "cardiomegaly": 1.4, "consolidation": 0.9,
    "interstitial": 0.9, "infiltration": 1.0, "lung_opacity": 1.1, "mass": 0.5, "nodule": 0.7, "other_lesion": 1.0, "effusion": 1.1,
    "pleural_thickening": 1.2, "pneumothorax": 0.8, "fibrosis": 1.1,
}  # fmt: skip


def plan(seed: int, scale: float = 1.0) -> DatasetPlan:
    """900 images, a third of them MONOCHROME1; each is read by three of seventeen radiologists."""
    pictures, truth, readers, names = [], [], [], []
    for index in range(size(900, scale)):
        rng = generator(seed, "vinbigdata", STUDY, index)
        places = [] if rng.random() < 0.35 else sample_places(WEIGHTS, (0.40, 0.36, 0.24), rng)
        labels = {CATALOGUE[item.finding].vinbigdata: 1.0 for item in places}
        if rng.random() < 0.08:
            places.append(place("support_device", rng))
        name = hashlib.sha256(f"vinbigdata/{seed}/{index}".encode()).hexdigest()[:32]
        pictures.append(
            Picture(
                f"vinbigdata/train/{name}.dicom",
                "frontal",
                "vinbigdata",
                key(seed, "vinbigdata", PATIENT, index),
                key(seed, "vinbigdata", IMAGE, index),
                tuple(places),
                inverted=index % 3 == 1,
            )
        )
        truth.append(labels)
        names.append(name)
        readers.append(
            [f"R{number + 1}" for number in sorted(rng.choice(17, size=3, replace=False).tolist())]
        )

    def files(boxes: list) -> dict[str, bytes]:
        rows = []
        for index, (name, picture, sites) in enumerate(zip(names, pictures, boxes, strict=True)):
            rng = generator(seed, "vinbigdata", TABLE, index)
            found = [
                (CATALOGUE[item.finding].vinbigdata, box)
                for item, drawn in zip(picture.places, sites, strict=True)
                for box in drawn
                if CATALOGUE[item.finding].vinbigdata
            ]
            # One reader may overlook a finding that the other two see: "any reader" still gives the true labels.
            careless = int(rng.integers(0, 3)) if rng.random() < 0.3 and found else -1
            missed = found[int(rng.integers(len(found)))][0] if found else ""
            for number, reader in enumerate(readers[index]):
                seen = [(label, box) for label, box in found if number != careless or label != missed]
                if not seen:
                    rows.append([name, "No finding", 14, reader, "", "", "", ""])
                for label, box in seen:
                    rows.append([name, label, CLASSES.index(label), reader, *_jitter(box, rng)])
        return {"vinbigdata/train.csv": csv_bytes(HEADER, rows)}

    return DatasetPlan("vinbigdata", pictures, files, truth)


def _jitter(box: tuple, rng) -> list[float]:
    """A reader's box: the drawn one, each edge moved by up to two pixels."""
    left, top, right, bottom = (
        min(max(edge * SIZE + float(rng.integers(-2, 3)), 0.0), float(SIZE)) for edge in box
    )
    return [
        min(left, SIZE - 2.0),
        min(top, SIZE - 2.0),
        max(right, left + 2.0, 2.0),
        max(bottom, top + 2.0, 2.0),
    ]
