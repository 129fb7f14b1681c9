"""The process around a training job: device, memory allocator, signals, random streams."""

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
import torch

from refers import devices
from refers.errors import Preempted, UserError

HELD = "REFERS_GPUS"  # environment variable: names of GPUs, in the order of torchrun's ranks
_GIB = 1 << 30
# how a GPU's libraries report it where torch's allocator does not
_OUT_OF_MEMORY = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")


def choose_device(name: str) -> torch.device:
    """The device to train on: `cuda`, `cpu`, or `auto` (a GPU if available). A GPU is held until the process ends.

    Raises:
        UserError: `cuda` is configured and no GPU is available, or torch cannot use the one that is.
    """
    available = name != "cpu" and torch.cuda.is_available()
    if not available and name != "cpu":
        if reason := devices.absent(name):
            raise UserError(reason)
        if name == "cuda" or devices.visible():
            raise UserError(
                f"device: {name} is configured but this torch, made for CUDA {torch.version.cuda}, finds no GPU;"
                " install one for this machine's GPU, or set `device: cpu`"
            )
    if not available:
        tune_malloc()
        # Weights that decay has driven below 1e-38 make a step of a CPU more than ten times as slow.
        torch.set_flush_denormal(True)
        return torch.device("cpu")
    names = gpus()
    if held := os.environ.get(HELD):
        # Below torchrun the launcher holds the GPUs of all ranks.
        place = names.index(held.split(",")[int(os.environ["LOCAL_RANK"])])
    else:
        [place] = devices.claim(names)
    device = torch.device("cuda", place)
    torch.cuda.set_device(device)
    print(f"GPU {device.index} of {len(names)}: {torch.cuda.get_device_name(device)}", flush=True)
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    return device


def hold_gpus(count: int) -> None:
    """Take `count` GPUs for the ranks that torchrun starts below this process; each finds its own in HELD."""
    names = gpus()
    os.environ[HELD] = ",".join(names[place] for place in devices.claim(names, count))


def gpus() -> list[str]:
    """A name for each GPU that torch sees, in its order."""
    # CUDA's driver gives AMD's GPUs no UUID; their numbers do where nothing renumbers them.
    return devices.visible() or [str(place) for place in range(torch.cuda.device_count())]


def end_with_parent() -> None:
    """Have the kernel kill this process when its parent dies: a rank without torchrun would train on, unseen."""
    libc = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
    if (prctl := getattr(libc, "prctl", None)) is not None:
        set_parent_death_signal = 1
        prctl(set_parent_death_signal, signal.SIGKILL)


def tune_malloc() -> None:
    """Let glibc keep freed memory instead of returning pages: page faults are 10 to 40 % of a CPU step otherwise."""
    libc = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
    if (mallopt := getattr(libc, "mallopt", None)) is None:
        return
    trim_threshold, top_pad, mmap_threshold = -1, -2, -3
    mallopt(mmap_threshold, _GIB)
    mallopt(trim_threshold, 2 * _GIB - 1)
    mallopt(top_pad, 64 << 20)


def out_of_memory(error: RuntimeError) -> bool:
    """Whether an error means that GPU memory ran out."""
    return isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in _OUT_OF_MEMORY)


@contextmanager
def oom_as_user_error(where: str, advice: str) -> Generator[None]:
    """Turn an out-of-memory error of the GPU into a UserError of one line."""
    try:
        yield
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        raise UserError(f"out of GPU memory {where}; {advice}") from None


class Termination:
    """Notes SIGTERM and SIGINT, so that a loop can save its state and end.

    A cluster announces by SIGTERM that a job's time is up; Ctrl-C sends SIGINT. Between steps the loop looks at `received`;
    inside `interruptible`, where nothing is half done, the signal raises `Preempted` immediately.
    """

    def __init__(self) -> None:
        self.received = 0
        self._interruptible = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Termination":
        # Only the main thread may set handlers; a loop in another one, as in some tests, cannot be interrupted.
        if threading.current_thread() is threading.main_thread():
            # A shell lets its background jobs ignore SIGINT: Ctrl-C is not meant for them.
            ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            for number in (signal.SIGTERM,) if ignored else (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame: object) -> None:
        self.received = number
        if self._interruptible:
            raise Preempted

    @contextmanager
    def interruptible(self) -> Generator[None]:
        """A stretch of work that may be interrupted anywhere, by a signal that arrived before or in it (Preempted)."""
        self._interruptible = True
        try:
            if self.received:
                raise Preempted
            yield
        finally:
            self._interruptible = False

    def preempted(self, where: str) -> Preempted:
        """The error to end with; another rank may have received the signal that this one has not."""
        number = signal.Signals(self.received or signal.SIGTERM)
        return Preempted(f"{number.name} {where}", number)


def skip_dynamo_import() -> None:
    """Put an empty module in the place of torch's compiler, which optimisers import only to switch it off.

    That import takes as long as torch itself, a third of a short fine-tune on the CPU. For jobs that do not compile.
    """
    compiler: Any = ModuleType("torch._dynamo")
    compiler.disable = lambda function=None, *_given, **_options: function
    compiler.graph_break = lambda *_given, **_options: None
    # ty: ignore[invalid-assignment] - a stand-in for the module that torch declares
    torch._dynamo = sys.modules.setdefault("torch._dynamo", compiler)


def numpy_rng(*keys: int) -> np.random.Generator:
    """A generator that depends on `keys` alone, such as (seed, purpose, step), so that a step can be repeated exactly."""
    return np.random.default_rng(keys)


def seed_torch(*keys: int) -> None:
    """Seed torch's default generators (augmentation, dropout) as a function of `keys` alone."""
    torch.manual_seed(int(np.random.SeedSequence(keys).generate_state(1, np.uint64)[0] >> 1))
