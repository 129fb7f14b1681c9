"""Encoders from other people's checkpoints: no weight stays random, and every tensor that is left out is listed.

A checkpoint is a file (Google's npz, safetensors, or torch's format, read without executing pickles, such as the
authors' own), an encoder of this pipeline, or `timm:NAME`, the only one that is downloaded. Its classifier is left out,
and of the authors' checkpoints all but the image encoder. A kernel over red, green and blue is summed, which on a grey
image equals the original kernel on that image replicated three times. Every other tensor must fit.
"""

import os
import pickle
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from refers import config
from refers.errors import UserError, first_line
from refers.model.encoder_file import load_strictly
from refers.model.encoders import build_encoder, load_encoder
from refers.model.vit import Encoder
from refers.model.vit_checkpoints import from_authors, from_google, to_radiograph_transformer

DOWNLOAD, RANDOM = "timm:", "random"
VIT_HEAD = ("head.", "pre_logits.", "fc_norm.")
WRAPPERS = ("state_dict", "model")


def import_encoder(settings: config.Model, source: str) -> tuple[Encoder, dict]:
    """The encoder of `settings` with the weights at `source`, and the key report: tensors read, loaded and left out.

    An encoder that this pipeline wrote has its own architecture, which is used instead of `settings`. `random` keeps the
    initialisation.

    Raises:
        UserError: the file is missing or in no known format, or tensors do not fit (they are listed).
    """
    if source == RANDOM:
        return build_encoder(settings), {"read": 0, "loaded": 0, "left_out": []}
    if _is_of_this_pipeline(source):
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
        classifier, stem = _ends(encoder.get_submodule("network"))
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
            # torch warns of pickles, which are refused in one line below.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = torch.load(path, map_location="cpu", weights_only=True)
            for wrapper in WRAPPERS:
                found = found.get(wrapper, found)
        return {name.removeprefix("module."): tensor.float() for name, tensor in found.items()}
    except pickle.UnpicklingError:
        reason = "damaged, or more than tensors in it"
    except (OSError, ValueError, KeyError, RuntimeError, AttributeError, EOFError, SafetensorError) as error:
        reason = first_line(error)
    wrong = f"not a checkpoint in npz, safetensors or torch's format ({reason})"
    raise UserError(f"{source}: {wrong}; download it again")


def _download(name: str) -> dict[str, Tensor]:
    import timm

    try:
        # Not every version of timm asks torch to load tensors only.
        with _tensors_only():
            return timm.create_model(name, pretrained=True).state_dict()
    except Exception as error:
        # Network, hub and registry each raise errors of their own.
        raise UserError(
            f"{DOWNLOAD}{name}: cannot be downloaded ({first_line(error)}); give the path of a file instead"
        ) from None


@contextmanager
def _tensors_only() -> Generator[None]:
    """Let torch.load execute no pickle, whatever its caller asks for, by an environment variable that torch reads."""
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


def _is_of_this_pipeline(source: str) -> bool:
    try:
        with safe_open(source, "pt") as opened:
            return "settings" in (opened.metadata() or {})
    except (OSError, SafetensorError):
        return False


def _without(tensors: dict[str, Tensor], prefixes: tuple[str, ...]) -> tuple[dict[str, Tensor], list[str]]:
    left_out = sorted(name for name in tensors if name.startswith(prefixes))
    return {name: tensor for name, tensor in tensors.items() if name not in left_out}, left_out


def _ends(network: nn.Module) -> tuple[tuple[str, ...], str]:
    """Names of a network's classifier and of its first convolution; torchvision's ResNets have timm's."""
    about = getattr(network, "default_cfg", {"classifier": "fc", "first_conv": "conv1"})
    classifier = about["classifier"]
    names = classifier if isinstance(classifier, tuple | list) else (classifier,)
    return tuple(f"{name}." for name in names), about["first_conv"]
