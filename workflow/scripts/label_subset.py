"""Draw the training images of a label ratio: 1 % is a subset of 10 %, and 10 % of 100 % (paper §4).

In: split.parquet. Out: a CSV with columns row and image_id, training images only; and a report with the list's SHA-256, its
size, and its positives by class.
"""

import argparse
from pathlib import Path

from refers.data.splits import draw_subset, positives, read_split
from refers.errors import run
from refers.files import file_digest, write_json, write_text


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--split", type=Path, required=True)
    parser.add_argument("--ratio", type=float, required=True, help="percentage of the training images")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="subset.csv")
    parser.add_argument("--report", type=Path, required=True, help="subset.json")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    split = read_split(args.split)
    subset = draw_subset(split, args.ratio, args.seed)
    write_text(args.out, subset.to_csv(index=False, lineterminator="\n"))
    train = int((split["split"] == "train").sum())
    report = {
        "ratio": args.ratio,
        "seed": args.seed,
        "images": len(subset),
        "of": train,
        "positives": positives(split[split["row"].isin(subset["row"])]),
        "sha256": file_digest(args.out),
    }
    write_json(args.report, report)
    print(f"{len(subset)} of {train} training images ({args.ratio:g} % requested)")


if __name__ == "__main__":
    run(main)
