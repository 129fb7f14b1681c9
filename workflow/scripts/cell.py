"""One table cell: AUC per class and seed, mean and standard deviation over seeds, test and validation set (paper §4).

In: predictions.parquet of every seed. Out: auc.json. Does not need torch.
"""

import argparse
from pathlib import Path

from refers.errors import UserError, run
from refers.evaluation.predictions import read_seeds
from refers.evaluation.statistics import Bootstrap, summarise
from refers.files import file_digest, write_json


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--predictions", type=Path, nargs="+", required=True, help="one file per seed")
    parser.add_argument("--seeds", type=int, nargs="+", required=True, help="in the order of the files")
    parser.add_argument("--method", required=True)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--ratio", type=int, required=True, help="percent of the training labels")
    parser.add_argument("--resamples", type=int, default=1000, help="bootstrap resamples of the test set")
    parser.add_argument("--bootstrap-seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="auc.json")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if len(args.predictions) != len(args.seeds) or len(set(args.seeds)) != len(args.seeds):
        raise UserError(
            f"{len(args.predictions)} files of predictions for seeds {args.seeds}; give one file per seed, each seed once"
        )
    found = read_seeds(args.predictions)
    bootstrap = Bootstrap(found.test.patients, args.resamples, args.bootstrap_seed)
    test = summarise(found.test.labels, found.test.scores, found.classes, bootstrap)
    validation = summarise(found.val.labels, found.val.scores, found.classes)
    about = {"method": args.method, "dataset": args.dataset, "ratio": args.ratio}
    content = about | {"classes": found.classes, "seeds": args.seeds}
    content["predictions_sha256"] = [file_digest(path) for path in args.predictions]
    write_json(args.out, content | {"test": test, "validation": validation})
    mean = "undefined" if test["mean"] is None else f"{100 * test['mean']:.2f}"
    missing = f"; undefined: {', '.join(test['undefined'])}" if test["undefined"] else ""
    print(
        f"{args.method} {args.dataset} {args.ratio}%: test AUC {mean}, {test['images']} images, {len(args.seeds)} seeds{missing}"
    )


if __name__ == "__main__":
    run(main)
