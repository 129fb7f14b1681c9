"""Read and check official tables and image folders; an error is one line that names file and row."""

import csv
import gzip
import io
import os
import re
import zlib
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv

from refers.columns import CONTROL, NUMBER
from refers.data.images import image_size
from refers.errors import UserError
from refers.files import expect_regular
from refers.folders import UNFINISHED_DOWNLOAD, is_download, is_unfinished, name_key

# What the decoder puts in place of bytes that are not UTF-8.
UNDECODABLE = "\ufffd"
GZIP = b"\x1f\x8b"  # the first bytes of a gzipped file
PRINTABLE = bytes(range(ord(" "), 127))
# A value that quotes surround, as a whole and with none within.
QUOTED = re.compile(rb""""(?<![^,\n]")[^"\n]*"(?![^,\r\n])""")


def read_table(path: Path, columns: Iterable[str], optional: Iterable[str] = ()) -> pd.DataFrame:
    """Columns of an official CSV (gzipped or not, whatever its name), every value as text and "" where blank; of the
    `optional` ones those that it has.

    The index of the result is the line of the file on which a row begins, which is the row that messages name. A byte-order
    mark, any line ending, blank lines, and a .gz file that is already unpacked are accepted. Values are stripped: an id
    with a trailing blank would be a different id.

    Raises:
        UserError: the file is missing, empty or not a CSV, lacks a column or has it twice, has a row of another length than
            its header (the values behind a lost comma belong to other columns), or has a value that is not UTF-8 or has a
            control character.
    """
    content = _read_content(path)
    columns = [*columns, *_found(content, optional)]
    table = _read_plain(path, content, columns)
    return _read_any(path, content, columns) if table is None else table


def _found(content: bytes, names: Iterable[str]) -> list[str]:
    """Those of some columns that the header of a CSV has; none of an unreadable one, which reading the rest refuses."""
    text = io.StringIO(content.decode("utf-8-sig", errors="replace"), newline="")
    try:
        header = {name.strip() for name in next(filter(None, csv.reader(text)), [])}
    except csv.Error:
        return []
    return [name for name in names if name in header]


def _read_plain(path: Path, content: bytes, columns: list[str]) -> pd.DataFrame | None:
    """What `_read_any` reads, in a fraction of its time; None where it might do more than to part lines at commas.

    It reads ASCII without control characters, with a row of two or more values on every line, as many as in the header, and
    no quotes but around a whole value.
    """
    content = content.removeprefix(BOM_UTF8)
    header = [name.strip() for name in io.BytesIO(content).readline().decode(errors="replace").split(",")]
    odd = content.translate(None, PRINTABLE)
    half = csv.field_size_limit() // 2
    if (
        odd.strip(b"\r\n")
        or (b"\r" in odd and odd.count(b"\r") != content.count(b"\r\n"))
        or (b'"' in content and ('"' in "".join(header) or b'"' in QUOTED.sub(b"", content)))
        or len(header) == 1
        # The csv module refuses longer values, which have a stretch of this length between them.
        or any(content.find(b"\n", start, start + half) < 0 for start in range(0, len(content) - half, half))
    ):
        return None
    wanted = [str(_place(path, header, name)) for name in columns]
    try:
        table = arrow_csv.read_csv(
            pa.BufferReader(content),
            arrow_csv.ReadOptions(
                use_threads=False, skip_rows=1, column_names=[*map(str, range(len(header)))]
            ),
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(wanted, pa.string()), include_columns=wanted
            ),
        )
    except pa.ArrowInvalid:
        return None
    # Arrow passes over blank lines, which would put the rows behind them on other lines.
    if not len(table) or len(table) != odd.count(b"\n") - content.endswith(b"\n"):
        return None
    values = [table[name] for name in wanted]
    if content.find(b" ", content.index(b"\n")) >= 0:
        values = [pc.call_function("ascii_trim_whitespace", [value]) for value in values]
    rows = pa.table(values, columns).to_pandas(use_threads=False, deduplicate_objects=False)
    rows.index = pd.Index(np.arange(2, len(rows) + 2))
    return rows


