"""How close packing comes to decode and resize alone, on the same files and cores.

The yardstick is `load_square` over the same files, each process a share of them, with nothing kept: no store, checksum,
journal or hand-over. Both are timed in turn in one run, and the ratio of their medians is printed. Without --folder
the files are generated: JPEGs of 2544 x 3056 pixels as MIMIC-CXR-JPG has them, PNGs of 1024 x 1024 as NIH.

    python benchmarks/pack_images.py                                     # 2 processes, 5 rounds
    python benchmarks/pack_images.py --folder data/nih/images_001 --limit 2000 --workers 8
"""

import argparse
import multiprocessing
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow/scripts"))

from refers.data.images import load_square
from refers.data.store import pack

KINDS = {".jpg": (2544, 3056), ".png": (1024, 1024)}
SUFFIXES = (*KINDS, ".jpeg", ".dicom", ".dcm")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="real images, searched through")
    parser.add_argument("--limit", type=int, default=1000, help="real images at most")
    parser.add_argument("--count", type=int, default=192, help="generated images of each kind")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


def generate(folder: Path, suffix: str, count: int) -> list[Path]:
    """Smooth shadows with grain, of a radiograph's file size; a few contents, each written several times."""
    width, height = KINDS[suffix]
    rng = np.random.default_rng(0)
    paths = []
    for number in range(count):
        path = folder / f"{number:04d}{suffix}"
        if number < 4:
            coarse = Image.fromarray(rng.integers(30, 220, (24, 20), dtype=np.uint8))
            smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.float32)
            grain = rng.normal(0, 3, smooth.shape)
            Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8)).save(path, quality=95)
        else:
            path.write_bytes(paths[number % 4].read_bytes())
        paths.append(path)
    return paths


def share(paths: list[Path], size: int) -> None:
    for path in paths:
        load_square(path, size)


def alone(paths: list[Path], size: int, workers: int) -> float:
    """Seconds of decode and resize, nothing kept."""
    began = time.perf_counter()
    processes = [
        multiprocessing.Process(target=share, args=(paths[start::workers], size)) for start in range(workers)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return time.perf_counter() - began


def packed(paths: list[Path], size: int, workers: int) -> float:
    """Seconds of making the store, start-up of the processes and last checksum included."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        pack(paths, size, Path(folder) / "images.npy", Path(folder) / "quarantine.csv", workers=workers)
        return time.perf_counter() - began


def compare(name: str, paths: list[Path], args: argparse.Namespace) -> None:
    share(paths, args.size)  # every file in the page cache
    times = {alone: [], packed: []}
    for number in range(args.rounds):
        for way in (alone, packed) if number % 2 else (packed, alone):
            times[way].append(len(paths) / way(paths, args.size, args.workers))
    rates = {way: statistics.median(found) for way, found in times.items()}
    print(
        f"{name}: {len(paths)} images, {args.workers} processes, {args.rounds} rounds:"
        f" decode and resize alone {rates[alone]:.1f} images/s, store {rates[packed]:.1f} images/s,"
        f" ratio {rates[packed] / rates[alone]:.3f}",
        flush=True,
    )


def main() -> None:
    args = parse_args()
    if args.folder:
        found = sorted(path for path in args.folder.rglob("*") if path.suffix.lower() in SUFFIXES)
        compare(str(args.folder), found[: args.limit], args)
        return
    with tempfile.TemporaryDirectory() as folder:
        for suffix in KINDS:
            compare(f"generated {suffix}", generate(Path(folder), suffix, args.count), args)


if __name__ == "__main__":
    main()
