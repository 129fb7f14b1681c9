"""The paper's checkable sentences, judged on our tables and on the paper's own printed numbers.

In: config/claims.yaml (`refers/claims.py` says what a claim is), the tables as csv, the paper's numbers.
Out: claims.csv and claims.md.
"""

import argparse
from pathlib import Path

from refers.claims import judge_all, read_claims, to_csv, to_markdown
from refers.errors import UserError, run
from refers.files import write_text
from refers.judging import our_numbers, paper_numbers
from refers.reported import read_reported
from refers.table_formats import read_csv


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--claims", type=Path, required=True, help="config/claims.yaml")
    parser.add_argument("--tables", type=Path, nargs="+", required=True, help="csv files of table.py")
    parser.add_argument("--reported", type=Path, required=True, help="numbers printed in the paper (csv)")
    parser.add_argument("--note", default="", help="what the study is, where it is not the published one")
    parser.add_argument("--out-csv", type=Path, required=True)
    parser.add_argument("--out-md", type=Path, required=True)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    claims = read_claims(args.claims)
    ours = our_numbers(row for path in args.tables for row in read_csv(path))
    try:
        lines = judge_all(claims, paper_numbers(read_reported(args.reported)), ours)
    except UserError as error:
        raise UserError(f"{args.claims}: {error}") from None
    markdown = to_markdown(lines, args.note)
    write_text(args.out_csv, to_csv(lines))
    write_text(args.out_md, markdown)
    print(markdown)


if __name__ == "__main__":
    run(main)
