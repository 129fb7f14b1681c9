"""Encoders from other people's checkpoints: no weight stays random, and every tensor that is left out is listed.

A checkpoint is a file (Google's npz, safetensors, or torch's format, read without executing pickles, such as the
authors' own), an encoder of this pipeline, or `timm:NAME`, the only one that is downloaded. Its classifier is left out,
and of the authors' checkpoints all but the image encoder. Every other tensor must fit.

Weights expect the input that they were trained with: a mean and a deviation per channel. Where it is exact, this is
folded into the first kernel and bias, so that the encoder takes grey images as the others do. Elsewhere, as in padded
convolutions, whose border would change, the network keeps its channels and the input is applied to the image.
"""

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from refers import config
from refers.array_files import one_line, read_metadata
from refers.errors import UserError, first_line
from refers.model.checkpoint_file import KEY, NPZ, REMEDY, WHAT, Network, read_content, read_network
from refers.model.encoder_file import load_strictly, read_record
from refers.model.encoders import build_encoder, load_encoder, pretrained_cfg, size_option
from refers.model.layers import IMAGENET, MEAN, STD, InputChannels
from refers.model.vit import Encoder
from refers.model.vit_checkpoints import (
    CLASS_TOKEN,
    LAYOUTS,
    OTHER_LAYOUTS,
    from_authors,
    from_google,
    is_of_authors,
    resize_as_timm,
    resize_positions,
    to_radiograph_transformer,
    to_timm,
)

DOWNLOAD, RANDOM = "timm:", "random"
VIT_HEAD = ("head.", "pre_logits.", "fc_norm.")
VIT_KERNEL = "patch_embed.proj.weight"
GREY = config.InputStatistics(mean=(MEAN,), std=(STD,))
# of Google's vision transformers, whose pixels are scaled to [-1, 1]
GOOGLE = config.InputStatistics(mean=(0.5,) * 3, std=(0.5,) * 3)
FOLDED, AT_INPUT, UNCHANGED = "folded into the first kernel", "at the input", "unchanged"
# Largest relative difference of two fp32 networks that compute the same; what differs by design does so by far more.
TOLERANCE = 1e-4


def import_encoder(settings: config.Model, source: str, key: str | None = None) -> tuple[Encoder, dict]:
    """The encoder of `settings` with the weights at `source`, and the report of the import.

    The report has the number of tensors read and loaded, the names of those left out, the wrappers that were stripped from
    their names, the places of other networks in the file, and `input`: mean and deviation of the input that the weights
    were trained with, from where these are known, and how they are applied. What is not folded is in the encoder's
    settings. An encoder that this pipeline wrote has its own architecture, which is used instead of `settings`. `random`
    keeps the initialisation. `key` says which network of a file is meant, where there are several.

    Raises:
        UserError: the file is missing or in no known format, tensors do not fit (they are listed) or are non-finite, it has
            several networks, nothing says what input the weights were trained with, or a downloaded network computes
            something else than the encoder.
    """
    if source == RANDOM or _is_of_this_pipeline(source):
        if settings.input or key:
            name = "model.input" if settings.input else KEY
            raise UserError(f"{source}: takes the images of this pipeline; remove {name}")
        encoder = build_encoder(settings) if source == RANDOM else load_encoder(Path(source))[0]
        count = 0 if source == RANDOM else len(encoder.state_dict())
        own = encoder.channels.statistics
        facts = _facts(own or GREY, "this pipeline", AT_INPUT if own else UNCHANGED)
        return encoder, _report(count, [], [], []) | {"input": facts}
    network = None
    if source.startswith(DOWNLOAD):
        network = _download(source.removeprefix(DOWNLOAD), settings.image_size)
        file = Network(network.state_dict(), {}, [], [])
    else:
        file = _read(settings, source, key)
    known, origin = _input_of(settings, source, file.tensors, network)
    settings = settings.replace(input=known)
    if isinstance(settings, config.Transformer):
        encoder, left_out = _transformer(settings, file.tensors, source)
    else:
        encoder, left_out = _network(settings, file.tensors, source)
    if network:
        _check_download(encoder, network, known, source)
    left_out = sorted([*left_out, *file.outside])
    applied = AT_INPUT if encoder.channels.statistics == known else FOLDED
    report = _report(len(file.tensors) + len(file.outside), left_out, file.stripped, file.others)
    return encoder, report | {"input": _facts(known, origin, applied)}


