"""Weights on disk: encoders as safetensors with their architecture, resume states without pickle execution."""

import dataclasses
import json
import sys
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from refers.errors import UserError
from refers.files import atomic_path

STATE_VERSION = 1


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
    with atomic_path(target) as path:
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


def save_state(target: Path, fingerprint: str, state: dict) -> None:
    """Write a resume state atomically; `fingerprint` ties it to the configuration that made it."""
    with atomic_path(target) as path:
        torch.save({"version": STATE_VERSION, "fingerprint": fingerprint, "state": state}, path)


def load_state(source: Path, fingerprint: str) -> dict | None:
    """The resume state at `source`, or None when there is none to use; a stale one is discarded, said aloud."""
    if not source.exists():
        return None
    try:
        saved = torch.load(source, map_location="cpu", weights_only=True)
        reason = "it was made by another configuration" if saved["fingerprint"] != fingerprint else ""
        if saved["version"] != STATE_VERSION:
            reason = f"its format is version {saved['version']}, this is {STATE_VERSION}"
    except Exception as error:
        # torch.load raises many kinds of errors on a damaged file; all mean that training starts over
        saved, reason = None, f"it cannot be read ({type(error).__name__})"
    if reason:
        print(f"{source}: resume state discarded, {reason}; starting over", file=sys.stderr)
        source.unlink()
        return None
    return saved["state"]
