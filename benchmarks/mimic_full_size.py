"""Seconds and peak memory of index_source and clean_reports on tables and reports of MIMIC-CXR's size.

Generated below --folder, in the official folder grammar, and removed afterwards: 377,110 images (empty files: indexing
opens none), 227,835 reports of 600 to 1,500 bytes in the styles of tests/report_styles.py, 65,379 patients, and the
metadata, split and CheXpert tables. Memory is the sum over the processes of a job of their resident sets, looked at
every 50 ms; pages that they share count once for each. clean_reports also runs on two of the ten folders of reports, to
show that memory does not follow their number.

    python benchmarks/mimic_full_size.py --workers 2                       # below /dev/shm: 2.4 GB and 0.9 million files
    python benchmarks/mimic_full_size.py --scale 0.1 --folder build
"""

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil

sys.path.extend(str(Path(__file__).parents[1] / folder) for folder in ("workflow/scripts", "tests"))

from refers.data.adapters.mimic import CLASSES, JPG
from refers.demo.reports import SENTENCES
from report_styles import STYLES, Sections

SCRIPTS = Path(__file__).parents[1] / "workflow/scripts"
IMAGES, STUDIES, PATIENTS = 377_110, 227_835, 65_379
TEXTS = 3000  # different ones; a study's number makes each report its own
SECONDS, GIGABYTES = 90, 1.5


def parser_of(description: str) -> argparse.ArgumentParser:
    """Options of a benchmark on generated data: where, and how large."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument(
        "--folder", type=Path, default=Path("/dev/shm"), help="where a temporary folder is made"
    )
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full size")
    return parser


def parse_args() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--workers", type=int, default=2)
    return parser.parse_args()


def reports(rng: np.random.Generator, count: int = TEXTS) -> list[str]:
    """Different texts of 600 to 1,500 bytes, every style among them."""
    known = [text for group in SENTENCES.values() for text in group]
    fill = {"side": "left", "Side": "Left", "zone": "upper", "size": "small", "Size": "Small", "degree": "mild", "Degree": "Mild"}  # fmt: skip
    styles, texts = list(STYLES.values()), []
    while len(texts) < count:
        number = rng.integers(5, 14)
        drawn = [known[place].format(**fill) for place in rng.choice(len(known), number + 2, replace=False)]
        sections = Sections(
            "___ year old with cough.", "___.", " ".join(drawn[:number]), " ".join(drawn[number:])
        )
        text, *_ = styles[len(texts) % len(styles)](sections)
        if 600 <= len(text.encode()) <= 1500:
            texts.append(text)
    return texts


def generate(root: Path, scale: float, has_reports: bool = True) -> None:
    """The three tables, an empty file for every image, and a report for every study where they are asked for."""
    rng = np.random.default_rng(0)
    images, studies, patients = (round(scale * number) for number in (IMAGES, STUDIES, PATIENTS))
    subject = np.sort(rng.choice(9_999_999, patients, replace=False)) + 10_000_000
    owner = np.sort(np.concatenate([np.arange(patients), rng.integers(0, patients, studies - patients)]))
    study = rng.permutation(9_999_999)[:studies] + 50_000_000
    place = np.sort(np.concatenate([np.arange(studies), rng.integers(0, studies, images - studies)]))
    frame = pd.DataFrame({"subject_id": subject[owner[place]], "study_id": study[place]})
    digits = rng.integers(0, 2**32, (images, 5))
    frame.insert(0, "dicom_id", ["-".join(f"{part:08x}" for part in row) for row in digits.tolist()])
    part = rng.choice(["train", "validate", "test"], patients, p=[0.98, 0.01, 0.01])[owner[place]]
    view = rng.choice(["PA", "AP", "LATERAL", "LL", ""], images, p=[0.26, 0.39, 0.22, 0.09, 0.04])
    jpg = root / JPG
    jpg.mkdir(parents=True)
    table = {"index": False, "compression": {"method": "gzip", "compresslevel": 1}}
    frame.assign(
        PerformedProcedureStepDescription="CHEST (PA AND LAT)", ViewPosition=view, Rows=3056, Columns=2544,
        StudyDate=21800506, StudyTime=213014.531, ProcedureCodeSequence_CodeMeaning="CHEST (PA AND LAT)",
        ViewCodeSequence_CodeMeaning="postero-anterior", PatientOrientationCodeSequence_CodeMeaning="Erect",
    ).to_csv(jpg / "mimic-cxr-2.0.0-metadata.csv.gz", **table)  # fmt: skip
    frame.assign(split=part).to_csv(jpg / "mimic-cxr-2.0.0-split.csv.gz", **table)
    labels = rng.choice(["", "1.0", "0.0", "-1.0"], (studies, len(CLASSES)), p=[0.75, 0.12, 0.1, 0.03])
    keys = pd.DataFrame({"subject_id": subject[owner], "study_id": study})
    labelled = pd.concat([keys, pd.DataFrame(labels, columns=list(CLASSES))], axis=1)
    labelled.to_csv(jpg / "mimic-cxr-2.0.0-chexpert.csv.gz", **table)
    texts = [text.encode() for text in reports(rng)] if has_reports else []
    bounds = np.searchsorted(place, np.arange(studies + 1))
    names = frame["dicom_id"].tolist()
    for number in range(studies):
        folder = f"files/p{subject[owner[number]] // 1_000_000}/p{subject[owner[number]]}"
        images_of = root / JPG / folder / f"s{study[number]}"
        images_of.mkdir(parents=True)
        for name in names[bounds[number] : bounds[number + 1]]:
            (images_of / f"{name}.jpg").touch()
        if not has_reports:
            continue
        reports_of = root / "mimic-cxr-reports" / folder
        reports_of.mkdir(parents=True, exist_ok=True)
        text = texts[number % len(texts)] + b"\n Study %d.\n" % study[number]
        (reports_of / f"s{study[number]}.txt").write_bytes(text)


def resident(process: psutil.Process) -> int:
    """Bytes of the resident sets of a process and its children."""
    total = 0
    for one in [process, *process.children(recursive=True)]:
        try:
            total += one.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def processor_seconds() -> float:
    """User and system time of all children so far, and of theirs."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def measure(name: str, *options: object) -> tuple[float, float]:
    """Run a script; print and return its seconds and its peak memory in GB."""
    began, peak, spent = time.perf_counter(), 0, processor_seconds()
    process = psutil.Popen([sys.executable, SCRIPTS / f"{name}.py", *map(str, options)])
    while process.poll() is None:
        try:
            peak = max(peak, resident(process))
        except psutil.NoSuchProcess:
            break
        time.sleep(0.05)
    if code := process.wait():
        raise SystemExit(code)
    seconds = time.perf_counter() - began
    spent = processor_seconds() - spent
    print(
        f"== {name}: {seconds:.1f} s ({spent:.1f} s of processor time), peak {peak / 1e9:.2f} GB", flush=True
    )
    return seconds, peak / 1e9


