"""The paper's claims, checked against our tables and against the paper's own printed numbers.

In: config/claims.yaml (refers/reporting/claims.py defines a claim), the tables as csv, the overlaps behind Figure 3, and
the paper's numbers.
Out: claims.csv and claims.md.
"""

import argparse
import json
from pathlib import Path

from refers.errors import UserError, run
from refers.evaluation.localisation import NO_BOX, read_overlap
from refers.files import write_text
from refers.reporting.claims import check_claims, read_claims, to_csv, to_markdown
from refers.reporting.evaluate_claims import Overlap, our_numbers, paper_numbers
from refers.reporting.published import read_reported
from refers.reporting.table_formats import read_csv


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--claims", type=Path, required=True, help="config/claims.yaml")
    parser.add_argument("--tables", type=Path, nargs="+", required=True, help="csv files of table.py")
    parser.add_argument(
        "--overlaps",
        type=Path,
        nargs="*",
        default=[],
        help="FIGURE/iou.csv of attend.py, one per figure of activation maps",
    )
    parser.add_argument(
        "--absent",
        type=json.loads,
        default={},
        help="JSON: figure of activation maps that cannot be made -> why",
    )
    parser.add_argument(
        "--within-points",
        type=float,
        default=0,
        help="AUC points by which ours may miss a number that a claim states",
    )
    parser.add_argument("--reported", type=Path, required=True, help="numbers printed in the paper (csv)")
    parser.add_argument("--note", default="", help="what differs from the published study")
    parser.add_argument("--out-csv", type=Path, required=True)
    parser.add_argument("--out-md", type=Path, required=True)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    claims = read_claims(args.claims)
    overlaps = {figure: Overlap(status=reason) for figure, reason in args.absent.items()}
    for path in args.overlaps:
        values = tuple(read_overlap(path).tolist())
        overlaps[path.parent.name] = Overlap(values, "" if values else NO_BOX, path.as_posix())
    rows = [row for path in args.tables for row in read_csv(path)]
    ours = our_numbers(rows, args.within_points, overlaps)
    try:
        lines = check_claims(claims, paper_numbers(read_reported(args.reported)), ours)
    except UserError as error:
        raise UserError(f"{args.claims}: {error}") from None
    markdown = to_markdown(lines, args.note)
    write_text(args.out_csv, to_csv(lines))
    write_text(args.out_md, markdown)
    print(markdown)


if __name__ == "__main__":
    run(main)
