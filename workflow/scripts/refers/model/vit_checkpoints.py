"""Checkpoints of a plain vision transformer -> the radiograph transformer, every tensor accounted for.

Three layouts: Google's `ViT-B_16.npz` (JAX names), timm's, and that of the authors' released code, whose pre-trained
network is a plain vision transformer too. All are renamed to timm's first. The result computes what the plain vision
transformer computes on a grey image that its three channels are normalised from: their means and deviations are folded
into the patch kernel and bias (with `channels: 3`, as far as they differ from those of the encoder's channels), the class
token's position, where it has one, is added to the aggregation embedding or stays beside it (`class_position`), and, where
positions are concatenated and projected, the projection starts as [I I].
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from refers.config import Transformer
from refers.errors import UserError
from refers.model.layers import IMAGENET, InputChannels


def from_google(arrays: dict[str, Tensor]) -> dict[str, Tensor]:
    """Arrays of Google's npz under timm's names; those of the classifier keep theirs.

    Raises:
        KeyError, ValueError: an array is missing or has no counterpart.
    """
    left = dict(arrays)
    found = {
        "cls_token": left.pop("cls"),
        "pos_embed": left.pop("Transformer/posembed_input/pos_embedding"),
        "patch_embed.proj.weight": left.pop("embedding/kernel").permute(3, 2, 0, 1),
        "patch_embed.proj.bias": left.pop("embedding/bias"),
        "norm.weight": left.pop("Transformer/encoder_norm/scale"),
        "norm.bias": left.pop("Transformer/encoder_norm/bias"),
    }
    block = 0
    while f"Transformer/encoderblock_{block}/LayerNorm_0/scale" in arrays:
        source, target = f"Transformer/encoderblock_{block}/", f"blocks.{block}."
        attention = f"{source}MultiHeadDotProductAttention_1"
        qkv = [f"{attention}/{part}" for part in ("query", "key", "value")]
        kernels = [left.pop(f"{part}/kernel").flatten(1).T for part in qkv]
        found[target + "attn.qkv.weight"] = torch.cat(kernels)
        found[target + "attn.qkv.bias"] = torch.cat([left.pop(f"{part}/bias").flatten() for part in qkv])
        found[target + "attn.proj.weight"] = left.pop(f"{attention}/out/kernel").flatten(0, 1).T
        found[target + "attn.proj.bias"] = left.pop(f"{attention}/out/bias")
        for ours, theirs in (("norm1", "LayerNorm_0"), ("norm2", "LayerNorm_2")):
            found[f"{target}{ours}.weight"] = left.pop(f"{source}{theirs}/scale")
            found[f"{target}{ours}.bias"] = left.pop(f"{source}{theirs}/bias")
        for ours, theirs in (("fc1", "MlpBlock_3/Dense_0"), ("fc2", "MlpBlock_3/Dense_1")):
            found[f"{target}mlp.{ours}.weight"] = left.pop(f"{source}{theirs}/kernel").T
            found[f"{target}mlp.{ours}.bias"] = left.pop(f"{source}{theirs}/bias")
        block += 1
    left = {name.replace("/", "."): array for name, array in left.items()}
    if unknown := [name for name in left if not name.startswith(("head.", "pre_logits."))]:
        raise ValueError(f"unknown array {unknown[0]}")
    return {name: tensor.float().contiguous() for name, tensor in (found | left).items()}


# prefixes in the authors' checkpoints of pre-training and of fine-tuning
AUTHORS = ("visual.vit.transformer.", "transformer.")
AUTHORS_BLOCK = {
    "attention_norm": "norm1",
    "ffn_norm": "norm2",
    "attn.out": "attn.proj",
    "ffn.fc1": "mlp.fc1",
    "ffn.fc2": "mlp.fc2",
}
AUTHORS_EMBEDDING = {
    "embeddings.cls_token": "cls_token",
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.patch_embeddings.weight": "patch_embed.proj.weight",
    "embeddings.patch_embeddings.bias": "patch_embed.proj.bias",
    "encoder.encoder_norm.weight": "norm.weight",
    "encoder.encoder_norm.bias": "norm.bias",
}
# Tensors by which a vision transformer is known, in timm's layout and in that of the authors.
LAYOUTS = (
    (
        *(
            "cls_token",
            "pos_embed",
            "patch_embed.proj.weight",
            "patch_embed.proj.bias",
            "norm.weight",
            "norm.bias",
        ),
        *(
            "blocks.0.norm1.weight",
            "blocks.0.norm1.bias",
            "blocks.0.attn.qkv.weight",
            "blocks.0.mlp.fc1.weight",
        ),
    ),
    *(tuple(prefix + name for name in AUTHORS_EMBEDDING) for prefix in AUTHORS),
)


def from_authors(tensors: dict[str, Tensor], origin: str) -> tuple[dict[str, Tensor], list[str]]:
    """The encoder in a checkpoint of the authors' code under timm's names, and the names of all other tensors.

    Those are the report transformer, the view fusion and BERT after pre-training, and the classifier after fine-tuning.
    Another layout is returned unchanged. A tensor of the encoder without a counterpart keeps its name.

    Raises:
        UserError: a block lacks some of query, key and value.
    """
    prefix = next((prefix for prefix in AUTHORS if any(name.startswith(prefix) for name in tensors)), None)
    if prefix is None:
        return tensors, []
    encoder = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    found = {}
    for name in list(encoder):
        parts = name.split(".")
        inner, kind = ".".join(parts[3:-1]), parts[-1]
        if name in AUTHORS_EMBEDDING:
            found[AUTHORS_EMBEDDING[name]] = encoder.pop(name)
        elif name.startswith("encoder.layer.") and inner in AUTHORS_BLOCK:
            found[f"blocks.{parts[2]}.{AUTHORS_BLOCK[inner]}.{kind}"] = encoder.pop(name)
        elif name.startswith("encoder.layer.") and inner == "attn.query":
            three = [name.replace("attn.query", f"attn.{part}") for part in ("query", "key", "value")]
            if lacking := [part for part in three if part not in encoder]:
                raise UserError(f"{origin}: lacks {prefix}{lacking[0]}; use a complete checkpoint")
            found[f"blocks.{parts[2]}.attn.qkv.{kind}"] = torch.cat([encoder.pop(part) for part in three])
    return found | encoder, sorted(name for name in tensors if not name.startswith(prefix))


def is_of_authors(tensors: dict[str, Tensor]) -> bool:
    """Whether a checkpoint has the layout of the authors' code."""
    return any(name.startswith(AUTHORS) for name in tensors)


