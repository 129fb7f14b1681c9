"""Write the study's static page: tables, figures, claims, and behind each number its target, seeds, commit and device.

In: tables as HTML, figures, claims.csv, run.json of every fine-tune. Out: index.html, which opens from disk.
"""

import argparse
import csv
import json
from collections import defaultdict
from pathlib import Path

from refers.errors import run
from refers.files import read_json, write_text
from refers.page import facts_of_runs, render
from refers.plan import to_html


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--title", required=True)
    parser.add_argument("--note", default="")
    parser.add_argument("--command", required=True, help="how a target is remade; TARGET stands for it")
    parser.add_argument("--tables", type=Path, nargs="+", required=True)
    parser.add_argument("--figures", type=Path, nargs="*", default=[], help="png files")
    parser.add_argument("--captions", type=json.loads, default={}, help="title by figure, as JSON")
    parser.add_argument("--claims", type=Path, required=True)
    parser.add_argument(
        "--runs",
        type=Path,
        required=True,
        help="folder of all fine-tunes: METHOD/DATASET/RATIOpct/seedN/run.json",
    )
    parser.add_argument("--cells", type=Path, required=True, help="folder of all cells")
    parser.add_argument("--plan", type=Path, help="plan.json; where it is not there the page has no plan")
    parser.add_argument("--out", type=Path, required=True, help="index.html")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    runs = defaultdict(list)
    for path in sorted(args.runs.glob("*/*/*/seed*/run.json")):
        cell = path.parents[1].relative_to(args.runs)
        runs[str(args.cells / cell / "auc.json")].append(json.loads(path.read_text(encoding="utf-8")))
    with open(args.claims, encoding="utf-8", newline="") as opened:
        claims = list(csv.DictReader(opened))
    figures = [
        (args.captions.get(path.stem, path.stem), path.relative_to(args.out.parent).as_posix())
        for path in args.figures
    ]
    cells = {target: facts_of_runs(records) for target, records in runs.items()}
    text = render(
        args.title,
        args.note,
        [path.read_text(encoding="utf-8") for path in args.tables],
        figures,
        claims,
        cells,
        args.command,
        to_html(read_json(args.plan)) if args.plan and args.plan.exists() else "",
    )
    write_text(args.out, text)
    print(
        f"{args.out}: {len(args.tables)} tables, {len(figures)} figures, {len(claims)} claims, {len(cells)} cells"
    )


if __name__ == "__main__":
    run(main)
