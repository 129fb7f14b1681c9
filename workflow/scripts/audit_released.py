"""Audit of the authors' released prediction files: AUCs beside the printed ones, and similarity of files of a test set.

In: the folder of results of the authors' repository, or an archive that contains it; its lists likewise; the paper's
numbers. Out: auc.csv, pairs.csv, audit.md. The spec is JSON:
  folders     names of the folder of results and of the folder of lists in an archive
  cells       [{folder, dataset, ratio, classes}]: the folder of results that belongs to a column of the tables
  methods     {name of a folder in it: method}
  lists       {dataset: {list, patient, classes}}: its test list, a regular expression for the patient in an image's name, and
              the number of classes
  alike       {gamma, kappa}: thresholds from which on an inexact relation of two files is reported
  table       the paper's table with these AUCs
  reference   the method in it that is compared with the others
"""

import argparse
import csv
import io
import json
from pathlib import Path
from typing import Any

from refers.arguments import SEED, Arguments, whole
from refers.audit.released import ResultFolder, read, read_lists
from refers.audit.report import to_markdown
from refers.audit.rows import AUC_FIELDS, PAIR_FIELDS, auc_rows, pair_rows
from refers.errors import UserError, run
from refers.files import write_text
from refers.reporting.published import read_reported


def parse_args() -> argparse.Namespace:
    parser = Arguments(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--released", type=Path, required=True, help="folder or archive of results")
    parser.add_argument("--lists", type=Path, help="folder or archive of lists")
    parser.add_argument("--spec", required=True, help="JSON, as described above")
    parser.add_argument("--reported", type=Path, required=True, help="numbers printed in the paper (csv)")
    parser.add_argument(
        "--resamples", type=whole(1, 1_000_000), default=1000, help="bootstrap resamples of the test set"
    )
    parser.add_argument("--bootstrap-seed", type=SEED, default=0)
    parser.add_argument("--out", type=Path, required=True, help="folder of auc.csv, pairs.csv and audit.md")
    return parser.parse_args()


def to_csv(fields: tuple[str, ...], rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fields, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def main() -> None:
    args = parse_args()
    try:
        spec = json.loads(args.spec)
        cells = [
            ResultFolder(each["folder"], each["dataset"], each["ratio"], tuple(each["classes"]))
            for each in spec["cells"]
        ]
        methods, table, reference = spec["methods"], spec["table"], spec["reference"]
        (results, listed), gamma, kappa = spec["folders"], spec["alike"]["gamma"], spec["alike"]["kappa"]
        lists = spec["lists"].items()
        wanted = {name: (each["list"], each["patient"], each["classes"]) for name, each in lists}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"--spec: {error!r}; correct it, --help says its form") from None
    reported = read_reported(args.reported)
    printed = {(row, column): value for (name, row, column), value in reported.items() if name == table}
    lists, renamed = read_lists(args.lists, listed, wanted) if args.lists else ({}, [])
    released = read(args.released, results, cells, methods, lists)
    released.renamed += renamed
    rows = auc_rows(released, printed, reference, args.resamples, args.bootstrap_seed)
    pairs = pair_rows(released, gamma, kappa)
    write_text(args.out / "auc.csv", to_csv(AUC_FIELDS, rows))
    write_text(args.out / "pairs.csv", to_csv(PAIR_FIELDS, pairs))
    write_text(args.out / "audit.md", to_markdown(rows, pairs, released, args.resamples, gamma, kappa))
    files = sum(len(each.files) for each in released.methods)
    missing, unread = len(released.missing), len(released.unread)
    spelt = f", {len(released.renamed)} under another spelling" if released.renamed else ""
    print(f"{files} files{spelt}, {missing} missing, {unread} unread; {len(pairs)} pairs compared")


if __name__ == "__main__":
    run(main)
