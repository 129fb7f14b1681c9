"""Read and write files. Writes are atomic (temporary file, fsync, rename): an incomplete file never looks finished."""

import csv
import errno
import hashlib
import io
import json
import os
import secrets
import stat
from collections.abc import Collection, Generator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import Any

from refers.columns import NUMBER
from refers.errors import UserError, first_line

# Scripts that write the files that jobs share.
MAKERS = {
    **{"index": "index_source.py", "reports": "clean_reports.py", "split": "split_dataset.py"},
    **{"resamples": "cell.py", "cell": "cell.py", "t-test": "ttest.py", "claims": "claims.py"},
    **{"pilot": "pilot.py", "plan": "plan.py", "step costs": "calibrate.py", "GPU check": "gpu_check.py"},
    **{"manifest": "pack_images.py", "run record": "the job that wrote it", "subset": "label_subset.py"},
    **{"visual words": "discover_words.py", "overlaps": "attend.py"},
    **{
        "measurement": "measures.py",
        "comparison of groups": "subgroups.py",
        "characteristics": "characteristics.py",
        "external predictions": "predict.py",
        "external test": "external.py",
    },
    **{"report": "the job that wrote it", "rule graph": "rule_graph.py", "table": "table.py"},
}
# First bytes of a file that a download left in place of the wanted one.
STAND_INS = {b"version https://git-lfs": "a git-lfs pointer", b"<": "an HTML page", b"": "an empty file"}


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
        # created as open() does, so that the umask and the folder's access lists decide who may read it
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}.part")
        handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o666)
        mode = os.fstat(handle).st_mode
        os.close(handle)
    except OSError as error:
        raise UserError(
            f"{target}: cannot be written ({error.strerror}); free space or choose a writable folder"
        ) from None
    try:
        yield temporary
        with open(temporary, "rb+") as written:
            os.fsync(written.fileno())
        # a library may have replaced the file by one of its own
        os.chmod(temporary, stat.S_IMODE(mode))
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
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
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
    if known := remembered_digest(path):
        return known
    digest = file_digest(path)
    # A folder that cannot be written costs the next job the time of a digest.
    with suppress(UserError):
        remember_digest(path, digest)
    return digest


def remembered_digest(path: str | Path) -> str:
    """SHA-256 that is remembered of a file as it is; empty where none is."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        remembered = json.loads(_digest_memory(path).read_text(encoding="utf-8"))
        if remembered["state"] == _file_state(path):
            return str(remembered["sha256"])
    return ""


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
        UserError: the file is missing, truncated or not Parquet, or lacks one of the columns or has one twice.
    """
    import pyarrow.parquet as pq

    try:
        expect_regular(path)
        with pq.ParquetFile(path, page_checksum_verification=True) as opened:
            names = opened.schema_arrow.names
            if absent := set(columns) - set(names):
                raise UserError(f"{path}: no column {min(absent)!r}; delete it and rerun {MAKERS[kind]}")
            if twice := next((name for name in names if names.count(name) > 1), None):
                raise UserError(
                    f"{path}: column {twice!r} is there twice; delete it and rerun {MAKERS[kind]}"
                )
            expect_own_names(opened.schema_arrow)
            return opened.read(None if rest else list(columns)).to_pandas(ignore_metadata=True)
    except UserError:
        raise
    # Arrow's own errors are ValueErrors; pandas raises what it happens to raise of its own description in the file.
    except Exception as error:
        raise UserError(
            f"{path}: unreadable {kind} file ({why_unreadable(path, error)}); create it with {MAKERS[kind]}"
        ) from None


def expect_own_names(schema: Any) -> None:
    """Raise a ValueError where a Parquet file lacks a column that pandas saved: no checksum covers names.

    Other programs may have added columns or changed their order.
    """
    about = schema.pandas_metadata or {}
    saved = about.get("columns", []) if isinstance(about, dict) else []
    if {each.get("field_name") for each in saved if isinstance(each, dict)} - {*schema.names}:
        raise ValueError("damaged: its columns contradict each other")


def parquet_attributes(path: str | Path) -> dict[str, Any]:
    """`attrs` of the pandas frame in a Parquet file; none where it has none or cannot be read, which `read_parquet` says."""
    import pyarrow.parquet as pq

    with suppress(OSError, ValueError):
        expect_regular(path)
        return json.loads((pq.read_schema(path).metadata or {}).get(b"PANDAS_ATTRS", b"{}"))
    return {}


def check_column(good: Any, origin: str | Path, frame: Any, column: str, what: str, remedy: str) -> None:
    """Raise a UserError naming the first row of a pandas frame, by its index, where `good` is false, with its value.

    origin: begins the message; what: what is wrong with the value of `column`; remedy: what to do.
    """
    if not good.all():
        row = int((~good).to_numpy().argmax())
        raise UserError(
            f"{origin}: row {frame.index[row]}: {column} {frame[column].tolist()[row]!r} {what}; {remedy}"
        )


