"""How fast random rows of an image store come from a disk: as training reads them, by a plain copy, and by pread.

The store's pages are dropped from the page cache before each pass, and every pass reads rows that no other has read. Read
ahead is what the disk's device is set to; its effect is the first column: bytes that left the disk for each byte asked for
(of the whole machine, so run nothing else).

    python benchmarks/cold_store.py
    python benchmarks/cold_store.py --gigabytes 8 --folder /scratch
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow/scripts"))

from refers.data.store import open_store, read_images

SIZE, BATCH, PASSES = 256, 64, 3


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=2)
    parser.add_argument("--images", type=int, default=2048, help="rows that a pass reads")
    parser.add_argument(
        "--folder", type=Path, help="where the store is written; a temporary folder by default"
    )
    return parser.parse_args()


def drop(path: Path) -> None:
    """Take a file out of the page cache."""
    with open(path, "rb") as opened:
        os.fsync(opened.fileno())
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def sectors() -> int:
    """Bytes that left all disks so far, where Linux counts them."""
    lines = Path("/proc/diskstats").read_text().splitlines()
    return 512 * sum(int(line.split()[5]) for line in lines if not line.split()[2].startswith("loop"))


def preads(path: Path, offset: int) -> Callable[[np.ndarray, np.ndarray], object]:
    """One pread per row: the floor of a reader that waits for each."""
    handle = os.open(path, os.O_RDONLY)
    return lambda store, rows: [
        os.pread(handle, SIZE * SIZE, offset + int(row) * SIZE * SIZE) for row in rows
    ]


def main() -> None:
    args = parse_args()
    count = int(args.gigabytes * 1e9 / SIZE**2)
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        path = Path(folder) / "images.npy"
        written = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(count, SIZE, SIZE))
        block = np.random.default_rng(0).integers(0, 256, (1024, SIZE, SIZE), np.uint8)
        for start in range(0, count, len(block)):
            written[start : start + len(block)] = block[: count - start]
        written.flush()
        offset = written.offset
        del written
        readers = {
            "ours": read_images,
            "plain copy": lambda store, rows: np.asarray(store[rows]),
            "pread": preads(path, offset),
        }
        order, rates = np.random.default_rng(1).permutation(count), dict.fromkeys(readers, 0.0)
        extra = dict(rates)
        for turn in range(PASSES):
            for place, (name, read) in enumerate(readers.items()):
                drop(path)
                store, start = open_store(path), (turn * len(readers) + place) * args.images
                rows = np.resize(order, start + args.images)[start:]
                before, began = sectors(), time.perf_counter()
                for first in range(0, len(rows), BATCH):
                    read(store, rows[first : first + BATCH])
                rates[name] = max(rates[name], len(rows) / (time.perf_counter() - began))
                extra[name] = (sectors() - before) / (len(rows) * SIZE**2)
                del store
    print(f"{'reader':12} {'images/s':>9} {'of plain':>9} {'bytes read per byte':>20}")
    for name, rate in rates.items():
        print(f"{name:12} {rate:9.0f} {rate / rates['plain copy']:9.2f} {extra[name]:20.1f}")


if __name__ == "__main__":
    main()
