"""Weights on disk: encoders as safetensors with their architecture, resume states without pickle execution."""

import dataclasses
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from refers import config
from refers.errors import UserError
from refers.files import atomic_path

STATE_VERSION = 2  # of resume.pt; one more whenever what `engine.fit` keeps there changes


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

    A state that another configuration made, or a damaged one, is refused in one line and set aside (`set_aside`);
    going back to its configuration takes it back. Nothing is deleted before a run's results are on disk.

    Raises:
        UserError: a later version of this pipeline wrote it; starting over would lose it in the end.
    """
    state, reason = _read_state(source, fingerprint)
    if state is not None:
        return state
    aside, spare = set_aside(source), source.with_suffix(".swap")
    earlier, _ = _read_state(aside, fingerprint)
    try:
        if reason:
            os.replace(source, spare)
        if earlier is not None:
            os.replace(aside, source)
        if reason:
            os.replace(spare, aside)
    except OSError as error:
        raise UserError(
            f"{source}: refused, {reason}; it cannot be set aside ({error.strerror}); choose a writable folder"
        ) from None
    if reason:
        after = "starting over" if earlier is None else "the one set aside before goes on in its place"
        print(f"{source}: refused, {reason}; set aside as {aside.name}, {after}", file=sys.stderr, flush=True)
    return earlier


def set_aside(source: Path) -> Path:
    """Where a refused resume state is kept."""
    return source.with_suffix(f".refused{source.suffix}")


def _read_state(source: Path, fingerprint: str) -> tuple[dict | None, str]:
    """The state in a file or None, and why it is refused; no reason where there is no file."""
    if not source.exists():
        return None, ""
    try:
        saved = torch.load(source, map_location="cpu", weights_only=True)
        version, owner, state = saved["version"], saved["fingerprint"], saved["state"]
    except Exception as error:
        # torch.load raises many kinds of errors on a damaged file, and on one that is more than tensors
        return None, f"the file is damaged ({type(error).__name__})"
    if version > STATE_VERSION:
        raise UserError(
            f"{source}: refused, a later version of this pipeline wrote it (format {version}, this one reads "
            f"{STATE_VERSION}); update the pipeline, or delete the file to start over"
        )
    if version < STATE_VERSION:
        return None, f"an earlier version of this pipeline wrote it (format {version}, now {STATE_VERSION})"
    return (state, "") if owner == fingerprint else (None, "another configuration made it")


@contextmanager
def _as_os_error() -> Iterator[None]:
    """torch and safetensors report a full disk by errors of their own."""
    try:
        yield
    except (RuntimeError, SafetensorError) as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise OSError(str(error).splitlines()[0]) from None
