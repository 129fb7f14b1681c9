"""Encoders as networks of timm: a folder from which `timm.create_model("local-dir:FOLDER", pretrained=True)` loads one.

A radiograph transformer is a plain vision transformer with a parameter-free aggregation behind it (paper §4.1), once what is
linear is multiplied out: positions that are concatenated and projected become positions that are added, and the aggregation
embedding becomes the class token. A kernel over one grey channel becomes three equal ones of a third of it, over the grey image
repeated. What is written is loaded by timm and compared with the encoder before it is accepted.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from refers import config
from refers.errors import UserError, first_line
from refers.files import write_json
from refers.model.encoder_file import as_os_error
from refers.model.encoders import pretrained_cfg, timm_options
from refers.model.import_checkpoint import GREY, ends, is_same, noise_image
from refers.model.layers import IMAGENET, MEAN, STD
from refers.model.vit import Encoder, RadiographTransformer

# How a feature follows from timm's `forward_features`, which has the class token first.
FEATURES = {
    "token": "model(images)",
    "concat": "torch.cat([tokens[:, 0], tokens[:, 1:].mean(1)], dim=1)",
    "add": "tokens[:, 0] + tokens[:, 1:].mean(1)",
}


class Export(NamedTuple):
    """A network of timm.

    tensors: by its names. name, options: what timm makes it from. input: of its images. feature: key of `FEATURES`.
    """

    tensors: dict[str, Tensor]
    name: str
    options: dict[str, Any]
    input: config.InputStatistics
    feature: str


def export_encoder(encoder: Encoder, folder: Path) -> str:
    """Write config.json and model.safetensors of an encoder for timm; how its feature follows there.

    Raises:
        UserError: timm has no network that computes the same, and nothing is left in the folder.
    """
    exports = (
        [_of_transformer(encoder)] if isinstance(encoder, RadiographTransformer) else _of_network(encoder)
    )
    problem = ""
    for export in exports:
        _write(export, folder, encoder.settings.image_size)
        problem = _problem(export, folder, encoder)
        if not problem:
            return FEATURES[export.feature]
    for name in ("config.json", "model.safetensors"):
        (folder / name).unlink()
    raise UserError(f"not exported: {problem}; load encoder.safetensors as its model card says")


def _of_transformer(encoder: RadiographTransformer) -> Export:
    settings, state = encoder.settings, {name: each.double() for name, each in encoder.state_dict().items()}
    kernel, bias, position = (state.pop(name) for name in ("patch.weight", "patch.bias", "position"))
    token = state.pop("aggregation") + state.pop("aggregation_position", 0)
    if settings.position == "concat":
        of_patch, of_position = state.pop("mix.weight").split(settings.width, dim=1)
        kernel, bias = of_patch @ kernel, of_patch @ bias
        position = position @ of_position.T + state.pop("mix.bias")
    kernel = kernel.view(settings.width, settings.channels, settings.patch_size, settings.patch_size)
    names = {".attention.qkv.": ".attn.qkv.", ".attention.out.": ".attn.proj."}
    tensors = {
        "cls_token": token[None, None],
        "pos_embed": torch.cat([torch.zeros_like(token)[None], position])[None],
        "patch_embed.proj.weight": kernel if settings.channels == 3 else _thirds(kernel),
        "patch_embed.proj.bias": bias,
    }
    for name, tensor in state.items():
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        tensors[name] = tensor
    ratio = settings.mlp_width / settings.width
    options = {
        "img_size": settings.image_size,
        "patch_size": settings.patch_size,
        "embed_dim": settings.width,
        "depth": settings.depth,
        "num_heads": settings.heads,
        # timm rounds the product down
        "mlp_ratio": ratio
        if int(settings.width * ratio) == settings.mlp_width
        else ratio + 0.5 / settings.width,
        "act_layer": settings.activation,
        "global_pool": "token",
    }
    fp32 = {name: tensor.float() for name, tensor in tensors.items()}
    known = IMAGENET if settings.channels == 3 else _repeated(GREY)
    feature = "token" if settings.classifier == "aggregation" else settings.aggregation
    return Export(fp32, "vit_base_patch16_224", options, known, feature)


def _of_network(encoder: Encoder) -> list[Export]:
    """A network of torchvision or timm with three channels and, where one is not three thirds, with one."""
    settings, network = encoder.settings, encoder.get_submodule("network")
    if isinstance(settings, config.Timm):
        name, options = settings.name.partition(".")[0], timm_options(settings)
    else:
        # timm's have the names and the arithmetic of torchvision's
        name, options = settings.architecture, {}
    tensors, known = dict(network.state_dict()), encoder.channels.statistics or GREY
    found = Export(tensors, name, options, known, "token")
    if encoder.channels.count == 3:
        return [found]
    alone = found._replace(options=options | {"in_chans": 1})
    first = ends(network)[1]
    layer = dict(network.named_modules()).get(first)
    if type(layer) is not nn.Conv2d or layer.groups > 1:
        return [alone]
    three = tensors | {f"{first}.weight": _thirds(layer.weight.detach())}
    return [found._replace(tensors=three, input=_repeated(known)), alone]


def _thirds(kernel: Tensor) -> Tensor:
    """A kernel (O, 1, H, W) over a grey image -> the same over the image in three equal channels."""
    return (kernel / 3).repeat(1, 3, 1, 1)


def _repeated(input: config.InputStatistics) -> config.InputStatistics:
    return config.InputStatistics(mean=input.mean * 3, std=input.std * 3)


def _write(export: Export, folder: Path, size: int) -> None:
    about = pretrained_cfg(export.name)
    known = {
        "input_size": [len(export.input.mean), size, size],
        "fixed_input_size": about.get("fixed_input_size", False),
        "mean": list(export.input.mean),
        "std": list(export.input.std),
        "interpolation": "bilinear",
        "crop_pct": 1.0,
        "num_classes": 0,
        "first_conv": about.get("first_conv"),
        "classifier": about.get("classifier"),
    }
    content = {"architecture": export.name, "num_classes": 0, "model_args": export.options}
    folder.mkdir(parents=True, exist_ok=True)
    with as_os_error():
        tensors = {name: tensor.cpu().clone().contiguous() for name, tensor in export.tensors.items()}
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    write_json(folder / "config.json", content | {"pretrained_cfg": known})


def _problem(export: Export, folder: Path, encoder: Encoder) -> str:
    """Why the network that timm loads from a folder is not the encoder; nothing where it is."""
    import timm

    grey = noise_image(encoder.settings.image_size)
    mean, std = (torch.tensor(each)[:, None, None] for each in (export.input.mean, export.input.std))
    images = (grey * STD + MEAN - mean) / std
    try:
        with torch.no_grad():
            network = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
            theirs = feature_of(network, images, FEATURES[export.feature])
    except Exception as error:
        # timm's networks each raise errors of their own
        return f"timm does not load it ({first_line(error)})"
    with torch.no_grad():
        ours = encoder.eval()(grey).pooled
    return "" if is_same(ours, theirs) else "timm's network computes something else"


def feature_of(network: Any, images: Tensor, feature: str) -> Tensor:
    """The feature of images by a network of timm and one of `FEATURES`."""
    if feature == FEATURES["token"]:
        return network(images)
    tokens = network.forward_features(images)
    g, p = tokens[:, 0], tokens[:, 1:].mean(1)
    return torch.cat([g, p], dim=1) if feature == FEATURES["concat"] else g + p


def loading(folder: str, feature: str) -> str:
    """Python that loads an exported encoder and computes the feature of images."""
    lines = ["import timm, torch"] if "torch." in feature else ["import timm"]
    lines += [f"model = timm.create_model({json.dumps(f'local-dir:{folder}')}, pretrained=True).eval()"]
    lines += ["tokens = model.forward_features(images)"] if "tokens" in feature else []
    return "\n".join([*lines, f"feature = {feature}"])
