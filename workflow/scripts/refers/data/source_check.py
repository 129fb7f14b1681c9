"""One official download against what its owner publishes: what is on disk, what is wrong with it, what to do next."""

import os
import stat
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from refers.config import Split
from refers.config.study import Expected, Source
from refers.data.adapters import adapter
from refers.data.advice import how_to_get, packed
from refers.data.images import decode
from refers.data.index import COUNTED
from refers.data.leakage import THUMBNAIL, near_copies, thumbnail
from refers.data.splits import make_split, minority_warnings, positives
from refers.errors import UserError
from refers.text.report_files import FOLDER, expect_own_reports, list_reports
from refers.workers import process_pool, progress_bar

CHUNK = 64  # images a worker takes at a time
SIDE = 64  # pixels per side that show whether a JPEG is complete
NAMED = 3  # unreadable images, or pairs of copies, that the text names
COPIES = 1000  # pairs of copies of a dataset that the report lists


class Download(NamedTuple):
    """An official download: its entry in the config's `sources`, its folder, and its patterns that match nothing.

    splits: settings of the split of each dataset that it gives, and the folder of the lists of a released one.
    """

    name: str
    entry: Source
    folder: Path
    missing: list[str]
    splits: list[tuple[Split, Path | None]]


def report_line(name: str, folder: Path, **known: Any) -> dict[str, Any]:
    """A line of the preflight report, absent until something else is known.

    Keys: name, folder, state (available, complete, partial, absent or broken), expected and found files, unreadable ones
    (None where nothing was checked), bad (path and reason of each of these), remarks (a list of lines), splits (warnings on
    the splits of its datasets), copies (pairs of pictures in two sets of a split that are nearly alike), labels ({class:
    (positives found, published or None)}), store (bytes of the packed images) and next (what to do, or "").
    """
    return {
        "name": name,
        "folder": str(folder),
        "state": "absent",
        "expected": None,
        "found": 0,
        "unreadable": None,
        "bad": [],
        "remarks": [],
        "splits": [],
        "copies": [],
        "labels": {},
        "store": 0,
        "next": "",
    } | known


def check_source(
    size: int, tolerance: float, minority_patients: int, full: bool, workers: int, source: Download
) -> list[dict[str, Any]]:
    """Report lines of a source: its images, and its reports where it has some.

    Args:
        size: side in pixels of an image in the store.
        tolerance: share of unreadable images that does not stop a study.
        minority_patients: see `refers.data.splits.minority_warnings`.
        full: decode every image, in this many `workers`; otherwise tables, file names and image headers are read.
        source: the download.
    """
    entry, folder = source.entry, source.folder
    expected = entry.expected or Expected()
    absent = [pattern for pattern in source.missing if pattern != entry.reports]
    known = expected.images
    line = report_line(source.name, folder, expected=known, store=(known or 0) * size**2)
    index = None
    if absent:
        line["next"] = how_to_get(entry, folder, absent)
    else:
        try:
            index, counts = adapter(entry.layout)(folder)
            facts, differs, thumbnails = check_images(index, counts, folder, expected, full, workers)
            line |= facts | {"store": len(index) * size**2}
            line["splits"], line["copies"] = split_warnings(
                index, source.splits, minority_patients, thumbnails
            )
            line = concluded(line, counts["missing_images"], tolerance, differs)
            if line["state"] == "partial":
                line["next"] += f"; get them from {entry.origin}" if entry.origin else ""
                line["next"] += packed(entry, folder, entry.images)
        except UserError as error:
            line |= {"state": "broken", "next": str(error)}
    return [line, *([check_reports(source, index, full)] if entry.reports else [])]


