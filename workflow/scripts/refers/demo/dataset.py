"""A generated dataset before it is drawn, and the seeds of its draws."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from refers.demo.findings import Box
from refers.demo.style import Picture

# A source's position is its number in the seeds.
SOURCES = ("mimic", "nih", "vinbigdata", "shenzhen", "covid")
PATIENT, STUDY, IMAGE, TABLE = range(4)


@dataclass
class DatasetPlan:
    """One source before anything is drawn.

    files: function from the boxes of all pictures, in their order, to the text files {path below the data root: content};
    truth: per picture, the labels that the official files state, for tests and counts only.
    """

    source: str
    pictures: list[Picture]
    files: Callable[[list[list[list[Box]]]], dict[str, bytes]]
    truth: list[dict[str, float]] = field(default_factory=list)


def key(seed: int, source: str, kind: int, index: int) -> tuple[int, ...]:
    """The seed of a patient, study, image or table, independent of all others and of the drawing order."""
    return (seed, SOURCES.index(source), kind, index)


def generator(seed: int, source: str, kind: int, index: int) -> np.random.Generator:
    """The random generator of a patient, study, image or table."""
    return np.random.default_rng(np.random.SeedSequence(key(seed, source, kind, index)))


def size(number: int, scale: float) -> int:
    """`number` scaled, at least 4."""
    return max(4, round(number * scale))


def csv_bytes(header: str, rows: list[list[object]]) -> bytes:
    """Content of a CSV file with the official header line, which is written unchanged."""
    import csv
    import io

    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return f"{header}\n{buffer.getvalue()}".encode()
