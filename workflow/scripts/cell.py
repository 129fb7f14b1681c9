"""One table cell: AUC per class and run, spreads over seeds and splits, standard error, test and validation set (paper §4).

In: predictions.parquet of every run. Out: auc.json, and beside it resamples.parquet: a row per bootstrap resample of the
test images with the AUC averaged over runs, `mean` and by class. Row i of every method of a cell is drawn with the same
patients, so that differences between two methods' files are paired. Does not need torch.
"""

import argparse
from pathlib import Path

from refers.arguments import Arguments, add_runs_of_cell
from refers.errors import run
from refers.evaluation.predictions import read_runs
from refers.evaluation.statistics import Bootstrap, resample_columns, summarise
from refers.files import atomic_path, file_digest, write_json
from refers.provenance.ties import cell_facts


def parse_args() -> argparse.Namespace:
    parser = Arguments(description=__doc__.splitlines()[0])
    add_runs_of_cell(parser)
    parser.add_argument("--out", type=Path, required=True, help="auc.json; resamples.parquet goes beside it")
    return parser.parse_args()


def main() -> None:
    import pyarrow
    import pyarrow.parquet

    args = parse_args()
    found = read_runs(args.predictions, args.splits, args.seeds)
    classes, tests = found[0].classes, [each.test for each in found]
    bootstrap = Bootstrap([each.patients for each in tests], args.resamples, args.bootstrap_seed)
    resamples = bootstrap.resample(tests)
    test = summarise(tests, classes, resamples)
    content = cell_facts(args, classes)
    content |= {"test": test, "validation": summarise([each.val for each in found], classes)}
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
    runs = (
        f"{len(found)} splits of {len(set(args.seeds))} seeds"
        if len(found) > 1
        else f"{len(args.seeds)} seeds"
    )
    print(
        f"{args.method} {args.dataset} {args.ratio}%: test AUC {mean}, {test['images']} images, {runs}{missing}"
    )


if __name__ == "__main__":
    run(main)
