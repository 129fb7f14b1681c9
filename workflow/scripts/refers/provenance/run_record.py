"""run.json, the provenance of a result: settings, seeds, digests of inputs and outputs, code, versions, time and memory."""

import hashlib
import json
import platform
import resource
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from refers.errors import UserError
from refers.files import file_digest, read_json

PACKAGES = (
    "torch", "torchvision", "timm", "transformers", "numpy", "pandas", "safetensors", "snakemake", "apex",
)  # fmt: skip
LIBRARY = Path(__file__).parents[1]
SCHEMA = LIBRARY.parents[1] / "schemas/run.schema.json"
VERSION = 2
# What a fine-tune or a probe is of, beside its seed.
CELL = ("method", "dataset", "ratio", "split")
STARTED = time.monotonic()


def digest(content: Any) -> str:
    """SHA-256 of canonical JSON; equal settings give equal digests whatever the order of their keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@cache
def library_digest() -> str:
    """SHA-256 over the library's Python files, names and contents."""
    sources = sorted(LIBRARY.rglob("*.py"))
    return digest({str(path.relative_to(LIBRARY)): file_digest(path) for path in sources})


@cache
def git_commit() -> str | None:
    """Commit of the checkout, with `+changes` when tracked files differ from it; None outside git."""
    describe = ["describe", "--always", "--abbrev=40", "--dirty=+changes", "--exclude=*"]
    command = ["git", "-C", str(LIBRARY), *describe]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that affect a result."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def process_record(device: Any, started: float = STARTED) -> dict[str, Any]:
    """The part of a run that this process did: its code and torch device, seconds since `started`, peak memory in MiB."""
    found = {
        "library_sha256": library_digest(),
        "commit": git_commit(),
        "device": str(device),
        "seconds": round(time.monotonic() - started, 2),
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    if getattr(device, "type", None) == "cuda":
        import torch

        found["device"] = torch.cuda.get_device_name(device)
        found["peak_gpu_memory_mib"] = torch.cuda.max_memory_allocated(device) >> 20
    return found


def add_cell_option(parser: ArgumentParser) -> None:
    """Add the option that names the cell which a script's predictions are of."""
    names = [name.upper() for name in CELL]
    parser.add_argument("--cell", nargs=len(CELL), metavar=tuple(names), help="to record what they are of")


def cell_of(args: Namespace) -> dict[str, Any]:
    """The fact `cell` of a run record by that option; nothing without it.

    Raises:
        UserError: ratio or split is not a whole number.
    """
    if not args.cell:
        return {}
    *names, ratio, split = args.cell
    if not (ratio.isdecimal() and split.isdecimal()):
        raise UserError(f"--cell {' '.join(args.cell)}: ratio and split must be whole numbers")
    return {"cell": dict(zip(CELL, (*names, int(ratio), int(split)), strict=True))}


def run_record(
    settings: dict,
    seed: int,
    inputs: dict[str, str],
    outputs: dict[str, Path],
    device: Any,
    started: float = STARTED,
    history: Sequence[dict] = ({},),
    **facts: Any,
) -> dict:
    """The content of run.json, as workflow/schemas/run.schema.json describes it.

    Args:
        settings: the resolved configuration of the run.
        seed: of all its randomness.
        inputs: name -> SHA-256 of what was read.
        outputs: name -> a file that was written.
        device: the torch device of this process.
        started: when this process began the run, by `time.monotonic`.
        history: what `trainer.fit` returns of the processes that worked on the run, this one last.
        facts: other results to record (best step, sizes, key reports).

    Raises:
        UserError: the record does not follow the schema.
    """
    *earlier, own = history
    processes = [*earlier, own | process_record(device, started)]
    record = {
        "version": VERSION,
        "script": Path(sys.argv[0]).name,
        "command": sys.argv,
        "settings": settings,
        "settings_sha256": digest(settings),
        "seed": seed,
        "inputs": inputs,
        "outputs": {name: file_digest(path) for name, path in outputs.items()},
        **{name: processes[-1][name] for name in ("library_sha256", "commit", "device")},
        "versions": versions(),
        "system": f"{platform.system()} {platform.machine()}",
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "wall_seconds": round(sum(each["seconds"] for each in processes), 2),
        "peak_memory_mib": max(each["peak_memory_mib"] for each in processes),
        "history": processes,
        **facts,
    }
    if on_gpu := [each["peak_gpu_memory_mib"] for each in processes if "peak_gpu_memory_mib" in each]:
        record["peak_gpu_memory_mib"] = max(on_gpu)
    if problem := problem_of(record):
        raise UserError(f"run.json: {problem}; see {SCHEMA.name}")
    return record


def problem_of(record: Any) -> str:
    """Where a record departs from the schema of run.json, in one line; empty where it follows the schema."""
    # its import takes a twentieth of a second, and few processes write or read a record
    from jsonschema import Draft202012Validator

    plain = json.loads(json.dumps(record))
    for error in Draft202012Validator(read_json(SCHEMA)).iter_errors(plain):
        return f"{'.'.join(map(str, error.absolute_path)) or 'record'}: {error.message[:200]}"
    return ""
