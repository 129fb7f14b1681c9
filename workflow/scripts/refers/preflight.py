"""The data doctor: what of every download is here, what is wrong with it, and what to do next; before any GPU minute."""

import shutil
import textwrap
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from refers import reports
from refers.datasets import adapter
from refers.errors import UserError
from refers.processes import process_pool
from refers.progress import progress_bar
from refers.splits import LIST_NAMES, positives
from refers.study import Study

BYTES = {"GB": 1e9, "MB": 1e6, "kB": 1e3}
CHUNK, ENOUGH = 64, 64  # images a worker takes at a time; pixels a side that show whether a JPEG is whole
NAMED = 3  # unreadable images that the text names
DEPTH = 4  # folders below its own in which a misplaced table is looked for
WIDTH = 110
TEXT_ENCODER = ("config.json", "model.safetensors", "vocab.txt|tokenizer.json")


def about(name: str, folder: Path, **known: Any) -> dict[str, Any]:
    """A line of the report, absent until something else is known.

    Keys: name, folder, state (here, complete, partial, absent or broken), expected and found files, unreadable ones (None
    where nobody looked), bad (path and reason of each of these), remarks (a list of lines), labels ({class: (positive here,
    published or None)}), store (bytes of the packed images) and next (what to do, or "").
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
        "labels": {},
        "store": 0,
        "next": "",
    } | known


def examine(study: Study, full: bool, workers: int, source: str) -> list[dict[str, Any]]:
    """Lines of a source: its images, and its reports where it has some, against what their owner publishes.

    full: every image is decoded, by this many `workers`; without it tables, file names and image headers are read.
    """
    entry, folder = study.values["sources"][source], study.folder(source)
    expected = entry.get("expected") or {}
    area = study.values["images"]["size"] ** 2
    absent = [pattern for pattern in study.missing(source) if pattern != entry.get("reports")]
    line = about(source, folder, expected=expected.get("images"), store=(expected.get("images") or 0) * area)
    studies = None
    if absent:
        line["next"] = how_to_get(entry, folder, absent)
    else:
        try:
            index, counts = adapter(entry["layout"])(folder)
            studies = index["study_id"]
            line |= images(index, counts, folder, expected, full, workers)
            line["store"] = len(index) * area
            line = judged(line, counts["missing_images"], study.values["images"]["tolerance"])
            if line["state"] == "partial" and entry.get("origin"):
                line["next"] += f"; get them from {entry['origin']}"
        except UserError as error:
            line |= {"state": "broken", "next": str(error)}
    return [line, *([report_files(study, source, studies)] if entry.get("reports") else [])]


def how_to_get(entry: dict, folder: Path, absent: list[str]) -> str:
    """What to place where, from whom, and what looks like it in the wrong place."""
    names = [pattern.replace("|", " or ") for pattern in absent]
    text = f"place {' and '.join(filter(None, [', '.join(names[:-1]), names[-1]]))} below {folder}"
    if entry.get("origin"):
        text += f"; get it from {entry['origin']}"
        text += f" ({entry['access']})" if entry.get("access") else ""
    for pattern in absent:
        if pattern in entry["files"] and (found := misplaced(folder, pattern.split("|")[0])):
            text += f"; {found} lies in another folder: move what is in {found.parent} to {(folder / pattern).parent}"
            break
    return text


def misplaced(folder: Path, pattern: str) -> Path | None:
    """A file of that name that lies elsewhere below the folder, as archives and wget leave it."""
    name = pattern.rpartition("/")[2]
    return next((path for depth in range(DEPTH + 1) for path in folder.glob("*/" * depth + name)), None)


def images(
    index: pd.DataFrame, counts: dict, folder: Path, expected: dict, full: bool, workers: int
) -> dict[str, Any]:
    """What an index says of the images on disk."""
    headers = index.loc[index["width"] == 0, "path"]
    broken = [(path, "header cannot be read") for path in headers]
    if full:
        broken = undecodable(folder, index["path"].tolist(), workers)
    missing, published = counts["missing_images"], expected.get("labels") or {}
    here = positives(index)
    return {
        "found": len(index),
        "unreadable": len(broken) if full or broken else None,
        "bad": broken,
        "labels": {name: (here.get(name, 0), published.get(name)) for name in {**here, **published}},
        "remarks": [
            *([f"{missing:,} images of the official table are not here"] if missing else []),
            *(f"{count:,} left out: {reason}" for reason, count in counts["skipped"].items()),
            *(departures(index, expected) if not missing else []),
        ],
    }


def judged(line: dict, missing: int, tolerance: float) -> dict:
    """The line with its state, and what to do next."""
    folder, bad = line["folder"], line["bad"]
    if len(bad) > tolerance * line["found"]:
        names = "; ".join(f"{path}: {reason}" for path, reason in bad[:NAMED])
        if len(bad) > NAMED:
            names += f"; and {len(bad) - NAMED:,} more, which unreadable.csv beside the log names"
        return line | {
            "state": "broken",
            "next": f"download {len(bad):,} unreadable images below {folder} again: {names}",
        }
    if bad:
        line["remarks"].append(f"{len(bad)} unreadable images, fewer than images.tolerance allows")
    if missing or line["found"] < (line["expected"] or 0):
        said = f"a study runs on what is here; place the other images below {folder}"
        return line | {"state": "partial", "next": said}
    differs = any("published" in remark for remark in line["remarks"])
    said = "compare the table's release with the one that docs/data.md names" if differs else ""
    return line | {"state": "complete", "next": said}


def departures(index: pd.DataFrame, expected: dict) -> list[str]:
    """Patients and label counts of a whole download that differ from the published totals."""
    found, here = [], positives(index)
    patients = index["patient_id"].nunique()
    if expected.get("patients", patients) != patients:
        found.append(f"{patients:,} patients, {expected['patients']:,} published")
    for name, count in (expected.get("labels") or {}).items():
        if here.get(name, 0) != count:
            found.append(f"{name}: {here.get(name, 0):,} positive, {count:,} published")
    return found


def report_files(study: Study, source: str, studies: pd.Series | None) -> dict[str, Any]:
    """The line of a source's reports; `studies`: study ids of its images, where they are here."""
    entry = study.values["sources"][source]
    folder = study.folder(source) / reports.FOLDER
    expected = (entry.get("expected") or {}).get("reports")
    line = about(f"{source} reports", folder, expected=expected)
    if entry["reports"] in study.missing(source):
        return line | {"next": how_to_get(entry, study.folder(source), [entry["reports"]])}
    try:
        here = {name[: -len(".txt")] for _, name in reports.list_reports(folder)}
    except UserError as error:
        return line | {"state": "broken", "next": str(error)}
    line |= {"state": "complete", "found": len(here)}
    without = 0 if studies is None else int((~studies.drop_duplicates().isin(here)).sum())
    if without:
        line["remarks"] = [f"{without:,} of {studies.nunique():,} studies with images have no report"]
    if without or len(here) < (expected or 0):
        said = f"those studies train nothing; unpack mimic-cxr-reports.zip into {folder} again"
        line |= {"state": "partial", "next": said}
    return line


