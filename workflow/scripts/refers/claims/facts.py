"""Counts of a study that the paper states too: how many images, how they are split, how long was trained.

A fact has the name QUANTITY/NAME, such as `patients/nih`. It is read from a report of the pipeline, which is told from the
others by its content.
"""

import math
from collections.abc import Iterable
from typing import Any

from refers.claims.evaluate import Number
from refers.errors import UserError

# Quantity -> what it counts
QUANTITIES = {
    "images": "images that the index of a download has",
    "patients": "patients that it has",
    "train": "training images of a dataset in percent, the mean over its splits",
    "val": "validation images",
    "test": "test images",
    "studies": "studies that pre-training has reports and images of",
    "held_out": "those of them that validate",
    "epochs": "passes over the training studies of a pre-training",
    "days": "duration of a pre-training on one RTX 3090",
    "repeats": "points by which the standard error over seeds grows from three runs to one, the mean over a row's columns",
}
PAPERS_GPU = "RTX 3090"


def read_facts(
    reports: Iterable[tuple[str, Any]], cells: Iterable[Any], incomparable: dict[str, str]
) -> dict[str, Number]:
    """Facts by name.

    Args:
        reports: (path, content) of index.json, split.json, reports.json and run.json files.
        cells: contents of auc.json files.
        incomparable: dataset -> why nothing is judged on it; "" stands for all of them.

    Raises:
        UserError: a report lacks a key.
    """
    found: dict[str, list[Number]] = {}
    for path, content in reports:
        try:
            facts = _facts_of(content)
        except (KeyError, TypeError, AttributeError, ValueError, ZeroDivisionError) as error:
            raise UserError(f"{path}: no count {error} in this report; delete it and rerun") from None
        for name, value in facts.items():
            known = not isinstance(value, str)
            number = Number(float(value), "", path) if known else Number(math.nan, str(value), path)
            found.setdefault(name, []).append(number)
    for cell in cells:
        if (sd := cell["test"]["sd"]) is not None and cell["dataset"] not in incomparable:
            grown = Number(100 * sd * (1 - 1 / math.sqrt(3)))
            found.setdefault(f"repeats/{cell['method']}", []).append(grown)
    return {
        name: _joined(numbers, incomparable.get("") or incomparable.get(name.partition("/")[2]))
        for name, numbers in found.items()
    }


def _joined(numbers: list[Number], reason: str | None) -> Number:
    """The mean over the splits of a dataset or the cells of a method, unless there is a reason not to judge it."""
    if reason:
        return Number(math.nan, reason)
    value = sum(number.value for number in numbers) / len(numbers)
    return Number(value, numbers[0].status, " ".join(filter(None, (number.target for number in numbers))))


def _facts_of(content: Any) -> dict[str, float | str]:
    """Facts of one report, or why they are none."""
    if "held_out" in content:
        return {"studies/mimic": content["studies_with_images"], "held_out/mimic": content["held_out"]}
    if "rows" in content:
        source = content["source"]
        return {f"images/{source}": content["rows"], f"patients/{source}": content["patients"]}
    if "left_out" in content:
        images, dataset = content["images"], content["dataset"]
        total = sum(images.values())
        return {f"{part}/{dataset}": 100 * images[part] / total for part in ("train", "val", "test")}
    method = content["method"]
    if content["script"] != "pretrain.py":
        reason = f"{method} is imported, not pre-trained here"
        return {f"epochs/{method}": reason, f"days/{method}": reason}
    training, processes = content["settings"]["training"], content.get("processes", 1)
    epochs = training["steps"] * training["batch_size"] / content["studies"]["train"]
    days: float | str = content["wall_seconds"] / 86400
    # A resumed run has a record of every process that worked on it.
    records = content.get("history") or [content]
    others = [each["device"] for each in records if not each.get("device", "").endswith(PAPERS_GPU)]
    if others or processes > 1:
        device = others[0] if others else content["device"]
        days = f"pre-trained on {processes} x {device}, not on one {PAPERS_GPU}"
    return {f"epochs/{method}": epochs, f"days/{method}": days}
