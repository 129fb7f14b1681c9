"""The data doctor: what of every download is here, what is wrong with it, and what to do next; before any GPU minute."""

import os
import re
import shutil
import textwrap
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from refers.data.adapters import adapter
from refers.data.splits import LIST_NAMES, positives
from refers.errors import UserError
from refers.progress import progress_bar
from refers.study import paths
from refers.study.availability import RELEASED, Availability
from refers.study.study import Study
from refers.text import cleaning
from refers.workers import process_pool

BYTES = {"GB": 1e9, "MB": 1e6, "kB": 1e3}
CHUNK, ENOUGH = 64, 64  # images a worker takes at a time; pixels a side that show whether a JPEG is whole
NAMED = 3  # unreadable images that the text names
DEPTH, FOLDERS = (
    4,
    1000,
)  # what is misplaced is looked for so far below a source's folder, and in so many folders
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")
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
    absent = [pattern for pattern in Availability(study).missing(source) if pattern != entry.get("reports")]
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
            if line["state"] == "partial":
                line["next"] += f"; get them from {entry['origin']}" if entry.get("origin") else ""
                line["next"] += packed(entry, folder, entry["images"])
        except UserError as error:
            line |= {"state": "broken", "next": str(error)}
    return [line, *([report_files(study, source, studies)] if entry.get("reports") else [])]


def how_to_get(entry: dict, folder: Path, absent: list[str]) -> str:
    """What to place where, from whom, and what looks like it in the wrong place or in an archive."""
    names = [in_words(entry, pattern) for pattern in absent]
    text = f"place {' and '.join(filter(None, [', '.join(names[:-1]), names[-1]]))} below {folder}"
    if entry.get("origin"):
        text += f"; get it from {entry['origin']}"
        text += f" ({entry['access']})" if entry.get("access") else ""
    for pattern in absent:
        if found := misplaced(entry, folder, pattern):
            source, target = found
            return f"{text}; {source} lies in another folder: move what is in {source.parent} to {target}"
    return text + next(filter(None, (packed(entry, folder, pattern) for pattern in absent)), "")


def in_words(entry: dict, pattern: str) -> str:
    """A pattern of a source as folders and files. Without its stars a folder's name is one that the pattern takes."""
    parts = pattern.split("|")
    what = {entry["images"]: "the images", entry.get("reports"): "the reports"}.get(pattern)
    if what:
        return f"{what} in {' or '.join(dict.fromkeys(f'{_parent(part)}/' for part in parts))}"
    return " or ".join(f"{_parent(part)}/" if "/*" in part else part.replace("*", "") for part in parts)


def _parent(pattern: str) -> str:
    return pattern.rpartition("/")[0].replace("*", "")


def misplaced(entry: dict, folder: Path, pattern: str) -> tuple[Path, Path] | None:
    """What a pattern means but that lies elsewhere below the folder, as archives and wget leave it; and where it belongs.

    Tables are known by their name. Images and reports are known by as much of their path as there is.
    """
    known = [
        part
        for other in (*entry["files"], entry["images"], entry.get("reports") or "")
        for part in other.split("|")
    ]
    is_table = pattern in entry["files"]
    for place in _folders(folder):
        for part in pattern.split("|"):
            pieces = part.split("/")
            for start in range(len(pieces) - 1 if is_table else 0, len(pieces)):
                tail = "/".join(pieces[start:])
                if not re.search(r"\w", tail):
                    continue  # a lone star means anything
                found = next(place.glob(tail), None)
                if found is None or any(_is_like(found.relative_to(folder), other) for other in known):
                    continue
                if is_table or _holds_text(found) == (pattern == entry.get("reports")):
                    return found, folder / _parent(part)
    return None


def _folders(folder: Path) -> Iterator[Path]:
    """The folder and those below it, the nearest first, DEPTH deep and FOLDERS of them at most."""
    waiting, left = deque([(folder, 0)]), FOLDERS
    while waiting and left:
        place, depth = waiting.popleft()
        left -= 1
        yield place
        if depth < DEPTH:
            try:
                waiting += [(path, depth + 1) for path in sorted(place.iterdir()) if path.is_dir()]
            except OSError:
                continue  # not there, or nobody may read it


def _is_like(path: Path, pattern: str) -> bool:
    pieces = pattern.split("/")
    return len(path.parts) == len(pieces) and all(map(fnmatch, path.parts, pieces))


def _holds_text(path: Path) -> bool:
    """Whether the first file at or below a path is a text, as reports are."""
    while path.is_dir() and (inner := next(path.iterdir(), None)):
        path = inner
    return path.suffix == ".txt"


