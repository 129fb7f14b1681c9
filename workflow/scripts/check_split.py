"""Check a split before training: patients or identical images in several sets, single or rare labels of a class, views.

In: split.parquet, index.parquet and images.npy of a dataset. Out: check.json. Leakage that the config does not accept ends with exit code 1.
"""

import argparse
from pathlib import Path

from refers.arguments import Arguments, whole
from refers.data.index import read_index
from refers.data.leakage import KINDS, check
from refers.data.splits import read_split
from refers.data.store import expect_rows, index_of, open_store
from refers.errors import run
from refers.files import file_digest, write_json


def parse_args() -> argparse.Namespace:
    parser = Arguments(description=__doc__.splitlines()[0])
    parser.add_argument("--split", type=Path, required=True)
    parser.add_argument("--index", type=Path, required=True)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--accept", nargs="*", choices=KINDS, default=[], help="kinds of leakage to accept")
    parser.add_argument(
        "--minority-patients",
        type=whole(),
        default=0,
        help="warn of fewer patients with one label of a class in a set",
    )
    parser.add_argument("--out", type=Path, required=True, help="check.json")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    views = read_index(args.index, ["view"])["view"]
    store = open_store(args.store, file_digest(args.index), index_of(args.split))
    expect_rows(args.store, store, args.index, len(views))
    split = read_split(args.split, len(store))
    report = check(split, views, store, args.accept, args.dataset, args.minority_patients)
    write_json(args.out, report)
    sizes = ", ".join(f"{count} {part}" for part, count in report["images"].items())
    print(f"{args.dataset}: {sizes}; {report['duplicates_within_sets']} duplicates within a set")
    for warning in report["warnings"]:
        print(f"warning: {warning}")


if __name__ == "__main__":
    run(main)
