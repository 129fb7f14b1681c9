"""Results and the run records beside them: whether a result is the one that its record describes. No torch.

A result that stands alone is read as it is; one whose run.json is beside it must have the digest that the record states.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from refers.errors import UserError
from refers.files import file_digest, read_object

KEYS = ("script", "settings", "seed", "inputs", "outputs")
# Inputs that the runs of a cell share: all of them, or those of one split.
OF_CELL, OF_SPLIT = ("encoder", "features"), ("split", "subset", "manifest")
RERUN = "delete both and rerun"


def record_of(
    result: Path, output: str, record: Path | None = None, digest: Callable[[Path], str] = file_digest
) -> dict[str, Any]:
    """The run record of a result; empty where there is none.

    Args:
        result: the file.
        output: its name among the outputs of the record.
        record: the record; run.json beside the result by default.
        digest: gives the SHA-256 of the result.

    Raises:
        UserError: the record is damaged, or that of another file.
    """
    path = result.with_name("run.json") if record is None else record
    # A link that leads nowhere is no absence.
    if not os.path.lexists(path):
        return {}
    found = read_object(path, "run record", KEYS)
    if not all(isinstance(found[key], dict) for key in ("settings", "inputs", "outputs")):
        raise UserError(f"{path}: not a run record; {RERUN} the job that wrote it")
    recorded = found["outputs"].get(output)
    # Records of earlier versions do not list every file.
    if recorded is not None and result.exists() and recorded != digest(result):
        raise UserError(f"{result}: differs from what {path} states of it; {RERUN} {found['script']}")
    return found


def digest_of(result: Path, output: str) -> str:
    """SHA-256 of a result that a job reads, compared with the record beside it; errors as `record_of`, and a missing file."""
    if not result.is_file():
        raise UserError(f"{result}: there is no such file; rerun the job that writes it")
    found = file_digest(result)
    record_of(result, output, digest=lambda _path: found)
    return found


def expect_inputs(result: Path, record: Mapping[str, Any], files: Mapping[str, Path]) -> None:
    """Raise a UserError where a file that exists is not the one that a result was made from, by the record of the result."""
    for name, path in files.items():
        recorded = record.get("inputs", {}).get(name)
        if recorded is not None and path.exists() and recorded != file_digest(path):
            raise UserError(f"{result}: made with another {name} than {path}; {RERUN} {record['script']}")


def check_runs(
    predictions: Sequence[Path],
    splits: Sequence[int],
    seeds: Sequence[int],
    cell: Mapping[str, Any],
) -> dict[str, list[str | None]]:
    """What the predictions of a cell were made from, by the records beside them: SHA-256 per run of encoder, split and subset.

    Args:
        predictions, splits, seeds: one per run.
        cell: method, dataset and ratio that the predictions must be of, as far as they are known.

    Raises:
        UserError: a record is damaged, is that of other predictions, or names another cell, split or seed; or two runs
            differ in what they must share.
    """
    first: dict[tuple, tuple[Path, Any]] = {}
    records = [record_of(path, "predictions") for path in predictions]
    for path, split, seed, record in zip(predictions, splits, seeds, records, strict=True):
        if not record:
            continue
        again = f"{RERUN} {record['script']}"
        known = record.get("cell")
        stated = (known if isinstance(known, dict) else {}) | {"seed": record["seed"]}
        for name, wanted in (dict(cell) | {"split": split, "seed": seed}).items():
            if stated.get(name, wanted) != wanted:
                raise UserError(
                    f"{path}: its run.json is of {name} {stated[name]!r}, not {wanted!r}; put the right files there, or {again}"
                )
        shared: dict[tuple, Any] = {("settings",): _without_seed(record["settings"])}
        shared |= {(name,): record["inputs"].get(name) for name in OF_CELL}
        shared |= {(name, split): record["inputs"].get(name) for name in OF_SPLIT}
        for key, value in shared.items():
            origin, other = first.setdefault(key, (path, value))
            if other != value:
                raise UserError(
                    f"{path}: made with another {key[0]} than {origin}; rerun {record['script']} for the older one"
                )
    return {
        name: [record.get("inputs", {}).get(name) for record in records]
        for name in ("encoder", "split", "subset")
    }


def _without_seed(settings: dict[str, Any]) -> dict[str, Any]:
    training = settings.get("training")
    return settings | ({"training": training | {"seed": None}} if isinstance(training, dict) else {})
