"""Files of arrays and tensors: the one place that opens npy, npz, torch's format and safetensors.

Nothing in a file is executed. Libraries answer a file that they cannot read with advice to trust it and with traces of
their own; here it becomes one line that says what is wrong. Archives are compared with the checksums inside them, which
torch does not do.
"""

import os
import pickle
import re
import warnings
from argparse import Namespace
from collections.abc import Collection, Generator
from contextlib import contextmanager
from errno import EINVAL
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np

from refers.errors import UserError, first_line
from refers.files import expect_regular, stands_in

# The types of NumPy's scalars, which a trained network's record often holds, and nothing that could hold an object.
SCALARS = "?bBhHiIlLqQefd"
SAVE_ALONE = 'in the program that wrote it save its tensors alone: torch.save({"state_dict": model.state_dict()}, path)'


class MoreThanTensors(Exception):
    """A file in torch's format holds objects of other kinds beside or instead of tensors."""


def open_npy(path: str | Path, what: str, remedy: str) -> np.ndarray:
    """The array in an npy file, read-only and memory-mapped.

    what: what to call a file that is none, such as `not features`; remedy: what to do then.

    Raises:
        UserError: the file is missing, damaged or holds objects.
    """
    with one_line(path, what, remedy):
        return np.load(path, mmap_mode="r", allow_pickle=False)


def read_npz(path: str | Path, what: str, remedy: str, names: Collection[str] = ()) -> dict[str, np.ndarray]:
    """The arrays `names`, or all, of an npz file by name.

    Raises:
        UserError: as `open_npy`, or an array is missing.
    """
    with one_line(path, what, remedy):
        check_archive(path)
        with np.load(path, allow_pickle=False) as opened:
            if lacking := [name for name in names if name not in opened.files]:
                raise ValueError(f"no array {lacking[0]}")
            found = {name: opened[name] for name in names or opened.files}
        # NumPy returns the bytes of a member that is no array.
        if odd := [name for name, array in found.items() if not isinstance(array, np.ndarray)]:
            raise ValueError(f"{odd[0]} is no array")
        return found


def read_torch(path: str | Path) -> Any:
    """What a file in torch's format holds: tensors, and plain values, NumPy's scalars and parsed options beside them.

    Raises:
        MoreThanTensors: it holds objects of other kinds, which are not made.
        Exception: of many kinds, where the file is damaged; `one_line` makes them one.
    """
    import torch
    from numpy._core.multiarray import scalar

    check_archive(path)
    # NumPy 1 and 2 name its module differently.
    known = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    kinds = [type(np.dtype(code)) for code in SCALARS]
    try:
        # torch warns of pickles, which are refused.
        with (
            warnings.catch_warnings(),
            torch.serialization.safe_globals([*known, np.dtype, *kinds, Namespace]),
        ):
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        name = re.search(r"GLOBAL (\S+) was not|GLOBAL (\S+) whose module", str(error))
        if name is None:
            raise
        raise MoreThanTensors(next(filter(None, name.groups()))) from None


def read_safetensors(path: str | Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The torch tensors of a safetensors file by name, and its metadata.

    Raises:
        Exception: of several kinds, where the file is damaged; `one_line` makes them one.
    """
    from safetensors import safe_open

    # Its error would not say that the file is missing.
    with open(path, "rb"):
        pass
    with safe_open(path, "pt") as opened:
        return {name: opened.get_tensor(name) for name in opened.keys()}, opened.metadata() or {}  # noqa: SIM118


def read_metadata(path: str | Path) -> dict[str, str]:
    """The metadata of a safetensors file; it raises as `read_safetensors`."""
    from safetensors import safe_open

    expect_regular(path)
    with safe_open(path, "pt") as opened:
        return opened.metadata() or {}


def check_archive(path: str | Path) -> None:
    """Compare what a zip archive holds with its checksums; a file of another kind passes.

    Raises:
        BadZipFile: a member is damaged.
    """
    if not _is_archive(path):
        return
    with ZipFile(path) as archive:
        # torch can be told to write none.
        has_checksums = any(member.CRC for member in archive.infolist())
        if has_checksums and (broken := archive.testzip()):
            raise BadZipFile(f"{broken} differs from its checksum")


@contextmanager
def one_line(path: str | Path, what: str, remedy: str) -> Generator[None]:
    """Turn every error that a damaged, foreign or hostile file causes into a UserError of our own words.

    what and remedy: as in `open_npy`.
    """
    try:
        # A FIFO would hang, and a folder has no content.
        if os.path.exists(path) and not os.path.isfile(path):
            raise ValueError("not a regular file")
        yield
    except UserError:
        raise
    except MoreThanTensors as error:
        text = f"{path}: {what} (more than tensors in it: {error}); {SAVE_ALONE}"
        raise UserError(text) from None
    except OSError as error:
        if error.errno is None or isinstance(error, FileNotFoundError) or error.errno == EINVAL:
            raise UserError(f"{path}: {what} ({_reason(path, error)}); {remedy}") from None
        raise UserError(f"{path}: cannot be read ({error.strerror}); make it readable") from None
    except Exception as error:
        # NumPy, torch, zipfile and safetensors each raise errors of their own, more than could be listed.
        raise UserError(f"{path}: {what} ({_reason(path, error)}); {remedy}") from None


def _reason(path: str | Path, error: Exception) -> str:
    """Why a file cannot be read, in few words."""
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    # Only of a file that cannot be read: the first bytes of a good one may be anything.
    if standing := stands_in(path):
        return standing
    if isinstance(error, MemoryError):
        return "it asks for more memory than there is"
    if isinstance(error, pickle.UnpicklingError):
        return "damaged, or more than tensors in it"
    if isinstance(error, BadZipFile):
        return f"damaged: {first_line(error)}"
    if "constants.pkl" in _members(path):
        return "a TorchScript program; save its state_dict() instead"
    return first_line(error)


def _is_archive(path: str | Path) -> bool:
    """Whether a file begins as a zip archive does."""
    expect_regular(path)
    with open(path, "rb") as opened:
        return opened.read(4) == b"PK\3\4"


def _members(path: str | Path) -> set[str]:
    """Names of what a zip archive holds, without their folders; none of a file of another kind."""
    try:
        expect_regular(path)
        with ZipFile(path) as archive:
            return {Path(name).name for name in archive.namelist()}
    # zipfile does not implement every version of the format, and damaged names are no text
    except (OSError, BadZipFile, NotImplementedError, ValueError):
        return set()
