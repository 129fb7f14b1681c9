"""The process around a training job: device, memory allocator, random streams."""

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import numpy as np
import torch

from refers import devices
from refers.errors import Preempted, UserError

HELD = "REFERS_GPUS"  # environment variable: names of GPUs, in the order of torchrun's processes
_GIB = 1 << 30
# how a GPU's libraries say it where torch's allocator does not
_MEMORY = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")


def choose_device(name: str) -> torch.device:
    """The device to train on: `cuda`, `cpu`, or `auto` (a GPU where there is one). A GPU is held to the end of the process.

    Raises:
        UserError: `cuda` is asked for and there is none, or there is one that this torch cannot use.
    """
    there = name != "cpu" and torch.cuda.is_available()
    if not there and name != "cpu":
        if reason := devices.absent(name):
            raise UserError(reason)
        if name == "cuda" or devices.visible():
            raise UserError(
                f"device: {name} is configured but this torch, made for CUDA {torch.version.cuda}, finds no GPU;"
                " install one for this machine's GPU, or set `device: cpu`"
            )
    device = torch.device("cpu")
    if there:
        names = gpus()
        if held := os.environ.get(HELD):  # by torchrun, for all of its processes
            place = names.index(held.split(",")[int(os.environ["LOCAL_RANK"])])
        else:
            [place] = devices.claim(names)
        device = torch.device("cuda", place)
        torch.cuda.set_device(device)
        print(f"GPU {device.index} of {len(names)}: {torch.cuda.get_device_name(device)}", flush=True)
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True
    else:
        keep_freed_pages()
    return device


def hold_gpus(count: int) -> None:
    """Take `count` GPUs for the processes of torchrun, which this process is about to become; each finds its own in HELD."""
    names = gpus()
    os.environ[HELD] = ",".join(names[place] for place in devices.claim(names, count, outlive=True))


def gpus() -> list[str]:
    """A name for each GPU that torch sees, in its order."""
    # AMD's GPUs have no UUID from CUDA's driver; their numbers do where nothing renumbers them
    return devices.visible() or [str(place) for place in range(torch.cuda.device_count())]


def keep_freed_pages() -> None:
    """Ask glibc to keep freed memory instead of giving pages back: 10 to 40 % of a CPU step is page faults otherwise."""
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    trim_threshold, top_pad, mmap_threshold = -1, -2, -3
    mallopt(mmap_threshold, _GIB)
    mallopt(trim_threshold, 2 * _GIB - 1)
    mallopt(top_pad, 64 << 20)


def out_of_memory(error: RuntimeError) -> bool:
    """Whether something failed for want of GPU memory."""
    return isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in _MEMORY)


@contextmanager
def enough_memory(where: str, advice: str) -> Iterator[None]:
    """A stretch of work that GPU memory must do for.

    Raises:
        UserError: it did not.
    """
    try:
        yield
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        raise UserError(f"out of GPU memory {where}; {advice}") from None


class Termination:
    """Notes SIGTERM, by which clusters announce that a job's time is up, so that a loop can save its state and end.

    Between steps the loop asks `asked`; inside `at_once`, where nothing is half done, the signal raises immediately.
    """

    def __init__(self) -> None:
        self.asked = False
        self._at_once = False

    def __enter__(self) -> "Termination":
        # only the main thread may; a loop in another one, as in some tests, simply cannot be asked
        self._before = (
            signal.signal(signal.SIGTERM, self._note)
            if threading.current_thread() is threading.main_thread()
            else None
        )
        return self

    def __exit__(self, *_error: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def _note(self, *_about: object) -> None:
        self.asked = True
        if self._at_once:
            raise Preempted

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """A stretch of work that may be dropped anywhere."""
        self._at_once = True
        try:
            if self.asked:
                raise Preempted
            yield
        finally:
            self._at_once = False


def spare_compiler() -> None:
    """Put an empty module in the place of torch's compiler, which the optimisers import only to switch it off.

    That import takes as long as torch itself, a third of a short fine-tune on the CPU. For jobs that do not compile.
    """
    compiler = ModuleType("torch._dynamo")
    compiler.disable = lambda function=None, *_given, **_options: function
    compiler.graph_break = lambda *_given, **_options: None
    torch._dynamo = sys.modules.setdefault("torch._dynamo", compiler)


def stream(*keys: int) -> np.random.Generator:
    """A random stream that depends on `keys` alone, such as (seed, purpose, step): a step can be repeated exactly."""
    return np.random.default_rng(keys)


def seed_torch(*keys: int) -> None:
    """Seed torch's default generators (augmentation, dropout) as a function of `keys` alone."""
    torch.manual_seed(int(np.random.SeedSequence(keys).generate_state(1, np.uint64)[0] >> 1))