def _read_any(path: Path, content: bytes, columns: list[str]) -> pd.DataFrame:
    """`read_table` of the content of a file."""
    text = content.decode("utf-8-sig", errors="replace")
    try:
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        header = [name.strip() for name in next(filter(None, reader), [])]
        if not header:
            raise UserError(f"{path}: cannot be read as CSV (it is empty); download it again")
        places = [_place(path, header, name) for name in columns]
        rows, lines, widths = [], [], []
        line = reader.line_num + 1
        for row in reader:
            # A blank line is no row.
            if len(row) > 1 or "".join(row).strip():
                rows.append([row[place].strip() if place < len(row) else "" for place in places])
                lines.append(line)
                widths.append(len(row))
            line = reader.line_num + 1
    except csv.Error as error:
        raise UserError(
            f"{path}: row {reader.line_num}: cannot be read as CSV ({error}); download it again"
        ) from None
    if not rows:
        raise UserError(f"{path}: row 2: no data below the header; download it again")
    _expect_equal_rows(path, header, lines, widths)
    table = pd.DataFrame(rows, index=pd.Index(lines), columns=pd.Index(columns), dtype=str)
    for name in columns:
        values, joined = table[name], "".join(table[name])
        if UNDECODABLE in joined:
            good = ~values.str.contains(UNDECODABLE, regex=False)
            expect(good, path, values, f"in column {name!r} is not UTF-8; save the file as UTF-8")
        if re.search(CONTROL, joined):
            expect(~values.str.contains(CONTROL), path, values, f"in column {name!r} has a control character")
    return table


def _expect_equal_rows(path: Path, header: list[str], lines: list[int], widths: list[int]) -> None:
    """Raise a UserError naming the first row that has more or fewer values than there are columns.

    The NIH's table of boxes ends its header with blank names that no row has a value for: there, all rows end before them.
    """
    named = len(header)
    while named and not header[named - 1]:
        named -= 1
    width = named if widths.count(named) > widths.count(len(header)) else len(header)
    for line, found in zip(lines, widths, strict=True):
        if found != width:
            raise UserError(
                f"{path}: row {line}: cannot be read as CSV ({found} values for {width} columns); correct the row or"
                " download the file again"
            )


def _read_content(path: Path) -> bytes:
    """Content of a text file, unpacked where it is gzipped."""
    try:
        expect_regular(path)
        content = path.read_bytes()
        if content.startswith(GZIP):
            content = gzip.decompress(content)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; docs/data.md says where to download it") from None
    # zlib.error: a damaged byte within a gzipped file.
    except (OSError, EOFError, zlib.error) as error:
        text = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: cannot be read as CSV ({text}); download it again") from None
    return content


def _place(path: Path, header: list[str], name: str) -> int:
    """Place of a column."""
    if header.count(name) > 1:
        raise UserError(f"{path}: row 1: column {name!r} is there twice; download the file again")
    if name not in header:
        cause = "" if len(header) > 1 else ": its values are not separated by commas"
        cause = ": the file is not UTF-8 text" if UNDECODABLE in "".join(header) else cause
        raise UserError(f"{path}: row 1: no column {name!r}{cause}; download the file again")
    return header.index(name)


def expect(good: pd.Series, path: Path, values: pd.Series, what: str) -> None:
    """Raise a UserError naming the first row of `path` where `good` is false, with its value.

    good, values: with the file's line numbers as index, as `read_table` gives them.
    what: what is wrong with the value and, after a semicolon, what to do where it is not to correct the row.
    """
    if not good.all():
        row = int(good.index[int((~good).to_numpy().argmax())])
        advice = "" if ";" in what else "; correct the row or download the file again"
        raise UserError(f"{path}: row {row}: {values.loc[row]!r} {what}{advice}")


def expect_unique(path: Path, values: pd.Series) -> None:
    """Raise a UserError naming the first row of `path` whose value occurs in an earlier row."""
    expect(~values.duplicated(), path, values, "is listed twice; keep one row")


def expect_file_names(path: Path, values: pd.Series) -> None:
    """Raise a UserError naming the first value that is not a plain file name: blank, or in another folder."""
    # One look at all of them, several times as fast as to ask each, which only a message needs.
    joined = "\n".join(["", *values.tolist(), ""])
    if any(mark in joined for mark in ("/", "\\", "\0", "\n\n", "\n.\n", "\n..\n")):
        good = (values != "") & ~values.str.contains(r"[/\\\0]", regex=True) & ~values.isin([".", ".."])
        expect(good, path, values, "is not a plain file name")


def digits(path: Path, values: pd.Series, what: str) -> pd.Series:
    """Numeric ids in one spelling: leading zeros are dropped.

    Raises:
        UserError: anything but digits, such as the 1.0 of a re-saved table; names file, row and `what` the value should be.
    """
    # One look at all of them, several times as fast as to ask each.
    joined = "\n".join([*values.tolist(), ""])
    if joined.count("\n") == len(values) and re.fullmatch(r"(?:[1-9][0-9]{0,17}\n)*+", joined):
        return values
    expect(values.str.fullmatch(NUMBER), path, values, f"is not a valid {what}; download the file again")
    return values.str.replace("^0+(?=.)", "", regex=True)


def numbers(path: Path, values: pd.Series, what: str) -> pd.Series:
    """Positive whole numbers (int32) of a column read as text.

    Raises:
        UserError: any other value; names file, row and `what` the value should be.
    """
    # Each value once: a table has far fewer sizes than rows.
    codes, names = values.factorize()
    found = pd.Series(pd.to_numeric(names, errors="coerce").to_numpy()[codes], values.index)
    expect(
        (found >= 1) & (found < 2**31) & (found % 1 == 0),
        path,
        values,
        f"is not a valid {what}; download the file again",
    )
    return found.astype(np.int32)


