"""Every number that the tables print, with the target that reproduces it.

In: the tables as csv. Out: cells.csv with table, row, method, column, printed, target. A p-value of one class has two
targets, the cells that it compares; an adjusted one has those of its own column, though it depends on all columns.
"""

import argparse
from pathlib import Path

from refers.arguments import Arguments
from refers.errors import run
from refers.files import write_text
from refers.formatting import csv_text
from refers.reporting.table_formats import read_csv

HEADER = ["table", "row", "method", "column", "printed", "target"]


def parse_args() -> argparse.Namespace:
    parser = Arguments(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", type=Path, nargs="+", required=True, help="csv files of table.py")
    parser.add_argument("--out", type=Path, required=True, help="cells.csv")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    rows = [row for path in args.tables for row in read_csv(path) if row["target"]]
    write_text(args.out, csv_text(HEADER, [{name: row[name] for name in HEADER} for row in rows]))
    print(f"{len(rows)} numbers of {len(args.tables)} tables")


if __name__ == "__main__":
    run(main)