def check_images(
    index: pd.DataFrame, counts: dict, folder: Path, expected: Expected, full: bool, workers: int
) -> tuple[dict[str, Any], bool, np.ndarray | None]:
    """Facts about the images of an index, as keys of a report line; whether a whole download differs from its totals; and a
    thumbnail of every image, where all are decoded."""
    decoded: Counter[str] = Counter()
    thumbnails = None
    if full:
        broken, thumbnails, decoded = decode_all(folder, index["path"].tolist(), workers)
    else:
        headers = index.loc[index["width"] == 0, "path"]
        broken = [(path, "header cannot be read") for path in headers]
        broken += empty_files(folder, index["path"].drop(headers.index).tolist())
    missing = counts["missing_images"]
    expected, remarks = totals(expected, len(index) + missing)
    published, found = expected.labels, positives(index)
    differing = differences(index, expected) if not missing else []
    facts = {
        "expected": expected.images,
        "found": len(index),
        "unreadable": len(broken) if full or broken else None,
        "bad": broken,
        "labels": {name: (found.get(name, 0), published.get(name)) for name in {**found, **published}},
        "remarks": [
            *remarks,
            *([f"{missing:,} images of the official table not found"] if missing else []),
            *(f"{count:,} left out: {reason}" for reason, count in counts["skipped"].items()),
            *(f"{count:,} images: {remark}" for remark, count in sorted(decoded.items())),
            *(f"{what}: {counts[name]:,}" for name, what in COUNTED.items() if name in counts),
            *differing,
        ],
    }
    # A download whose release is not known keeps the entry with all releases.
    return facts, bool(differing or expected.releases), thumbnails


def split_warnings(
    index: pd.DataFrame, splits: list[tuple[Split, Path | None]], least: int, thumbnails: np.ndarray | None
) -> tuple[list[str], list[dict[str, Any]]]:
    """Why a dataset cannot be split, or which sets of it have few patients with a label, or share pictures; and the pairs of
    these, COPIES of a dataset at most."""
    warnings, copies = [], []
    for settings, lists in splits:
        try:
            frame, counts = make_split(index, settings, lists)
        except UserError as error:
            warnings.append(str(error))
            continue
        warnings += minority_warnings(counts, least, settings.dataset)
        if thumbnails is None or not (found := near_copies(frame, thumbnails)):
            continue
        named = "; ".join(f"{one} ({a}), {other} ({b})" for one, a, other, b, _ in found[:NAMED])
        more = f"; and {len(found) - NAMED:,} more, listed in preflight.json" if len(found) > NAMED else ""
        warnings.append(
            f"{settings.dataset}: {len(found):,} pictures nearly alike in two sets: {named}{more}"
        )
        copies += [
            {
                "dataset": settings.dataset,
                "images": [one, other],
                "sets": [a, b],
                "similarity": round(alike, 3),
            }
            for one, a, other, b, alike in found[:COPIES]
        ]
    return warnings, copies


def totals(expected: Expected, listed: int) -> tuple[Expected, list[str]]:
    """Published totals of a download, and a remark; of one that grew, those of the release with as many images."""
    releases = expected.releases
    for name, release in releases.items():
        if release.images == listed:
            return Expected(**release.model_dump()), [f"the table is that of release {name}"]
    known = ", ".join(f"{name}: {release.images:,} images" for name, release in releases.items())
    return expected, [
        f"no published totals for a table of {listed:,} images; known releases: {known}"
    ] if releases else []


def differences(index: pd.DataFrame, expected: Expected) -> list[str]:
    """Patients, official sets and label counts of a whole download that differ from the published totals."""
    differing, found = [], positives(index)
    patients = index["patient_id"].nunique()
    if expected.patients not in (None, patients):
        differing.append(f"{patients:,} patients, {expected.patients:,} published")
    for name, count in expected.splits.items():
        if (number := int((index["split"] == name).sum())) != count:
            differing.append(f"official {name}: {number:,} images, {count:,} published")
    for name, count in expected.labels.items():
        if found.get(name, 0) != count:
            differing.append(f"{name}: {found.get(name, 0):,} positive, {count:,} published")
    return differing


def concluded(line: dict, missing: int, tolerance: float, differs: bool) -> dict:
    """The line with its state, and what to do next."""
    folder, bad = line["folder"], line["bad"]
    if len(bad) > tolerance * line["found"]:
        names = "; ".join(f"{path}: {reason}" for path, reason in bad[:NAMED])
        if len(bad) > NAMED:
            names += f"; and {len(bad) - NAMED:,} more, listed in unreadable.csv beside the log"
        return line | {
            "state": "broken",
            "next": f"download {len(bad):,} unreadable images below {folder} again: {names}",
        }
    if bad:
        line["remarks"].append(f"{len(bad)} unreadable images, fewer than images.tolerance allows")
    if missing or line["found"] < (line["expected"] or 0):
        advice = f"a study can run on the images found; place the others below {folder}"
        return line | {"state": "partial", "next": advice}
    advice = "compare the table's release with the one that docs/data.md names" if differs else ""
    return line | {"state": "complete", "next": advice}


