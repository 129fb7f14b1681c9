"""Check the GPU before days are booked: real steps of every method on random data, a resume, a lack of memory, the lock.

In: the study's config and steps.json of calibrate.py; no data. Out: gpu_check.json, and .csv and .md beside it. A check that
fails is a row of them; with --judge such a file is printed, and any failed row ends with exit code 1.
"""

import argparse
from pathlib import Path

from refers import config
from refers.arguments import Arguments
from refers.errors import UserError, run
from refers.files import read_json, write_json, write_text
from refers.planning.gpu_report import failures, to_csv, to_markdown
from refers.study.check import check


def parse_args() -> argparse.Namespace:
    parser = Arguments(description=__doc__.splitlines()[0])
    parser.add_argument("--config", help="the study's config as JSON")
    parser.add_argument("--steps", type=Path, help="steps.json")
    wanted = parser.add_mutually_exclusive_group(required=True)
    wanted.add_argument("--out", type=Path, help="gpu_check.json; csv and md are written beside it")
    wanted.add_argument("--judge", type=Path, help="a gpu_check.json to print, instead of a new one")
    args = parser.parse_args()
    if args.out and not (args.config and args.steps):
        parser.error("--out needs --config and --steps")
    return args


def measure(args: argparse.Namespace) -> None:
    from refers.planning import gpu_check

    study = check(config.parse_json(args.config, "config"))
    found = gpu_check.run(study, read_json(args.steps)["steps"], args.out.parent)
    write_text(args.out.with_suffix(".csv"), to_csv(found))
    write_text(args.out.with_suffix(".md"), to_markdown(found))
    write_json(args.out, found)


def judge(path: Path) -> None:
    found = read_json(path)
    print(to_markdown(found))
    if failed := failures(found):
        raise UserError(
            f"{len(failed)} of {len(found['rows'])} checks failed: {'; '.join(failed)}; see {path}"
        )


def main() -> None:
    args = parse_args()
    judge(args.judge) if args.judge else measure(args)


if __name__ == "__main__":
    run(main)
