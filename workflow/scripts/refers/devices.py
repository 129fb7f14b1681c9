"""Which GPU a job takes: a free one by lock, so that two jobs on one machine never share one by accident.

CUDA's driver is asked, without torch: it honours CUDA_VISIBLE_DEVICES, opens no context on a GPU that another job
holds, and answers in a Snakemake whose environment has no torch. A lock bears the GPU's UUID, which is the same
whatever number a process sees it under. The operating system drops the lock of a job that is killed.
"""

import ctypes
import os
import sys
import tempfile
import time
import uuid
from pathlib import Path

_HELD = []  # locks, to the end of the process
PATIENCE = 5.0  # seconds between looks at GPUs that are all taken


def visible() -> list[str]:
    """UUIDs of the GPUs that CUDA shows this process, in CUDA's order; none where there is no driver."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return []
    count = ctypes.c_int()
    if cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count)):
        return []
    # the second version of the call tells the slices of a divided GPU (MIG) apart
    ask = getattr(cuda, "cuDeviceGetUuid_v2", None) or cuda.cuDeviceGetUuid
    found = []
    for place in range(count.value):
        name = (ctypes.c_ubyte * 16)()
        ask(ctypes.byref(name), place)
        found.append(str(uuid.UUID(bytes=bytes(name))))
    return found


def lock_folder() -> Path:
    """Where the locks lie: one folder a user and, inside a Slurm job, a job, whose GPUs are the scheduler's to divide."""
    job = os.environ.get("SLURM_JOB_ID")
    return Path(tempfile.gettempdir()) / f"refers-gpu-{os.getuid()}" / (f"slurm-{job}" if job else "machine")


def claim(names: list[str], folder: Path | None = None) -> int:
    """Take the first free one of the GPUs `names` to the end of this process, and wait where all are taken.

    Returns its place in `names`, which is its number for torch.
    """
    from filelock import FileLock, Timeout  # Snakemake's own environment may lack it and asks `absent` only

    folder = folder or lock_folder()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    said = False
    while True:
        for place, name in enumerate(names):
            lock = FileLock(folder / f"{name}.lock")
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            _HELD.append(lock)
            return place
        if not said:
            print(
                f"all {len(names)} visible GPUs are taken by other jobs ({folder}); waiting for one",
                file=sys.stderr,
                flush=True,
            )
            said = True
        time.sleep(PATIENCE)


def absent(device: str) -> str:
    """Why a job with this `device` setting cannot run on this machine, as one line; empty where it can."""
    if device != "cuda" or visible() or Path("/dev/kfd").exists():  # the latter is AMD's driver
        return ""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    where = f" (CUDA_VISIBLE_DEVICES is {hidden!r})" if hidden is not None else ""
    return f"device: cuda is configured but no GPU is visible{where}; set `device: auto` or `cpu` to train on the CPU"
