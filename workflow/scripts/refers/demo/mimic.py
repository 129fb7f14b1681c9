"""MIMIC-CXR's layout: JPEG images, free-text reports, and the metadata, split and CheXpert tables."""

import gzip
import hashlib

import numpy as np

from refers.demo.dataset import IMAGE, PATIENT, STUDY, TABLE, DatasetPlan, csv_bytes, generator, key, size
from refers.demo.findings import sample_places
from refers.demo.reports import CHEXPERT, LabelledReport, write_report
from refers.demo.style import Picture

METADATA = (
    "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,Columns,StudyDate,StudyTime,"
    "ProcedureCodeSequence_CodeMeaning,ViewCodeSequence_CodeMeaning,PatientOrientationCodeSequence_CodeMeaning"
)
SPLIT = "dicom_id,study_id,subject_id,split"
CHEXPERT_HEADER = "subject_id,study_id," + ",".join(CHEXPERT)
WEIGHTS = {
    "cardiomegaly": 1.0, "effusion": 1.1, "pneumothorax": 1.0, "consolidation": 1.0, "mass": 0.9, "nodule": 1.0,
    "atelectasis": 1.1, "edema": 1.0, "emphysema": 0.9, "fibrosis": 1.0, "pleural_thickening": 0.9, "hernia": 0.9,
    "infiltration": 1.1, "pneumonia": 1.3, "calcification": 0.9, "aortic_enlargement": 0.9, "interstitial": 0.9,
    "support_device": 1.0, "fracture": 0.6, "lung_opacity": 1.0, "other_lesion": 0.9, "covid": 1.4, "viral": 1.0,
    "tuberculosis": 1.3,
}  # fmt: skip
VIEWS = (0.34, 0.42, 0.14, 0.06, 0.04)  # probability of 1..5 images in a study


def _views(rng: np.random.Generator) -> list[str]:
    number = 1 + int(rng.choice(len(VIEWS), p=VIEWS))
    front = [str(rng.choice(["PA", "AP"], p=[0.6, 0.4])) for _ in range(3)]
    side = [str(rng.choice(["LATERAL", "LL"], p=[0.7, 0.3])) for _ in range(2)]
    views = [front[0], side[0] if rng.random() < 0.85 else front[1], front[1], side[1], front[2]][:number]
    return [view if rng.random() > 0.01 else "" for view in views]


def plan(seed: int, scale: float = 1.0) -> DatasetPlan:
    """About 3,500 studies of 1,750 patients, 1 to 5 views each; validate and test are whole patients."""
    studies_wanted = size(3500, scale)
    pictures, truth, metadata, split, chexpert = [], [], [], [], []
    texts: dict[str, bytes] = {}
    study = patient = 0
    wanted = {"test": round(0.08 * studies_wanted), "validate": round(0.06 * studies_wanted)}
    while study < studies_wanted:
        rng = generator(seed, "mimic", TABLE, patient)
        number = min(1 + int(rng.choice(5, p=(0.45, 0.27, 0.14, 0.09, 0.05))), studies_wanted - study)
        part = next((name for name, left in wanted.items() if left > 0), "train")
        if part != "train":
            wanted[part] -= number
        subject = 10000000 + patient * 13291 % 9999991 if patient else 10000032
        for _ in range(number):
            rng = generator(seed, "mimic", STUDY, study)
            study_id = 50000000 + study * 70717 % 9999991
            places = [] if rng.random() < 0.15 else sample_places(WEIGHTS, (0.25, 0.40, 0.35), rng)
            views = _views(rng)
            kinds = [{"PA": "frontal", "AP": "supine", "": "frontal"}.get(view, "lateral") for view in views]
            report = write_report(places, kinds, rng)
            folder = f"p{str(subject)[:2]}/p{subject}"
            texts[f"mimic/mimic-cxr-reports/files/{folder}/s{study_id}.txt"] = report.text.encode()
            chexpert.append([subject, study_id, *(report.labels.get(name, "") for name in CHEXPERT)])
            date = (
                f"21{int(rng.integers(10, 90))}{int(rng.integers(1, 13)):02d}{int(rng.integers(1, 29)):02d}"
            )
            for view, kind in zip(views, kinds, strict=True):
                index = len(pictures)
                digest = hashlib.sha256(f"{seed}/{index}".encode()).hexdigest()
                dicom = "-".join(digest[start : start + 8] for start in range(0, 40, 8))
                path = f"mimic/mimic-cxr-jpg/files/{folder}/s{study_id}/{dicom}.jpg"
                pictures.append(
                    Picture(
                        path,
                        kind,
                        "mimic",
                        key(seed, "mimic", PATIENT, patient),
                        key(seed, "mimic", IMAGE, index),
                        tuple(places),
                    )
                )
                truth.append(_truth(report))
                meaning = {
                    "PA": "postero-anterior",
                    "AP": "antero-posterior",
                    "LATERAL": "lateral",
                    "LL": "left lateral",
                }
                metadata.append(
                    [dicom, subject, study_id, "CHEST (PA AND LAT)" if "lateral" in kinds else "CHEST (PORTABLE AP)", view, 2544,
                     3056, date, f"{int(rng.integers(0, 235959))}.0", "CHEST", meaning.get(view, ""), "Erect" if view != "AP" else "Recumbent"]
                )  # fmt: skip
                split.append([dicom, study_id, subject, part])
            study += 1
        patient += 1

    def files(boxes: list) -> dict[str, bytes]:
        tables = {
            "metadata": csv_bytes(METADATA, metadata),
            "split": csv_bytes(SPLIT, split),
            "chexpert": csv_bytes(CHEXPERT_HEADER, chexpert),
        }
        folder = "mimic/mimic-cxr-jpg/mimic-cxr-2.0.0-"
        # mtime=0: a gzip header's time stamp would make every run's bytes differ
        return texts | {
            f"{folder}{name}.csv.gz": gzip.compress(table, mtime=0) for name, table in tables.items()
        }

    return DatasetPlan("mimic", pictures, files, truth)


def _truth(report: LabelledReport) -> dict[str, float]:
    return dict(report.labels)