def packed(entry: dict, folder: Path, pattern: str) -> str:
    """That archives of the images or the reports lie in the folder, as a further clause; "" where none does.

    Reports come in an archive that is named like their folder, and images in any other.
    """
    if pattern not in (entry["images"], entry.get("reports")) or not folder.is_dir():
        return ""
    top = (entry.get("reports") or "").partition("/")[0]
    found = sorted(path.name for path in folder.iterdir() if path.name.endswith(ARCHIVES))
    found = [
        name for name in found if bool(top and name.startswith(top)) == (pattern == entry.get("reports"))
    ]
    if not found:
        return ""
    more = f" and {len(found) - 1} more lie" if len(found) > 1 else " lies"
    into = f" into {folder / top}" if pattern == entry.get("reports") else ""
    return f"; {found[0]}{more} in {folder}: unpack what is not unpacked yet{into}"


def totals(expected: dict, listed: int) -> tuple[dict, list[str]]:
    """What is published of a download, and a remark; of one that grew, of its release whose table lists as many images."""
    releases = expected.get("releases") or {}
    for name, known in releases.items():
        if known["images"] == listed:
            return known, [f"its table is that of {name}"]
    known = ", ".join(f"{name}: {known['images']:,} images" for name, known in releases.items())
    return expected, [
        f"no published total for a table of {listed:,} images; known is {known}"
    ] if releases else []