def undecodable(folder: Path, paths: list[str], workers: int) -> list[tuple[str, str]]:
    """(path, reason) of the images that cannot be decoded; every one is opened."""
    chunks = [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]
    progress, done, found = progress_bar(len(paths)), 0, []
    with process_pool(workers) as pool:
        for chunk, bad in zip(chunks, pool.map(partial(_failures, folder), chunks), strict=True):
            found += bad
            progress(done := done + len(chunk))
    return found


def _failures(folder: Path, paths: list[str]) -> list[tuple[str, str]]:
    from refers.images import decode

    failures = []
    for path in paths:
        try:
            decode(folder / path, enough=ENOUGH)
        except UserError as error:
            failures.append((path, str(error).removeprefix(f"{folder / path}: ")))
    return failures


def checkpoints(study: Study) -> list[dict[str, Any]]:
    """Lines for what is not a dataset: the text encoder, imported weights, the authors' lists."""
    wanted: dict[str, tuple[Path, tuple[str, ...]]] = {}
    if study.text_encoder:
        wanted["text encoder"] = (study.text_encoder, TEXT_ENCODER)
    for method in study.methods:
        if path := study.checkpoint_file(method):
            wanted[f"weights of {method}"] = (path.parent, (path.name,))
    for name, entry in study.values["datasets"].items():
        if entry["split"]["kind"] == "released" and "released" in entry:
            lists = tuple("|".join(LIST_NAMES[part]) for part in ("val", "test"))
            wanted[f"released lists of {name}"] = (study.released_lists(name), lists)
    lines = []
    for name, (folder, files) in wanted.items():
        absent = [file for file in files if not any((folder / part).exists() for part in file.split("|"))]
        said = " and ".join(absent).replace("|", " or ")
        lines.append(
            about(
                name,
                folder,
                state="absent" if absent else "here",
                found=None,
                next=f"place {said} in {folder}; docs/data.md says which" if absent else "",
            )
        )
    return lines


