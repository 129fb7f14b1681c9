"""Processor time of index_source on a download of MIMIC-CXR-JPG's size, against the least that any reader of it does.

The least is to read the wanted columns of the three tables by pyarrow, on one thread, and to list every folder once, with
no check at all. Tables and empty images are those of mimic_full_size.py, below --folder, and removed afterwards. Rounds
alternate; the time of index_source is that of the whole script, with its start.

    python benchmarks/index_mimic.py                            # below /dev/shm: 0.7 million files and folders
    python benchmarks/index_mimic.py --scale 0.1 --folder build
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow.csv
from mimic_full_size import SCRIPTS, generate, parser_of, processor_seconds
from refers.data.adapters.mimic import CLASSES, JPG

WANTED = {
    "metadata": ["dicom_id", "subject_id", "study_id", "ViewPosition", "Rows", "Columns"],
    "split": ["dicom_id", "split"],
    "chexpert": ["subject_id", "study_id", *CLASSES],
}


def parse_args() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


def least(root: Path) -> float:
    """Seconds of processor time to read the tables and to list the folders."""
    began = time.process_time()
    for name, columns in WANTED.items():
        pyarrow.csv.read_csv(
            root / JPG / f"mimic-cxr-2.0.0-{name}.csv.gz",
            read_options=pyarrow.csv.ReadOptions(use_threads=False),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(columns, pyarrow.string()), include_columns=columns
            ),
        )
    waiting, images = [str(root / JPG / "files")], []
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                (waiting if entry.is_dir() else images).append(entry.path)
    return time.process_time() - began


def ours(root: Path) -> float:
    """Seconds of processor time of index_source."""
    began = processor_seconds()
    subprocess.run(
        [
            *(sys.executable, SCRIPTS / "index_source.py", "--layout", "mimic", "--source", "mimic"),
            *("--folder", root, "--out", root / "index.parquet", "--report", root / "index.json"),
        ],
        check=True,
    )
    return processor_seconds() - began


def main() -> None:
    args = parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.folder, ignore_cleanup_errors=True) as name:
        root = Path(name)
        generate(root, args.scale, has_reports=False)
        rounds = [(ours(root), least(root)) for _ in range(args.rounds)]
    for what, seconds in zip(("index_source", "least"), zip(*rounds, strict=True), strict=True):
        print(f"{what} {statistics.median(seconds):.2f} s (min {min(seconds):.2f}, max {max(seconds):.2f})")
    ratios = [own / floor for own, floor in rounds]
    print(f"ratio {statistics.median(ratios):.2f} (min {min(ratios):.2f}, max {max(ratios):.2f})")


if __name__ == "__main__":
    main()
