"""What every script that measures a cell begins with: which cell it is, the predictions of its runs, and the resamples of their
test images. No torch.
"""

from argparse import ArgumentParser, Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refers.arguments import SEED, whole
from refers.evaluation.predictions import Predictions, SplitPredictions, read_runs
from refers.evaluation.statistics import Bootstrap
from refers.files import file_digest
from refers.provenance.ties import check_runs


def add_options(parser: ArgumentParser) -> None:
    """Options of a script that measures a cell: the predictions of its runs, which cell it is, and the bootstrap."""
    parser.add_argument("--predictions", type=Path, nargs="+", required=True, help="one file per run")
    parser.add_argument(
        "--splits", type=whole(), nargs="+", required=True, help="of each file, split by split"
    )
    parser.add_argument(
        "--seeds", type=SEED, nargs="+", required=True, help="of each file, the same in each split"
    )
    parser.add_argument("--method", required=True)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--ratio", type=whole(1, 100), required=True, help="percent of the training labels")
    parser.add_argument(
        "--resamples", type=whole(1, 1_000_000), default=1000, help="bootstrap resamples of the test images"
    )
    parser.add_argument("--bootstrap-seed", type=SEED, default=0)


@dataclass(frozen=True)
class Runs:
    """The runs of a cell: its predictions, one for each split, and what a file that is made of them says of them first."""

    name: str
    splits: list[Predictions]
    bootstrap: Bootstrap
    facts: dict[str, Any]

    @property
    def classes(self) -> list[str]:
        return self.splits[0].classes

    @property
    def tests(self) -> list[SplitPredictions]:
        return [each.test for each in self.splits]


def read(options: Namespace) -> Runs:
    """The runs that the options of `add_options` name, with the resamples of their test images.

    Raises:
        UserError: as `read_runs` and `check_runs`, or the bootstrap is out of range.
    """
    splits = read_runs(options.predictions, options.splits, options.seeds)
    patients = [each.test.patients for each in splits]
    cell = {name: getattr(options, name) for name in ("method", "dataset", "ratio")}
    facts = {
        **cell,
        "classes": list(splits[0].classes),
        "splits": list(options.splits),
        "seeds": list(options.seeds),
        "predictions_sha256": [file_digest(path) for path in options.predictions],
        "made_from": check_runs(options.predictions, options.splits, options.seeds, cell),
    }
    bootstrap = Bootstrap(patients, options.resamples, options.bootstrap_seed)
    return Runs(f"{options.method} {options.dataset} {options.ratio}%", splits, bootstrap, facts)
