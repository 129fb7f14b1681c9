"""Write the five generated datasets below one data root, in parallel, with a hash over the content of all files."""

import hashlib
import os
import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

from refers.demo.dataset import SOURCES, DatasetPlan
from refers.demo.style import Picture, write_picture
from refers.errors import UserError
from refers.files import write_json
from refers.workers import process_pool

MARKER = "GENERATED_DEMO.txt"
CHUNK = 64
NOTE = "Generated pictures for the demo. No patient's data is in here; this folder is replaced when the demo is made again.\n"


def make_plan(source: str, seed: int, scale: float = 1.0) -> DatasetPlan:
    """Images, labels and tables of one source, before anything is drawn."""
    return import_module(f"refers.demo.{source}").plan(seed, scale)


def _write(task: tuple[str, list[Picture]]) -> list[tuple[str, Any]]:
    root, pictures = task
    return [write_picture(Path(root), picture) for picture in pictures]


def generate(out: Path, seed: int, scale: float = 1.0, workers: int = 1) -> dict[str, Any]:
    """Write the five source folders and then demo.json below `out`; the content of demo.json.

    All bytes depend only on seed and scale, not on `workers`.

    Raises:
        UserError: a source folder exists and was not made by this generator.
    """
    for source in SOURCES:
        folder = out / source
        if folder.exists() and not (folder / MARKER).exists():
            raise UserError(f"{folder}: contains data that the demo did not write; choose another --out")
    part = out / ".demo.part"
    plans = [make_plan(source, seed, scale) for source in SOURCES]
    try:
        shutil.rmtree(part, ignore_errors=True)
        (out / "demo.json").unlink(missing_ok=True)
        content = _fill(part, plans, workers)
        for source in SOURCES:
            shutil.rmtree(out / source, ignore_errors=True)
            os.replace(part / source, out / source)
        part.rmdir()
    except OSError as error:
        raise UserError(
            f"{out}: cannot be written ({error.strerror or error}); free space or choose another --out"
        ) from None
    content = {"seed": seed, "scale": scale, **content}
    write_json(out / "demo.json", content)
    return content


def _fill(root: Path, plans: list[DatasetPlan], workers: int) -> dict[str, Any]:
    pictures = [picture for plan in plans for picture in plan.pictures]
    for folder in sorted({Path(picture.path).parent for picture in pictures}):
        (root / folder).mkdir(parents=True, exist_ok=True)
    tasks = [(str(root), pictures[start : start + CHUNK]) for start in range(0, len(pictures), CHUNK)]
    if workers > 1:
        with process_pool(workers) as pool:
            written = [result for chunk in pool.map(_write, tasks) for result in chunk]
    else:
        written = [result for task in tasks for result in _write(task)]
    digests = {picture.path: digest for picture, (digest, _) in zip(pictures, written, strict=True)}
    counts: dict[str, Any] = {}
    start = 0
    for plan in plans:
        boxes = [drawn for _, drawn in written[start : start + len(plan.pictures)]]
        start += len(plan.pictures)
        for name, text in {f"{plan.source}/{MARKER}": NOTE.encode(), **plan.files(boxes)}.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(text)
            digests[name] = hashlib.sha256(text).hexdigest()
        positives: dict[str, int] = {}
        for labels in plan.truth:
            for label, value in labels.items():
                positives[label] = positives.get(label, 0) + (value == 1.0)
        counts[plan.source] = {"images": len(plan.pictures), "positives": dict(sorted(positives.items()))}
    listing = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
    return {"files": len(digests), "sha256": hashlib.sha256(listing.encode()).hexdigest(), "sources": counts}
