"""Checkpoints of vision transformers -> the radiograph transformer, or a network of timm, every tensor accounted for.

The radiograph transformer takes three layouts: Google's `ViT-B_16.npz` (JAX names), timm's, and that of the authors' released code, whose pre-trained
network is a plain vision transformer too. All are renamed to timm's first. The result computes what the plain vision
transformer computes on a grey image that its three channels are normalised from: their means and deviations are folded
into the patch kernel and bias (with `channels: 3`, as far as they differ from those of the encoder's channels), the class
token's position, where it has one, is added to the aggregation embedding or stays beside it (`class_position`), and, where
positions are concatenated and projected, the projection starts as [I I].

A vision transformer of timm takes those of further programs by a table of their names (`RENAMED`), without their values
being changed: transformers' Dinov2 and DINOv3, the official DINOv2 and DINOv3, EVA-02, masked autoencoders.
"""

import math
import re
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from refers.config import Transformer
from refers.errors import UserError
from refers.model.layers import IMAGENET, InputChannels

CLASS_TOKEN, POSITIONS = "cls_token", "pos_embed"


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


# ---- a network of timm

# Parts of names in other programs -> timm's. A name that the network does not have goes through all of them, in order.
RENAMED = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        # transformers' Dinov2 and DINOv3, as their files have them and as its fifth version has them in memory
        (r"^embeddings\.(cls_token)$", r"\1"),
        (r"^embeddings\.position_embeddings$", "pos_embed"),
        (r"^embeddings\.register_tokens$", "reg_token"),
        (r"^embeddings\.mask_token$", "mask_token"),
        (r"^embeddings\.patch_embeddings\.(?:projection\.)?", "patch_embed.proj."),
        (r"^(?:encoder\.|model\.)?layer\.(\d+)\.", r"blocks.\1."),
        (r"\.attention\.attention\.(q|k|v)(?:uery|ey|alue)\.", r".attn.\1_proj."),
        (r"\.attention\.(q|k|v)_proj\.", r".attn.\1_proj."),
        (r"\.attention\.(?:output\.dense|o_proj)\.", ".attn.proj."),
        (r"\.layer_scale(\d)\.lambda1$", r".ls\1.gamma"),
        (r"\.mlp\.up_proj\.", ".mlp.fc1."),
        (r"\.mlp\.down_proj\.", ".mlp.fc2."),
        (r"^layernorm\.", "norm."),
        # the official DINOv2 and DINOv3
        (r"^register_tokens$|^storage_tokens$", "reg_token"),
        # EVA-02
        (r"\.mlp\.ffn_ln\.", ".mlp.norm."),
        (r"\.attn\.inner_attn_ln\.", ".attn.norm."),
        (r"\.mlp\.w12\.", ".mlp.fc1."),
        (r"\.mlp\.w1\.", ".mlp.fc1_g."),
        (r"\.mlp\.w2\.", ".mlp.fc1_x."),
        (r"\.mlp\.w3\.", ".mlp.fc2."),
    )
)
# Of pre-training alone, or computed from the size of the image: left out where a network has no such tensor.
UNUSED = re.compile(
    r"mask_token$|decoder_|lm_head\.|bert_encoder\.|bert_mlp\.|rope\.|rope_embed\.|blocks\.\d+\.attn\.rope\."
)
# By which files of other programs are known, beside those that have timm's names.
OTHER_LAYOUTS = (
    LAYOUTS[0],
    ("embeddings.cls_token", "embeddings.position_embeddings", "encoder.layer.0.norm1.weight", "layernorm.weight"),
    *(
        ("embeddings.cls_token", "embeddings.register_tokens", f"{layer}.0.norm1.weight", "norm.weight")
        for layer in ("layer", "model.layer")
    ),
)  # fmt: skip


