"""Tests of a method against a baseline: two-sample t-test over seeds (paper §4), Welch's, and paired tests over images.

In: auc.json and predictions.parquet of both. Out: JSON with the difference of the mean AUCs; t, p and degrees of
freedom, or the reason why there is no t-test; the paired bootstrap's interval and p; DeLong's test of every class, by
patient. Of several splits, the t-tests compare a seed's mean over splits, the others the mean over splits and seeds.
"""

import argparse
from pathlib import Path
from typing import Any

from refers.arguments import SEED, Arguments, whole
from refers.errors import UserError, run
from refers.evaluation.cell_file import odd_input, read_cell
from refers.evaluation.predictions import read_runs, same_images
from refers.evaluation.statistics import Bootstrap, compare, compare_paired, over_splits
from refers.files import file_digest, write_json
from refers.provenance.ties import check_runs


def parse_args() -> argparse.Namespace:
    parser = Arguments(description=__doc__.splitlines()[0])
    parser.add_argument("--reference", type=Path, required=True, help="auc.json of the method")
    parser.add_argument("--baseline", type=Path, required=True, help="auc.json of the baseline")
    parser.add_argument(
        "--reference-predictions", type=Path, nargs="+", required=True, help="one file per run"
    )
    parser.add_argument(
        "--baseline-predictions", type=Path, nargs="+", required=True, help="one file per run"
    )
    parser.add_argument(
        "--splits", type=whole(), nargs="+", required=True, help="of each file, the same for both"
    )
    parser.add_argument(
        "--seeds", type=SEED, nargs="+", required=True, help="of each file, the same for both"
    )
    parser.add_argument(
        "--resamples", type=whole(1, 1_000_000), default=1000, help="bootstrap resamples of the test images"
    )
    parser.add_argument("--bootstrap-seed", type=SEED, default=0)
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def identity_of(cell: dict[str, Any]) -> dict[str, Any]:
    """What must be the same in two cells: dataset, ratio, classes and test set."""
    test = cell["test"]
    counts = {name: (part["positives"], part["negatives"]) for name, part in test["per_class"].items()}
    facts = {name: cell[name] for name in ("dataset", "ratio", "classes")}
    return facts | {"test images": test["images"], "labels of the test set": counts}


def main() -> None:
    args = parse_args()
    reference, baseline = read_cell(args.reference), read_cell(args.baseline)
    ours, theirs = identity_of(reference), identity_of(baseline)
    for name, value in ours.items():
        if theirs[name] != value:
            raise UserError(
                f"{args.baseline}: {name} differ from {args.reference}; compare cells with the same test set"
            )
    for path, cell in ((args.reference, reference), (args.baseline, baseline)):
        if (cell.get("splits"), cell.get("seeds")) != (args.splits, args.seeds):
            raise UserError(
                f"{path}: not of splits {args.splits} and seeds {args.seeds}; delete it and rerun cell.py"
            )
    samples = {"reference_auc": reference["test"]["mean_auc"], "baseline_auc": baseline["test"]["mean_auc"]}
    about = {"reference": reference["method"], "baseline": baseline["method"]}
    about |= {"dataset": ours["dataset"], "ratio": ours["ratio"]}
    runs = args.splits, args.seeds
    first, second = read_runs(args.reference_predictions, *runs), read_runs(args.baseline_predictions, *runs)
    for one, two in zip(first, second, strict=True):
        same_images(one, two, "compare cells with the same test set")
    for path, cell, files in (
        (args.reference, reference, args.reference_predictions),
        (args.baseline, baseline, args.baseline_predictions),
    ):
        if cell.get("predictions_sha256") != [file_digest(each) for each in files]:
            raise UserError(f"{path}: made from other predictions; delete it and rerun cell.py")
    for cell, files in ((reference, args.reference_predictions), (baseline, args.baseline_predictions)):
        check_runs(files, *runs, {name: cell[name] for name in ("method", "dataset", "ratio")})
    if odd := odd_input(reference, baseline):
        raise UserError(
            f"{args.baseline}: trained with another {odd} than {args.reference}; rerun the older fine-tune"
        )
    tests = [[split.test for split in each] for each in (first, second)]
    bootstrap = Bootstrap([each.patients for each in tests[0]], args.resamples, args.bootstrap_seed)
    result = compare(*(over_splits(values, args.seeds) for values in samples.values()))
    paired = compare_paired(*tests, first[0].classes, bootstrap)
    write_json(args.out, about | samples | result | paired)
    p = result["undefined"] or f"p {result['student']['p']:.3g} (Welch {result['welch']['p']:.3g})"
    print(f"{about['reference']} against {about['baseline']}, {about['dataset']} {about['ratio']}%: {p}")


if __name__ == "__main__":
    run(main)
