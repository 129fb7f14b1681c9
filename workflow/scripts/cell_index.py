"""Every number that the tables print, with the target that remakes it.

In: the tables as csv. Out: cells.csv with table, row, method, column, printed, target. A p-value of one class has two
targets, the cells it compares.
"""

import argparse
import csv
import io
from pathlib import Path

from refers.errors import UserError, run
from refers.files import write_text
from refers.table_formats import FIELDS

HEADER = ["table", "row", "method", "column", "printed", "target"]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", type=Path, nargs="+", required=True, help="csv files of table.py")
    parser.add_argument("--out", type=Path, required=True, help="cells.csv")
    return parser.parse_args()


def printed_numbers(path: Path) -> list[dict[str, str]]:
    """Rows of a table's csv that have a target."""
    try:
        with open(path, newline="", encoding="utf-8") as opened:
            reader = csv.DictReader(opened)
            rows = list(reader)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); remake the table") from None
    if reader.fieldnames != FIELDS:
        raise UserError(f"{path}: row 1: the header must be {','.join(FIELDS)}; remake the table")
    return [row for row in rows if row["target"]]


def main() -> None:
    args = parse_args()
    rows = [row for path in args.tables for row in printed_numbers(path)]
    text = io.StringIO()
    writer = csv.DictWriter(text, HEADER, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(args.out, text.getvalue())
    print(f"{len(rows)} numbers of {len(args.tables)} tables")


if __name__ == "__main__":
    run(main)
