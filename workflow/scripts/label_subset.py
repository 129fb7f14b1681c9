"""Draw the training images of a label ratio: 1 % is a subset of 10 %, and 10 % of 100 % (paper §4).

In: split.parquet. Out: a CSV with columns row and image_id, training images only, and a column seed where every training
seed has images of its own; and a report with the list's SHA-256, its size, and its positives by class (and seed).
"""

import argparse
from pathlib import Path

import pandas as pd
from refers.arguments import SEED, Arguments, number
from refers.data.splits import draw_subset, positives, read_split
from refers.errors import run
from refers.files import file_digest, write_json, write_text


def parse_args() -> argparse.Namespace:
    parser = Arguments(description=__doc__.splitlines()[0])
    parser.add_argument("--split", type=Path, required=True)
    parser.add_argument(
        "--ratio", type=number(0, 100, above=True), required=True, help="percentage of the training images"
    )
    parser.add_argument("--seed", type=SEED, default=0)
    parser.add_argument(
        "--training-seeds",
        type=SEED,
        nargs="+",
        help="draw images for each of these seeds, not one list for all",
    )
    parser.add_argument("--out", type=Path, required=True, help="subset.csv")
    parser.add_argument("--report", type=Path, required=True, help="subset.json")
    return parser.parse_args()


def positives_of(split: pd.DataFrame, subset: pd.DataFrame) -> dict[str, int]:
    """Positive images of each class in a subset."""
    return positives(split[split["row"].isin(subset["row"])])


def main() -> None:
    args = parse_args()
    split = read_split(args.split)
    if args.training_seeds:
        drawn = {seed: draw_subset(split, args.ratio, args.seed, seed) for seed in args.training_seeds}
        subset = pd.concat([frame.assign(seed=seed) for seed, frame in drawn.items()])
        counts = {str(seed): positives_of(split, frame) for seed, frame in drawn.items()}
    else:
        subset = draw_subset(split, args.ratio, args.seed)
        counts = positives_of(split, subset)
    write_text(args.out, subset.to_csv(index=False, lineterminator="\n"))
    train = int((split["split"] == "train").sum())
    images = len(subset) // len(args.training_seeds or [args.seed])
    report = {
        "ratio": args.ratio,
        "seed": args.seed,
        "images": images,
        "of": train,
        "positives": counts,
        "sha256": file_digest(args.out),
    }
    write_json(args.report, report)
    each = " for each seed" if args.training_seeds else ""
    print(f"{images} of {train} training images{each} ({args.ratio:g} % requested)")


if __name__ == "__main__":
    run(main)