def main() -> None:
    args = parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.folder, ignore_cleanup_errors=True) as name:
        root = Path(name)
        began = time.perf_counter()
        generate(root, args.scale)
        print(f"== generated in {time.perf_counter() - began:.0f} s", flush=True)
        fifth = root / "fifth/files"
        fifth.mkdir(parents=True)
        for group in ("p10", "p11"):
            (fifth / group).symlink_to(root / "mimic-cxr-reports/files" / group)
        index = ("--index", root / "index.parquet")
        clean = (
            *index,
            "--out",
            root / "reports.parquet",
            "--funnel",
            root / "reports.json",
            "--workers",
            args.workers,
        )
        indexed = measure(
            "index_source", "--layout", "mimic", "--source", "mimic", "--folder", root,
            "--out", root / "index.parquet", "--report", root / "index.json",
        )  # fmt: skip
        part = measure("clean_reports", "--reports", fifth.parent, *clean)
        cleaned = measure("clean_reports", "--reports", root / "mimic-cxr-reports", *clean)
    seconds, memory = indexed[0] + cleaned[0], max(indexed[1], cleaned[1])
    print(f"together {seconds:.1f} s (mark {SECONDS}), peak {memory:.2f} GB (mark {GIGABYTES})")
    print(f"clean_reports: {cleaned[1] / part[1]:.2f} times the memory for five times the reports")


if __name__ == "__main__":
    main()
