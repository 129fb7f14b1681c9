"""Encoders out of checkpoints that others trained: nothing is left random, nothing is dropped unsaid.

A checkpoint is a file (Google's npz, safetensors, or torch's format, read without executing pickles; the authors' own
among the latter), an encoder of this pipeline, or `timm:NAME`, which alone downloads. Its classifier, and in the
authors' checkpoints all that is no image encoder, is left out and listed; a kernel over red, green and blue is summed,
which on a grey image equals the original on that image three times; every other tensor must fit.
"""

import os
import pickle
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from refers import config
from refers.errors import UserError, first_line
from refers.model.encoder_file import load_strictly
from refers.model.encoders import build_encoder, load_encoder
from refers.model.vit_checkpoints import from_authors, from_google, to_radiograph_transformer

DOWNLOAD, RANDOM = "timm:", "random"
VIT_HEAD = ("head.", "pre_logits.", "fc_norm.")
WRAPPERS = ("state_dict", "model")


def import_encoder(settings: config.Model, source: str) -> tuple[nn.Module, dict]:
    """The encoder of `settings` with the weights at `source`, and the key report: tensors read, loaded and left out.

    An encoder that this pipeline wrote brings its own architecture, which then counts instead of `settings`.
    `random` leaves the initialisation as it is.

    Raises:
        UserError: no such file or no such format, or tensors that do not fit, listed.
    """
    if source == RANDOM:
        return build_encoder(settings), {"read": 0, "loaded": 0, "left_out": []}
    if _is_ours(source):
        encoder, _ = load_encoder(Path(source))
        count = len(encoder.state_dict())
        return encoder, {"read": count, "loaded": count, "left_out": []}
    tensors = read_tensors(source)
    encoder = build_encoder(settings)
    if isinstance(settings, config.Transformer):
        encoder_tensors, others = from_authors(tensors, source)
        kept, left_out = _without(encoder_tensors, VIT_HEAD)
        left_out = sorted({*left_out, *others})
        state = to_radiograph_transformer(kept, settings, source)
    else:
        classifier, stem = _ends(encoder.network)
        kept, left_out = _without(tensors, classifier)
        state = {f"network.{name}": tensor for name, tensor in kept.items()}
        kernel = state.get(f"network.{stem}.weight")
        if kernel is not None and kernel.shape[1] == 3:
            state[f"network.{stem}.weight"] = kernel.sum(1, keepdim=True)
    load_strictly(encoder, state, source)
    return encoder, {"read": len(tensors), "loaded": len(tensors) - len(left_out), "left_out": left_out}


def read_tensors(source: str) -> dict[str, Tensor]:
    """Every tensor of a checkpoint by name; Google's arrays under timm's names.

    Raises:
        UserError: as `import_encoder`.
    """
    if source.startswith(DOWNLOAD):
        return _download(source.removeprefix(DOWNLOAD))
    path = Path(source)
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                return from_google({name: torch.from_numpy(archive[name]) for name in archive.files})
        if path.suffix == ".safetensors":
            found = load_file(path)
        else:
            with warnings.catch_warnings():  # of pickles that are then refused in one line
                warnings.simplefilter("ignore")
                found = torch.load(path, map_location="cpu", weights_only=True)
            for wrapper in WRAPPERS:
                found = found.get(wrapper, found)
        return {name.removeprefix("module."): tensor.float() for name, tensor in found.items()}
    except (OSError, ValueError, KeyError, RuntimeError, AttributeError) as error:
        reason = first_line(error)
    except (SafetensorError, pickle.UnpicklingError, EOFError) as error:
        reason = (
            "damaged, or more than tensors in it" if isinstance(error, pickle.UnpicklingError) else str(error)
        )
    raise UserError(
        f"{source}: no checkpoint in npz, safetensors or torch's format ({reason}); fetch it again"
    )


def _download(name: str) -> dict[str, Tensor]:
    import timm

    try:
        with _tensors_only():  # not every version of timm asks for it
            return timm.create_model(name, pretrained=True).state_dict()
    except Exception as error:  # network, hub and registry each raise their own kinds
        reason = first_line(error)
        raise UserError(
            f"{DOWNLOAD}{name}: cannot be downloaded ({reason}); give the path of a file instead"
        ) from None


@contextmanager
def _tensors_only() -> Iterator[None]:
    """torch.load executes no pickle, whatever its caller asks for: torch's own switch, set back afterwards."""
    switch = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(switch)
    os.environ[switch] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[switch]
        else:
            os.environ[switch] = before


def _is_ours(source: str) -> bool:
    from safetensors import safe_open

    try:
        with safe_open(source, "pt") as opened:
            return "settings" in (opened.metadata() or {})
    except (OSError, SafetensorError):
        return False


def _without(tensors: dict[str, Tensor], prefixes: tuple[str, ...]) -> tuple[dict[str, Tensor], list[str]]:
    left_out = sorted(name for name in tensors if name.startswith(prefixes))
    return {name: tensor for name, tensor in tensors.items() if name not in left_out}, left_out


def _ends(network: nn.Module) -> tuple[tuple[str, ...], str]:
    """Names of a network's classifier and of its first kernel; torchvision's ResNets share timm's."""
    about = getattr(network, "default_cfg", {"classifier": "fc", "first_conv": "conv1"})
    classifier = about["classifier"]
    names = classifier if isinstance(classifier, tuple | list) else (classifier,)
    return tuple(f"{name}." for name in names), about["first_conv"]
