"""One table cell: AUC per class and run, spreads over seeds and splits, standard error, test and validation set (paper §4).

In: predictions.parquet of every run. Out: auc.json, and beside it resamples.parquet: a row per bootstrap resample of the
test images with the AUC averaged over runs, `mean` and by class. Row i of every method of a cell is drawn with the same
patients, so that differences between two methods' files are paired. Does not need torch.
"""

import argparse
from pathlib import Path

from refers.arguments import Arguments
from refers.cells import runs
from refers.errors import run
from refers.evaluation.statistics import resample_columns, summarise
from refers.files import atomic_path, file_digest, write_json


def parse_args() -> argparse.Namespace:
    parser = Arguments(description=__doc__.splitlines()[0])
    runs.add_options(parser)
    parser.add_argument("--out", type=Path, required=True, help="auc.json; resamples.parquet goes beside it")
    return parser.parse_args()


def main() -> None:
    import pyarrow
    import pyarrow.parquet

    args = parse_args()
    found = runs.read(args)
    classes, resamples = found.classes, found.bootstrap.resample(found.tests)
    test = summarise(found.tests, classes, resamples)
    content = found.facts | {
        "test": test,
        "validation": summarise([each.val for each in found.splits], classes),
    }
    beside = args.out.with_name("resamples.parquet")
    with atomic_path(beside) as path:
        pyarrow.parquet.write_table(
            pyarrow.table(resample_columns(resamples, test, classes)), path, write_page_checksum=True
        )
    write_json(args.out, content | {"resamples_sha256": file_digest(beside)})
    mean = "undefined" if test["mean"] is None else f"{100 * test['mean']:.2f}"
    error = test["se"]["total"]
    mean += "" if error is None else f", standard error {100 * error:.2f}"
    missing = f"; undefined: {', '.join(test['undefined'])}" if test["undefined"] else ""
    splits, seeds = len(found.splits), len(set(args.seeds))
    trained = f"{splits} splits of {seeds} seeds" if splits > 1 else f"{seeds} seeds"
    print(f"{found.name}: test AUC {mean}, {test['images']} images, {trained}{missing}")


if __name__ == "__main__":
    run(main)
