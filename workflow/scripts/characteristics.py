"""Sex, age and projection of the images of a download, for the AUC by group.

In: the download's folder. Out: a Parquet file with a row per image of its table: image_id and the characteristics that it has;
and a report with counts of values, of blanks, and of every text that was not read.
"""

import argparse
from pathlib import Path

import pandas as pd
from refers.arguments import Arguments
from refers.data.adapters import read_characteristics
from refers.errors import run
from refers.evaluation.subgroups import read_values
from refers.files import write_json, write_parquet
from refers.measure_names import CHARACTERISTICS


def parse_args() -> argparse.Namespace:
    parser = Arguments(description=__doc__.splitlines()[0])
    parser.add_argument("--layout", required=True, help="adapter: a module of refers.data.adapters")
    parser.add_argument("--folder", type=Path, required=True, help="official download")
    parser.add_argument("--source", required=True, help="name of the source, for the report")
    parser.add_argument("--names", nargs="+", choices=CHARACTERISTICS, required=True)
    parser.add_argument("--out", type=Path, required=True, help="Parquet file")
    parser.add_argument("--report", type=Path, required=True, help="JSON file")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    table = read_characteristics(args.layout, args.folder)
    columns, report = {"image_id": table["image_id"].tolist()}, {}
    for name in args.names:
        if name in table:
            columns[name], report[name] = read_values(name, table[name])
        else:
            report[name] = {"absent": "the table has no such column"}
    write_parquet(args.out, pd.DataFrame(columns))
    write_json(args.report, {"source": args.source, "images": len(table), "characteristics": report})
    for name, about in report.items():
        counts = about.get("absent") or (
            f"{about['known']:,} known, {about['blank']:,} blank, {sum(about['not_read'].values()):,} not read"
        )
        print(f"{args.source}: {name} of {len(table):,} images: {counts}")


if __name__ == "__main__":
    run(main)
