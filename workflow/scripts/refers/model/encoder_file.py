"""Weights on disk: encoders as safetensors with their architecture, resume states without pickle execution."""

import dataclasses
import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EINVAL
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from refers import config
from refers.errors import UserError
from refers.files import atomic_path

STATE_VERSION = 3  # of a resume state; one more whenever what `engine.fit` keeps there changes
RESUME = "resume.pt"


def load_strictly(module: nn.Module, tensors: dict[str, Tensor], origin: str) -> None:
    """Load `tensors` into `module`; every key and shape must match.

    Raises:
        UserError: lists missing, unexpected and mismatched keys.
    """
    wanted = module.state_dict()
    missing = sorted(wanted.keys() - tensors.keys())
    unexpected = sorted(tensors.keys() - wanted.keys())
    mismatched = [
        f"{key} {tuple(tensors[key].shape)} instead of {tuple(wanted[key].shape)}"
        for key in sorted(wanted.keys() & tensors.keys())
        if tensors[key].shape != wanted[key].shape
    ]
    if missing or unexpected or mismatched:
        parts = (("missing", missing), ("unexpected", unexpected), ("wrong shape", mismatched))
        report = "; ".join(
            f"{len(keys)} {word}: {', '.join(keys[:4])}{' ...' * (len(keys) > 4)}"
            for word, keys in parts
            if keys
        )
        raise UserError(f"{origin}: does not fit the model ({report}); use a checkpoint of this architecture")
    module.load_state_dict(tensors)


def save_encoder(target: Path, encoder: nn.Module, about: dict) -> None:
    """Write an encoder: its tensors, and as metadata the settings that rebuild it and what it is about."""
    metadata = {"settings": json.dumps(dataclasses.asdict(encoder.settings)), "about": json.dumps(about)}
    tensors = {
        name: tensor.detach().cpu().float().contiguous() for name, tensor in encoder.state_dict().items()
    }
    with atomic_path(target) as path, _as_os_error():
        save_file(tensors, path, metadata)


def read_encoder(source: Path) -> tuple[dict[str, Tensor], dict, dict]:
    """Tensors, architecture settings and `about` of an encoder file.

    Raises:
        UserError: no such file, no safetensors file, or one without settings.
    """
    try:
        with safe_open(source, "pt") as opened:
            metadata = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise UserError(f"{source}: cannot be read as an encoder ({error}); remake it") from None
    if "settings" not in metadata:
        raise UserError(
            f"{source}: has no architecture settings; only encoders written by this pipeline load here"
        )
    return tensors, json.loads(metadata["settings"]), json.loads(metadata.get("about", "{}"))


def load_start(encoder: nn.Module, source: Path) -> None:
    """Start an encoder from another one's file.

    Raises:
        UserError: as `read_encoder`; or weights that do not fit, or that would compute something else in this encoder.
    """
    tensors, settings, _ = read_encoder(source)
    if differs := config.mismatch(dataclasses.asdict(encoder.settings), settings):
        raise UserError(f"{source}: has {differs}; set pretrain.model as it is there, or init: scratch")
    load_strictly(encoder, tensors, str(source))


def save_state(target: Path, fingerprint: str, state: dict) -> None:
    """Write a resume state atomically; `fingerprint` ties it to the configuration that made it.

    Raises:
        UserError: the folder cannot be written, or the disk is full. The old state stays as it was.
    """
    with atomic_path(target) as path, open(path, "wb") as opened, _as_os_error():
        torch.save({"version": STATE_VERSION, "fingerprint": fingerprint, "state": state}, opened)


def load_state(source: Path, fingerprint: str) -> dict | None:
    """The resume state at `source` that belongs to `fingerprint`, or None where there is none to use.

    A state that another configuration made, or a damaged one, is refused in one line and set aside under a name of its
    own; going back to its configuration takes it back. Of every configuration the last state that can be read is kept
    until a run's results are on disk.

    Raises:
        UserError: the file cannot be read now, which says nothing about what it holds; or a later version of this
            pipeline wrote it, and starting over would lose it in the end.
    """
    state, reason, label = _read_state(source, fingerprint)
    if state is not None:
        return state
    own, aside = _aside(source, _short(fingerprint)), _aside(source, label)
    earlier, *_ = _read_state(own, fingerprint)
    try:
        if reason:
            os.replace(source, aside)
        if earlier is not None:
            os.replace(own, source)
    except OSError as error:
        raise UserError(
            f"{source}: refused, {reason}; it cannot be set aside ({error.strerror}); choose a writable folder"
        ) from None
    if reason:
        after = "starting over" if earlier is None else "the one set aside before goes on in its place"
        print(f"{source}: refused, {reason}; set aside as {aside.name}, {after}", file=sys.stderr, flush=True)
    return earlier


def clear_resume(folder: Path) -> None:
    """Remove the resume state, and those that were set aside, once the results are safely on disk."""
    for path in [*folder.glob(_aside(folder / RESUME, "*").name), folder / RESUME]:
        path.unlink(missing_ok=True)


def _aside(source: Path, label: str) -> Path:
    """Where a refused resume state is kept."""
    return source.with_suffix(f".refused.{label}{source.suffix}")


def _short(fingerprint: str) -> str:
    """What of a fingerprint a name holds, whatever a file gives out as one."""
    return re.sub(r"\W", "", fingerprint)[:8]


def _read_state(source: Path, fingerprint: str) -> tuple[dict | None, str, str]:
    """The state in a file or None, why it is refused and what it is set aside as; no reason where there is no file."""
    try:
        saved = torch.load(source, map_location="cpu", weights_only=True)
        version, owner, state = int(saved["version"]), str(saved["fingerprint"]), saved["state"]
    except FileNotFoundError:
        return None, "", ""
    except Exception as error:
        # torch.load raises many kinds of errors on a damaged file, and on one that is more than tensors
        if why := _outside(error):
            raise UserError(
                f"{source}: cannot be read now ({why}) and is left as it is; run again, or delete it to start over"
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
        return None, "another configuration made it", _short(owner)
    return state, "", ""


def _outside(error: BaseException | None) -> str:
    """What of disk or memory made reading fail; empty where the file itself did. torch hides such errors behind its own."""
    while error is not None:
        if isinstance(error, OSError) and error.errno not in (
            None,
            EINVAL,
        ):  # a cut file makes torch seek below 0
            return error.strerror
        if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
            return "out of memory"
        error = error.__context__
    return ""


@contextmanager
def _as_os_error() -> Iterator[None]:
    """torch and safetensors report a full disk by errors of their own."""
    try:
        yield
    except (RuntimeError, SafetensorError) as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise OSError(str(error).splitlines()[0]) from None
