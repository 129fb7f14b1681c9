"""Encoders from other people's checkpoints: no weight stays random, and every tensor that is left out is listed.

A checkpoint is a file (Google's npz, safetensors, or torch's format, read without executing pickles, such as the
authors' own), an encoder of this pipeline, or `timm:NAME`, the only one that is downloaded. Its classifier is left out,
and of the authors' checkpoints all but the image encoder. Every other tensor must fit.

Weights expect the input that they were trained with: a mean and a deviation per channel. Where it is exact, this is
folded into the first kernel and bias, so that the encoder takes grey images as the others do. Elsewhere, as in padded
convolutions, whose border would change, the network keeps its channels and the input is applied to the image.
"""

import os
import pickle
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from refers import config
from refers.errors import UserError, first_line
from refers.model.encoder_file import load_strictly
from refers.model.encoders import build_encoder, load_encoder, pretrained_cfg, size_option
from refers.model.layers import IMAGENET, MEAN, STD, InputChannels
from refers.model.vit import Encoder
from refers.model.vit_checkpoints import (
    from_authors,
    from_google,
    is_of_authors,
    resize_as_timm,
    resize_positions,
    to_radiograph_transformer,
)

DOWNLOAD, RANDOM, NPZ = "timm:", "random", ".npz"
VIT_HEAD = ("head.", "pre_logits.", "fc_norm.")
VIT_KERNEL = "patch_embed.proj.weight"
WRAPPERS = ("state_dict", "model")
GREY = config.InputStatistics(mean=(MEAN,), std=(STD,))
# of Google's vision transformers, whose pixels are scaled to [-1, 1]
GOOGLE = config.InputStatistics(mean=(0.5,) * 3, std=(0.5,) * 3)
FOLDED, AT_INPUT, UNCHANGED = "folded into the first kernel", "at the input", "unchanged"
# Largest relative difference of two fp32 networks that compute the same; what differs by design does so by far more.
TOLERANCE = 1e-4


def import_encoder(settings: config.Model, source: str) -> tuple[Encoder, dict]:
    """The encoder of `settings` with the weights at `source`, and the report of the import.

    The report has the number of tensors read and loaded, the names of those left out, and `input`: mean and deviation of
    the input that the weights were trained with, from where these are known, and how they are applied. What is not folded
    is in the encoder's settings. An encoder that this pipeline wrote has its own architecture, which is used instead of
    `settings`. `random` keeps the initialisation.

    Raises:
        UserError: the file is missing or in no known format, tensors do not fit (they are listed), nothing says what
            input the weights were trained with, or a downloaded network computes something else than the encoder.
    """
    if source == RANDOM or _is_of_this_pipeline(source):
        if settings.input:
            raise UserError(f"{source}: takes the images of this pipeline; remove model.input")
        encoder = build_encoder(settings) if source == RANDOM else load_encoder(Path(source))[0]
        count = 0 if source == RANDOM else len(encoder.state_dict())
        own = encoder.channels.statistics
        facts = _facts(own or GREY, "this pipeline", AT_INPUT if own else UNCHANGED)
        return encoder, {"read": count, "loaded": count, "left_out": [], "input": facts}
    network = None
    if source.startswith(DOWNLOAD):
        network = _download(source.removeprefix(DOWNLOAD), settings.image_size)
    tensors = network.state_dict() if network else read_tensors(source)
    known, origin = _input_of(settings, source, tensors, network)
    settings = settings.replace(input=known)
    if isinstance(settings, config.Transformer):
        encoder, left_out = _transformer(settings, tensors, source)
    else:
        encoder, left_out = _network(settings, tensors, source)
    if network:
        _check_download(encoder, network, known, source)
    report = {"read": len(tensors), "loaded": len(tensors) - len(left_out), "left_out": left_out}
    applied = AT_INPUT if encoder.channels.statistics == known else FOLDED
    return encoder, report | {"input": _facts(known, origin, applied)}


def _facts(input: config.InputStatistics, origin: str, applied: str) -> dict:
    return {"mean": list(input.mean), "std": list(input.std), "from": origin, "applied": applied}


def _input_of(
    settings: config.Model, source: str, tensors: dict[str, Tensor], network: Any
) -> tuple[config.InputStatistics, str]:
    """The input that weights were trained with, and from where it is known."""
    if settings.input:
        return settings.input, "model.input"
    if network:
        return _of_timm(network.pretrained_cfg), f"timm's pretrained_cfg of {source.removeprefix(DOWNLOAD)}"
    if Path(source).suffix == NPZ:
        return GOOGLE, "Google's vision transformers"
    if isinstance(settings, config.Transformer) and is_of_authors(tensors):
        return IMAGENET, "the authors' code"
    if isinstance(settings, config.ResNet):
        return IMAGENET, "torchvision's weights"
    if isinstance(settings, config.Timm):
        return _of_timm(pretrained_cfg(settings.name)), f"timm's pretrained_cfg of {settings.name}"
    raise UserError(
        f"{source}: does not say how its images were normalised; set model.input for this method, such as"
        f" {{mean: {list(IMAGENET.mean)}, std: {list(IMAGENET.std)}}} of ImageNet"
    )


def _of_timm(about: dict) -> config.InputStatistics:
    return config.InputStatistics(mean=tuple(about["mean"]), std=tuple(about["std"]))


