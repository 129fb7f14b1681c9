"""GPU locks: a job takes a free GPU, so that two jobs on one machine never share one by accident.

CUDA's driver is asked, without torch: it honours CUDA_VISIBLE_DEVICES, opens no context on a GPU that another job
holds, and answers in a Snakemake whose environment has no torch. A lock is named by the GPU's UUID, which is the same
whatever number a process sees the GPU under. It is an abstract socket, which the kernel keeps while the process lives,
however that ends: there is no file to clean up, and no folder that two jobs, or two users, see differently.
"""

import contextlib
import ctypes
import errno
import os
import random
import socket
import subprocess
import sys
import time
import uuid
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

RUNTIMES = ("nvidia-cuda-runtime", "nvidia-cuda-runtime-cu12")  # packages of torch's CUDA
DRIVERS = {12: "525", 13: "580"}  # oldest driver of a major version of CUDA
PATIENCE = 5.0  # seconds between looks at GPUs that are all taken
_HELD: list[socket.socket] = []  # locks, until the process ends


def _driver() -> ctypes.CDLL | None:
    """CUDA's driver library, initialised; None where there is no driver or no GPU."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    return None if cuda.cuInit(0) else cuda


def visible() -> list[str]:
    """UUIDs of the GPUs that CUDA shows this process, in CUDA's order; none where there is no driver."""
    count = ctypes.c_int()
    if (cuda := _driver()) is None or cuda.cuDeviceGetCount(ctypes.byref(count)):
        return []
    # The second version of the call tells the slices of a divided GPU (MIG) apart.
    ask = getattr(cuda, "cuDeviceGetUuid_v2", None) or cuda.cuDeviceGetUuid
    found = []
    for place in range(count.value):
        name = (ctypes.c_ubyte * 16)()
        ask(ctypes.byref(name), place)
        found.append(str(uuid.UUID(bytes=bytes(name))))
    return found


def driver() -> int | None:
    """Major version of NVIDIA's driver, as nvidia-smi shows it; None where it shows none."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
        return int(shown.split(".")[0])
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def outdated() -> str:
    """Why the driver is too old for the CUDA installed with torch, as a clause; empty where it is not, or unknown."""
    known = ctypes.c_int()
    if (cuda := _driver()) is None or cuda.cuDriverGetVersion(ctypes.byref(known)):
        return ""
    needed = 0
    for package in RUNTIMES:
        with contextlib.suppress(PackageNotFoundError):
            needed = max(needed, int(version(package).split(".")[0]))
    if (supported := known.value // 1000) >= needed:
        return ""
    newer = f"driver {DRIVERS[needed]} or newer" if needed in DRIVERS else "a newer one"
    newer += ", or torch for CUDA 12 (make install CUDA=12)" if supported == 12 else ""
    return f"its driver supports CUDA {supported}, the installed torch needs CUDA {needed}: install {newer}"


def claim(names: list[str], count: int = 1) -> list[int]:
    """Take `count` free ones of the GPUs `names` (UUIDs) until this process ends, all at once; wait where fewer are free.

    Returns their places in `names`, which are their numbers for torch.
    """
    waiting = False
    while True:
        locks = {}
        for place, name in enumerate(names):
            if len(locks) < count and (lock := _lock(name)):
                locks[place] = lock
        if len(locks) == count:
            _HELD.extend(locks.values())
            return list(locks)
        # Two jobs that keep the locks they have would wait for each other.
        for lock in locks.values():
            lock.close()
        if not waiting:
            taken = f"{len(names) - len(locks)} of {len(names)} visible GPUs are taken by other jobs"
            print(f"{taken}; waiting for {count}", file=sys.stderr, flush=True)
            waiting = True
        # Jobs that retry at the same moments could block each other again and again.
        time.sleep(PATIENCE * random.uniform(0.5, 1.5))


def is_free(name: str) -> bool:
    """Whether no process holds this GPU; it is not taken."""
    if lock := _lock(name):
        lock.close()
    return lock is not None


def _lock(name: str) -> socket.socket | None:
    """A GPU's socket in Linux's abstract namespace; None if a process holds it."""
    # A scheduler divides the GPUs among its jobs, and may let two of them share one.
    scope = f"slurm-{job}-" if (job := os.environ.get("SLURM_JOB_ID")) else ""
    lock = socket.socket(socket.AF_UNIX)
    try:
        lock.bind(f"\0refers-gpu-{scope}{name}")
    except OSError as error:
        lock.close()
        if error.errno != errno.EADDRINUSE:
            raise
        return None
    return lock


def absent(device: str) -> str:
    """Why a job with this `device` setting cannot run on this machine, as one line; empty where it can."""
    if device == "cpu" or Path("/dev/kfd").exists():  # AMD's driver
        return ""
    if visible():
        if not (reason := outdated()):
            return ""
        return f"device: {device} is configured and a GPU is available, but {reason}; or set `device: cpu`"
    if device == "auto":
        return ""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    where = f" (CUDA_VISIBLE_DEVICES is {hidden!r})" if hidden is not None else ""
    return f"device: cuda is configured but no GPU is visible{where}; set `device: auto` or `cpu` to train on the CPU"
