"""Adapters of the official downloads, and the one index schema behind which everything else lives.

`refers.data.adapters.<layout>` has a function `read_index(folder) -> (index, counts)`. The index has a row for
every image on disk, sorted by image_id (row i is row i of the image store):

    image_id    unique; the official table's own name        view    frontal, lateral, ct or other
    patient_id  images of one patient share it               split   official one: train, val, test, train_val or ""
    study_id    images of one examination share it           width, height   int32, original pixels; 0 where the
                                                             header is unreadable, which the store will report
    path        relative to the source's folder, with "/"
    label:X     float32: 1 present, 0 absent, -1 uncertain, NaN not mentioned or undefined

counts: {"missing_images": rows of the official table without an image here, "skipped": {reason: count}}, and
"unreadable_headers" where there are any. An adapter of another download is one more file with that function. A download
with radiologists' boxes has `read_boxes(folder, index)` too; see `read_boxes` here.
"""

import os
import warnings
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd

from refers.columns import LABEL, NUMBER
from refers.errors import UserError
from refers.files import check_column, is_below

TEXT_COLUMNS = ("image_id", "patient_id", "study_id", "view", "split", "path")
COLUMNS = ("image_id", "patient_id", "study_id", "view", "split", "width", "height", "path")
VIEWS = ("frontal", "lateral", "ct", "other")
SPLITS = ("train", "val", "test", "train_val", "")
UNDECODABLE = "\ufffd"  # what stands for bytes that are no text


def adapter(layout: str):
    """`read_index` of an official layout.

    Raises:
        UserError: no adapter of that name.
    """
    known = sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))
    if layout not in known:
        raise UserError(f"layout {layout!r}: no adapter; known are {', '.join(known)}")
    return import_module(f"refers.data.adapters.{layout}").read_index


def read_boxes(layout: str, folder: Path, index: pd.DataFrame) -> pd.DataFrame:
    """Radiologists' boxes of the images of an index: image_id, class, and x, y, w, h (float64) in original pixels.

    x and y are the upper left corner. A box is a row; several readers of one finding give several.

    Raises:
        UserError: the download has no boxes, or a row of them is wrong.
    """
    adapter(layout)
    if not hasattr(module := import_module(f"refers.data.adapters.{layout}"), "read_boxes"):
        raise UserError(f"layout {layout!r}: this download has no boxes; choose nih or vinbigdata")
    return module.read_boxes(folder, index)


def read_table(path: Path, columns: Iterable[str]) -> pd.DataFrame:
    """Columns of an official CSV (gzipped or not), every value as text and "" where blank; row i is line i + 2.

    A byte-order mark and either line ending are accepted. Values lose the blanks around them, or an id with a blank at its
    end would be another one.

    Raises:
        UserError: the file is missing, empty or no CSV, lacks a column, or has a value that is not UTF-8.
    """
    columns = list(columns)
    options = {"encoding": "utf-8-sig", "encoding_errors": "replace", "index_col": False}
    try:
        header = pd.read_csv(path, nrows=0, **options).columns
        if absent := [name for name in columns if name not in header]:
            cause = "" if len(header) > 1 else ", for its values are not separated by commas"
            cause = ", for the file is not UTF-8 text" if UNDECODABLE in "".join(header) else cause
            raise UserError(
                f"{path}: row 1: no column {absent[0]!r}{cause}; download the official file again"
            )
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            # All columns are read, so that a row with too many values is an error and not shifted.
            table = pd.read_csv(path, dtype=str, keep_default_na=False, **options)[columns]
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; docs/data.md says where to download it") from None
    # ValueError covers pandas' parser errors and bad Unicode.
    except (OSError, EOFError, ValueError, pd.errors.ParserWarning) as error:
        text = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: no readable CSV ({text}); download it again") from None
    if table.empty:
        raise UserError(f"{path}: row 2: nothing below the header; download it again")
    for name in columns:
        if UNDECODABLE in "".join(table[name]):
            good = ~table[name].str.contains(UNDECODABLE, regex=False)
            expect(good, path, table[name], f"in column {name!r} is not UTF-8; save the file as UTF-8")
    return table.apply(lambda column: column.str.strip())


def expect(good: pd.Series, path: Path, values: pd.Series, what: str) -> None:
    """Raise a UserError naming the first row of `path` where `good` is false, with its value.

    what: what is wrong with it; and after a semicolon what to do, where that is not to mend the row.
    """
    if not good.all():
        row = int(good.index[int((~good).to_numpy().argmax())])
        advice = "" if ";" in what else "; correct the row or download the file again"
        raise UserError(f"{path}: row {row + 2}: {values.loc[row]!r} {what}{advice}")


def expect_unique(path: Path, values: pd.Series, what: str) -> None:
    """Raise a UserError naming the first row of `path` whose value was there before."""
    expect(~values.duplicated(), path, values, f"{what} a second time; keep one row")


def expect_file_names(path: Path, values: pd.Series) -> None:
    """Raise a UserError naming the first value that is no plain file name: blank, or leading to another folder."""
    good = (values != "") & ~values.str.contains(r"[/\\\0]", regex=True) & ~values.isin([".", ".."])
    expect(good, path, values, "is no plain file name")


def digits(path: Path, values: pd.Series, what: str) -> pd.Series:
    """Numeric ids in one spelling: zeros before them are dropped.

    Raises:
        UserError: anything but digits, such as the 1.0 of a table that was saved again; file, row and `what` are named.
    """
    expect(values.str.fullmatch(NUMBER), path, values, f"is no {what}; download the file again")
    return values.str.replace("^0+(?=.)", "", regex=True)