def _transformer(
    settings: config.Transformer, tensors: dict[str, Tensor], source: str
) -> tuple[Encoder, list[str]]:
    """A radiograph transformer, its input folded, and the names of the tensors left out."""
    encoder_tensors, others = from_authors(tensors, source)
    kept, left_out = _without(encoder_tensors, VIT_HEAD)
    count = InputChannels(settings.input).count
    if count != settings.channels == 3:
        raise UserError(f"{source}: takes one grey channel; set model.channels: 1 for this method")
    _check_channels(kept.get(VIT_KERNEL), count, source)
    by_authors = is_of_authors(tensors) or Path(source).suffix == NPZ
    resize = resize_positions if by_authors else resize_as_timm
    encoder = build_encoder(settings.replace(input=None))
    load_strictly(encoder, to_radiograph_transformer(kept, settings, source, resize), source)
    return encoder, sorted({*left_out, *others})


def _network(
    settings: config.ResNet | config.Timm, tensors: dict[str, Tensor], source: str
) -> tuple[Encoder, list[str]]:
    """A network of torchvision or timm, its input folded where that is exact, and the names of the tensors left out."""
    encoder = build_encoder(settings)
    classifier, first = _ends(encoder.get_submodule("network"))
    kept, left_out = _without(tensors, classifier)
    layer = dict(encoder.named_modules()).get(f"network.{first}")
    # others, such as those that standardise their kernels or pad by themselves, are not linear in kernel and image
    if type(layer) is not nn.Conv2d or layer.in_channels != InputChannels(settings.input).count:
        layer = None
    if layer:
        _check_channels(kept.get(f"{first}.weight"), layer.in_channels, source)
    load_strictly(encoder, {f"network.{name}": tensor for name, tensor in kept.items()}, source)
    return (layer and _folded(encoder, layer, f"network.{first}")) or encoder, left_out


def _folded(encoder: Encoder, layer: nn.Conv2d, name: str) -> Encoder | None:
    """The same encoder with its input folded into its first convolution; none where that is not exact."""
    channels, state = InputChannels(encoder.settings.input), encoder.state_dict()
    is_shifted = bool(channels.shift.any())
    if layer.groups > 1 or (is_shifted and (layer.bias is None or layer.padding != (0, 0))):
        return None
    kernel, shifts = channels.fold(layer.weight)
    state[f"{name}.weight"] = kernel
    if layer.bias is not None:
        state[f"{name}.bias"] = layer.bias.detach() + shifts
    folded = build_encoder(encoder.settings.replace(input=None))
    load_strictly(folded, state, name)
    # A network may pad its image before the convolution, or read it twice.
    image = _image(encoder.settings.image_size)
    return folded if _same(_feature(folded, image), _feature(encoder, image)) else None


def _check_download(encoder: Encoder, network: Any, input: config.InputStatistics, source: str) -> None:
    """Refuse a network of timm that the encoder with its weights does not equal, such as one with other heads.

    Raises:
        UserError: the two differ, or the network does not take such images.
    """
    size = encoder.settings.image_size
    ours, problem = _feature(encoder, _image(size)), "computes something else than this encoder"
    try:
        with torch.no_grad():
            last = network.eval().forward_features(InputChannels(input)(_image(size)))
            # the radiograph transformer has its own feature; its aggregation embedding is the class token
            by_token = isinstance(encoder.settings, config.Transformer)
            theirs = last[:, 0] if by_token else network.forward_head(last, pre_logits=True)
        if _same(ours, theirs):
            return
    except Exception as error:
        # timm's networks each raise errors of their own.
        problem = f"does not take images of {size} pixels ({first_line(error)})"
    raise UserError(f"{source}: {problem}; set `model` as that network is")


def _image(size: int) -> Tensor:
    """A grey image of noise, always the same."""
    return torch.rand(1, 1, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1


@torch.no_grad()
def _feature(encoder: Encoder, image: Tensor) -> Tensor:
    """The output of the aggregation embedding or, where there is none, the feature of an image, without dropout."""
    found = encoder.eval()(image).aggregation
    encoder.train()
    return found


def _same(ours: Tensor, theirs: Tensor) -> bool:
    """Whether two features are equal up to fp32 arithmetic."""
    return ours.shape == theirs.shape and bool((ours - theirs).norm() <= TOLERANCE * theirs.norm())


def _check_channels(kernel: Tensor | None, channels: int, source: str) -> None:
    """Refuse a first kernel (O, C, H, W) of another number of channels than the encoder's."""
    if kernel is not None and kernel.ndim == 4 and kernel.shape[1] != channels:
        wrong = f"its first kernel takes {kernel.shape[1]} channels, and its input has {channels}"
        raise UserError(f"{source}: {wrong}; set model.input with one mean and one std per channel")


def read_tensors(source: str) -> dict[str, Tensor]:
    """Every tensor of a checkpoint file by name; Google's arrays under timm's names.

    Raises:
        UserError: as `import_encoder`.
    """
    path = Path(source)
    try:
        if path.suffix == NPZ:
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


def _download(name: str, size: int) -> Any:
    """A network of timm with its weights, for images of `size` pixels: timm itself resizes positions."""
    import timm

    try:
        sizes = size_option(name, size) if timm.is_model(name) else {}
        # Not every version of timm asks torch to load tensors only.
        with _tensors_only():
            return timm.create_model(name, pretrained=True, **sizes)
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
    classifier = about.get("classifier") or ()
    names = classifier if isinstance(classifier, tuple | list) else (classifier,)
    first = about.get("first_conv")
    # networks that start in several places keep their channels
    return tuple(f"{name}." for name in names), first if isinstance(first, str) else ""
