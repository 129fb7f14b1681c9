"""Encoders on disk: safetensors with their architecture as metadata, loaded strictly."""

import json
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from refers import config
from refers.errors import UserError
from refers.files import atomic_path
from refers.model.vit import Encoder


def load_strictly(module: nn.Module, tensors: dict[str, Tensor], origin: str) -> None:
    """Load `tensors` into `module`; every key and shape must match.

    Raises:
        UserError: lists missing, unexpected and mismatched keys.
    """
    wanted = module.state_dict()
    mismatched = [
        f"{key} {tuple(tensors[key].shape)} instead of {tuple(wanted[key].shape)}"
        for key in sorted(wanted.keys() & tensors.keys())
        if tensors[key].shape != wanted[key].shape
    ]
    problems = {
        "missing": sorted(wanted.keys() - tensors.keys()),
        "unexpected": sorted(tensors.keys() - wanted.keys()),
        "wrong shape": mismatched,
    }
    if any(problems.values()):
        report = "; ".join(
            f"{len(keys)} {word}: {', '.join(keys[:4])}{' ...' * (len(keys) > 4)}"
            for word, keys in problems.items()
            if keys
        )
        raise UserError(f"{origin}: does not fit the model ({report}); use a checkpoint of this architecture")
    module.load_state_dict(tensors)


def save_encoder(target: Path, encoder: Encoder, about: dict) -> None:
    """Write an encoder in fp32 with, as metadata, the settings that rebuild it and `about`, its origin."""
    metadata = {"settings": json.dumps(config.to_dict(encoder.settings)), "about": json.dumps(about)}
    state = encoder.state_dict()
    tensors = {name: state[name].detach().cpu().float().contiguous() for name in state}
    with atomic_path(target) as path, as_os_error():
        save_file(tensors, path, metadata)


def read_encoder(source: Path) -> tuple[dict[str, Tensor], dict, dict]:
    """Tensors, architecture settings and `about` of an encoder file.

    Raises:
        UserError: the file is missing, is not safetensors, or has no settings.
    """
    try:
        with safe_open(source, "pt") as opened:
            metadata = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise UserError(f"{source}: cannot be read as an encoder ({error}); delete it and rerun") from None
    if "settings" not in metadata:
        raise UserError(f"{source}: has no architecture settings; use an encoder written by this pipeline")
    return tensors, json.loads(metadata["settings"]), json.loads(metadata.get("about", "{}"))


def load_start(encoder: Encoder, source: Path) -> None:
    """Initialise an encoder from another one's file.

    Raises:
        UserError: as `read_encoder`; or the weights do not fit, or would compute something else in this encoder.
    """
    tensors, settings, _ = read_encoder(source)
    found = config.load_model(settings, str(source))
    if differs := config.mismatch(config.to_dict(encoder.settings), config.to_dict(found)):
        raise UserError(f"{source}: has {differs}; set pretrain.model as it is there, or init: scratch")
    load_strictly(encoder, tensors, str(source))


@contextmanager
def as_os_error() -> Generator[None]:
    """Turn the errors by which torch and safetensors report a full disk into OSError."""
    try:
        yield
    except (RuntimeError, SafetensorError) as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise OSError(str(error).splitlines()[0]) from None
