"""Keep Findings and Impression of every MIMIC-CXR report and drop reports of fewer than three tokens (paper §4).

In: the folder mimic-cxr-reports and the index of the images. Out: reports.parquet (study_id, patient_id, text) and the
funnel as JSON: how many reports there are, have Findings or Impression, have three tokens, and belong to studies with
images; why the others were dropped; and to how many reports each rule of `refers.text.cleaning.RULES` applied.
The text is credentialed: it stays in the store and is never printed.
"""

import argparse
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from refers.arguments import Arguments, whole
from refers.data.index import read_index
from refers.errors import UserError, run
from refers.files import atomic_path, write_json
from refers.text.cleaning import DROPPED, MIN_TOKENS, RULES, clean_report
from refers.text.report_files import expect_own_reports, list_patients, read_reports
from refers.workers import process_pool

SCHEMA = pa.schema([("study_id", pa.string()), ("patient_id", pa.string()), ("text", pa.string())])
PATIENTS = 256  # per batch, about 900 reports
PROGRESS = 50000  # reports between two progress lines
ENOUGH = f"at_least_{MIN_TOKENS}_tokens"


class Batch(NamedTuple):
    """Reports of some patients: all study and patient numbers, the kept rows, and the number of reports per rule and reason."""

    studies: np.ndarray
    patients: np.ndarray
    kept: pa.Table
    counts: Counter


def parse_args() -> argparse.Namespace:
    parser = Arguments(description=__doc__.splitlines()[0])
    parser.add_argument("--reports", type=Path, required=True, help="folder mimic-cxr-reports")
    parser.add_argument("--index", type=Path, required=True, help="index.parquet of the images")
    parser.add_argument("--out", type=Path, required=True, help="reports.parquet")
    parser.add_argument("--funnel", type=Path, required=True, help="reports.json")
    parser.add_argument("--workers", type=whole(1, 1024), default=1, help="processes")
    return parser.parse_args()


def clean_batch(folder: Path, patients: list[str]) -> Batch:
    """Read and clean the reports of some patients."""
    studies, owners, rows, counts = [], [], [], Counter()
    for report in read_reports(folder, patients):
        cleaned = clean_report(report.text)
        studies.append(int(report.study_id[1:]))
        owners.append(int(report.patient_id[1:]))
        counts.update(cleaned.rules)
        counts["not UTF-8"] += not report.is_utf8
        if cleaned.dropped:
            counts[cleaned.dropped] += 1
        else:
            counts["words"] += cleaned.tokens
            rows.append((report.study_id, report.patient_id, cleaned.text))
    columns = list(zip(*rows, strict=True)) or [[], [], []]
    kept = pa.table([pa.array(column, pa.string()) for column in columns], schema=SCHEMA)
    return Batch(np.array(studies, np.int64), np.array(owners, np.int64), kept, counts)


def clean(folder: Path, workers: int) -> Iterator[Batch]:
    """Batches of all reports in the order of their paths, independent of the number of workers."""
    patients = list_patients(folder)
    groups = [patients[start : start + PATIENTS] for start in range(0, len(patients), PATIENTS)]
    with ExitStack() as stack:
        spread = stack.enter_context(process_pool(workers)).map if workers > 1 else map
        yield from spread(partial(clean_batch, folder), groups)


def write(batches: Iterable[Batch], out: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, Counter]:
    """Write the kept reports batch by batch; return all study numbers, their patients', those kept, and the counts."""
    studies, patients, kept, counts, printed = [], [], [], Counter(), 0
    with pq.ParquetWriter(out, SCHEMA, use_dictionary=["patient_id"], write_page_checksum=True) as writer:
        for batch in batches:
            writer.write_table(batch.kept)
            studies.append(batch.studies)
            patients.append(batch.patients)
            kept.append(numbers_of(batch.kept["study_id"].to_pylist()))
            counts.update(batch.counts)
            counts["reports"] += len(batch.studies)
            if counts["reports"] // PROGRESS > printed:
                printed = counts["reports"] // PROGRESS
                print(f"{counts['reports']} reports read", flush=True)
    empty = np.zeros(0, np.int64)
    return *(np.concatenate([empty, *parts]) for parts in (studies, patients, kept)), counts


