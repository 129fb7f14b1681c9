"""Read an official download into the index schema of `refers.data.index`: one row per image on disk.

In: the source's folder. Out: index.parquet, and index.json with counts of rows, patients, labels, missing images and
whatever was left out, by reason.
"""

import argparse
from pathlib import Path

from refers.arguments import Arguments
from refers.data.adapters import adapter
from refers.data.index import COUNTED, summarise
from refers.errors import run
from refers.files import write_json, write_parquet


def parse_args() -> argparse.Namespace:
    parser = Arguments(description=__doc__.splitlines()[0])
    parser.add_argument("--layout", required=True, help="adapter: a module of refers.data.adapters")
    parser.add_argument("--folder", type=Path, required=True, help="official download")
    parser.add_argument("--source", required=True, help="name of the source, for the report")
    parser.add_argument("--out", type=Path, required=True, help="index.parquet")
    parser.add_argument("--report", type=Path, required=True, help="index.json")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    frame, counts = adapter(args.layout)(args.folder)
    report = summarise(frame, args.source, counts)
    write_parquet(args.out, frame)
    write_json(args.report, report)
    left_out = "".join(f"; {number} left out: {reason}" for reason, number in counts["skipped"].items())
    if unreadable := counts.get("unreadable_headers"):
        left_out += f"; {unreadable} with an unreadable header"
    left_out += "".join(f"; {what}: {counts[name]}" for name, what in COUNTED.items() if name in counts)
    print(
        f"{args.source}: {report['rows']} images of {report['patients']} patients,"
        f" {report['missing_images']} listed but not on disk{left_out}"
    )


if __name__ == "__main__":
    run(main)
