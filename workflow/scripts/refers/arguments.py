"""A script's command line: numbers with their ranges, and every mistake in one line."""

import math
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from typing import NoReturn

from refers.errors import UserError


class Arguments(ArgumentParser):
    """argparse's parser, whose errors are UserErrors."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{self.prog}: {message}; correct it, --help lists all options")


def whole(low: int = 0, high: int = 1_000_000_000) -> Callable[[str], int]:
    """Type of an argument: a whole number from `low` to `high`."""

    def parse(text: str) -> int:
        # what int() takes of more than 4,300 digits is an error of its own
        if not text.lstrip("+-").isdecimal() or len(text) > 18:
            raise ArgumentTypeError(f"{text[:40]!r} is not a whole number from {low} to {high}")
        return int(_within(int(text), low, high))

    return parse


def number(low: float, high: float, *, above: bool = False) -> Callable[[str], float]:
    """Type of an argument: a number from `low` to `high`, or `above` low."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise ArgumentTypeError(f"{text[:40]!r} is not a number") from None
        if above and value == low:
            raise ArgumentTypeError(f"must be above {low:g}")
        return _within(value, low, high)

    return parse


def _within(value: float, low: float, high: float) -> float:
    if math.isnan(value) or not low <= value <= high:
        raise ArgumentTypeError(f"must be from {low} to {high}, found {value:g}")
    return value


SEED = whole(0, 2**31 - 1)  # as the config's seeds are
