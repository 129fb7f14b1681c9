"""The numbers printed in the paper."""

import csv
from pathlib import Path

from refers.errors import UserError

FIELDS = ["table", "row", "column", "quantity", "value"]

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
