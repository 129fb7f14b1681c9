"""The image store: every image of an index decoded once, memory-mapped, resumable after a kill, verified by checksum.

While `images.npy` is written there are two work files beside it: `images.npy.part`, and the journal
`images.npy.part.jsonl` with one line per finished chunk of rows. A run that was killed, or stopped by unreadable images,
is resumed by the next run with the same images, size and decoder. The row of an unreadable image stays black; the
manifest lists it, and readers of the store skip it.
"""

import csv
import hashlib
import json
import mmap
import os
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from refers.array_files import open_npy
from refers.data import images
from refers.errors import UserError
from refers.files import (
    atomic_path,
    file_digest,
    large_file_digest,
    parquet_attributes,
    read_object,
    remember_digest,
    write_text,
)
from refers.workers import process_pool

# Images that a worker takes at a time: small enough to lose little in a kill, large enough to hide the cost of a task.
CHUNK = 16
NAMED = 3  # unreadable files listed in an error
# Key of the index's digest in the manifest of a store and in the attributes of a split.
INDEX_DIGEST = "index_sha256"
WORK_FILES = (".part", ".part.jsonl")


class Chunk(NamedTuple):
    """`count` rows from `start` on that a worker finished: their CRC, (row, reason) of each unreadable image, and the
    number of images by remark (see `refers.data.images.decode`)."""

    start: int
    count: int
    crc: int
    unreadable: list[tuple[int, str]]
    remarks: dict[str, int]


def open_store(path: str | Path, *indexes: str | None) -> np.memmap:
    """The image store (N, size, size) uint8, read-only and memory-mapped; row i is row i of the index.

    Where its manifest is beside it, the content must have the digest that the manifest states. The file is read once for
    that; see `refers.files.large_file_digest`.

    Args:
        path: images.npy.
        indexes: SHA-256 of the index that rows are taken from, however the caller knows of it; None where it does not.

    Raises:
        UserError: the file is missing or not an image store, is damaged, or was packed from another index.
    """
    store, manifest = _open(path), Path(path).with_suffix(".json")
    if not os.path.lexists(manifest):
        _check_index(path, {}, indexes)
        return store
    wanted = _read_manifest(manifest)
    if wanted.get("sha256", digest := large_file_digest(path)) != digest:
        raise UserError(
            f"{path}: damaged: its content differs from {manifest}; delete it and rerun pack_images.py"
        )
    _check_index(path, wanted, indexes)
    return store