def report(study: Study, full: bool = False, workers: int = 1, said: Callable[[str], None] = print) -> dict:
    """Every line of the report, and the room that the stores still need against what the disk has left.

    A quick look takes one source a worker; a full one takes them in turn, every worker decoding.
    """
    sources = list(study.values["sources"])
    found = []
    if full or workers < 2:
        for source in sources:
            said(f"looking at {source} ...")
            found.append(examine(study, full, workers, source))
    else:
        said(f"looking at {', '.join(sources)} ...")
        with process_pool(min(workers, len(sources))) as pool:
            found = list(pool.map(partial(examine, study, full, 1), sources))
    lines = [line for some in found for line in some] + checkpoints(study)
    place = Path(study.values.get("pathvars", {}).get("store", "build/store"))
    packed = sum(path.stat().st_size for path in place.glob("*/images.npy"))
    while not place.exists():
        place = place.parent if place != place.parent else Path(".")
    return {
        "full": full,
        "lines": lines,
        "store_bytes": sum(line["store"] for line in lines),
        "packed_bytes": packed,
        "free_bytes": shutil.disk_usage(place).free,
    }


def table(found: dict) -> str:
    """The report as text."""
    head = ("", "state", "expected", "found", "unreadable", "store")
    rows = [head]
    for line in found["lines"]:
        pictures = bool(line["store"])
        looked = "not looked" if line["unreadable"] is None and pictures and line["found"] else ""
        unknown = "unknown" if line["expected"] is None and line["found"] is not None else ""
        rows.append(
            (
                line["name"],
                line["state"],
                unknown or _number(line["expected"]),
                _number(line["found"]),
                looked or _number(line["unreadable"]),
                size(line["store"]) if pictures else "",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    text = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    for line in found["lines"]:
        notes = [*line["remarks"], *labels(line), *([f"next: {line['next']}"] if line["next"] else [])]
        if notes:
            text += ["", f"{line['name']}:"]
            text += [textwrap.fill(note, WIDTH, **_INDENT) for note in notes]
    need, free = found["store_bytes"], found["free_bytes"]
    left = max(need - found["packed_bytes"], 0)
    verdict = (
        "enough" if free > 1.1 * left else "NOT ENOUGH: free some, or move `pathvars.store` to another disk"
    )
    made = f", {size(found['packed_bytes'])} of it are made" if found["packed_bytes"] else ""
    text += ["", f"disk: the stores take {size(need)}{made}, {size(free)} are free: {verdict}"]
    if not found["full"]:
        text.append("images were counted, not decoded; --config preflight=full decodes every one")
    if any(line["state"] == "absent" for line in found["lines"]):
        text.append("docs/data.md has the folders and the commands; a study runs without what is absent")
    return "\n".join(text)


_INDENT = {
    "initial_indent": "  ",
    "subsequent_indent": "    ",
    "break_long_words": False,
    "break_on_hyphens": False,
}


def labels(line: dict) -> list[str]:
    """What is positive here, against the published totals where there are some; one line at most."""
    known = {name: counts for name, counts in line["labels"].items() if counts[1] is not None}
    if known and all(here == published for here, published in known.values()):
        return [f"labels as published: {', '.join(f'{name} {here:,}' for name, (here, _) in known.items())}"]
    shown = known or line["labels"]
    counts = (
        f"{name} {here:,}" + (f" of {total:,}" if total is not None else "")
        for name, (here, total) in shown.items()
    )
    return [f"labels{' of the published total' if known else ''}: {', '.join(counts)}"] if shown else []


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def size(count: float) -> str:
    """Bytes for people."""
    for unit, factor in BYTES.items():
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count:.0f} B"