def as_whole_numbers(origin: str | Path, frame: Any, columns: Collection[str], remedy: str) -> None:
    """Turn columns of texts of a pandas frame into int64, in place; it raises as `check_column` at the first that is no number."""
    for column in columns:
        good = frame[column].str.fullmatch(NUMBER)
        check_column(good, origin, frame, column, "is not a whole number", remedy)
        frame[column] = frame[column].astype("int64")


def read_json(path: str | Path, maker: str = "the job that writes it") -> Any:
    """Read a JSON file.

    Args:
        path: the file.
        maker: the script that writes it, for the message.

    Raises:
        UserError: the file is missing or not JSON.
    """

    def refuse(constant: str) -> None:
        raise ValueError(f"it contains {constant}")

    try:
        expect_regular(path)
        return json.loads(Path(path).read_text(encoding="utf-8"), parse_constant=refuse)
    except (OSError, ValueError, RecursionError) as error:
        reason = why_unreadable(path, error)
        raise UserError(f"{path}: cannot be read as JSON ({reason}); delete it and rerun {maker}") from None


def read_object(path: str | Path, kind: str, keys: Collection[str] = ()) -> dict[str, Any]:
    """Read a JSON file that a job wrote.

    Args:
        path: the file.
        kind: what it is, a key of MAKERS.
        keys: keys that it must have.

    Raises:
        UserError: the file is missing, not JSON, not an object, or lacks one of the keys.
    """
    maker = MAKERS[kind]
    content = read_json(path, maker)
    if not isinstance(content, dict):
        raise UserError(f"{path}: not a {kind} but a {type(content).__name__}; delete it and rerun {maker}")
    if absent := [key for key in keys if key not in content]:
        raise UserError(f"{path}: not a {kind}, it lacks {absent[0]!r}; delete it and rerun {maker}")
    return content


def read_utf8(path: str | Path, maker: str) -> str:
    """Content of a text file.

    Raises:
        UserError: the file is missing or not UTF-8; `maker` is the script that writes it.
    """
    try:
        expect_regular(path)
        return Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = why_unreadable(path, error)
        raise UserError(f"{path}: cannot be read ({reason}); delete it and rerun {maker}") from None


def read_rows(
    path: str | Path, kind: str, columns: Collection[str], optional: Collection[str] = ()
) -> list[dict[str, str]]:
    """The rows of a CSV file that a job wrote, each value as text.

    Args:
        path: the file.
        kind: what it is, a key of MAKERS.
        columns: names of the columns that it must have.
        optional: names of columns that it may have beside them.

    Raises:
        UserError: the file is missing or no CSV, has other columns, or a row of another length than its header.
    """
    again = f"delete it and rerun {MAKERS[kind]}"
    reader = csv.reader(io.StringIO(read_utf8(path, MAKERS[kind]).rstrip("\r\n"), newline=""), strict=True)
    rows: list[dict[str, str]] = []
    try:
        header = next(reader, [])
        left = [*header]
        for name in (*columns, *(name for name in optional if name in header)):
            if name not in left:
                raise UserError(f"{path}: row 1: no column {name!r} in the header; {again}")
            left.remove(name)
        if left:
            raise UserError(f"{path}: row 1: column {left[0]!r} is not known or there twice; {again}")
        line = reader.line_num + 1
        for row in reader:
            if len(row) != len(header):
                raise UserError(f"{path}: row {line}: {len(row)} values for {len(header)} columns; {again}")
            rows.append(dict(zip(header, row, strict=True)))
            line = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"{path}: row {reader.line_num}: {error}; {again}") from None
    return rows


def read_frame(path: str | Path, kind: str, columns: Collection[str], optional: Collection[str] = ()) -> Any:
    """The rows of `read_rows` as a pandas frame of texts, whose index is the line of the file; it raises as that does."""
    import pandas as pd

    rows = read_rows(path, kind, columns, optional)
    names = [*rows[0]] if rows else [*columns]
    return pd.DataFrame(rows, pd.RangeIndex(2, len(rows) + 2), pd.Index(names), str)


def why_unreadable(path: str | Path, error: Exception) -> str:
    """Why a file cannot be read, in one line: what lies in its place, or else the first line of the reader's error."""
    return stands_in(path) or getattr(error, "strerror", None) or first_line(error)


def stands_in(path: str | Path) -> str:
    """What lies in the place of a file that was meant to be downloaded, such as a web page; empty where it may be the file."""
    with suppress(OSError):
        expect_regular(path)
        with open(path, "rb") as opened:
            start = opened.read(64).lstrip()
        for head, what in STAND_INS.items():
            if start.startswith(head) if head else not start:
                return what
    return ""
