"""Radiographs of any official format -> grey uint8, once, in one memory-mapped store (paper §4: resized to 256 x 256)."""

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
from PIL import Image

from refers.errors import UserError
from refers.files import atomic_path

DICOM_SUFFIXES = (".dicom", ".dcm")
CHUNK = 32  # images a worker takes at a time: small enough for the progress line, large enough to hide the hand-over
NAMED = 3  # unreadable files that an error names


def is_dicom(path: Path) -> bool:
    return path.suffix.lower() in DICOM_SUFFIXES


def image_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels, from the file's header alone.

    Raises:
        UserError: the file is no image; the message names it.
    """
    try:
        if is_dicom(path):
            from pydicom import dcmread

            header = dcmread(path, stop_before_pixels=True, specific_tags=["Rows", "Columns"])
            return int(header.Columns), int(header.Rows)
        with Image.open(path) as image:
            return image.size
    except Exception as error:
        raise UserError(f"{path}: no readable image ({_reason(error)}); download it again") from None


def decode(path: str | Path, enough: int | None = None) -> np.ndarray:
    """Grey image (H, W) uint8, dark air and bright bone.

    PNG and JPEG of any mode become grey by luminance, transparency is ignored. 16-bit PNGs are divided by the
    smallest range of 8 to 16 bits that holds their maximum. DICOM values pass rescale and VOI window or table,
    are stretched to their extremes, and MONOCHROME1 is inverted.

    enough: sides of this many pixels suffice. A JPEG is then decoded at 1/2, 1/4 or 1/8 of its size, both sides
    still at least twice `enough`, so that a later antialiased resize sees no difference worth a grey level.

    Raises:
        UserError: the file is missing, broken or of an unknown format; the message names it.
    """
    path = Path(path)
    try:
        return _decode_dicom(path) if is_dicom(path) else _decode_picture(path, enough)
    except Exception as error:  # PIL and pydicom raise many kinds for broken files
        advice = "install pylibjpeg and pylibjpeg-libjpeg" if "plugin" in str(error) else "download it again"
        raise UserError(f"{path}: cannot be decoded ({_reason(error)}); {advice}") from None


def _reason(error: Exception) -> str:
    return (
        " ".join(str(error).split()).replace(str(getattr(error, "filename", "\0")), "file")
        or type(error).__name__
    )


def _decode_picture(path: Path, enough: int | None) -> np.ndarray:
    with Image.open(path) as image:
        if enough and image.format == "JPEG":
            image.draft("L", (2 * enough, 2 * enough))
        if image.mode in ("I;16", "I;16B", "I;16L", "I", "F"):
            return _full_range(np.asarray(image))
        if image.mode in ("P", "PA"):
            image = image.convert("RGB")
        return np.array(image if image.mode == "L" else image.convert("L"))


def _full_range(values: np.ndarray) -> np.ndarray:
    if values.min() < 0:
        raise ValueError("negative grey values")
    bits = max(8, int(values.max()).bit_length())
    return np.round(values * np.float32(255 / (2**bits - 1))).astype(np.uint8)


def _decode_dicom(path: Path) -> np.ndarray:
    from pydicom import dcmread
    from pydicom.pixels import apply_rescale, apply_voi_lut

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns about harmless departures from the standard
        data = dcmread(path)
        pixels = data.pixel_array
        if data.get("SamplesPerPixel", 1) == 3 and pixels.ndim == 3:
            return np.array(Image.fromarray(pixels).convert("L"))
        if pixels.ndim != 2:
            raise ValueError(f"{pixels.shape[0]} frames, one expected")
        # Every step below depends on a pixel's value alone: it is applied to the values, not to millions of pixels.
        low, high = int(pixels.min()), int(pixels.max())
        values = np.arange(low, high + 1, dtype=pixels.dtype)
        grey = np.asarray(apply_voi_lut(apply_rescale(values, data), data), np.float64)
    span = grey.max() - grey.min()
    grey = (grey - grey.min()) / span if span else np.zeros_like(grey)
    if data.PhotometricInterpretation == "MONOCHROME1":
        grey = 1 - grey
    table, picture = np.round(grey * 255).astype(np.uint8), np.empty(pixels.shape, np.uint8)
    for source, target in zip(pixels, picture, strict=True):  # a row stays in the cache: a third of the time
        np.take(table, source.astype(np.intp) - low, out=target, mode="clip")
    return picture


def load_square(path: str | Path, size: int) -> np.ndarray:
    """The whole frame of an image, antialiased to (size, size) uint8.

    Raises:
        UserError: as `decode`.
    """
    image = Image.fromarray(decode(path, enough=size))
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))


def open_store(path: str | Path) -> np.memmap:
    """The image store (N, size, size) uint8, read-only and memory-mapped; row i is row i of the index.

    Raises:
        UserError: the file is missing or is no image store.
    """
    try:
        store = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: no image store ({_reason(error)}); make it with pack_images.py") from None
    if (
        not isinstance(store, np.memmap)
        or store.dtype != np.uint8
        or store.ndim != 3
        or store.shape[1] != store.shape[2]
    ):
        raise UserError(f"{path}: no square uint8 images; make it again with pack_images.py")
    return store


def pack(
    paths: Sequence[Path],
    size: int,
    out: Path,
    workers: int = 1,
    progress: Callable[[int], None] = lambda done: None,
) -> None:
    """Decode `paths` into the store `out`, in their order; `progress` hears the number of images done.

    Raises:
        UserError: unreadable images, all counted and the first ones named; the store is then not written.
    """
    with atomic_path(out) as temporary:
        store = np.lib.format.open_memmap(
            temporary, mode="w+", dtype=np.uint8, shape=(len(paths), size, size)
        )
        _reserve(temporary)
        del store
        problems, done = [], 0
        chunks = [(start, paths[start : start + CHUNK]) for start in range(0, len(paths), CHUNK)]
        for count, found in _in_parallel(temporary, size, chunks, workers):
            done += count
            problems += found
            progress(done)
        if problems:
            names = "; ".join(reason for _, reason in sorted(problems)[:NAMED])
            rest = f"; and {len(problems) - NAMED} more" if len(problems) > NAMED else ""
            raise UserError(f"{len(problems)} of {len(paths)} images are unreadable: {names}{rest}")


def _reserve(path: Path) -> None:
    # A full disk is an error here; later, writing through the memory map would kill the process.
    if hasattr(os, "posix_fallocate"):
        with open(path, "rb+") as opened:
            os.posix_fallocate(opened.fileno(), 0, path.stat().st_size)


Problems = list[tuple[int, str]]


def _in_parallel(
    store: Path, size: int, chunks: list[tuple[int, Sequence[Path]]], workers: int
) -> Iterator[tuple[int, Problems]]:
    if workers < 2 or len(chunks) < 2:
        yield from (_fill(store, size, *chunk) for chunk in chunks)
        return
    with ProcessPoolExecutor(min(workers, len(chunks))) as pool:
        try:
            for job in as_completed([pool.submit(_fill, store, size, *chunk) for chunk in chunks]):
                yield job.result()
        except BrokenProcessPool:
            raise UserError(
                f"{store.parent}: a worker was killed, probably for memory; use fewer workers"
            ) from None


def _fill(store: Path, size: int, start: int, paths: Sequence[Path]) -> tuple[int, Problems]:
    """Decode some images into their rows of the store; the number done and (row, reason) of the unreadable ones."""
    rows = np.lib.format.open_memmap(store, mode="r+")
    problems = []
    for row, path in enumerate(paths, start):
        try:
            rows[row] = load_square(path, size)
        except UserError as error:
            problems.append((row, str(error)))
    return len(paths), problems
