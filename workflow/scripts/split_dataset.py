"""Split a dataset into training, validation and test sets with disjoint patients (paper §4).

In: index.parquet of the dataset's source, images.json of its store; for a released split also the folder of the authors' lists.
Out: split.parquet, and split.json with sizes, labels and whatever was left out, by reason.
"""

import argparse
from pathlib import Path

from refers.arguments import Arguments
from refers.config import load_json
from refers.data.index import read_index
from refers.data.splits import Split, make_split
from refers.data.store import INDEX_DIGEST, read_quarantine
from refers.errors import run
from refers.files import file_digest, write_json, write_parquet


def parse_args() -> argparse.Namespace:
    parser = Arguments(description=__doc__.splitlines()[0])
    parser.add_argument("--index", type=Path, required=True)
    parser.add_argument("--config", required=True, help="JSON of refers.data.splits.Split")
    parser.add_argument("--manifest", type=Path, help="images.json, which lists unreadable images")
    parser.add_argument("--lists", type=Path, help="folder of the authors' lists, for a released split")
    parser.add_argument("--out", type=Path, required=True, help="split.parquet")
    parser.add_argument("--report", type=Path, required=True, help="split.json")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    settings = load_json(Split, args.config, "split")
    index = read_index(args.index, ("image_id", "patient_id", "view", "split"))
    digest = file_digest(args.index)
    quarantined = read_quarantine(args.manifest, digest) if args.manifest else ()
    frame, report = make_split(index, settings, args.lists, quarantined)
    # Rows of the split mean nothing in a store of another index.
    frame.attrs[INDEX_DIGEST] = digest
    write_parquet(args.out, frame)
    write_json(args.report, report)
    sizes = " / ".join(str(count) for count in report["images"].values())
    print(f"{settings.dataset}, {settings.kind}: {sizes} images for training / validation / test")
    for reason, count in report["left_out"].items():
        print(f"{count} left out: {reason}")
    if contrary := report.get("label_disagreements"):
        counts = ", ".join(f"{name} {count}" for name, count in contrary.items())
        print(f"labels of the lists that differ from the download's (the lists' are used): {counts}")
    for warning in report["warnings"]:
        print(f"warning: {warning}")


if __name__ == "__main__":
    run(main)