def resize_positions(positions: Tensor, grid: int) -> Tensor:
    """Position embeddings (n * n, D) -> (grid * grid, D), bilinear over the grid, as the released code; unchanged where n is grid."""
    side = math.isqrt(len(positions))
    if side == grid:
        return positions
    square = positions.T.reshape(1, -1, side, side)
    resized = F.interpolate(square, (grid, grid), mode="bilinear", align_corners=True)
    return resized.flatten(2)[0].T.contiguous()


def resize_as_timm(positions: Tensor, grid: int) -> Tensor:
    """The same by timm's own interpolation, for its checkpoints."""
    # slow to import, so only where it is needed
    from timm.layers import resample_abs_pos_embed

    return resample_abs_pos_embed(positions[None], [grid, grid], num_prefix_tokens=0)[0]


def _check_axes(tensors: dict[str, Tensor], origin: str) -> None:
    """Refuse a kernel that is not (D, C, P, P), a bias that is not (D,), positions that are not (1, N, D) of N > 1 and a class
    token that is not (1, 1, D)."""
    width = None
    kernel = (("patch_embed.proj.weight", 4, 0), ("patch_embed.proj.bias", 1, 0))
    for name, rank, axis in (*kernel, ("pos_embed", 3, 2), ("cls_token", 3, 2)):
        if name not in tensors:
            continue
        shape = tensors[name].shape
        wrong = f"{len(shape)} axes instead of {rank}" if len(shape) != rank else ""
        if not wrong and width not in (None, shape[axis]):
            wrong = f"a width of {shape[axis]} instead of {width}"
        if (
            not wrong
            and rank == 3
            and (shape[0] != 1 or (name == "cls_token") != (shape[1] == 1) or not shape[1])
        ):
            wrong = f"the shape {tuple(shape)}"
        if wrong:
            raise UserError(f"{origin}: {name} has {wrong}; use a plain ViT checkpoint")
        width = shape[axis]


def to_radiograph_transformer(
    tensors: dict[str, Tensor],
    settings: Transformer,
    origin: str,
    resize: Callable[[Tensor, int], Tensor] = resize_positions,
) -> dict[str, Tensor]:
    """timm's tensors, trained with `settings.input` -> the complete state dict of `RadiographTransformer(settings)`.

    Without `settings.input` the weights were trained with the mean and deviation of this pipeline's images.

    Raises:
        UserError: a tensor has no counterpart in the radiograph transformer or is missing, or the activation is ReLU,
            with which these weights compute something else.
    """
    if settings.activation != "gelu":
        raise UserError(f"{origin}: was trained with GELU; set model.activation: gelu for this method")
    left = dict(tensors)
    _check_axes(left, origin)
    try:
        kernel, bias = left.pop("patch_embed.proj.weight"), left.pop("patch_embed.proj.bias")
        position, token = left.pop("pos_embed")[0], left.pop("cls_token")[0, 0]
        norm = {name: left.pop(name) for name in ("norm.weight", "norm.bias")}
    except KeyError as error:
        missing = error.args[0]
        raise UserError(f"{origin}: lacks {missing}; use a plain ViT checkpoint with a class token") from None
    ours, blocks = {"attn.qkv": "attention.qkv", "attn.proj": "attention.out"}, {}
    for name in list(left):
        parts = name.split(".")
        if parts[0] == "blocks":
            inner = ".".join(parts[2:4])
            blocks[".".join([*parts[:2], ours.get(inner, inner), *parts[4:]])] = left.pop(name)
    if left:
        wrong = f"{len(left)} tensors have no counterpart in the radiograph transformer, first {min(left)}"
        raise UserError(f"{origin}: {wrong}; use a plain ViT checkpoint")
    if math.isqrt(len(position)) ** 2 == len(position):
        # as in DeiT III and FlexiViT: patches alone have positions
        position = torch.cat([torch.zeros_like(token)[None], position])
    if math.isqrt(len(position) - 1) ** 2 != len(position) - 1:
        wrong = (
            f"pos_embed has {len(position)} positions, which are not a square of patches and a class token"
        )
        raise UserError(f"{origin}: {wrong}; use a plain ViT checkpoint of square images")
    channels = InputChannels(IMAGENET) if settings.channels == 3 else None
    kernel, shifts = InputChannels(settings.input).fold(kernel, channels)
    state = {
        "patch.weight": kernel.flatten(1),
        "patch.bias": bias + shifts,
        "position": resize(position[1:], settings.image_size // settings.patch_size),
        "aggregation": token if settings.class_position else token + position[0],
    }
    if settings.class_position:
        state["aggregation_position"] = position[0]
    if settings.position == "concat":
        eye = torch.eye(len(token))
        state |= {"mix.weight": torch.cat([eye, eye], dim=1), "mix.bias": torch.zeros(len(token))}
    return state | norm | blocks
