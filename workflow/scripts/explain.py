"""Explain a table cell: every input, digest, seed and setting behind it, whether its files changed since, and how to make it again.

In: the study's config, and the cell's files as far as they exist. Out: Markdown, also printed. Nothing is trained, and no
report text is read.

    python workflow/scripts/explain.py --method refers --dataset nih --ratio 1 --configfile config/config.yaml
"""

import argparse
from pathlib import Path

from refers.arguments import Arguments, whole
from refers.config import parse_json
from refers.config.read import read_files
from refers.errors import run
from refers.files import write_text
from refers.reporting.explain_cell import explain
from refers.study.check import check


def parse_args() -> argparse.Namespace:
    parser = Arguments(description=__doc__.splitlines()[0])
    config = parser.add_mutually_exclusive_group(required=True)
    config.add_argument("--config", help="the study's config as JSON")
    config.add_argument("--configfile", type=Path, nargs="+", help="or its files, in order")
    parser.add_argument("--method", required=True)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--ratio", type=whole(1, 100), required=True, help="percent of the training labels")
    parser.add_argument(
        "--command", default="snakemake TARGET --cores 8 --resources=gpu=1", help="how to make a target again"
    )
    parser.add_argument("--full", action="store_true", help="hash files of any size")
    parser.add_argument("--out", type=Path, help="Markdown file; without it, the text is only printed")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    values = parse_json(args.config, "config") if args.config else read_files(args.configfile)
    text = explain(check(values), args.method, args.dataset, args.ratio, args.command, args.full)
    if args.out:
        write_text(args.out, text)
    print(text)


if __name__ == "__main__":
    run(main)
