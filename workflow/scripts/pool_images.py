"""Pool images of several downloads to pre-train on, without those of the study's test sets.

In: index.parquet, images.npy and images.json of each source, and the splits of the study's datasets. Out: the same three
files of the pool; the manifest counts what each source gave and what was left out, by reason.
"""

import argparse
from pathlib import Path

import numpy as np
from refers.arguments import Arguments
from refers.data.index import read_index
from refers.data.mimic_studies import PoolSource, pool
from refers.data.splits import read_split
from refers.data.store import expect_rows, index_of, open_store, read_quarantine
from refers.errors import run
from refers.files import atomic_path, file_digest, write_json, write_parquet

IN_INDEX = ("image_id", "patient_id", "study_id", "view", "split")


def parse_args() -> argparse.Namespace:
    parser = Arguments(description=__doc__.splitlines()[0])
    parser.add_argument("--sources", nargs="+", required=True)
    parser.add_argument("--indexes", type=Path, nargs="+", required=True, help="of each source")
    parser.add_argument("--stores", type=Path, nargs="+", required=True, help="of each source")
    parser.add_argument("--manifests", type=Path, nargs="+", required=True, help="of each source")
    parser.add_argument("--splits", type=Path, nargs="*", default=[], help="every split of the study on them")
    parser.add_argument("--split-sources", nargs="*", default=[], help="source of each split")
    parser.add_argument("--out", type=Path, required=True, help="images.npy")
    parser.add_argument("--index", type=Path, required=True, help="index.parquet")
    parser.add_argument("--manifest", type=Path, required=True, help="images.json")
    return parser.parse_args()


def read_source(name: str, index: Path, store: Path, manifest: Path, splits: list[Path]) -> PoolSource:
    """A source with its splits, whose row numbers are checked against it.

    Raises:
        UserError: a file is missing or damaged, or store, splits and index do not belong together.
    """
    frame, digest = read_index(index, IN_INDEX), file_digest(index)
    images = open_store(store, digest, *map(index_of, splits))
    expect_rows(store, images, index, len(frame))
    found = [read_split(path, len(frame)) for path in splits]
    return PoolSource(name, frame, images, read_quarantine(manifest, digest), found)


def main() -> None:
    args = parse_args()
    splits = list(zip(args.splits, args.split_sources, strict=True))
    of = {name: [path for path, source in splits if source == name] for name in args.sources}
    files = zip(args.sources, args.indexes, args.stores, args.manifests, strict=True)
    sources = [read_source(name, *paths, of[name]) for name, *paths in files]
    frame, rows, counts = pool(sources)
    size = sources[0].store.shape[1]
    with atomic_path(args.out) as path:
        images = np.lib.format.open_memmap(path, "w+", np.uint8, (len(frame), size, size))
        start = 0
        for source, chosen in zip(sources, rows, strict=True):
            images[start : start + len(chosen)] = source.store[chosen]
            start += len(chosen)
        images.flush()
    write_parquet(args.index, frame)
    about = {"count": len(frame), "size": size, "sha256": file_digest(args.out), "quarantined": []}
    write_json(args.manifest, about | {"index_sha256": file_digest(args.index), "sources": counts})
    for name, count in counts.items():
        left_out = ", ".join(f"{number} {reason}" for reason, number in count["left_out"].items()) or "none"
        print(f"{name}: {count['train']} images to train on, {count['val']} held out; left out: {left_out}")


if __name__ == "__main__":
    run(main)