def read_images(store: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Images (M, S, S) uint8 of some rows (M,) of a store, copied.

    The disk is told of all rows before the first is copied, so that it works on many at once and reads no others: a copy
    alone waits for each page in turn, and the kernel reads on behind it for rows that nobody asked for.
    """
    # A whole file as `open_store` maps it, not a part or a copy of one; NumPy's name for the map is not public.
    mapped = getattr(store, "_mmap", None)
    is_whole = isinstance(store, np.memmap) and mapped is not None and store.base is mapped
    if is_whole and hasattr(mmap, "MADV_WILLNEED"):
        start, length = store.offset % mmap.ALLOCATIONGRANULARITY, store.strides[0]
        # Advice that is not taken costs time alone.
        with suppress(OSError, ValueError):
            for place in (start + length * int(row) for row in rows):
                page = place - place % mmap.PAGESIZE
                mapped.madvise(mmap.MADV_WILLNEED, page, place + length - page)
    return np.asarray(store[rows])


def expect_rows(path: str | Path, store: np.ndarray, index: str | Path, rows: int) -> None:
    """Raise a UserError unless a store has an image for each of the rows of an index."""
    if len(store) != rows:
        raise UserError(
            f"{path}: holds {len(store)} images, {index} lists {rows}; delete the store and rerun pack_images.py"
        )


def index_of(split: str | Path) -> str | None:
    """SHA-256 of the index that a split was drawn from; None where the file does not say."""
    return parquet_attributes(split).get(INDEX_DIGEST)


def _read_manifest(path: Path) -> dict:
    found = read_object(path, "manifest")
    for name in ("sha256", INDEX_DIGEST):
        if not isinstance(found.get(name, ""), str):
            raise UserError(f"{path}: {name} is not a digest; delete it and rerun pack_images.py")
    return found


def _check_index(origin: str | Path, manifest: dict, indexes: Iterable[str | None]) -> None:
    if len({manifest.get(INDEX_DIGEST), *indexes} - {None}) > 1:
        raise UserError(
            f"{origin}: its rows are those of another index, or the split's are; delete both and rerun pack_images.py and"
            " split_dataset.py"
        )


def _open(path: str | Path) -> np.memmap:
    store = open_npy(path, "not an image store", "create it with pack_images.py")
    stack = isinstance(store, np.memmap) and store.dtype == np.uint8 and store.ndim == 3
    if not stack or store.shape[1] != store.shape[2]:
        raise UserError(f"{path}: does not hold square uint8 images; delete it and rerun pack_images.py")
    return store


def read_quarantine(manifest: Path, index: str | None = None) -> list[int]:
    """Rows of the store whose image could not be read; they must not be used for training or testing.

    Raises:
        UserError: the file is not the manifest of a store, or not of one of the index with the SHA-256 `index`.
    """
    content = _read_manifest(manifest)
    rows = content.get("quarantined")
    if not isinstance(rows, list) or not all(type(row) is int for row in rows):
        raise UserError(f"{manifest}: no list of quarantined rows; delete it and rerun pack_images.py")
    _check_index(manifest, content, [index])
    return rows


def verify(store: Path, manifest: Path) -> dict:
    """The manifest of a store whose count, size and SHA-256 agree with it.

    Raises:
        UserError: the store differs from its manifest.
    """
    wanted, (count, size, _) = _read_manifest(manifest), _open(store).shape
    for name, value in {"count": count, "size": size, "sha256": file_digest(store)}.items():
        if wanted.get(name) != value:
            raise UserError(
                f"{store}: {name} is {value}, which differs from {manifest}; delete the store and rerun pack_images.py"
            )
    return wanted


def pack(
    paths: Sequence[str | Path],
    size: int,
    out: Path,
    quarantine: Path,
    *,
    workers: int = 1,
    tolerance: float = 0.0,
    progress: Callable[[int], None] = lambda done: None,
) -> dict:
    """Decode `paths`, in their order, into the store `out`; the content of its manifest: count, size, sha256, quarantined, remarks.

    Args:
        paths: image files.
        size: side of a stored image in pixels.
        out: the store to write.
        quarantine: CSV of the unreadable images (row, path, reason); it exists only if there are any.
        tolerance: largest share of unreadable images with which a store is still written, in [0, 1].
        workers: processes.
        progress: receives the number of images done, those of an interrupted run included.

    Raises:
        UserError: there are more unreadable images; the message counts them and lists the first. No store is written, but
            the work files stay, so that the next run decodes only what is left. Or the disk is full, or it returns other
            bytes than were written.
    """
    out = Path(out)
    if not len(paths):
        raise UserError(f"{out}: no image to pack; index the source again")
    paths = [str(path) for path in paths]
    try:
        return _pack(paths, size, out, quarantine, workers, tolerance, progress)
    except OSError as error:
        raise UserError(
            f"{out}: write failed ({error.strerror or error}); free space or choose a writable folder"
        ) from None


def _pack(paths, size, out, quarantine, workers, tolerance, progress) -> dict:
    part, journal = (out.with_name(out.name + suffix) for suffix in WORK_FILES)
    key = _key(paths, size)
    chunks = _resume(part, journal, key) or _begin(part, journal, key, (len(paths), size, size))
    done = sum(chunk.count for chunk in chunks)
    if done:
        progress(done)
    finished = {chunk.start for chunk in chunks}
    starts = (start for start in range(0, len(paths), CHUNK) if start not in finished)
    waiting = [(start, paths[start : start + CHUNK]) for start in starts]
    with open(journal, "a", encoding="utf-8") as log:
        for chunk in _in_parallel(_Rows(part, size), waiting, workers):
            log.write(json.dumps(chunk) + "\n")
            log.flush()
            chunks.append(chunk)
            progress(done := done + chunk.count)
    _check_quarantine([item for chunk in chunks for item in chunk.unreadable], paths, quarantine, tolerance)
    sha256 = _checksum(part, size, chunks, out)
    os.replace(part, out)
    remember_digest(out, sha256)
    journal.unlink()
    rows = sorted(row for chunk in chunks for row, _ in chunk.unreadable)
    remarks = dict(sum((Counter(chunk.remarks) for chunk in chunks), Counter()))
    return {"count": len(paths), "size": size, "sha256": sha256, "quarantined": rows, "remarks": remarks}


def _key(paths: list[str], size: int) -> str:
    """Digest that ties the work files to the images in their order, their size, and the decoder."""
    decoder = Path(images.__file__).read_text(encoding="utf-8")
    return hashlib.sha256(json.dumps([paths, size, CHUNK, decoder]).encode()).hexdigest()


def _begin(part: Path, journal: Path, key: str, shape: tuple[int, int, int]) -> list[Chunk]:
    part.parent.mkdir(parents=True, exist_ok=True)
    journal.unlink(missing_ok=True)
    try:
        np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=shape)
        if hasattr(os, "posix_fallocate"):
            # Reserve the space now: a disk that fills up later would kill the process through the memory map.
            with open(part, "rb+") as opened:
                os.posix_fallocate(opened.fileno(), 0, part.stat().st_size)
        write_text(journal, json.dumps(key) + "\n")
    except OSError:
        part.unlink(missing_ok=True)
        raise
    return []


def _resume(part: Path, journal: Path, key: str) -> list[Chunk]:
    """Chunks of an interrupted run that are intact on disk; those with unreadable images are tried again."""
    try:
        head, *lines = journal.read_text(encoding="utf-8").splitlines()
        rows = np.lib.format.open_memmap(part, mode="r")
    except (OSError, ValueError):
        return []
    if head != json.dumps(key):
        return []
    kept = {}
    for line in lines:
        try:
            chunk = Chunk(*json.loads(line))
            written = rows[chunk.start : chunk.start + chunk.count]
            if not chunk.unreadable and zlib.crc32(written.data) == chunk.crc:
                kept[chunk.start] = chunk
        except (ValueError, TypeError):
            # A killed run may leave an incomplete last line.
            break
    write_text(journal, "".join(json.dumps(line) + "\n" for line in (key, *kept.values())))
    return list(kept.values())


def _check_quarantine(unreadable: list, paths: list[str], quarantine: Path, tolerance: float) -> None:
    """Write the list of unreadable images, (row, reason); raise a UserError if there are too many."""
    if not unreadable:
        quarantine.unlink(missing_ok=True)
        return
    unreadable = sorted(unreadable)
    with atomic_path(quarantine) as path, open(path, "w", encoding="utf-8", newline="") as opened:
        table = csv.writer(opened, lineterminator="\n")
        table.writerow(("row", "path", "reason"))
        table.writerows((row, paths[row], reason) for row, reason in unreadable)
    if len(unreadable) > tolerance * len(paths):
        names = "; ".join(f"row {row}: {paths[row]}: {reason}" for row, reason in unreadable[:NAMED])
        rest = f"; and {len(unreadable) - NAMED} more" if len(unreadable) > NAMED else ""
        raise UserError(
            f"{len(unreadable)} of {len(paths)} images are unreadable: {names}{rest}. {quarantine} lists them; replace"
            " them and rerun (decoded images are kept), or raise images.tolerance to leave them out"
        )


def _checksum(part: Path, size: int, chunks: list[Chunk], out: Path) -> str:
    """SHA-256 of the whole file; the rows of each chunk are compared with the CRC of what its worker wrote.

    Raises:
        UserError: they differ.
    """
    state, content = hashlib.sha256(), np.memmap(part, np.uint8, mode="r")
    end = len(content) - sum(chunk.count for chunk in chunks) * size * size
    # The disk, the comparison and the digest work at the same time.
    with open(part, "rb+") as opened, ThreadPoolExecutor(2) as aside:
        synced = aside.submit(os.fsync, opened.fileno())
        digested = aside.submit(state.update, content[:end].data)
        for chunk in sorted(chunks):
            start, end = end, end + chunk.count * size * size
            if zlib.crc32(content[start:end].data) != chunk.crc:
                raise UserError(
                    f"{out}: rows {chunk.start} to {chunk.start + chunk.count - 1} differ from what was written;"
                    " check the disk and rerun"
                )
            digested.result()
            digested = aside.submit(state.update, content[start:end].data)
        digested.result()
        synced.result()
    return state.hexdigest()


class _Rows:
    """Rows of the store being written, for workers to fill."""

    def __init__(self, store: Path, size: int) -> None:
        self.store, self.size = store, size
        self.offset = np.lib.format.open_memmap(store, mode="r").offset

    def fill(self, start: int, paths: list[str]) -> Chunk:
        """Decode some images into their rows; the row of an unreadable one becomes black."""
        block, unreadable = np.zeros((len(paths), self.size, self.size), np.uint8), []
        remarks: Counter[str] = Counter()
        for row, path in enumerate(paths):
            try:
                block[row] = images.load_square(path, self.size, remarks)
            except UserError as error:
                unreadable.append((start + row, str(error).removeprefix(f"{path}: ")))
        # Half the time of writing through the memory map, page by page.
        with open(self.store, "rb+") as opened:
            opened.seek(self.offset + start * self.size**2)
            opened.write(block.data)
        return Chunk(start, len(paths), zlib.crc32(block.data), unreadable, dict(remarks))


def _in_parallel(rows: _Rows, chunks: list[tuple[int, list[str]]], workers: int) -> Iterator[Chunk]:
    if workers < 2 or len(chunks) < 2:
        yield from (rows.fill(*chunk) for chunk in chunks)
        return
    with process_pool(min(workers, len(chunks))) as pool:
        for job in as_completed([pool.submit(rows.fill, *chunk) for chunk in chunks]):
            yield job.result()