def to_timm(
    tensors: dict[str, Tensor], wanted: dict[str, Tensor], grid: int, origin: str
) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors of a vision transformer under the names `wanted` by timm's, and the names of those left out.

    What cannot be renamed keeps its name. Positions of another grid are resized by timm's interpolation to `grid`. The last
    norm is that of the pooled feature where a network of masked image modelling becomes one that averages its tokens
    (EVA-02's own rule).

    Raises:
        UserError: query, key and value are incomplete, or a bias of the keys is not zero where the network has none.
    """
    found, left_out = {}, []
    for name, tensor in tensors.items():
        new = name if name in wanted else _renamed(name, wanted)
        if new not in wanted and UNUSED.match(new):
            left_out.append(name)
        elif new in found:
            raise UserError(f"{origin}: has {new} twice, once as {name}; save one network's tensors alone")
        else:
            found[new] = tensor
    _join_projections(found, wanted, origin)
    masked = any(name.endswith("mask_token") for name in left_out)
    if masked and "norm.weight" not in wanted and "fc_norm.weight" in wanted:
        found = {re.sub(r"^norm\.", "fc_norm.", name): tensor for name, tensor in found.items()}
    _fit_positions(found, wanted, grid)
    return found, sorted(left_out)


def _renamed(name: str, wanted: dict[str, Tensor]) -> str:
    for pattern, new in RENAMED:
        name = pattern.sub(new, name)
    # a scale of the layers, a bias of the projections: timm's families name them differently
    for part, other in ((r"\.ls(\d)\.gamma$", r".gamma_\1"), (r"\.(q|v)_bias$", r".\1_proj.bias")):
        renamed = re.sub(part, other, name)
        name = renamed if renamed in wanted else name
    return name


def _join_projections(found: dict[str, Tensor], wanted: dict[str, Tensor], origin: str) -> None:
    """Make one tensor of query, key and value where a network has one, and two biases of one where it has none of the keys."""
    for name in [name for name in found if name.endswith(".q_proj.weight") and name not in wanted]:
        block = name.removesuffix("q_proj.weight")
        for kind in ("weight", "bias"):
            three = [f"{block}{part}_proj.{kind}" for part in "qkv"]
            if kind == "bias" and f"{block}q_bias" in wanted:
                for part in "qv":
                    if f"{block}{part}_proj.bias" in found:
                        found[f"{block}{part}_bias"] = found.pop(f"{block}{part}_proj.bias")
            elif f"{block}qkv.{kind}" in wanted:
                if lacking := [each for each in three if each not in found]:
                    raise UserError(f"{origin}: lacks {lacking[0]}; use a complete checkpoint")
                found[f"{block}qkv.{kind}"] = torch.cat([found.pop(each) for each in three])
    for name in [name for name in found if name.endswith(".qkv.bias") and name not in wanted]:
        block = name.removesuffix("qkv.bias")
        bias = found.pop(name)
        # the official DINOv3 masks the biases of its keys
        mask = found.pop(f"{name}_mask", torch.ones_like(bias))
        query, key, value = torch.where(mask == 0, 0.0, bias * mask).chunk(3)
        if f"{block}q_bias" not in wanted or bool(key.any()):
            raise UserError(
                f"{origin}: has {name}, and the network no bias of its keys; choose another model.name"
            )
        found[f"{block}q_bias"], found[f"{block}v_bias"] = query, value


def _fit_positions(found: dict[str, Tensor], wanted: dict[str, Tensor], grid: int) -> None:
    """Bring positions (1, N, D) to those of the network: without one of the class token, which then has it, and of its grid."""
    if POSITIONS not in found or POSITIONS not in wanted or found[POSITIONS].ndim != 3 or not grid:
        return
    positions, prefix = found[POSITIONS], wanted[POSITIONS].shape[1] - grid**2
    if (
        prefix == 0
        and math.isqrt(positions.shape[1] - 1) ** 2 == positions.shape[1] - 1
        and CLASS_TOKEN in found
    ):
        found[CLASS_TOKEN] = found[CLASS_TOKEN] + positions[:, :1]
        positions = positions[:, 1:]
    side = math.isqrt(max(positions.shape[1] - prefix, 0))
    if side and side**2 == positions.shape[1] - prefix and side != grid:
        classes, patches = positions.split([prefix, side**2], dim=1)
        positions = torch.cat([classes, resize_as_timm(patches[0], grid)[None]], dim=1)
    found[POSITIONS] = positions
