"""The learning-rate pilots of a study as a table and a figure; prints the table.

In: JSON files of pilot.py. Out: pilots.csv (a row per candidate), .md and .html (a row per method), .pdf and
.png. Does not need torch.
"""

import argparse
import json
from pathlib import Path

from refers.arguments import Arguments
from refers.errors import UserError, run
from refers.files import write_text
from refers.provenance.run_files import read_pilot
from refers.reporting import figures
from refers.reporting.pilots import to_csv, to_html, to_markdown


def parse_args() -> argparse.Namespace:
    parser = Arguments(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--spec",
        type=json.loads,
        required=True,
        help="JSON: titles, status and note (refers.reporting.pilots)",
    )
    parser.add_argument("--pilots", type=Path, nargs="*", default=[], help="JSON files of pilot.py")
    parser.add_argument(
        "--out", type=Path, required=True, help="pilots.csv; the others are written beside it"
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    pilots = [read_pilot(path) for path in args.pilots]
    for path, pilot in zip(args.pilots, pilots, strict=True):
        if pilot["method"] not in args.spec["titles"]:
            raise UserError(
                f"{path}: the pilot of {pilot['method']!r}, which is no method of the study; remove it"
            )
    text, markdown, html = to_csv(pilots), to_markdown(args.spec, pilots), to_html(args.spec, pilots)
    write_text(args.out, text)
    write_text(args.out.with_suffix(".md"), markdown)
    write_text(args.out.with_suffix(".html"), html)
    with figures.plt.rc_context(figures.STYLE):
        drawn = figures.pilots_figure(args.spec, pilots)
        figures.save(drawn, args.out.with_suffix(".pdf"), args.spec["note"])
    print(markdown)


if __name__ == "__main__":
    run(main)