def check_reports(source: Download, index: pd.DataFrame | None, full: bool) -> dict[str, Any]:
    """The line of a source's reports.

    Args:
        source: the download.
        index: of its images, where there are some.
        full: compare the patient of every report with that of its study's images.
    """
    folder, pattern = source.folder / FOLDER, source.entry.reports
    expected = (source.entry.expected or Expected()).reports
    line = report_line(f"{source.name} reports", folder, expected=expected)
    if pattern in source.missing:
        return line | {"next": how_to_get(source.entry, source.folder, [pattern])}
    try:
        owners = {name[: -len(".txt")]: patient.partition("/")[2] for patient, name in list_reports(folder)}
        if full and index is not None:
            expect_own_reports(folder, _numbered(owners), _numbered(owners_of(index)))
    except UserError as error:
        return line | {"state": "broken", "next": str(error)}
    line |= {"state": "complete", "found": len(owners)}
    without, studies = 0, owners_of(index) if index is not None else {}
    if without := len(studies.keys() - owners.keys()):
        line["remarks"] = [f"{without:,} of {len(studies):,} studies with images have no report"]
    if without or len(owners) < (expected or 0):
        effect = f"pre-training leaves out {without:,} studies without a report; " if without else ""
        line |= {"state": "partial", "next": f"{effect}unpack mimic-cxr-reports.zip into {folder} again"}
    return line


def owners_of(index: pd.DataFrame) -> dict[str, str]:
    """Patient of every study of an index, sorted by study."""
    return dict(sorted(zip(index["study_id"], index["patient_id"], strict=True)))


def _numbered(owners: dict[str, str]) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of studies "s50000001" and of their patients "p10000001", (N,) int64 each."""
    studies, patients = ([int(name[1:]) for name in names] for names in (owners.keys(), owners.values()))
    return np.array(studies, np.int64), np.array(patients, np.int64)


def empty_files(folder: Path, paths: list[str]) -> list[tuple[str, str]]:
    """(path, reason) of the images without a byte: where a table has the sizes, no header is read that would show them."""

    def look(chunk: list[str]) -> list[tuple[str, str]]:
        found = []
        for path in chunk:
            try:
                state = os.stat(f"{folder}/{path}")
                if not stat.S_ISREG(state.st_mode):
                    found.append((path, "not a regular file"))
                elif not state.st_size:
                    found.append((path, "empty file"))
            except OSError as error:
                found.append((path, error.strerror or str(error)))
        return found

    # Threads: this waits for the disk, not for the processor.
    with ThreadPoolExecutor(8) as pool:
        return [bad for some in pool.map(look, _chunks(paths)) for bad in some]


def _chunks(paths: list[str]) -> list[list[str]]:
    return [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]


def decode_all(
    folder: Path, paths: list[str], workers: int
) -> tuple[list[tuple[str, str]], np.ndarray, Counter[str]]:
    """(path, reason) of the images that cannot be decoded, a thumbnail (N, S, S) uint8 of every image, black where it
    cannot, and the decoder's remarks."""
    chunks = _chunks(paths)
    progress, done, found = progress_bar(len(paths)), 0, []
    thumbnails = np.zeros((len(paths), THUMBNAIL, THUMBNAIL), np.uint8)
    remarks: Counter[str] = Counter()
    with process_pool(workers) as pool:
        decoded = pool.map(partial(_decode_chunk, folder), chunks)
        for chunk, (bad, small, counts) in zip(chunks, decoded, strict=True):
            found += bad
            thumbnails[done : done + len(chunk)] = small
            remarks += counts
            progress(done := done + len(chunk))
    return found, thumbnails, remarks


def _decode_chunk(folder: Path, paths: list[str]) -> tuple[list[tuple[str, str]], np.ndarray, Counter[str]]:
    failures, remarks = [], Counter()
    thumbnails = np.zeros((len(paths), THUMBNAIL, THUMBNAIL), np.uint8)
    for row, path in enumerate(paths):
        try:
            thumbnails[row] = thumbnail(decode(folder / path, enough=SIDE, remarks=remarks))
        except UserError as error:
            failures.append((path, str(error).removeprefix(f"{folder / path}: ")))
    return failures, thumbnails, remarks
