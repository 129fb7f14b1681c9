"""The numbers printed in the paper and by others (config/reported.csv)."""

import csv
import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from refers.errors import UserError
from refers.files import expect_regular

FIELDS = ["source", "protocol", "table", "row", "column", "quantity", "value"]
PAPER = "paper"
QUANTITIES = ("auc", "p_value", "low", "high")
PROTOCOLS = ("finetune", "probe")

Reported = dict[tuple[str, str, str], str]


@dataclass
class Independent:
    """An AUC that others print for a row and column, in percent; low, high: its interval, where they print one."""

    auc: float = math.nan
    low: float | None = None
    high: float | None = None


def read_reported(path: Path) -> Reported:
    """The paper's numbers by (table, row, column), as text.

    Raises:
        UserError: the file cannot be read, its header differs, or a row is malformed or occurs twice.
    """
    return {
        (table, row, column): value
        for source, _, table, row, column, _, value in _rows(path)
        if source == PAPER
    }


def read_independent(
    path: Path, protocol: str, sources: Collection[str]
) -> dict[str, dict[tuple[str, str], Independent]]:
    """Numbers of others under a protocol, by source and (row, column); in the order of the sources.

    Args:
        sources: those that the config describes; another one in the file is an error.

    Raises:
        UserError: as `read_reported`; a source is unknown, or prints an interval without an AUC.
    """
    found: dict[str, dict[tuple[str, str], Independent]] = {source: {} for source in sources}
    for number, (source, of, _, row, column, quantity, value) in enumerate(_rows(path), 2):
        if source == PAPER:
            continue
        if source not in found:
            known = ", ".join((PAPER, *sources))
            raise UserError(f"{path}: row {number}: source {source!r} must be one of {known}")
        if of == protocol:
            setattr(found[source].setdefault((row, column), Independent()), quantity, float(value))
    for source, numbers in found.items():
        for (row, column), each in numbers.items():
            if math.isnan(each.auc):
                raise UserError(f"{path}: {source}, {row}, {column}: an interval without an auc; add its row")
    return {source: numbers for source, numbers in found.items() if numbers}


def _rows(path: Path) -> list[list[str]]:
    """The rows below the header, checked one by one; row 2 of the file is the first."""
    try:
        expect_regular(path)
        with open(path, newline="", encoding="utf-8") as opened:
            header, *rows = list(csv.reader(opened)) or [[]]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); restore it from the repository") from None
    if header != FIELDS:
        raise UserError(f"{path}: row 1: the header must be {','.join(FIELDS)}")
    seen: set[tuple[str, ...]] = set()
    for number, row in enumerate(rows, 2):
        where = f"{path}: row {number}"
        try:
            source, protocol, table, line, column, quantity, value = row
            finite = math.isfinite(float(value))
        except ValueError:
            finite = False
        if not finite:
            raise UserError(f"{where}: {','.join(row)!r}: must be {len(FIELDS)} fields, the last a number")
        for name, given, known in (("protocol", protocol, PROTOCOLS), ("quantity", quantity, QUANTITIES)):
            if given not in known:
                raise UserError(f"{where}: {name} {given!r} must be one of {', '.join(known)}")
        # A p-value and a table are the paper's own; the others print numbers of a row and column.
        if not (source and line and column) or (source == PAPER) != bool(table):
            raise UserError(
                f"{where}: {','.join(row)!r}: source, row and column must not be empty, and the source is {PAPER} where,"
                " and only where, a table is named"
            )
        if (quantity == "p_value") != (line == "p_value") or (
            source == PAPER and quantity in ("low", "high")
        ):
            raise UserError(f"{where}: {','.join(row)!r}: {quantity} is no quantity of this row")
        key = (source, protocol, table, line, column, quantity)
        if key in seen:
            raise UserError(f"{where}: {', '.join(filter(None, key))} occurs twice; keep one")
        seen.add(key)
    return rows
