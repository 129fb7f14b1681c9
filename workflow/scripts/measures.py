"""Measures of one table cell beside its AUC: average precision, Brier score, calibration error, sensitivity at a specificity.

In: predictions.parquet of every run. Out: measures.json; see `refers.evaluation.measures`. The resamples of the test images are
those of cell.py. Does not need torch.
"""

import argparse
from pathlib import Path

from refers.arguments import Arguments, add_runs_of_cell, number, whole
from refers.errors import run
from refers.evaluation.measures import Settings, summarise_measures
from refers.evaluation.predictions import read_runs
from refers.evaluation.statistics import Bootstrap
from refers.files import write_json
from refers.provenance.ties import cell_facts


def parse_args() -> argparse.Namespace:
    parser = Arguments(description=__doc__.splitlines()[0])
    add_runs_of_cell(parser)
    parser.add_argument("--bins", type=whole(2, 1000), required=True, help="of the calibration error")
    parser.add_argument("--specificity", type=number(0, 100), required=True, help="in percent")
    parser.add_argument("--out", type=Path, required=True, help="measures.json")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    found = read_runs(args.predictions, args.splits, args.seeds)
    tests = [each.test for each in found]
    bootstrap = Bootstrap([each.patients for each in tests], args.resamples, args.bootstrap_seed)
    settings = Settings(args.bins, args.specificity)
    content = cell_facts(args, found[0].classes)
    content["settings"] = vars(settings)
    content |= summarise_measures(tests, found[0].classes, settings, bootstrap)
    write_json(args.out, content)
    means = {name: each["mean"] for name, each in content["measures"].items()}
    texts = [f"{name} {'undefined' if mean is None else f'{mean:.4f}'}" for name, mean in means.items()]
    print(f"{args.method} {args.dataset} {args.ratio}%: {', '.join(texts)}; {content['images']} test images")


if __name__ == "__main__":
    run(main)