def checked_boxes(path: Path, boxes: pd.DataFrame, width: pd.Series, height: pd.Series) -> pd.DataFrame:
    """Boxes (image_id, class, and x, y, w, h as text) with x, y, w, h as float64.

    Raises:
        UserError: a box is not numeric, is negative or extends beyond its image of (width, height) pixels; names file and
            row.
    """
    sides = boxes[["x", "y", "w", "h"]].apply(pd.to_numeric, errors="coerce")
    shown = boxes["x"] + " " + boxes["y"] + " " + boxes["w"] + " " + boxes["h"]
    expect(sides.notna().all(axis=1), path, shown, "is not a box of four numbers")
    expect((sides >= 0).all(axis=1), path, shown, "has a negative corner or side")
    inside = (sides["x"] + sides["w"] <= width + 1) & (sides["y"] + sides["h"] <= height + 1)
    expect(inside, path, shown, "extends beyond its image; place images of the original size")
    return pd.concat([boxes[["image_id", "class"]], sides.astype(np.float64)], axis=1)


def list_files(folder: Path, suffixes: tuple[str, ...], skipped: Counter[str] | None = None) -> list[str]:
    """Names of the files in one folder with one of these suffixes (given in lower case), ignoring case.

    What other programs leave in a folder is passed over, and so is what is not a file. `skipped` counts unfinished
    downloads.

    Raises:
        UserError: no such folder.
    """
    names = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if is_unfinished(entry.name) and skipped is not None:
                    skipped[UNFINISHED_DOWNLOAD] += 1
                elif entry.name.lower().endswith(suffixes) and is_image_entry(entry):
                    names.append(entry.name)
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({error.strerror}); place the images there") from None
    return sorted(names)


def is_image_entry(entry: os.DirEntry) -> bool:
    """Whether an entry of a folder may be a part of a download: a file, or a link, with no other program's name."""
    return is_file_or_link(entry) and is_download(entry.name)


def is_file_or_link(entry: os.DirEntry) -> bool:
    """Whether an entry of a folder is a file, or a link."""
    # A link may be broken, which only the decoder says; following every one is slow on network disks.
    return entry.is_file(follow_symlinks=False) or entry.is_symlink()


def find_pngs(folder: Path, subfolders: Iterable[str]) -> tuple[dict[str, str], Counter[str]]:
    """Relative path of every PNG by its name, and what was passed over, by reason: names that occur again in a later
    subfolder, and unfinished downloads."""
    found: dict[str, str] = {}
    skipped: Counter[str] = Counter()
    for subfolder in subfolders:
        for name in list_files(folder / subfolder, (".png",), skipped):
            skipped["same image in a later folder"] += name in found
            found.setdefault(name, f"{subfolder}/{name}")
    return found, skipped


def match_names(names: pd.Series, found: dict[str, str]) -> pd.Series:
    """Path (or missing) of the file of each name; `found` has the paths by name.

    A file whose name is not in the table serves a name that differs from its own in the case of the suffix or in the form
    of its accents (`refers.folders.name_key`).
    """
    # pandas would make an index of the dictionary first.
    paths = pd.Series([found.get(name, np.nan) for name in names.tolist()], names.index, dtype=object)
    if paths.notna().all():
        return paths
    taken = set(paths.dropna())
    alike = {name_key(name): path for name, path in found.items() if path not in taken}
    others = names[paths.isna()].map(name_key).map(alike)
    others = others[~others.duplicated()]
    paths.loc[others.index] = others
    return paths


def merged_patients(images: pd.Series, patients: pd.Series) -> pd.Series:
    """One id for patients that share an image: a split must not treat them as different people.

    images: what tells the images apart, a name or a digest of each.
    """
    merged: dict[str, str] = {}
    first: dict[str, str] = {}

    def root(patient: str) -> str:
        while patient in merged:
            patient = merged[patient]
        return patient

    for image, patient in zip(images, patients, strict=True):
        one, other = root(first.setdefault(image, patient)), root(patient)
        if one != other:
            merged[other] = one
    return patients.map(root)


def read_sizes(folder: Path, paths: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Widths and heights (N,) int32 from image headers, for tables without them; 0 where a header is unreadable."""

    def size(path: str) -> tuple[int, int]:
        try:
            return image_size(folder / path)
        except UserError:
            return 0, 0

    # Threads: this waits for the disk, not for the processor.
    with ThreadPoolExecutor(8) as pool:
        sizes = np.array(list(pool.map(size, paths)), np.int32).reshape(-1, 2)
    return sizes[:, 0], sizes[:, 1]
