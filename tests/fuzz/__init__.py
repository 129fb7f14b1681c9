"""Seeded damage to a small valid input of every reader, and what the reader makes of it (`make fuzz`, docs/faults.md).

`readers.py` lists the readers, `damage.py` what happens to their files. An input is known by seed, reader and number.
"""

import os
import re
import shutil
import signal
import time
import traceback
from collections.abc import Callable, Iterable
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from refers.errors import UserError

from fuzz.damage import Damage, changed

# Outcomes, in the order of the table: the first four are right.
EQUAL, REFUSED, TOLD, VALID = "equal", "refused", "told", "valid"
SILENT, TRACEBACK, HANG, MEMORY = "silent", "traceback", "hang", "memory"
OUTCOMES = (EQUAL, REFUSED, TOLD, VALID, SILENT, TRACEBACK, HANG, MEMORY)
FAULTS = (SILENT, TRACEBACK, HANG, MEMORY)
# By the clock, since a pipe costs no time of the processor; more than a busy machine needs.
SECONDS, PIPE_SECONDS, MEBIBYTES = 60, 10, 1024
# What a message must not tell a user to do.
ADVICE = re.compile(r"allow_pickle\s*=\s*True|weights_only|trust_remote_code|Traceback")
PEAK = re.compile(r"VmHWM:\s+(\d+) kB")


class Told(NamedTuple):
    """What a reader returns beside its result: counts or remarks that a user sees. Where they change, a damage is noticed."""

    result: Any
    counts: Any


class Reader(NamedTuple):
    """One reader and one of its files.

    name: of the row in the table.
    make: writes a small valid input below an empty folder; returns the file that is damaged.
    read: what is tried, on that file.
    damages: by kind.
    values: kinds of damage that may give other valid values, in the same number and of the same names and types: the file
        has neither checksum nor digest.
    contents: kinds of damage that may give any other content, as a list with one line less is a list.
    """

    name: str
    make: Callable[[Path], Path]
    read: Callable[[Path], Any]
    damages: dict[str, Damage]
    values: Iterable[str] = ()
    contents: Iterable[str] = ()


class Outcome(NamedTuple):
    """kind: one of OUTCOMES; damage: its kind; what: the message or the place of an error, in one line."""

    kind: str
    damage: str
    what: str


class _Hang(BaseException):
    """A reader took longer than SECONDS."""


class Fuzzer:
    """Tries inputs of one reader below `folder`; see `Reader`."""

    def __init__(self, reader: Reader, folder: Path, seed: int) -> None:
        self.reader, self.seed = reader, seed
        self.template, self.copy = folder / "template", folder / "copy"
        self.template.mkdir(parents=True)
        self.file = reader.make(self.template).relative_to(self.template)
        self.content = (self.template / self.file).read_bytes()
        self.expected = _split(reader.read(self._fresh()))

    def _fresh(self) -> Path:
        if self.copy.exists():
            shutil.rmtree(self.copy)
        shutil.copytree(self.template, self.copy)
        return self.copy / self.file

    def write(self, number: int) -> tuple[Path, str]:
        """The damaged file of an input, and the kind of its damage."""
        random = Random(f"{self.seed}/{self.reader.name}/{number}")
        names = sorted(self.reader.damages)
        while True:
            path, kind = self._fresh(), random.choice(names)
            self.reader.damages[kind](random, path)
            if changed(self.content, path):
                return path, kind

    def attempt(self, number: int) -> Outcome:
        """What the reader makes of an input."""
        path, kind = self.write(number)
        before, ended = _peak(), bool
        try:
            with _limit(SECONDS), _ended(path, min(SECONDS, PIPE_SECONDS)) as ended:
                found = _split(self.reader.read(path))
        except UserError as error:
            text = str(error)
            wrong = ADVICE.search(text) or not text or len(text.splitlines()) != 1
            outcome = Outcome(TRACEBACK if wrong else REFUSED, kind, " ".join(text.split()))
        except _Hang:
            outcome = Outcome(HANG, kind, f"over {SECONDS} s")
        except MemoryError as error:
            outcome = Outcome(MEMORY, kind, _place(error))
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            outcome = Outcome(TRACEBACK, kind, _place(error))
        else:
            outcome = Outcome(*self._compare(found, kind))
        if ended():
            return Outcome(HANG, kind, f"over {PIPE_SECONDS} s")
        if (more := _peak() - before) > MEBIBYTES:
            return Outcome(MEMORY, kind, f"{more} MiB more")
        return outcome

    def _compare(self, found: tuple[dict, str], kind: str) -> tuple[str, str, str]:
        (values, counts), (wanted, told) = found, self.expected
        where = next(
            (name for name in {**wanted, **values} if _differ(wanted.get(name), values.get(name))), None
        )
        if where is None:
            return EQUAL, kind, ""
        if counts != told:
            return TOLD, kind, ""
        what = f"{where}: {_short(wanted.get(where))} became {_short(values.get(where))}"
        alike = wanted.keys() == values.keys() and all(
            wanted[name].shape == values[name].shape and wanted[name].dtype.kind == values[name].dtype.kind
            for name in wanted
        )
        if kind in self.reader.contents or (alike and kind in self.reader.values):
            return VALID, kind, what
        return SILENT, kind, what


