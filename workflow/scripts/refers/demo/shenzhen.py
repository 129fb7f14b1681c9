"""The Shenzhen tuberculosis set's layout: PNG images named by class and one table."""

from refers.demo.dataset import IMAGE, PATIENT, STUDY, DatasetPlan, csv_bytes, generator, key, size
from refers.demo.findings import place
from refers.demo.style import Picture

HEADER = "study_id,sex,age,findings"
INCIDENTAL = ("support_device", "calcification", "cardiomegaly", "aortic_enlargement")


def plan(seed: int, scale: float = 1.0) -> DatasetPlan:
    """260 images: normal ones first, then as many with tuberculosis, as in the original numbering."""
    number = size(260, scale)
    pictures, truth, rows = [], [], []
    for index in range(number):
        rng = generator(seed, "shenzhen", STUDY, index)
        sick = index >= number // 2
        places, text = [], "normal"
        if sick:
            places.append(place("tuberculosis", rng))
            side = places[0].side
            text = {"bilateral": "bilateral PTB", "left": "left PTB", "right": "Right PTB"}[side]
            if rng.random() < 0.15:
                places.append(place("effusion", rng))
                text = f"{text} with {places[1].side} pleural effusion"
        # Findings other than tuberculosis, in both classes.
        if rng.random() < 0.15:
            places.append(place(str(rng.choice(INCIDENTAL)), rng))
        name = f"CHNCXR_{index + 1:04d}_{int(sick)}.png"
        pictures.append(
            Picture(
                f"shenzhen/images/{name}",
                "frontal",
                "shenzhen",
                key(seed, "shenzhen", PATIENT, index),
                key(seed, "shenzhen", IMAGE, index),
                tuple(places),
            )
        )
        truth.append({"Tuberculosis": float(sick)})
        rows.append(
            [name, str(rng.choice(["Male", "Female"], p=[0.67, 0.33])), int(rng.integers(15, 80)), text]
        )
    return DatasetPlan(
        "shenzhen", pictures, lambda boxes: {"shenzhen/shenzhen_metadata.csv": csv_bytes(HEADER, rows)}, truth
    )
