"""Adapters of the official downloads: the only modules that know an official layout.

`refers.data.adapters.<layout>` has a function `read_index(folder) -> (index, counts)`; `refers.data.index` describes the
index. counts: {"missing_images": rows of the official table without an image on disk, "skipped": {reason: count}}, and
"unreadable_headers", "studies_without_labels" and "images_of_other_than_three_readers" where there are any. A new download needs one more module with that
function; one with radiologists' boxes also has `read_boxes(folder, index)`, and one whose tables have sex, age or projection of
an image `read_characteristics(folder)`; see the functions of these names below.
"""

from importlib import import_module
from pathlib import Path

import pandas as pd

from refers.errors import UserError


def adapter(layout: str):
    """`read_index` of the adapter of an official layout.

    Raises:
        UserError: there is no such adapter.
    """
    known = sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))
    if layout not in known:
        raise UserError(f"layout {layout!r}: no such adapter; available are {', '.join(known)}")
    return import_module(f"refers.data.adapters.{layout}").read_index


def read_boxes(layout: str, folder: Path, index: pd.DataFrame) -> pd.DataFrame:
    """Radiologists' boxes of the images of an index: image_id, class, and x, y, w, h (float64) in original pixels.

    x and y are the upper left corner. One row per box; several readers of one finding give several boxes.

    Raises:
        UserError: the download has no boxes, or a row of its table of boxes is wrong.
    """
    adapter(layout)
    if not hasattr(module := import_module(f"refers.data.adapters.{layout}"), "read_boxes"):
        raise UserError(f"layout {layout!r}: this download has no boxes; choose nih or vinbigdata")
    return module.read_boxes(folder, index)


def read_characteristics(layout: str, folder: Path) -> pd.DataFrame:
    """Characteristics of the images of a download: image_id, and of sex, age and projection those that its tables have, as text.

    One row per image, also of images that are not on disk; blank where the table is. `refers.evaluation.subgroups` reads the
    texts.

    Raises:
        UserError: the tables of the download have none, or one of them is wrong.
    """
    adapter(layout)
    module = import_module(f"refers.data.adapters.{layout}")
    if not hasattr(module, "read_characteristics"):
        raise UserError(
            f"layout {layout!r}: its adapter reads no sex, age or projection; remove characteristics from the source's entry"
        )
    return module.read_characteristics(folder)
