"""Decode every image of an index once into a memory-mapped uint8 store (paper §4: resized to 256 x 256).

In: index.parquet and the source's folder. Out: images.npy (N, size, size), row i for row i of the index, and a
manifest with count, size and digests.
"""

import argparse
import hashlib
import time
from pathlib import Path

import pyarrow.parquet as pq
from refers.errors import UserError, run
from refers.files import write_json
from refers.images import pack

PROGRESS = 20  # lines in all: one for every 5 %


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--index", type=Path, required=True)
    parser.add_argument(
        "--folder", type=Path, required=True, help="official download that the index was made from"
    )
    parser.add_argument("--size", type=int, default=256, help="side of a stored image in pixels")
    parser.add_argument("--out", type=Path, required=True, help="images.npy")
    parser.add_argument("--manifest", type=Path, required=True, help="images.json")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    return parser.parse_args()


def digest(path: Path) -> str:
    with open(path, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def main() -> None:
    args = parse_args()
    if not 8 <= args.size <= 4096:
        raise UserError(f"--size {args.size} is outside [8, 4096]")
    try:
        names = pq.read_table(args.index, columns=["path"])["path"].to_pylist()
    except (OSError, KeyError, ValueError) as error:
        raise UserError(f"{args.index}: no index ({error}); make it with index_source.py") from None
    began, said = time.monotonic(), 0

    def progress(done: int) -> None:
        nonlocal said
        if done * PROGRESS // len(names) > said:
            said = done * PROGRESS // len(names)
            rate = done / max(time.monotonic() - began, 1e-9)
            print(
                f"{done} of {len(names)} images ({100 * done // len(names)} %), {rate:.0f} a second",
                flush=True,
            )

    pack([args.folder / name for name in names], args.size, args.out, args.workers, progress)
    write_json(
        args.manifest,
        {
            "count": len(names),
            "size": args.size,
            "sha256": digest(args.out),
            "index_sha256": digest(args.index),
        },
    )


if __name__ == "__main__":
    run(main)
