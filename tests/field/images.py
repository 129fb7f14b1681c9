"""Images that are valid but rare, or damaged: how each is decoded, or refused in one line."""

from pathlib import Path

import numpy as np
from helpers import write_dicom
from refers.data.images import decode

from field import Case, refused

RAMP = np.linspace(0, 255, 48 * 64).round().astype(np.uint8).reshape(48, 64)


def empty(folder: Path) -> Path:
    (folder / "a.png").touch()
    return folder / "a.png"


def plain(folder: Path) -> Path:
    return write_dicom(folder / "a.dcm", RAMP.astype(np.uint16), 8)


def is_ramp(grey: np.ndarray) -> None:
    assert np.array_equal(grey, RAMP)


CASES = [
    Case("plain DICOM", plain, decode, is_ramp),
    Case("empty file", empty, decode, refused("a.png", "empty file")),
]
