"""The paper's claims, checked against our tables and against the paper's own printed numbers.

In: config/claims.yaml (refers/claims/claims.py defines a claim), the tables as csv, auc.json of their cells with
resamples.parquet beside each, the overlaps behind Figure 3, reports with counts, and the paper's numbers.
Out: claims.csv and claims.md.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from refers.arguments import Arguments, number
from refers.claims.claims import check_claims, read_claims, to_csv, to_markdown
from refers.claims.evaluate import Overlap, our_numbers, paper_numbers
from refers.claims.facts import read_facts
from refers.errors import UserError, run
from refers.evaluation.cell_file import read_cell
from refers.evaluation.intervals import Sample, sample
from refers.evaluation.localisation import NO_BOX, read_overlap
from refers.evaluation.statistics import interval
from refers.files import file_digest, read_object, read_parquet, write_text
from refers.reporting.build_table import index_results
from refers.reporting.published import read_reported
from refers.reporting.table_formats import read_csv


def parse_args() -> argparse.Namespace:
    parser = Arguments(description=__doc__.splitlines()[0])
    parser.add_argument("--claims", type=Path, required=True, help="config/claims.yaml")
    parser.add_argument("--tables", type=Path, nargs="+", required=True, help="csv files of table.py")
    parser.add_argument(
        "--cells",
        type=Path,
        nargs="*",
        default=[],
        help="auc.json files, each with resamples.parquet beside it",
    )
    parser.add_argument(
        "--undefined",
        type=number(0, 1),
        default=0,
        help="largest share of resamples in which an AUC may be undefined",
    )
    parser.add_argument(
        "--overlaps",
        type=Path,
        nargs="*",
        default=[],
        help="FIGURE/iou.csv of attend.py, one per figure of activation maps",
    )
    parser.add_argument(
        "--absent",
        type=json.loads,
        default={},
        help="JSON: figure of activation maps that cannot be made -> why",
    )
    parser.add_argument(
        "--reports",
        type=Path,
        nargs="*",
        default=[],
        help="index.json, split.json, reports.json and run.json files, for what the paper says of data and training",
    )
    parser.add_argument(
        "--incomparable",
        type=json.loads,
        default={},
        help='JSON: dataset that is not judged against the paper -> why; "" stands for the whole study',
    )
    parser.add_argument(
        "--within-points",
        type=number(0, 100, above=True),
        default=0,
        help="AUC points by which ours may miss a number that a claim states",
    )
    parser.add_argument("--reported", type=Path, required=True, help="numbers printed in the paper (csv)")
    parser.add_argument("--note", default="", help="what differs from the published study")
    parser.add_argument("--out-csv", type=Path, required=True)
    parser.add_argument("--out-md", type=Path, required=True)
    return parser.parse_args()


class Samples:
    """Samples of the cells' AUCs, each file read once and only if a claim may need it."""

    def __init__(self, files: list[Path], undefined: float) -> None:
        self.cells = index_results([(str(path), read_cell(path)) for path in files], "method")
        self.undefined, self.resamples = undefined, {}
        self.rows: int | None = None
        self.test_sets: dict[str, tuple[str, Any]] = {}

    def __call__(self, method: str, dataset: str, ratio: str, name: str) -> Sample | str:
        if (key := (method, dataset, ratio)) not in self.cells:
            return "its auc.json was not given"
        path, cell = self.cells[key]
        try:
            if key not in self.resamples:
                self._check_test_set(path, cell)
                self.resamples[key] = self._read(Path(path).with_name("resamples.parquet"), cell)
            return sample(cell, self.resamples[key], name, self.undefined)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{path}: incomplete ({type(error).__name__} {error}); delete it and rerun cell.py"
            ) from None

    def _check_test_set(self, path: str, cell: dict[str, Any]) -> None:
        """Cells of a dataset are paired by test patient, over label ratios too, so that they need one test set."""
        test = cell["test"]
        labels = {name: (part["positives"], part["negatives"]) for name, part in test["per_class"].items()}
        about = test["bootstrap"]["units"], labels
        first = self.test_sets.setdefault(cell["dataset"], (path, about))
        if first[1] != about:
            raise UserError(
                f"{path}: its test set differs from that of {first[0]}; delete the older one and rerun"
            )

    def _read(self, path: Path, cell: dict[str, Any]) -> dict[str, Any]:
        frame = read_parquet(path, "resamples", ("mean", *cell["classes"]))
        if cell.get("resamples_sha256", digest := file_digest(path)) != digest:
            raise UserError(f"{path}: not of the auc.json beside it; delete both and rerun cell.py")
        self.rows = self.rows or len(frame)
        if len(frame) != self.rows:
            raise UserError(
                f"{path}: {len(frame)} resamples, other cells have {self.rows}; delete it and rerun cell.py"
            )
        drawn = {name: frame[name].to_numpy(float) for name in frame}
        if interval(drawn["mean"]) != cell["test"]["bootstrap"]["mean"]:
            raise UserError(f"{path}: not of the auc.json beside it; delete both and rerun cell.py")
        return drawn


def main() -> None:
    args = parse_args()
    claims = read_claims(args.claims)
    overlaps = {figure: Overlap(status=reason) for figure, reason in args.absent.items()}
    for path in args.overlaps:
        found = read_overlap(path)
        columns = (tuple(found[name]) for name in ("iou", "area", "image_id"))
        overlaps[path.parent.name] = Overlap(*columns, "" if len(found) else NO_BOX, path.as_posix())
    rows = [row for path in args.tables for row in read_csv(path)]
    samples = Samples(args.cells, args.undefined)
    reports = [(path.as_posix(), read_object(path, "report")) for path in args.reports]
    facts = read_facts(reports, [cell for _, cell in samples.cells.values()], args.incomparable)
    ours = our_numbers(rows, samples, args.within_points, args.incomparable, overlaps, facts)
    try:
        lines = check_claims(claims, paper_numbers(read_reported(args.reported)), ours)
    except UserError as error:
        raise UserError(f"{args.claims}: {error}") from None
    markdown = to_markdown(lines, args.note)
    text = to_csv(lines)
    write_text(args.out_csv, text)
    write_text(args.out_md, markdown)
    print(markdown)


if __name__ == "__main__":
    run(main)
