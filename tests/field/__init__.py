"""The corpus of odd inputs that the field reports: one small generator and one expectation per input.

A module of this folder lists its inputs as CASES; `tests/test_field.py` finds the modules and tries every case.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple


class Refused(NamedTuple):
    """Expectation: one line of a UserError that contains each of these words."""

    words: tuple[str, ...]


class Case(NamedTuple):
    """One odd input.

    name: the input, in a few words; unique in its module.
    make: writes the input below an empty folder, and returns what `read` gets.
    read: the reader that is tried.
    expect: what is asserted of `read`'s result: a function that asserts, a value that it must equal, or Refused.
    """

    name: str
    make: Callable[[Path], Any]
    read: Callable[[Any], Any]
    expect: Any


def refused(*words: str) -> Refused:
    """Expectation: the reader raises a UserError of one line with each of these words."""
    return Refused(words)