def _split(found: Any) -> tuple[dict[str, np.ndarray], str]:
    """A reader's result as arrays by name, and what it tells a user."""
    told = found if isinstance(found, Told) else Told(found, None)
    return dict(_leaves(told.result, "result")), repr(told.counts)


def _leaves(value: Any, name: str) -> Iterable[tuple[str, np.ndarray]]:
    if isinstance(value, pd.DataFrame):
        value = {str(column): value[column].to_numpy() for column in value}
    if isinstance(value, torch.Tensor):
        value = value.detach().numpy()
    if isinstance(value, dict):
        yield f"{name} keys", np.array(sorted(map(repr, value)))
        for key, part in value.items():
            yield from _leaves(part, f"{name}.{key}")
    elif isinstance(value, list | tuple):
        yield f"{name} length", np.array(len(value))
        for place, part in enumerate(value):
            yield from _leaves(part, f"{name}[{place}]")
    elif isinstance(value, np.ndarray) and value.dtype.kind != "O":
        yield name, np.array(value)
    else:
        yield name, np.array(repr(value.tolist() if isinstance(value, np.ndarray) else value))


def _differ(one: np.ndarray | None, two: np.ndarray | None) -> bool:
    if one is None or two is None or one.shape != two.shape or one.dtype.kind != two.dtype.kind:
        return True
    return not np.array_equal(one, two, equal_nan=one.dtype.kind in "fc")


def _short(value: np.ndarray | None) -> str:
    return "nothing" if value is None else " ".join(str(value).split())[:60]


def _place(error: BaseException) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    own = next(
        (each for each in reversed(traceback.extract_tb(error.__traceback__)) if "/refers/" in each.filename),
        frame,
    )
    text = " ".join(str(error).split())[:120]
    return f"{type(error).__name__}: {text} (in {Path(own.filename).name}, line {own.lineno})"


@contextmanager
def _limit(seconds: float):
    def stop(number: int, frame: Any) -> None:
        raise _Hang

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def _ended(path: Path, seconds: float):
    """Another process that ends a pipe after some time: a library written in C waits for one and hears no signal.

    Yields a function that says whether it had to.
    """
    if not path.is_fifo():
        yield bool
        return
    parent = os.getpid()
    if not (child := os.fork()):
        # Again and again, since a reader may open it more than once.
        with suppress(BaseException):
            signal.signal(signal.SIGALRM, lambda *_: os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK)))
            signal.setitimer(signal.ITIMER_REAL, seconds, seconds / 20)
            while os.getppid() == parent:
                signal.pause()
        os._exit(0)
    started = time.monotonic()
    try:
        yield lambda: time.monotonic() - started > seconds
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _peak() -> int:
    """The largest memory of this process in MiB since the last call, where Linux lets it be set back, else ever."""
    text = Path("/proc/self/status").read_text()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return int(PEAK.findall(text)[0]) // 1024
