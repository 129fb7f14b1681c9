"""run.json: what a result was made with, so that it can be made again."""

import hashlib
import json
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from refers.errors import UserError
from refers.files import file_digest, read_json

PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "transformers",
    "numpy",
    "pandas",
    "safetensors",
    "snakemake",
    "apex",
)
LIBRARY = Path(__file__).parents[1]
SCHEMA = LIBRARY.parents[1] / "schemas/run.schema.json"
VERSION = 2
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
    try:
        command = [
            "git",
            "-C",
            str(LIBRARY),
            "describe",
            "--always",
            "--abbrev=40",
            "--dirty=+changes",
            "--exclude=*",
        ]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def versions() -> dict[str, str]:
    """Python and the packages that shape a result."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def piece(device: Any, started: float = STARTED) -> dict[str, Any]:
    """What of a run is this process's own: its code, its torch device, and time (`time.monotonic`) and memory until now."""
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
        started: when this process began with it, by `time.monotonic`.
        history: what `trainer.fit` hands back of the processes that worked on it, this one last.
        facts: results worth keeping beside it (best step, sizes, key reports).

    Raises:
        UserError: the record is not what the schema asks for.
    """
    *earlier, own = history
    pieces = [*earlier, own | piece(device, started)]
    record = {
        "version": VERSION,
        "script": Path(sys.argv[0]).name,
        "command": sys.argv,
        "settings": settings,
        "settings_sha256": digest(settings),
        "seed": seed,
        "inputs": inputs,
        "outputs": {name: file_digest(path) for name, path in outputs.items()},
        **{name: pieces[-1][name] for name in ("library_sha256", "commit", "device")},
        "versions": versions(),
        "system": f"{platform.system()} {platform.machine()}",
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "wall_seconds": round(sum(part["seconds"] for part in pieces), 2),
        "peak_memory_mib": max(part["peak_memory_mib"] for part in pieces),
        "history": pieces,
        **facts,
    }
    if on_gpu := [part["peak_gpu_memory_mib"] for part in pieces if "peak_gpu_memory_mib" in part]:
        record["peak_gpu_memory_mib"] = max(on_gpu)
    if problem := problem_of(record):
        raise UserError(f"run.json: {problem}; {SCHEMA.name} says what belongs there")
    return record


def problem_of(record: Any) -> str:
    """Where a record departs from the schema of run.json, in a line; empty when it does not."""
    from jsonschema import (
        Draft202012Validator,
    )  # a twentieth of a second, where a record is written or explained

    plain = json.loads(json.dumps(record))
    for error in Draft202012Validator(read_json(SCHEMA)).iter_errors(plain):
        return f"{'.'.join(map(str, error.absolute_path)) or 'record'}: {error.message[:200]}"
    return ""