def images(
    index: pd.DataFrame, counts: dict, folder: Path, expected: dict, full: bool, workers: int
) -> dict[str, Any]:
    """What an index says of the images on disk."""
    if full:
        broken = undecodable(folder, index["path"].tolist(), workers)
    else:
        headers = index.loc[index["width"] == 0, "path"]
        broken = [(path, "header cannot be read") for path in headers]
        broken += empty_files(folder, index["path"].drop(headers.index).tolist())
    missing = counts["missing_images"]
    expected, remarks = totals(expected, len(index) + missing)
    published, here = expected.get("labels") or {}, positives(index)
    return {
        "expected": expected.get("images"),
        "found": len(index),
        "unreadable": len(broken) if full or broken else None,
        "bad": broken,
        "labels": {name: (here.get(name, 0), published.get(name)) for name in {**here, **published}},
        "remarks": [
            *remarks,
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
    """Patients, official sets and label counts of a whole download that differ from the published totals."""
    found, here = [], positives(index)
    patients = index["patient_id"].nunique()
    if expected.get("patients", patients) != patients:
        found.append(f"{patients:,} patients, {expected['patients']:,} published")
    for name, count in (expected.get("splits") or {}).items():
        if (number := int((index["split"] == name).sum())) != count:
            found.append(f"official {name}: {number:,} images, {count:,} published")
    for name, count in (expected.get("labels") or {}).items():
        if here.get(name, 0) != count:
            found.append(f"{name}: {here.get(name, 0):,} positive, {count:,} published")
    return found


def report_files(study: Study, source: str, studies: pd.Series | None) -> dict[str, Any]:
    """The line of a source's reports; `studies`: study ids of its images, where they are here."""
    entry = study.values["sources"][source]
    folder = study.folder(source) / cleaning.FOLDER
    expected = (entry.get("expected") or {}).get("reports")
    line = about(f"{source} reports", folder, expected=expected)
    if entry["reports"] in Availability(study).missing(source):
        return line | {"next": how_to_get(entry, study.folder(source), [entry["reports"]])}
    try:
        here = {name[: -len(".txt")] for _, name in cleaning.list_reports(folder)}
    except UserError as error:
        return line | {"state": "broken", "next": str(error)}
    line |= {"state": "complete", "found": len(here)}
    without = 0 if studies is None else int((~studies.drop_duplicates().isin(here)).sum())
    if without:
        line["remarks"] = [f"{without:,} of {studies.nunique():,} studies with images have no report"]
    if without or len(here) < (expected or 0):
        said = f"{without:,} studies with images train nothing without a report; " if without else ""
        said += f"unpack mimic-cxr-reports.zip into {folder} again"
        line |= {"state": "partial", "next": said}
    return line


def empty_files(folder: Path, paths: list[str]) -> list[tuple[str, str]]:
    """(path, reason) of the images without a byte. Where a table has the sizes no header is read that would show them."""

    def look(chunk: list[str]) -> list[tuple[str, str]]:
        found = []
        for path in chunk:
            try:
                if not os.stat(f"{folder}/{path}").st_size:
                    found.append((path, "empty file"))
            except OSError as error:
                found.append((path, error.strerror))
        return found

    with ThreadPoolExecutor(8) as pool:  # waits for the disk, not for the processor
        return [bad for some in pool.map(look, _chunks(paths)) for bad in some]


def _chunks(paths: list[str]) -> list[list[str]]:
    return [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]


def undecodable(folder: Path, paths: list[str], workers: int) -> list[tuple[str, str]]:
    """(path, reason) of the images that cannot be decoded; every one is opened."""
    chunks = _chunks(paths)
    progress, done, found = progress_bar(len(paths)), 0, []
    with process_pool(workers) as pool:
        for chunk, bad in zip(chunks, pool.map(partial(_failures, folder), chunks), strict=True):
            found += bad
            progress(done := done + len(chunk))
    return found


def _failures(folder: Path, paths: list[str]) -> list[tuple[str, str]]:
    from refers.data.images import decode

    failures = []
    for path in paths:
        try:
            decode(folder / path, enough=ENOUGH)
        except UserError as error:
            failures.append((path, str(error).removeprefix(f"{folder / path}: ")))
    return failures


def checkpoints(study: Study) -> list[dict[str, Any]]:
    """Lines for what is not a dataset: the text encoder, imported weights, the authors' lists."""
    origins = study.values.get("origins", {})
    wanted: dict[str, tuple[Path, tuple[str, ...], str]] = {}
    if path := study.text_encoder:
        wanted["text encoder"] = (path, TEXT_ENCODER, origins.get(str(path), ""))
    for method in study.methods:
        if path := study.checkpoint_file(method):
            wanted[f"weights of {method}"] = (path.parent, (path.name,), origins.get(str(path), ""))
    for name, entry in study.values["datasets"].items():
        if entry["split"]["kind"] == "released" and "released" in entry:
            lists = tuple("|".join(LIST_NAMES[part]) for part in ("val", "test"))
            wanted[f"released lists of {name}"] = (study.released_lists(name), lists, RELEASED)
    lines = []
    for name, (folder, files, origin) in wanted.items():
        absent = [file for file in files if not any((folder / part).exists() for part in file.split("|"))]
        said = f"place {' and '.join(absent).replace('|', ' or ')} in {folder}"
        said += f"; get it from {origin}" if origin else ""
        lines.append(
            about(
                name,
                folder,
                state="absent" if absent else "here",
                found=None,
                next=f"{said}; docs/data.md says which" if absent else "",
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
    stores = [study.resolve(paths.IMAGES, source=source) for source in sources]
    packed = sum(path.stat().st_size for path in stores if path.exists())
    place = stores[0].parents[1]
    while not place.exists():
        place = place.parent if place != place.parent else Path(".")
    return {
        "full": full,
        "lines": lines,
        "study": runnable(study),
        "store_bytes": sum(line["store"] for line in lines),
        "packed_bytes": packed,
        "free_bytes": shutil.disk_usage(place).free,
    }


def runnable(study: Study) -> dict[str, Any]:
    """What of the study can run with what is here: cells of all, and the methods and datasets behind them."""
    can_run = Availability(study).can_run
    cells = [(method, cell) for method in study.methods for cell in study.cells if can_run(method, cell)]
    methods = list(dict.fromkeys(method for method, _ in cells))
    return {
        "cells": len(cells),
        "of": len(study.methods) * len(study.cells),
        "methods": ["every method"] if methods == study.methods and len(methods) > 1 else methods,
        "datasets": list(dict.fromkeys(cell.dataset for _, cell in cells)),
    }


def table(found: dict) -> str:
    """The report as text."""
    head = ("", "state", "expected", "found", "unreadable", "store")
    rows = [head]
    for line in found["lines"]:
        pictures = bool(line["store"])
        looked = "not looked" if line["unreadable"] is None and pictures and line["found"] else ""
        unknown = "not published" if line["expected"] is None and line["found"] is not None else ""
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
    runs = found["study"]
    said = f"study: {runs['cells']} of {runs['of']} cells can run with what is here"
    if runs["cells"]:
        said += f": {', '.join(runs['methods'])} on {', '.join(runs['datasets'])}"
    text += ["", textwrap.fill(said, WIDTH, **_INDENT | {"initial_indent": ""})]
    need, free = found["store_bytes"], found["free_bytes"]
    left = max(need - found["packed_bytes"], 0)
    verdict = (
        "enough" if free > 1.1 * left else "NOT ENOUGH: free some, or move `pathvars.store` to another disk"
    )
    made = f", {size(found['packed_bytes'])} of it are made" if found["packed_bytes"] else ""
    text += [f"disk: the stores take {size(need)}{made}, {size(free)} are free: {verdict}"]
    if not found["full"]:
        text.append("images were counted, not decoded; --config preflight=full decodes every one")
    if any(line["state"] == "absent" for line in found["lines"]):
        text.append("docs/data.md has the folders and the commands for what is absent")
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
