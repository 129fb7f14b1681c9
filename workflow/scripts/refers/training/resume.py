"""The resume state of a run on disk: written atomically, read without pickle execution, tied to its configuration."""

import os
import re
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from errno import EINVAL
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from refers.array_files import read_torch
from refers.errors import UserError
from refers.files import atomic_path
from refers.model.encoder_file import as_os_error

# Format of the file; raise it by one whenever what `Trainer.save` writes changes.
STATE_VERSION = 3
RESUME = "resume.pt"


def save_state(target: Path, fingerprint: str, state: dict) -> None:
    """Write a resume state atomically; `fingerprint` ties it to the configuration of its run.

    Raises:
        UserError: the folder cannot be written, or the disk is full. The previous state stays as it was.
    """
    with atomic_path(target) as path, open(path, "wb") as opened, as_os_error():
        torch.save({"version": STATE_VERSION, "fingerprint": fingerprint, "state": state}, opened)


class StateWriter:
    """Writes the resume states of a run in a thread while the run goes on, one at a time.

    Until a state is complete, the previous one is on disk. The copy of the tensors in the host's memory is kept for the next
    state, since fresh memory would cost more than the copying; `with` ends when the last state is on disk.
    """

    def __init__(self, target: Path, fingerprint: str) -> None:
        self.target, self.fingerprint = target, fingerprint
        self.thread = ThreadPoolExecutor(1)
        self.pending: Future[None] | None = None
        self.copies: dict[tuple, Tensor] = {}

    def __enter__(self) -> "StateWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_error: object) -> None:
        self.thread.shutdown()
        if kind is None:
            self.wait()

    def write(self, tensors: Any, rest: dict) -> None:
        """Copy nested `tensors` and begin to write them, with `rest`, which nobody changes from now on.

        Raises:
            UserError: the previous state could not be written.
        """
        self.wait()
        state = self._copy(tensors, {}) | rest
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        self.pending = self.thread.submit(save_state, self.target, self.fingerprint, state)

    def wait(self) -> None:
        """Wait until the last state is on disk; raises what `save_state` did."""
        pending, self.pending = self.pending, None
        if pending:
            pending.result()

    def _copy(self, value: Any, seen: dict[tuple, Tensor]) -> Any:
        if isinstance(value, dict):
            return {key: self._copy(each, seen) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(self._copy(each, seen) for each in value)
        if not isinstance(value, Tensor):
            return value
        # tied weights are one tensor in the file too
        same = (value.data_ptr(), value.shape, value.stride(), value.dtype)
        if same not in seen:
            key = (len(seen), value.shape, value.dtype)
            if key not in self.copies:
                self.copies[key] = torch.empty(value.shape, dtype=value.dtype, pin_memory=value.is_cuda)
            seen[same] = self.copies[key].copy_(value.detach(), non_blocking=True)
        return seen[same]


def load_state(source: Path, fingerprint: str) -> dict | None:
    """The resume state at `source` that belongs to `fingerprint`, or None where there is none to resume from.

    A damaged state, or one of another configuration, is refused in one line and moved to a name of its own; a run with
    that configuration takes it back. The last readable state of every configuration is kept until a run's results are
    on disk (`clear_resume`).

    Raises:
        UserError: the file cannot be read at the moment, which does not make it a damaged one; or a later version of
            this pipeline wrote it, and starting over would overwrite it in the end.
    """
    state, reason, label = _read_state(source, fingerprint)
    if state is not None:
        return state
    own, moved = _refused_path(source, _short(fingerprint)), _refused_path(source, label)
    earlier, *_ = _read_state(own, fingerprint)
    try:
        if reason:
            os.replace(source, moved)
        if earlier is not None:
            os.replace(own, source)
    except OSError as error:
        raise UserError(
            f"{source}: refused, {reason}; it cannot be moved ({error.strerror}); choose a writable folder"
        ) from None
    if reason:
        after = "starting over" if earlier is None else "resuming from the one kept for this configuration"
        print(f"{source}: refused, {reason}; moved to {moved.name}, {after}", file=sys.stderr, flush=True)
    return earlier


def clear_resume(folder: Path) -> None:
    """Remove the resume state and the refused ones, once the results are on disk."""
    for path in [*folder.glob(_refused_path(folder / RESUME, "*").name), folder / RESUME]:
        path.unlink(missing_ok=True)


def _refused_path(source: Path, label: str) -> Path:
    """Where a refused resume state is kept."""
    return source.with_suffix(f".refused.{label}{source.suffix}")


def _short(fingerprint: str) -> str:
    """The part of a fingerprint that goes into a file name, safe whatever a foreign file contains."""
    return re.sub(r"\W", "", fingerprint)[:8]


def _read_state(source: Path, fingerprint: str) -> tuple[dict | None, str, str]:
    """The state in a file or None, why it is refused, and the label it is kept under; no reason where there is no file."""
    try:
        saved = read_torch(source)
        version, owner, state = int(saved["version"]), str(saved["fingerprint"]), saved["state"]
    except FileNotFoundError:
        return None, "", ""
    except Exception as error:
        # A damaged file raises many kinds of errors, and so does one that holds more than tensors.
        if cause := _external_cause(error):
            raise UserError(
                f"{source}: cannot be read now ({cause}) and is left as it is; run again, or delete it to start over"
            ) from None
        return None, f"the file is damaged ({type(error).__name__})", "damaged"
    if version > STATE_VERSION:
        raise UserError(
            f"{source}: refused, a later version of this pipeline wrote it (format {version}, this one reads "
            f"{STATE_VERSION}); update the pipeline, or delete the file to start over"
        )
    if version < STATE_VERSION:
        reason = f"an earlier version of this pipeline wrote it (format {version}, now {STATE_VERSION})"
        return None, reason, f"{_short(owner)}-format{version}"
    if owner != fingerprint:
        return None, "it belongs to another configuration", _short(owner)
    return state, "", ""


def _external_cause(error: BaseException | None) -> str:
    """The failure of disk or memory behind an error; empty where the file itself is at fault."""
    # torch raises an error of its own on top of the one from the disk.
    while error is not None:
        # EINVAL comes from the file: in a truncated one torch seeks to before its start.
        if isinstance(error, OSError) and error.errno not in (None, EINVAL):
            return error.strerror or str(error)
        if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
            return "out of memory"
        error = error.__context__
    return ""