def _report(read: int, left_out: list[str], stripped: list[str], others: list[str]) -> dict:
    found = {"read": read, "loaded": read - len(left_out), "left_out": left_out}
    # Most files have neither.
    return found | {name: value for name, value in (("stripped", stripped), ("others", others)) if value}


def _read(settings: config.Model, source: str, key: str | None) -> Network:
    """The network in a checkpoint file that has the architecture of `settings`, Google's under timm's names."""
    if Path(source).suffix == NPZ:
        if key:
            raise UserError(f"{source}: has one network; remove {KEY}")
        arrays = read_content(source)
        with one_line(source, WHAT, REMEDY):
            return Network(from_google(arrays), {}, [], [])
    if isinstance(settings, config.Transformer):
        return read_network(source, LAYOUTS, key)
    network = build_encoder(settings.replace(input=None)).get_submodule("network")
    names = _without(network.state_dict(), ends(network)[0])[0]
    return read_network(source, [names, *(OTHER_LAYOUTS if CLASS_TOKEN in names else ())], key)


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
    network = encoder.get_submodule("network")
    classifier, first = ends(network)
    kept, left_out = _without(tensors, classifier)
    wanted = network.state_dict()
    if CLASS_TOKEN in wanted:
        with one_line(source, "its tensors do not fit each other", REMEDY):
            kept, unused = to_timm(kept, wanted, encoder.grid, source)
        left_out = sorted([*left_out, *unused])
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
    image = noise_image(encoder.settings.image_size)
    return folded if is_same(_feature(folded, image), _feature(encoder, image)) else None


def _check_download(encoder: Encoder, network: Any, input: config.InputStatistics, source: str) -> None:
    """Refuse a network of timm that the encoder with its weights does not equal, such as one with other heads.

    Raises:
        UserError: the two differ, or the network does not take such images.
    """
    size = encoder.settings.image_size
    ours, problem = _feature(encoder, noise_image(size)), "computes something else than this encoder"
    try:
        with torch.no_grad():
            last = network.eval().forward_features(InputChannels(input)(noise_image(size)))
            # the radiograph transformer has its own feature; its aggregation embedding is the class token
            by_token = isinstance(encoder.settings, config.Transformer)
            theirs = last[:, 0] if by_token else network.forward_head(last, pre_logits=True)
        if is_same(ours, theirs):
            return
    except Exception as error:
        # timm's networks each raise errors of their own.
        problem = f"does not take images of {size} pixels ({first_line(error)})"
    raise UserError(f"{source}: {problem}; set `model` as that network is")


def noise_image(size: int) -> Tensor:
    """A grey image of noise, always the same."""
    return torch.rand(1, 1, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1


@torch.no_grad()
def _feature(encoder: Encoder, image: Tensor) -> Tensor:
    """The output of the aggregation embedding or, where there is none, the feature of an image, without dropout."""
    found = encoder.eval()(image).aggregation
    encoder.train()
    return found


def is_same(ours: Tensor, theirs: Tensor) -> bool:
    """Whether two features are equal up to fp32 arithmetic."""
    return ours.shape == theirs.shape and bool((ours - theirs).norm() <= TOLERANCE * theirs.norm())


def _check_channels(kernel: Tensor | None, channels: int, source: str) -> None:
    """Refuse a first kernel (O, C, H, W) of another number of channels than the encoder's."""
    if kernel is not None and kernel.ndim == 4 and kernel.shape[1] != channels:
        wrong = f"its first kernel takes {kernel.shape[1]} channels, and its input has {channels}"
        raise UserError(f"{source}: {wrong}; set model.input with one mean and one std per channel")


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
        return read_record(read_metadata(source)) is not None
    except Exception:
        # What is wrong with the file is said where it is read.
        return False


def _without(tensors: dict[str, Tensor], prefixes: tuple[str, ...]) -> tuple[dict[str, Tensor], list[str]]:
    left_out = sorted(name for name in tensors if name.startswith(prefixes))
    return {name: tensor for name, tensor in tensors.items() if name not in left_out}, left_out


def ends(network: nn.Module) -> tuple[tuple[str, ...], str]:
    """Names of a network's classifier and of its first convolution; torchvision's ResNets have timm's."""
    about = getattr(network, "default_cfg", {"classifier": "fc", "first_conv": "conv1"})
    classifier = about.get("classifier") or ()
    names = classifier if isinstance(classifier, tuple | list) else (classifier,)
    first = about.get("first_conv")
    # networks that start in several places keep their channels
    return tuple(f"{name}." for name in names), first if isinstance(first, str) else ""
