"""Jobs of a run: which are left, how long each takes, and the time that is left."""

import re
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

SHORT = 5.0  # seconds of a job that trains nothing, before one of its kind has ended
TAIL = 4096  # bytes at the end of a log that are looked at
STEP = re.compile(r"^step (\d+)/(\d+)", re.MULTILINE)  # what a training job logs


def span(seconds: float) -> str:
    """Seconds in the unit that suits them: `40 s`, `12 min`, `3.5 h`, `2.1 d`."""
    for unit, length, digits in (("d", 86400, 1), ("h", 3600, 1), ("min", 60, 0)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.{digits}f} {unit}"
    return f"{seconds:.0f} s"


def tail(paths: list[str]) -> str:
    """The end of the first of these logs that holds anything."""
    for path in map(Path, paths):
        try:
            with path.open("rb") as log:
                log.seek(max(0, path.stat().st_size - TAIL))
                if text := log.read().decode("utf-8", "replace").strip():
                    return text
        except OSError:
            continue
    return ""


def last_error(paths: list[str]) -> str:
    """The line of a failed job's log that says why: its last error, else its last line."""
    lines = tail(paths).splitlines()
    found = [line for line in lines if re.match(r"(\w+\.)*\w*(error|Error|Exception)\b.*:", line)]
    return (found or lines or [""])[-1].strip()


def _rate_of_stage(kind: str, rates: dict[str, float]) -> float | None:
    """The mean rate of a stage's other kinds, or None where none was measured."""
    found = [rate for other, rate in rates.items() if other.split()[0] == kind.split()[0]]
    return sum(found) / len(found) if found else None


@dataclass
class Job:
    """A job that has started."""

    rule: str
    about: str
    gpu: bool
    logs: list[str]
    started: float = field(default_factory=time.monotonic)

    @property
    def title(self) -> str:
        return f"{self.rule} {self.about}".strip()

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.started

    def step(self) -> tuple[int, int] | None:
        """Its training step and the number of steps, by its log."""
        found = STEP.findall(tail(self.logs)) if self.gpu else []
        return (int(found[-1][0]), int(found[-1][1])) if found else None


@dataclass
class Progress:
    """What has ended and what is left.

    work: job -> (kind, amount, whether it trains); amounts are comparable within a kind, and roughly within a stage of
    training, the first word of its kinds: the steps of a network, or 1.
    speed: seconds per amount of a kind that earlier runs measured.
    """

    total: int = 0
    done: int = 0
    failed: int = 0
    work: dict[int, tuple[str, float, bool]] = field(default_factory=dict)
    speed: dict[str, float] = field(default_factory=dict)
    running: dict[int, Job] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)
    left_of_rule: Counter = field(default_factory=Counter)
    _seconds: defaultdict = field(default_factory=lambda: defaultdict(float))
    _amount: defaultdict = field(default_factory=lambda: defaultdict(float))

    def end(self, number: int) -> Job | None:
        """A job has ended well."""
        if job := self.running.pop(number, None):
            kind, amount, _ = self.work.pop(number, (job.rule, 1.0, False))
            self._seconds[kind] += job.elapsed
            self._amount[kind] += amount
            self.left_of_rule[job.rule] -= 1
        return job

    def seconds_left(self) -> float | None:
        """About how long the rest takes; None while trainings are left of a stage in which none was measured yet."""
        rates, left = self._rates(), 0.0
        for number, (kind, amount, trains) in self.work.items():
            if (rate := rates.get(kind)) is None:
                rate = _rate_of_stage(kind, rates) if trains else SHORT / amount
            if rate is None:
                return None
            spent = self.running[number].elapsed if number in self.running else 0.0
            left += max(rate * amount - spent, 0.0)
        elapsed = time.monotonic() - self.started
        busy = sum(self._seconds.values()) + sum(job.elapsed for job in self.running.values())
        return left / max(busy / max(elapsed, 1e-3), 1.0) if self.work else None

    def _rates(self) -> dict[str, float]:
        """Seconds per amount: of this run's jobs, ended ones and running ones by their steps, else of earlier runs."""
        seconds, amount = dict(self._seconds), dict(self._amount)
        for number, job in self.running.items():
            step = job.step()
            kind, whole, _ = self.work.get(number, (job.rule, 0.0, False))
            # a job of several trainings counts steps of one: only of a single training is the share known
            if step and step[1] == whole and step[0] >= 0.05 * whole:
                seconds[kind] = seconds.get(kind, 0.0) + job.elapsed
                amount[kind] = amount.get(kind, 0.0) + step[0]
        return self.speed | {kind: seconds[kind] / amount[kind] for kind in seconds if amount.get(kind)}