def numbers_of(names: Iterable[str]) -> np.ndarray:
    """Study ids "s50000001", or patient ids "p10000001", as int64."""
    return np.array([int(name[1:]) for name in names], np.int64)


class Indexed(NamedTuple):
    """Studies with images: their numbers, sorted; whether each is held out (official validate or test); its patient."""

    studies: np.ndarray
    held_out: np.ndarray
    patients: np.ndarray


def indexed_studies(index: Path) -> Indexed:
    """The studies of an index of MIMIC."""
    frame = read_index(index, ["study_id", "patient_id", "split"])
    try:
        numbers, patients = (numbers_of(frame[name].to_numpy()) for name in ("study_id", "patient_id"))
    except ValueError as error:
        raise UserError(f"{index}: not an index of MIMIC ({error}); create it with index_source.py") from None
    studies, first = np.unique(numbers, return_index=True)
    held_out = frame["split"].isin(["val", "test"]).to_numpy()
    return Indexed(studies, held_out[first], patients[first])


def expect_one_report_each(folder: Path, studies: np.ndarray) -> None:
    """Raise a UserError naming the first study with two reports."""
    found, counts = np.unique(studies, return_counts=True)
    if len(found) < len(studies):
        name = f"s{found[counts > 1][0]}"
        paths = sorted(folder.glob(f"files/p*/p*/{name}.txt"))
        raise UserError(f"{folder}: study {name} has two reports, {' and '.join(map(str, paths))}; keep one")


def count(studies: np.ndarray, kept: np.ndarray, counts: Counter, indexed: Indexed) -> dict:
    """Content of reports.json."""
    with_images, held_out, _ = indexed
    used = np.isin(with_images, kept)
    blank = sum(counts[reason] for reason in DROPPED if not reason.startswith("fewer"))
    return {
        "reports": len(studies),
        "with_findings_or_impression": len(studies) - blank,
        ENOUGH: len(kept),
        "studies_with_images": int(used.sum()),
        "held_out": int((used & held_out).sum()),
        "dropped": {reason: counts[reason] for reason in DROPPED},
        "images": {
            "studies": len(with_images),
            "without a report": int((~np.isin(with_images, studies)).sum()),
            "with a dropped report": int((np.isin(with_images, studies) & ~used).sum()),
        },
        "rules": {rule: counts[rule] for rule in RULES},
        "words": counts["words"],
    }


def main() -> None:
    args = parse_args()
    if args.workers < 1:
        raise UserError(f"--workers {args.workers} is below 1")
    with atomic_path(args.out) as path:
        studies, patients, kept, counts = write(clean(args.reports, args.workers), path)
        expect_one_report_each(args.reports, studies)
        indexed = indexed_studies(args.index)
        expect_own_reports(args.reports, (studies, patients), (indexed.studies, indexed.patients))
        funnel = count(studies, kept, counts, indexed)
        if not len(kept):
            raise UserError(
                f"{args.reports}: none of {len(studies)} reports has Findings or Impression of {MIN_TOKENS} tokens;"
                " check the folder"
            )
        if not funnel["studies_with_images"]:
            raise UserError(
                f"{args.reports}: none of {len(kept)} reports belongs to a study in {args.index}; check both downloads"
            )
    write_json(args.funnel, funnel)
    print(
        f"{funnel['reports']} reports -> {funnel['with_findings_or_impression']} with findings or impression"
        f" -> {funnel[ENOUGH]} of at least {MIN_TOKENS} tokens -> {funnel['studies_with_images']} studies with images,"
        f" {funnel['held_out']} of them held out"
    )
    print("\n".join(f"dropped: {number} {reason}" for reason, number in funnel["dropped"].items()))
    print("\n".join(f"rule: {rule}: {number} reports" for rule, number in funnel["rules"].items()))
    images = funnel["images"]
    print(f"{images['without a report']} of {images['studies']} studies with images have no report")


if __name__ == "__main__":
    run(main)
