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
        UserError: the file or its header is not as expected, a value is no number or occurs twice.
    """
    found: Reported = {}
    try:
        with open(path, newline="", encoding="utf-8") as opened:
            rows = list(csv.reader(opened))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); it comes with the repository") from None
    if not rows or rows[0] != FIELDS:
        raise UserError(f"{path}: row 1: the header must be {','.join(FIELDS)}")
    for number, row in enumerate(rows[1:], 2):
        try:
            table, line, column, _, value = row
            float(value)
        except ValueError:
            raise UserError(
                f"{path}: row {number}: {','.join(row)!r}: five fields ending in a number"
            ) from None
        if (table, line, column) in found:
            raise UserError(f"{path}: row {number}: {table}, {line}, {column} occurs twice; keep one")
        found[table, line, column] = value
    return found


def verdict(mean: float, sd: float | None, reported: str, rule: dict[str, float]) -> str:
    """How our mean AUC stands to the printed one.

    Args:
        mean: ours in percent; `sd` over seeds likewise, None for one seed.
        reported: as printed, "" where the paper prints none.
        rule: `within_sd`, how many of our sd still count as seed spread, and `within_points`, how many AUC points
            still count as near.
    """
    if not reported:
        return UNREPORTED
    # What 0.817 - 0.807 leaves in the last bits decides nothing.
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
