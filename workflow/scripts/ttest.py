"""Two-sample t-test of a method against a baseline on per-seed mean-class test AUC (paper §4), Welch's beside it.

In: auc.json of both. Out: JSON with the difference, t, p, degrees of freedom, or the reason why there is no test.
"""

import argparse
from pathlib import Path
from typing import Any

from refers.errors import UserError, run
from refers.files import read_json, write_json
from refers.statistics import compare


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reference", type=Path, required=True, help="auc.json of the method")
    parser.add_argument("--baseline", type=Path, required=True, help="auc.json of what it is compared with")
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def what_is_tested(path: Path, cell: dict[str, Any]) -> dict[str, Any]:
    """What must agree between two cells: dataset, ratio, classes and test set."""
    try:
        test = cell["test"]
        counts = {name: (part["positives"], part["negatives"]) for name, part in test["per_class"].items()}
        facts = {"dataset": cell["dataset"], "ratio": cell["ratio"], "classes": cell["classes"]}
        return facts | {"test images": test["images"], "labels of the test set": counts}
    except (KeyError, TypeError, AttributeError):
        raise UserError(f"{path}: not the auc.json of a cell; remake it with cell.py") from None


def main() -> None:
    args = parse_args()
    reference, baseline = read_json(args.reference), read_json(args.baseline)
    ours, theirs = what_is_tested(args.reference, reference), what_is_tested(args.baseline, baseline)
    for name, value in ours.items():
        if theirs[name] != value:
            raise UserError(
                f"{args.baseline}: {name} differ from {args.reference}; compare cells of one test set"
            )
    samples = {"reference_auc": reference["test"]["mean_auc"], "baseline_auc": baseline["test"]["mean_auc"]}
    about = {"reference": reference["method"], "baseline": baseline["method"]}
    about |= {"dataset": ours["dataset"], "ratio": ours["ratio"]}
    result = compare(*samples.values())
    write_json(args.out, about | samples | result)
    p = result["undefined"] or f"p {result['student']['p']:.3g} (Welch {result['welch']['p']:.3g})"
    print(f"{about['reference']} against {about['baseline']}, {about['dataset']} {about['ratio']}%: {p}")


if __name__ == "__main__":
    run(main)
