"""Draw the training images of a label ratio: 1 % lies inside 10 % inside 100 % (paper §4).

In: split.parquet. Out: a CSV with columns row and image_id, training images only.
"""

import argparse
from pathlib import Path

import pandas as pd
from refers.errors import UserError, run
from refers.files import write_text
from refers.splits import draw_subset


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--split", type=Path, required=True)
    parser.add_argument("--ratio", type=float, required=True, help="percentage of the training images")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    try:
        split = pd.read_parquet(args.split)
    except (OSError, ValueError) as error:
        raise UserError(f"{args.split}: no split ({error}); make it with split_dataset.py") from None
    subset = draw_subset(split, args.ratio, args.seed)
    write_text(args.out, subset.to_csv(index=False, lineterminator="\n"))
    train = int((split["split"] == "train").sum())
    print(f"{len(subset)} of {train} training images ({args.ratio:g} % asked for)")


if __name__ == "__main__":
    run(main)