def numbers(path: Path, values: pd.Series, what: str) -> pd.Series:
    """Positive whole numbers (int32) of a column read as text.

    Raises:
        UserError: another value; file, row and `what` it should be are named.
    """
    found = pd.to_numeric(values, errors="coerce")
    expect(
        (found >= 1) & (found < 2**31) & (found % 1 == 0),
        path,
        values,
        f"is no {what}; download the file again",
    )
    return found.astype(np.int32)


def checked_boxes(path: Path, boxes: pd.DataFrame, width: pd.Series, height: pd.Series) -> pd.DataFrame:
    """Boxes (image_id, class, and x, y, w, h as text) with numbers in place of the text.

    Raises:
        UserError: file and row of a box that is no number, is negative or leaves its image of (width, height) pixels.
    """
    sides = boxes[["x", "y", "w", "h"]].apply(pd.to_numeric, errors="coerce")
    shown = boxes["x"] + " " + boxes["y"] + " " + boxes["w"] + " " + boxes["h"]
    expect(sides.notna().all(axis=1), path, shown, "is no box of four numbers")
    expect((sides >= 0).all(axis=1), path, shown, "is a box with a negative corner or side")
    inside = (sides["x"] + sides["w"] <= width + 1) & (sides["y"] + sides["h"] <= height + 1)
    expect(inside, path, shown, "is a box outside its image; place images of their original size")
    return pd.concat([boxes[["image_id", "class"]], sides.astype(np.float64)], axis=1)


def list_files(folder: Path, suffixes: tuple[str, ...]) -> list[str]:
    """Names of the files in one folder with one of these suffixes (lower case), whatever the suffix's case.

    Raises:
        UserError: no such folder.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.name.lower().endswith(suffixes))
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be read ({error.strerror}); place the official images there"
        ) from None


def read_sizes(folder: Path, paths: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Widths and heights (int32) from image headers, for tables that do not hold them; 0 where one is unreadable."""
    from refers.data.images import image_size

    def size(path: str) -> tuple[int, int]:
        try:
            return image_size(folder / path)
        except UserError:
            return 0, 0

    with ThreadPoolExecutor(8) as pool:  # waits for the disk, not for the processor
        sizes = np.array(list(pool.map(size, paths)), np.int32).reshape(-1, 2)
    return sizes[:, 0], sizes[:, 1]


def finish(frame: pd.DataFrame, folder: Path, table: Path, missing: int, skipped: dict[str, int]) -> tuple:
    """Sort an adapter's rows into the schema and check them: (index, counts)."""
    if not len(frame):
        raise UserError(
            f"{table}: none of its {missing} images is in {folder}; place the official images there"
        )
    labels = [name for name in frame.columns if name.startswith(LABEL)]
    if "width" not in frame:
        frame = frame.assign(**dict(zip(("width", "height"), read_sizes(folder, frame["path"]), strict=True)))
    frame = frame.sort_values("image_id", kind="stable", ignore_index=True)[[*COLUMNS, *labels]]
    frame = frame.astype(dict.fromkeys(labels, np.float32) | {"width": np.int32, "height": np.int32})
    validate_index(frame, str(folder))
    counts = {
        "missing_images": int(missing),
        "skipped": {reason: int(count) for reason, count in skipped.items() if count},
    }
    if unreadable := int((frame["width"] == 0).sum()):
        counts["unreadable_headers"] = unreadable
    return frame, counts


def validate_index(frame: pd.DataFrame, origin: str) -> None:
    """Check a frame against the index schema.

    Raises:
        UserError: the first departure, with the row it is in; `origin` begins the message.
    """
    labels = [name for name in frame.columns if name.startswith(LABEL)]
    if list(frame.columns) != [*COLUMNS, *labels] or not labels:
        raise UserError(
            f"{origin}: columns are {list(frame.columns)[:9]}, expected {list(COLUMNS)} and labels"
        )

    def check(good: pd.Series, name: str, what: str) -> None:
        check_column(good, origin, frame, name, what, "index the source again")

    for name in TEXT_COLUMNS:
        check(frame[name].map(type).eq(str), name, "is no text")
    for name in ("image_id", "patient_id", "study_id"):
        check(frame[name].ne(""), name, "is blank")
    check(~frame["image_id"].duplicated(), "image_id", "is there twice")
    if not frame["image_id"].is_monotonic_increasing:
        raise UserError(f"{origin}: rows are not sorted by image_id; index the source again")
    check(frame["view"].isin(VIEWS), "view", f"is none of {', '.join(VIEWS)}")
    check(frame["split"].isin(SPLITS), "split", "is no official split")
    check(frame["path"].map(is_below), "path", "is not a path below the source's folder")
    for name in ("width", "height"):
        good = frame[name].ge(0) if frame[name].dtype == np.int32 else pd.Series(False, frame.index)
        check(good, name, "is no int32 of 0 or more")
    for name in labels:
        good = frame[name].isin([1, 0, -1]) | frame[name].isna()
        check(good & (frame[name].dtype == np.float32), name, "is no float32 label 1, 0, -1 or blank")


def summarise(frame: pd.DataFrame, source: str, counts: dict) -> dict:
    """The report beside an index: sizes, what was left out, and each class's labels."""
    labels = {}
    for column in (name for name in frame.columns if name.startswith(LABEL)):
        values = frame[column]
        labels[column.removeprefix(LABEL)] = {
            "positive": int((values == 1).sum()),
            "negative": int((values == 0).sum()),
            "uncertain": int((values == -1).sum()),
            "blank": int(values.isna().sum()),
        }
    return {
        "source": source,
        "rows": len(frame),
        "patients": int(frame["patient_id"].nunique()),
        "studies": int(frame["study_id"].nunique()),
        "views": dict(Counter(frame["view"])),
        **counts,
        "labels": labels,
    }
