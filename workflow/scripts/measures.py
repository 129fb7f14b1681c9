"""Measures of one table cell beside its AUC: average precision, Brier score, calibration error, sensitivity at a specificity.

In: predictions.parquet of every run. Out: measures.json; see `refers.evaluation.measures`. The resamples of the test images are
those of cell.py. Does not need torch.
"""

import argparse
from pathlib import Path

from refers.arguments import Arguments, number, whole
from refers.cells import runs
from refers.errors import run
from refers.evaluation.measures import Settings, summarise_measures
from refers.files import write_json


def parse_args() -> argparse.Namespace:
    parser = Arguments(description=__doc__.splitlines()[0])
    runs.add_options(parser)
    parser.add_argument("--bins", type=whole(2, 1000), required=True, help="of the calibration error")
    parser.add_argument("--specificity", type=number(0, 100), required=True, help="in percent")
    parser.add_argument("--out", type=Path, required=True, help="measures.json")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    found, settings = runs.read(args), Settings(args.bins, args.specificity)
    content = found.facts | {"settings": vars(settings)}
    content |= summarise_measures(found.tests, found.classes, settings, found.bootstrap)
    write_json(args.out, content)
    means = {name: each["mean"] for name, each in content["measures"].items()}
    texts = [f"{name} {'undefined' if mean is None else f'{mean:.4f}'}" for name, mean in means.items()]
    print(f"{found.name}: {', '.join(texts)}; {content['images']} test images")


if __name__ == "__main__":
    run(main)
