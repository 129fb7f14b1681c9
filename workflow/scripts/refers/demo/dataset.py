"""What every source's generator returns, and the seeds it draws from."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from refers.demo.findings import Box
from refers.demo.style import Picture

# a source's position is its number in the seeds
SOURCES = ("mimic", "nih", "vinbigdata", "shenzhen", "covid")
PATIENT, STUDY, IMAGE, TABLE = range(4)


@dataclass
class DatasetPlan:
    """One source before anything is drawn.

    `files` maps the boxes of all pictures (in the order of `pictures`) to the text files: path below the data root to bytes.
    `truth` holds, per picture, the labels that the official files state: for tests and counts only, never written.
    """

    source: str
    pictures: list[Picture]
    files: Callable[[list[list[list[Box]]]], dict[str, bytes]]
    truth: list[dict[str, float]] = field(default_factory=list)


def key(seed: int, source: str, kind: int, index: int) -> tuple[int, ...]:
    """The entropy of one patient, study, image or table: independent of every other one's and of drawing order."""
    return (seed, SOURCES.index(source), kind, index)


def generator(seed: int, source: str, kind: int, index: int) -> np.random.Generator:
    """A random generator of its own for one patient, study, image or table."""
    return np.random.default_rng(np.random.SeedSequence(key(seed, source, kind, index)))


def size(number: int, scale: float) -> int:
    """`number` scaled, at least 4."""
    return max(4, round(number * scale))


def csv_bytes(header: str, rows: list[list[object]]) -> bytes:
    """A CSV file with an official header line, written as is."""
    import csv
    import io

    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return f"{header}\n{buffer.getvalue()}".encode()
