"""Times of real training steps: the trainer's own loop over a task, ended after some steps.

What is timed is what a run does in a step: the batch of the next step is read meanwhile, the host copies, the device
augments, and the weights are updated. A GPU's queue is not drained between steps; its own clock marks their ends.
"""

import contextlib
import io
import statistics
import time
import warnings
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from refers import config
from refers.training.task import Task
from refers.training.trainer import Trainer

WARM_UP = 2  # steps before the clock starts: allocators, handles, choices of kernels
LEAST = 2  # timed steps, however long they take
NEVER = 1_000_000  # steps between log lines, validations and states of a run that is ended long before
WAITED = "synchronizing CUDA operation"  # torch's warning where the host waits for the device


@dataclass(frozen=True)
class Timed:
    """What the timed steps took: seconds of each; peak bytes of the allocator and waits of the host per step (GPU alone)."""

    seconds: list[float]
    micro_batches: int
    peak_bytes: int | None = None
    waits: float | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


class Enough(Exception):
    """The steps that were asked for are done."""


@dataclass
class Clock:
    """Marks the end of each step; raises `Enough` after `steps` timed ones, or `LEAST` where they take over `seconds`."""

    device: torch.device
    steps: int
    seconds: float
    warm_up: int = WARM_UP
    marks: list[Any] = field(default_factory=list)
    began: float = 0.0

    def mark(self) -> None:
        """The end of a step."""
        if self.device.type == "cuda":
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self.marks.append(event)
        else:
            self.marks.append(time.perf_counter())
        timed = len(self.marks) - self.warm_up
        if timed == 0:
            self.began = time.perf_counter()
            if self.device.type == "cuda":
                torch.cuda.set_sync_debug_mode("warn")
        late = time.perf_counter() - self.began > self.seconds
        if timed >= self.steps or (timed >= LEAST and late):
            raise Enough

    def taken(self) -> list[float]:
        """Seconds of each timed step."""
        marks = self.marks[self.warm_up - 1 :]
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            return [before.elapsed_time(after) / 1000 for before, after in pairwise(marks)]
        return [after - before for before, after in pairwise(marks)]


def time_steps(
    task: Task, training: config.Training, device: torch.device, folder: Path, steps: int, seconds: float
) -> Timed:
    """Time `steps` steps of a task in the trainer, fewer where they would take over `seconds`; nothing is validated.

    Raises:
        UserError: a single item does not fit into memory, or this machine lacks the precision.
        Diverged: the loss or a weight became non-finite.
    """
    unlogged = {"log_every": NEVER, "validate_every": NEVER, "checkpoint_every": NEVER}
    training = training.replace(steps=max(training.steps, NEVER), **unlogged)
    # a compiled step is compiled anew once its sizes have been seen to vary
    clock = Clock(device, steps, seconds, WARM_UP + training.compile)
    timed = replace(task, validate=lambda: {"score": 0.0}, after_step=_both(task.after_step, clock.mark))
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with contextlib.redirect_stdout(io.StringIO()), _counted_waits(device) as waits:
        trainer = Trainer(timed, training, device, folder, "timed", time.monotonic())
        with contextlib.suppress(Enough):
            trainer.fit()
    taken = clock.taken()
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    trainer.check_finite()
    per_step = len(waits) / len(taken) if device.type == "cuda" else None
    return Timed(taken, trainer.progress.parts, peak, per_step)


def _both(first: Callable[[], None], second: Callable[[], None]) -> Callable[[], None]:
    def both() -> None:
        first()
        second()

    return both


@contextlib.contextmanager
def _counted_waits(device: torch.device) -> Generator[list[str]]:
    """A list that has an entry for each wait of the host since the clock of this run began, once the block has ended."""
    found: list[str] = []
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield found
    finally:
        if device.type == "cuda":
            torch.cuda.set_sync_debug_mode("default")
    found += [str(each.message) for each in caught if WAITED in str(each.message)]
