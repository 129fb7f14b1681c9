"""The split lists of the authors' repository: which image is in which set, and its labels."""

import re
from pathlib import Path

import numpy as np

from refers.columns import CONTROL
from refers.errors import UserError
from refers.files import expect_regular

LIST_NAMES = {"train": ("train.txt",), "val": ("val.txt", "valid.txt"), "test": ("test.txt",)}


def read_list(path: Path, classes: int) -> tuple[list[str], np.ndarray]:
    """Read a released list from a file; see `parse_list`.

    Raises:
        UserError: the file cannot be read, or as for `parse_list`.
    """
    try:
        expect_regular(path)
        text = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error}); download the list from the authors' repository again"
        ) from None
    return parse_list(text, str(path), classes)


def parse_list(text: bytes, path: str, classes: int) -> tuple[list[str], np.ndarray]:
    """Parse a released list: image names without folders, and labels (N, classes) float32 of 0 and 1.

    Lines are `<image> <label> ...`, labels as whole or decimal numbers, with either line ending. For a single class there
    are two one-hot columns, negative and positive.

    Raises:
        UserError: the text is not UTF-8, or a row does not have that form; the message begins with `path`.
    """
    width = max(classes, 2)
    try:
        lines = text.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: cannot be read ({error}); download the list from the authors' repository again"
        ) from None
    names, rows = [], []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        # File names may contain spaces.
        name, *values = line.strip().rsplit(maxsplit=width)
        labels = [{"0": 0, "1": 1, "0.0": 0, "1.0": 1}.get(value, -1) for value in values]
        wrong = len(values) != width or -1 in labels or (classes == 1 and sum(labels) != 1)
        if wrong or re.search(CONTROL, name):
            what = "two one-hot columns" if classes == 1 else f"{width} labels of 0 or 1"
            raise UserError(
                f"{path}: row {number}: expected an image and {what}, found {line.strip()[:80]!r}; download the list again"
            )
        names.append(name.replace("\\", "/").rsplit("/", 1)[-1])
        rows.append(labels)
    table = np.array(rows, np.float32).reshape(-1, width)
    return names, table[:, 1:] if classes == 1 else table


def rows_of(names: list[str], place: dict[str, int], stems: dict[str, int]) -> np.ndarray:
    """Rows (N,) int64 of the images of one list in the index; -1 for images that the index lacks.

    A list names files; the index names images as the official table does, perhaps without the suffix, or with another one
    where files were converted. Only where x.png is listed too, x.jpg is another image: the COVID lists have such pairs.

    Args:
        names: images of the list.
        place: row by image_id.
        stems: row by image_id without its suffix.
    """
    exact = {place[name] for name in names if name in place}

    def row(name: str) -> int:
        alike = stems.get(name.rsplit(".", 1)[0], -1)
        return place.get(name, -1 if alike in exact else alike)

    return np.array([row(name) for name in names], np.int64)
