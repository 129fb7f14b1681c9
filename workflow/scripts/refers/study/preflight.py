"""The preflight report: which data of a study are available, what is wrong with them and what to do next."""

import shutil
import textwrap
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from refers.config import Split
from refers.config.settings import BERT_FILES
from refers.data.released_lists import LIST_NAMES
from refers.data.source_check import Download, check_source, report_line
from refers.formatting import size
from refers.study import paths
from refers.study.availability import RELEASED, Availability, OnDisk
from refers.study.study import Study
from refers.workers import process_pool

WIDTH = 110


def report(
    study: Study, full: bool = False, workers: int = 1, progress: Callable[[str], None] = print
) -> dict:
    """Every line of the report, and the space that the image stores still need against what the disk has left.

    Args:
        study: the study whose data are checked.
        full: decode every image. All workers then decode, one source after the other; a quick check gives each worker a
            source.
        workers: processes.
        progress: receives a line for each step.
    """
    availability = Availability(study)
    sources = [
        Download(name, entry, study.folder(name), availability.missing(name), splits_of(availability, name))
        for name, entry in study.config.sources.items()
    ]
    images, found = study.config.images, []
    check = partial(check_source, images.size, images.tolerance, study.config.study.minority_patients, full)
    if full or workers < 2:
        for source in sources:
            progress(f"checking {source.name} ...")
            found.append(check(workers, source))
    else:
        progress(f"checking {', '.join(source.name for source in sources)} ...")
        with process_pool(min(workers, len(sources))) as pool:
            found = list(pool.map(partial(check, 1), sources))
    lines = [line for some in found for line in some] + other_files(study)
    stores = [study.resolve(paths.IMAGES, source=source.name) for source in sources]
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


def splits_of(availability: Availability, source: str) -> list[tuple[Split, Path | None]]:
    """Settings of the first split of every dataset of the study that a source gives, and the folder of its lists."""
    study = availability.study
    return [
        (settings, study.released_lists(dataset) if settings.kind == "released" else None)
        for dataset in study.datasets
        if study.dataset(dataset).source == source and not availability.dataset_status(dataset)
        for settings in [study.split_settings(dataset, 0)]
    ]


def other_files(study: Study) -> list[dict[str, Any]]:
    """Lines of whatever is not a download of images: the text encoder, imported weights, the authors' lists."""
    origins = study.config.origins
    wanted: dict[str, tuple[Path, tuple[str, ...], str]] = {}
    remarks: dict[str, list[str]] = {}
    if path := study.text_encoder:
        wanted["text encoder"] = (path, BERT_FILES, origins.get(str(path), ""))
    for method in study.methods:
        if path := study.checkpoint_file(method):
            wanted[f"weights of {method}"] = (path.parent, (path.name,), origins.get(str(path), ""))
    for name in study.datasets:
        entry = study.dataset(name)
        if entry.split.kind == "released" and entry.released:
            lists = tuple("|".join(LIST_NAMES[part]) for part in ("val", "test"))
            folder, title = study.released_lists(name), f"released lists of {name}"
            wanted[title] = (folder, lists, f"{RELEASED}, or set datasets.{name}.split.kind otherwise")
            if folder.is_dir() and not any((folder / file).exists() for file in LIST_NAMES["train"]):
                remarks[title] = ["no train.txt: the images that the other lists do not name train"]
    lines = []
    if package := study.text_package:
        problem = OnDisk().package_problem(package)
        state = "absent" if problem else "available"
        lines.append(report_line("text encoder", Path(package), state=state, found=None, next=problem))
    for name, (folder, files, origin) in wanted.items():
        absent = [file for file in files if not any((folder / part).exists() for part in file.split("|"))]
        advice = f"place {' and '.join(absent).replace('|', ' or ')} in {folder}"
        advice += f"; get it from {origin}" if origin else ""
        lines.append(
            report_line(
                name,
                folder,
                state="absent" if absent else "available",
                found=None,
                remarks=remarks.get(name, []),
                next=f"{advice}; docs/data.md says which" if absent else "",
            )
        )
    return lines


def runnable(study: Study) -> dict[str, Any]:
    """What can run with the files found: the number of cells, and the methods and datasets behind them."""
    can_run = Availability(study).can_run
    cells = [(method, cell) for method in study.methods for cell in study.cells if can_run(method, cell)]
    methods = list(dict.fromkeys(method for method, _ in cells))
    return {
        "cells": len(cells),
        "of": len(study.methods) * len(study.cells),
        "methods": ["every method"] if methods == study.methods and len(methods) > 1 else methods,
        "datasets": list(dict.fromkeys(cell.dataset for _, cell in cells)),
    }


def to_text(found: dict) -> str:
    """The report as text: a table, then remarks and next steps, then what can run and the space on the disk."""
    rows: list[tuple[str, ...]] = [("", "state", "expected", "found", "unreadable", "store")]
    rows += [_row(line) for line in found["lines"]]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = ([cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows)
    text = ["  ".join(row).rstrip() for row in padded]
    for line in found["lines"]:
        warnings = [f"warning: {text}" for text in line["splits"]]
        notes = [
            *line["remarks"],
            *labels(line),
            *warnings,
            *([f"next: {line['next']}"] if line["next"] else []),
        ]
        if notes:
            text += ["", f"{line['name']}:", *(_wrapped(note, "  ") for note in notes)]
    cells = found["study"]
    summary = f"study: {cells['cells']} of {cells['of']} cells can run with the files found"
    if cells["cells"]:
        summary += f": {', '.join(cells['methods'])} on {', '.join(cells['datasets'])}"
    text += ["", _wrapped(summary, "")]
    need, done, free = found["store_bytes"], found["packed_bytes"], found["free_bytes"]
    enough = free > 1.1 * max(need - done, 0)
    verdict = "enough" if enough else "NOT ENOUGH: free some space, or move `pathvars.store` to another disk"
    packed = f" ({size(done)} of them packed already)" if done else ""
    text += [f"disk: the image stores need {size(need)}{packed}, {size(free)} are free: {verdict}"]
    if not found["full"]:
        text.append("images were counted, not decoded; --config preflight=full decodes every one")
    if any(line["state"] == "absent" for line in found["lines"]):
        text.append("docs/data.md lists the folders and the download commands of what is absent")
    return "\n".join(text)


def _row(line: dict) -> tuple[str, ...]:
    def number(key: str) -> str:
        return "" if line[key] is None else f"{line[key]:,}"

    has_images = bool(line["store"])
    unchecked = line["unreadable"] is None and has_images and line["found"]
    unpublished = line["expected"] is None and line["found"] is not None
    return (
        line["name"],
        line["state"],
        "not published" if unpublished else number("expected"),
        number("found"),
        "not checked" if unchecked else number("unreadable"),
        size(line["store"]) if has_images else "",
    )


def _wrapped(text: str, indent: str) -> str:
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=indent,
        subsequent_indent="    ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def labels(line: dict) -> list[str]:
    """Positives found, beside the published totals where there are some; one line at most."""
    known = {name: counts for name, counts in line["labels"].items() if counts[1] is not None}
    if known and all(found == published for found, published in known.values()):
        return [
            f"labels as published: {', '.join(f'{name} {found:,}' for name, (found, _) in known.items())}"
        ]
    counts = (
        f"{name} {found:,}" + (f" of {total:,}" if total is not None else "")
        for name, (found, total) in (known or line["labels"]).items()
    )
    title = "labels, found of published" if known else "labels"
    return [f"{title}: {', '.join(counts)}"] if line["labels"] else []
