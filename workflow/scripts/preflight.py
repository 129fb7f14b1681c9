"""Preflight: a table of which data are available, what is wrong with them and what to do next.

In: the study's config as JSON. Out: preflight.json, and a list of the images that cannot be read. Absent data are a line
of the report and no error; the exit code is 1 where data are found but broken.
"""

import argparse
import csv
import io
from pathlib import Path

from refers.arguments import Arguments, whole
from refers.config import parse_json
from refers.errors import UserError, run
from refers.files import write_json, write_text
from refers.study import preflight
from refers.study.check import check


def parse_args() -> argparse.Namespace:
    parser = Arguments(description=__doc__.splitlines()[0])
    parser.add_argument("--config", required=True, help="the study's config as JSON")
    parser.add_argument("--full", action="store_true", help="decode every image")
    parser.add_argument("--workers", type=whole(1, 1024), default=1, help="processes that decode")
    parser.add_argument("--out", type=Path, required=True, help="preflight.json")
    parser.add_argument("--unreadable", type=Path, required=True, help="CSV of unreadable images")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    study = check(parse_json(args.config, "config"))
    found = preflight.report(study, args.full, args.workers, lambda text: print(text, flush=True))
    print("\n" + preflight.to_text(found) + "\n")
    listed = io.StringIO()
    rows = csv.writer(listed, lineterminator="\n")
    rows.writerow(("source", "path", "reason"))
    rows.writerows((line["name"], *bad) for line in found["lines"] for bad in line.pop("bad"))
    write_text(args.unreadable, listed.getvalue())
    write_json(args.out, found)
    if broken := [line["name"] for line in found["lines"] if line["state"] == "broken"]:
        raise UserError(f"{', '.join(broken)}: found but broken; the report above says what to do")


if __name__ == "__main__":
    run(main)
