"""Read and write files. Writes are atomic (temporary file, fsync, rename): an incomplete file never looks finished."""

import errno
import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Collection, Generator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import Any

from refers.errors import UserError

# Scripts that write the Parquet files that jobs share.
MAKERS = {
    **{"index": "index_source.py", "reports": "clean_reports.py", "split": "split_dataset.py"},
    "resamples": "cell.py",
}


@contextmanager
def atomic_path(target: str | Path) -> Generator[Path]:
    """Yield a temporary path in the target's folder; rename it to `target` when the block succeeds.

    Temporary files that killed writers of the same target left are removed, so that repeated kills do not fill the disk.

    Raises:
        UserError: the folder cannot be written, or the disk is full. The old target stays unchanged.
    """
    target = Path(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for left in target.parent.glob(f".{escape(target.name)}.*.part"):
            left.unlink(missing_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
        os.close(handle)
    except OSError as error:
        raise UserError(
            f"{target}: cannot be written ({error.strerror}); free space or choose a writable folder"
        ) from None
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb+") as written:
            os.fsync(written.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, target)
    except OSError as error:
        raise UserError(
            f"{target}: write failed ({error.strerror or error}); free space or choose a writable folder"
        ) from None
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def expect_regular(path: str | Path) -> None:
    """Raise an OSError unless a path is that of a file: a pipe has no end for a reader, and a device may have none.

    Raises:
        OSError: there is nothing, or something else; its `strerror` says which.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))


def is_below(path: str) -> bool:
    """Whether a path is relative, uses "/" and stays below the folder that it is joined to."""
    relative = path not in ("", ".") and path[0] != "/"
    return relative and not {"\\", "\0"} & {*path} and ".." not in path.split("/")


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file's content, as hexadecimal digits."""
    with open(path, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def large_file_digest(path: str | Path) -> str:
    """SHA-256 of a large file, computed once: it is remembered beside the file with its size and times.

    The change time is one of them, which no program can set: bytes that were changed under an old date are noticed.
    """
    memory = _digest_memory(path)
    with suppress(OSError, ValueError, TypeError, KeyError):
        remembered = json.loads(memory.read_text(encoding="utf-8"))
        if remembered["state"] == _file_state(path):
            return str(remembered["sha256"])
    digest = file_digest(path)
    # A folder that cannot be written costs the next job the time of a digest.
    with suppress(UserError):
        remember_digest(path, digest)
    return digest


def remember_digest(path: str | Path, digest: str) -> None:
    """Save the SHA-256 of a file that has just been written or read, for `large_file_digest`.

    Raises:
        UserError: the folder cannot be written.
    """
    write_json(_digest_memory(path), {"state": _file_state(path), "sha256": digest})


def _digest_memory(path: str | Path) -> Path:
    path = Path(path)
    return path.with_name(f".{path.name}.sha256.json")


def _file_state(path: str | Path) -> list[int]:
    found = os.stat(path)
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def write_text(target: str | Path, text: str) -> None:
    """Write `text` atomically as UTF-8."""
    with atomic_path(target) as path:
        path.write_text(text, encoding="utf-8")


def write_json(target: str | Path, content: Any) -> None:
    """Write `content` atomically as indented JSON.

    Raises:
        ValueError: it contains NaN or Inf; use None.
    """
    write_text(target, json.dumps(content, indent=1, allow_nan=False) + "\n")


def write_parquet(target: str | Path, frame: Any) -> None:
    """Write a pandas frame atomically as Parquet with checksums, without its row index but with its `attrs`."""
    with atomic_path(target) as path:
        frame.to_parquet(path, index=False, write_page_checksum=True)


def read_parquet(path: str | Path, kind: str, columns: Collection[str], *, rest: bool = False) -> Any:
    """Read `columns` of an index, a split or the cleaned reports as a pandas frame.

    Args:
        path: the file.
        kind: what it is, a key of MAKERS.
        columns: names of the columns that must exist.
        rest: read the other columns too.

    Raises:
        UserError: the file is missing, truncated or not Parquet, or lacks one of the columns.
    """
    import pyarrow.parquet as pq

    try:
        expect_regular(path)
        with pq.ParquetFile(path, page_checksum_verification=True) as opened:
            if absent := set(columns) - set(opened.schema_arrow.names):
                raise UserError(f"{path}: no column {min(absent)!r}; delete it and rerun {MAKERS[kind]}")
            expect_own_names(opened.schema_arrow)
            return opened.read(None if rest else list(columns)).to_pandas()
    # Arrow's own errors are ValueErrors.
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: unreadable {kind} file ({error}); create it with {MAKERS[kind]}") from None


def expect_own_names(schema: Any) -> None:
    """Raise a ValueError where the columns of a Parquet file are not those that pandas saved: no checksum covers names."""
    about = schema.pandas_metadata or {}
    saved = about.get("columns", []) if isinstance(about, dict) else []
    if about and [each.get("field_name") for each in saved if isinstance(each, dict)] != schema.names:
        raise ValueError("damaged: its columns contradict each other")


def parquet_attributes(path: str | Path) -> dict[str, Any]:
    """`attrs` of the pandas frame in a Parquet file; none where it has none or cannot be read, which `read_parquet` says."""
    import pyarrow.parquet as pq

    with suppress(OSError, ValueError):
        expect_regular(path)
        return json.loads((pq.read_schema(path).metadata or {}).get(b"PANDAS_ATTRS", b"{}"))
    return {}


def check_column(good: Any, origin: str | Path, frame: Any, column: str, what: str, remedy: str) -> None:
    """Raise a UserError naming the first row of a pandas frame (from 0) where `good` is false, with its value.

    origin: begins the message; what: what is wrong with the value of `column`; remedy: what to do.
    """
    if not good.all():
        row = int((~good).to_numpy().argmax())
        raise UserError(f"{origin}: row {row}: {column} {frame[column].tolist()[row]!r} {what}; {remedy}")


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises:
        UserError: the file is missing or not JSON.
    """
    try:
        expect_regular(path)
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: cannot be read as JSON ({error}); delete it and rerun the job that writes it"
        ) from None
