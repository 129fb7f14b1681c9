"""The released lists of the authors' repository: which image is in which set, and its labels."""

from pathlib import Path

import numpy as np

from refers.errors import UserError

LIST_NAMES = {"train": ("train.txt",), "val": ("val.txt", "valid.txt"), "test": ("test.txt",)}


def read_list(path: Path, classes: int) -> tuple[list[str], np.ndarray]:
    """A released list, of a file; see `parse_list`.

    Raises:
        UserError: the file cannot be read, or as `parse_list`.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error}); take the list from the authors' repository"
        ) from None
    return parse_list(text, str(path), classes)


def parse_list(text: bytes, path: str, classes: int) -> tuple[list[str], np.ndarray]:
    """A released list: image names without folders, and labels (N, classes) in 0 and 1.

    Lines are `<image> <label> ...`, as whole or decimal numbers, with either line ending. For one class they hold two
    columns, negative and positive, of which one is 1.

    Raises:
        UserError: the text is not UTF-8, or a row is not of that form; `path` begins the message.
    """
    width = max(classes, 2)
    try:
        lines = text.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: cannot be read ({error}); take the list from the authors' repository"
        ) from None
    names, rows = [], []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name, *values = line.strip().rsplit(maxsplit=width)  # file names may hold spaces
        labels = [{"0": 0, "1": 1, "0.0": 0, "1.0": 1}.get(value, -1) for value in values]
        if len(values) != width or -1 in labels or (classes == 1 and sum(labels) != 1):
            what = (
                "an image and two one-hot columns" if classes == 1 else f"an image and {width} labels 0 or 1"
            )
            raise UserError(
                f"{path}: row {number}: expected {what}, found {line.strip()[:80]!r}; take the list anew"
            )
        names.append(name.replace("\\", "/").rsplit("/", 1)[-1])
        rows.append(labels)
    table = np.array(rows, np.float32).reshape(-1, width)
    return names, table[:, 1:] if classes == 1 else table


def rows_of(names: list[str], place: dict[str, int], stems: dict[str, int]) -> np.ndarray:
    """Rows (N,) of the images of one list, -1 for those that the index lacks.

    Lists name files; an index names images as the official table does, which may be without the suffix, or with another one
    where they were converted. But x.jpg beside x.png is another image: the COVID lists have several such pairs.
    """
    exact = {place[name] for name in names if name in place}

    def row(name: str) -> int:
        alike = stems.get(name.rsplit(".", 1)[0], -1)
        return place.get(name, -1 if alike in exact else alike)

    return np.array([row(name) for name in names], np.int64)
