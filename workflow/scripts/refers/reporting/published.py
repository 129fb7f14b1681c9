"""The numbers printed in the paper, and the verdict on ours beside them."""

import csv
from pathlib import Path

from refers.errors import UserError

FIELDS = ["table", "row", "column", "quantity", "value"]
WITHIN_SPREAD, OUTSIDE, UNREPORTED = "within seed spread", "outside", "not reported"

Reported = dict[tuple[str, str, str], str]


def read_reported(path: Path) -> Reported:
    """The paper's numbers by (table, row, column), as text.

    Raises:
        UserError: the file cannot be read, its header differs, or a value is not a number or occurs twice.
    """
    found: Reported = {}
    try:
        with open(path, newline="", encoding="utf-8") as opened:
            rows = list(csv.reader(opened))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); restore it from the repository") from None
    if not rows or rows[0] != FIELDS:
        raise UserError(f"{path}: row 1: the header must be {','.join(FIELDS)}")
    for number, row in enumerate(rows[1:], 2):
        try:
            table, line, column, _, value = row
            float(value)
        except ValueError:
            raise UserError(
                f"{path}: row {number}: {','.join(row)!r}: must be five fields, the last a number"
            ) from None
        if (table, line, column) in found:
            raise UserError(f"{path}: row {number}: {table}, {line}, {column} occurs twice; keep one")
        found[table, line, column] = value
    return found


def verdict(mean: float, sd: float | None, reported: str, rule: dict[str, float]) -> str:
    """How far our mean AUC is from the printed one.

    Args:
        mean, sd: ours in percent, the sd over seeds; None for one seed.
        reported: as printed, "" where the paper prints none.
        rule: `within_sd`, how many of our sd count as the seeds' spread, and `within_points`, how many AUC points count
            as near.
    """
    if not reported:
        return UNREPORTED
    # Rounded, so that the last bits of 81.7 - 80.7 decide nothing.
    distance = round(abs(mean - float(reported)), 6)
    if sd is not None and distance <= round(rule["within_sd"] * sd, 6):
        return WITHIN_SPREAD
    return within_points(rule) if distance <= rule["within_points"] else OUTSIDE


def within_points(rule: dict[str, float]) -> str:
    """`within 1 point`, by the rule's own number."""
    points = rule["within_points"]
    return f"within {points:g} point{'' if points == 1 else 's'}"


def sign(text: str) -> str:
    """A verdict as one character between our number and the printed one; "" where there is nothing to compare."""
    known = {WITHIN_SPREAD: "=", OUTSIDE: "≠"}
    return known.get(text, "≈" if text.startswith("within ") else "")
