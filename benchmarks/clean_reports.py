"""Processor time of reading and cleaning MIMIC-CXR's reports against reading alone, on the same files in one run.

The reports are those of mimic_full_size.py, each with a text of its own, 600 to 1,500 bytes in the styles of
tests/report_styles.py; or real ones, with --folder. Both ways run in turn in one process; the medians of the rounds are
scaled to the number of reports in MIMIC-CXR. The start of the program, about a second for each process, is not in them.

    python benchmarks/clean_reports.py                                    # 5,000 reports, 5 rounds
    python benchmarks/clean_reports.py --folder mimic-cxr-reports --reports 20000
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow/scripts"))

from clean_reports import PATIENTS as BATCH
from clean_reports import clean_batch
from mimic_full_size import PATIENTS, STUDIES, reports
from refers.text.report_files import list_patients, list_reports, read_reports


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="folder mimic-cxr-reports")
    parser.add_argument("--reports", type=int, default=5000, help="about as many are read")
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


def generate(folder: Path, count: int) -> None:
    """`count` reports, as many for a patient as MIMIC-CXR has on average."""
    for number, text in enumerate(reports(np.random.default_rng(0), count)):
        parent = folder / f"files/p10/p{10_000_000 + number * PATIENTS // STUDIES}"
        parent.mkdir(parents=True, exist_ok=True)
        (parent / f"s{50_000_000 + number}.txt").write_bytes(text.encode())


def sample(folder: Path, count: int) -> tuple[list[list[str]], int]:
    """Batches of the first patients who have `count` reports together, and the number of their reports."""
    taken, found = [], 0
    for patient in list_patients(folder):
        if found >= count:
            break
        taken.append(patient)
        found += len([*list_reports(folder, [patient])])
    return [taken[start : start + BATCH] for start in range(0, len(taken), BATCH)], found


def seconds(work: Callable[[Path, list[str]], object], folder: Path, batches: list[list[str]]) -> float:
    """Processor time of some work on every batch."""
    began = time.process_time()
    for batch in batches:
        work(folder, batch)
    return time.process_time() - began


def read(folder: Path, patients: list[str]) -> None:
    for _ in read_reports(folder, patients):
        pass


def compare(folder: Path, count: int, rounds: int) -> None:
    batches, found = sample(folder, count)
    seconds(clean_batch, folder, batches)  # every file in the page cache
    times = [(seconds(clean_batch, folder, batches), seconds(read, folder, batches)) for _ in range(rounds)]
    cleaned, alone = (STUDIES / found * statistics.median(column) for column in zip(*times, strict=True))
    ratio = statistics.median(ours / reading for ours, reading in times)
    print(
        f"{found} reports, {rounds} rounds; for {STUDIES} reports: read and cleaned in {cleaned:.1f} s of processor time,"
        f" read alone in {alone:.1f} s, ratio {ratio:.1f}"
    )


def main() -> None:
    args = parse_args()
    if args.folder:
        compare(args.folder, args.reports, args.rounds)
        return
    with tempfile.TemporaryDirectory() as name:
        generate(Path(name), args.reports)
        compare(Path(name), args.reports, args.rounds)


if __name__ == "__main__":
    main()
