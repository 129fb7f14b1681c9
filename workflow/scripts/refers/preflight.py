"""The data doctor: what of every download is here, what is wrong with it, and what to do next; before any GPU minute."""

import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd

from refers.datasets import adapter
from refers.errors import UserError
from refers.schema import LABEL
from refers.study import Study

BYTES = {"GB": 1e9, "MB": 1e6, "kB": 1e3}
CHUNK = 64


def examine(study: Study, source: str, full: bool, workers: int) -> dict[str, Any]:
    """One line of the report: what of a source is on disk against what its owner publishes.

    Keys: name, state (complete, partial, absent or broken), expected and found images, unreadable ones (None where
    nobody looked), remarks (a list of lines), store (bytes of the packed images) and next (what to do, or "").
    """
    entry, folder = study.values["sources"][source], study.folder(source)
    expected = entry.get("expected") or {}
    line: dict[str, Any] = {
        "name": source,
        "folder": str(folder),
        "state": "absent",
        "expected": expected.get("images"),
        "found": 0,
        "unreadable": None,
        "remarks": [],
        "store": (expected.get("images") or 0) * study.values["images"]["size"] ** 2,
        "next": "",
    }
    if reason := study.source_status(source):
        where = f" from {entry['origin']}" if entry.get("origin") else ""
        line["next"] = f"{reason.removeprefix('data absent: ')}; get it{where}"
        return line
    try:
        index, counts = adapter(entry["layout"])(folder)
    except UserError as error:
        return line | {"state": "broken", "next": str(error)}
    unreadable = counts.get("unreadable_headers", 0)
    if full:
        unreadable = sum(undecodable(folder, index["path"].tolist(), workers))
    missing = counts["missing_images"]
    line |= {
        "found": len(index),
        "unreadable": unreadable if full or unreadable else None,
        "store": len(index) * study.values["images"]["size"] ** 2,
        "remarks": [
            *([f"{missing:,} images of the official table are not here"] if missing else []),
            *(f"{count:,} left out: {reason}" for reason, count in counts["skipped"].items()),
            *departures(index, expected, whole=not missing),
        ],
    }
    if missing or (line["expected"] and len(index) < line["expected"]):
        line |= {
            "state": "partial",
            "next": f"a study runs on what is here; place the other images below {folder}",
        }
    else:
        line["state"] = "complete"
    if unreadable:
        line |= {
            "state": "broken",
            "next": f"download the {unreadable} unreadable images below {folder} again",
        }
    return line


def departures(index: pd.DataFrame, expected: dict, whole: bool) -> list[str]:
    """Patients and label counts that differ from the published totals; a part of a download is not compared."""
    if not whole:
        return []
    found = []
    patients = index["patient_id"].nunique()
    if expected.get("patients", patients) != patients:
        found.append(f"{patients:,} patients, {expected['patients']:,} published")
    for name, count in (expected.get("labels") or {}).items():
        column = LABEL + name
        positives = int((index[column] == 1).sum()) if column in index else 0
        if positives != count:
            found.append(f"{name}: {positives:,} positive, {count:,} published")
    return found


def undecodable(folder: Path, paths: list[str], workers: int) -> list[int]:
    """Number of images that cannot be decoded, by chunk; every image is opened."""
    chunks = [
        [folder / path for path in paths[start : start + CHUNK]] for start in range(0, len(paths), CHUNK)
    ]
    if workers < 2:
        return [_failures(chunk) for chunk in chunks]
    with ProcessPoolExecutor(workers) as pool:
        return list(pool.map(_failures, chunks))


def _failures(paths: list[Path]) -> int:
    from refers.images import decode

    failures = 0
    for path in paths:
        try:
            decode(path, enough=64)
        except UserError:
            failures += 1
    return failures


def checkpoints(study: Study) -> list[dict[str, Any]]:
    """Lines for what is not a dataset: the text encoder, imported weights, the authors' lists."""
    wanted: dict[str, tuple[Path, str]] = {}
    if study.text_encoder:
        wanted["text encoder"] = (study.text_encoder / "config.json", "a BERT checkpoint")
    for method in study.methods:
        if path := study.checkpoint_file(method):
            wanted[f"weights of {method}"] = (path, "a checkpoint")
    for name, entry in study.values["datasets"].items():
        if entry["split"]["kind"] == "released" and "released" in entry:
            wanted[f"released lists of {name}"] = (
                study.released_lists(name) / "test.txt",
                "the authors' lists",
            )
    return [
        {
            "name": name,
            "folder": str(path.parent),
            "state": "here" if path.exists() else "absent",
            "expected": None,
            "found": None,
            "unreadable": None,
            "remarks": [],
            "store": 0,
            "next": "" if path.exists() else f"place {what} at {path}; docs/data.md says which",
        }
        for name, (path, what) in wanted.items()
    ]


def report(study: Study, full: bool = False, workers: int = 1, said: Callable[[str], None] = print) -> dict:
    """Every line of the report, and the room that the stores need against what the disk has left."""
    lines = []
    for source in study.values["sources"]:
        said(f"looking at {source} ...")
        lines.append(examine(study, source, full, workers))
    lines += checkpoints(study)
    place = Path(study.values.get("pathvars", {}).get("store", "build/store"))
    while not place.exists():
        place = place.parent if place != place.parent else Path(".")
    return {
        "full": full,
        "lines": lines,
        "store_bytes": sum(line["store"] for line in lines),
        "free_bytes": shutil.disk_usage(place).free,
    }


def table(found: dict) -> str:
    """The report as text."""
    head = ("", "state", "expected", "found", "unreadable", "store")
    rows = [head]
    for line in found["lines"]:
        looked = "not looked" if line["unreadable"] is None and line["found"] else _number(line["unreadable"])
        rows.append(
            (
                line["name"],
                line["state"],
                "unknown"
                if line["expected"] is None and line["found"] is not None
                else _number(line["expected"]),
                _number(line["found"]),
                looked,
                size(line["store"]) if line["store"] else "",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    text = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    for line in found["lines"]:
        notes = [*line["remarks"], *([f"next: {line['next']}"] if line["next"] else [])]
        if notes:
            text += ["", f"{line['name']}:", *(f"  {note}" for note in notes)]
    need, free = found["store_bytes"], found["free_bytes"]
    verdict = (
        "enough" if free > 1.1 * need else "NOT ENOUGH: free some, or move `pathvars.store` to another disk"
    )
    text += ["", f"disk: the stores take {size(need)}, {size(free)} are free: {verdict}"]
    if not found["full"]:
        text.append("images were counted, not decoded; --config preflight=full decodes every one")
    return "\n".join(text)


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def size(count: float) -> str:
    """Bytes for people."""
    for unit, factor in BYTES.items():
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count:.0f} B"
