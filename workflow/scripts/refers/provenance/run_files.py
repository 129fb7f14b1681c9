"""Files of a training beside its run record: the curve of its losses, and the choice of a learning-rate pilot. No torch."""

import json
import math
from contextlib import suppress
from pathlib import Path
from typing import Any

from refers.errors import UserError
from refers.files import MAKERS, read_object, read_utf8

TRAINING = "the training that writes it"
PILOT = (
    "method",
    "steps",
    "batch_size",
    "trivial",
    "candidates",
    "chosen",
    "ties",
    "edge",
    "settings",
    "inputs",
)


def read_metrics(path: Path) -> list[dict]:
    """Lines of a metrics.jsonl.

    Raises:
        UserError: the file cannot be read, or a line is not a record of a step and its losses; names file and line.
    """
    records: list[dict] = []
    for number, line in enumerate(read_utf8(path, TRAINING).splitlines(), 1):
        record: Any = None
        with suppress(ValueError, RecursionError):
            record = json.loads(line)
        if not _is_record(record):
            raise UserError(
                f"{path}: row {number}: {line[:60]!r} is not a record of a step and its loss; delete it and rerun {TRAINING}"
            )
        records.append(record)
    if not records:
        raise UserError(f"{path}: no rows; delete it and rerun {TRAINING}")
    return records


def _is_record(record: Any) -> bool:
    if not isinstance(record, dict) or not _is_number(record.get("step")):
        return False
    parts = [record[kind] for kind in ("train", "validation") if kind in record]
    # A loss that overflowed is a fact of its training, and whoever reads it says what follows.
    return all(isinstance(part, dict) and type(part.get("loss")) in (int, float) for part in parts)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def read_pilot(path: Path) -> dict[str, Any]:
    """Content of METHOD.json of pilot.py.

    Raises:
        UserError: the file is missing, damaged or something else.
    """
    pilot = read_object(path, "pilot", PILOT)
    try:
        tried = [(each["name"], each["lr"]) for each in pilot["candidates"]]
        good = (pilot["chosen"]["name"], pilot["chosen"]["lr"]) in tried
        good &= all(isinstance(pilot[name], dict) for name in ("settings", "inputs"))
        good &= all(each["loss"] is None or _is_number(each["loss"]) for each in pilot["candidates"])
        good &= all("diverged" in each for each in pilot["candidates"])
        good &= all((each["name"], each["lr"]) in tried for each in pilot["ties"])
    except (KeyError, TypeError):
        good = False
    if not good:
        raise UserError(
            f"{path}: not the pilot of a method, with its candidates and its choice; delete it and rerun {MAKERS['pilot']}"
        )
    return pilot
