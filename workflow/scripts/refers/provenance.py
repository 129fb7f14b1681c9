"""run.json: what a result was made with, so that it can be made again."""

import hashlib
import json
import platform
import resource
import subprocess
import sys
import time
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from refers.files import file_digest

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
LIBRARY = Path(__file__).parent
STARTED = time.time()


def digest(content: Any) -> str:
    """SHA-256 of canonical JSON; equal settings give equal digests whatever the order of their keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@cache
def library_digest() -> str:
    """SHA-256 over the library's Python files, names and contents."""
    sources = sorted(LIBRARY.rglob("*.py"))
    return digest({str(path.relative_to(LIBRARY)): file_digest(path) for path in sources})


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


def run_record(settings: dict, inputs: dict[str, str], device: Any, **facts: Any) -> dict:
    """The content of run.json.

    Args:
        settings: the resolved configuration of the run.
        inputs: name -> SHA-256 of what was read.
        device: the torch device of the run.
        facts: results worth keeping beside it (best step, sizes, key reports).
    """
    record = {
        "settings": settings,
        "settings_sha256": digest(settings),
        "inputs": inputs,
        "library_sha256": library_digest(),
        "commit": git_commit(),
        "versions": versions(),
        "device": str(device),
        "command": sys.argv[:1],
        "wall_seconds": round(time.time() - STARTED, 2),
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        **facts,
    }
    if getattr(device, "type", None) == "cuda":
        import torch

        record["device"] = torch.cuda.get_device_name(device)
        record["peak_gpu_memory_mib"] = torch.cuda.max_memory_allocated(device) >> 20
    return record
