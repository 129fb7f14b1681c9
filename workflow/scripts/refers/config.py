"""Every setting of a training job: type, range, default and meaning, declared once.

A dataclass here is what a script receives as JSON; `workflow/schemas/config.schema.yaml`, which Snakemake
checks and readers use as the manual, is generated from it (`make schema`). Defaults follow the paper; where
the paper is silent they follow the authors' code, and `docs/deviations.md` says so.
"""

import dataclasses
import json
import typing
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal

from refers.errors import UserError


def option(default: Any, doc: str, low: float | None = None, high: float | None = None) -> Any:
    """A documented dataclass field; `low` and `high` are inclusive bounds for numbers."""
    metadata = {"doc": doc, "low": low, "high": high}
    if isinstance(default, type):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Transformer:
    """The radiograph transformer (paper §4.1)."""

    architecture: Literal["transformer"] = option("transformer", "Kind of encoder.")
    image_size: int = option(224, "Side of the square input in pixels.", 8, 1024)
    patch_size: int = option(16, "Side of a square patch in pixels; divides image_size.", 2, 64)
    width: int = option(768, "Width of every token.", 8, 4096)
    depth: int = option(12, "Number of self-attention blocks.", 1, 64)
    heads: int = option(12, "Attention heads; divides width.", 1, 64)
    mlp_width: int = option(3072, "Hidden width of a block's perceptron.", 8, 16384)
    activation: Literal["relu", "gelu"] = option(
        "relu", "Perceptron activation: relu (paper) or gelu (code)."
    )
    position: Literal["concat", "add"] = option(
        "concat", "Position features: concatenated with the patch and projected (paper), or added (code)."
    )
    aggregation: Literal["concat", "add", "none"] = option(
        "concat",
        "Recurrent concatenation after the last block: every patch output p becomes [g; p] (paper), p + g (code), or stays p.",
    )
    classifier: Literal["mean", "aggregation"] = option(
        "mean", "What a view's feature is: mean over the fused patch tokens (paper), or g alone (code)."
    )
    dropout: float = option(0.1, "Dropout after the embedding and twice in each perceptron.", 0, 0.9)

    def __post_init__(self) -> None:
        if self.image_size % self.patch_size:
            raise UserError(
                f"model: image_size {self.image_size} is no multiple of patch_size {self.patch_size}; change one"
            )
        if self.width % self.heads:
            raise UserError(f"model: width {self.width} is no multiple of heads {self.heads}; change one")
        if self.aggregation == "none" and self.classifier == "mean":
            raise UserError(
                "model: aggregation none has no fused tokens to average; set classifier: aggregation"
            )


@dataclass(frozen=True, kw_only=True)
class ResNet:
    """A residual network in the radiograph transformer's place (LSP (ConvNet); Table 3, row 1)."""

    architecture: Literal["resnet18", "resnet50", "resnet101"] = option("resnet101", "Kind of encoder.")
    image_size: int = option(224, "Side of the square input in pixels.", 32, 1024)


@dataclass(frozen=True, kw_only=True)
class Timm:
    """Any image network of the timm library, for methods of your own (docs/add-a-method.md)."""

    architecture: Literal["timm"] = option("timm", "Kind of encoder.")
    name: str = option("", "timm's name of the network, such as convnext_tiny.")
    image_size: int = option(224, "Side of the square input in pixels.", 16, 1024)

    def __post_init__(self) -> None:
        if not self.name:
            raise UserError("model: architecture timm needs a name, such as name: convnext_tiny")


LEFT_OPEN = ("aggregation", "classifier", "dropout")  # of a transformer, by its weights


def mismatch(wanted: dict, found: dict) -> str:
    """The first setting by which weights of the encoder `found` compute something else in `wanted`, in words; or none."""
    for key in sorted((wanted.keys() | found.keys()) - set(LEFT_OPEN)):
        if wanted.get(key) != found.get(key):
            return f"{key} {found.get(key)} instead of {wanted.get(key)}"
    return ""


MODELS = {
    "transformer": Transformer,
    **dict.fromkeys(("resnet18", "resnet50", "resnet101"), ResNet),
    "timm": Timm,
}
Model = Transformer | ResNet | Timm


@dataclass(frozen=True, kw_only=True)
class Augment:
    """Training augmentation, drawn per image and applied to a whole batch at once (paper §4)."""

    crop: Literal["window", "area"] = option(
        "window",
        "window: crop of model size out of the stored image (paper); area: random share of it, resized (code).",
    )
    area: tuple[float, float] = option(
        (0.08, 1.0), "crop area: range of the share of the image's area.", 0.01, 1
    )
    ratio: tuple[float, float] = option(
        (0.75, 4 / 3), "crop area: range of the width-to-height ratio.", 0.1, 10
    )
    flip: float = option(0.5, "Probability of a horizontal flip.", 0, 1)
    rotation: float = option(10.0, "Largest rotation in degrees, either way.", 0, 180)
    brightness: float = option(0.4, "Brightness factor is drawn from [1-x, 1+x].", 0, 1)
    contrast: float = option(0.4, "Contrast factor is drawn from [1-x, 1+x].", 0, 1)
    jitter_probability: float = option(
        0.8, "Probability that an image's brightness and contrast change.", 0, 1
    )
    evaluation: Literal["centre", "whole"] = option(
        "centre", "Without augmentation: the centre window (paper), or the whole stored image resized (code)."
    )


@dataclass(frozen=True, kw_only=True)
class Optimiser:
    """Optimiser and its learning rates (paper §4.2)."""

    name: Literal["sgd", "adam"] = option("sgd", "sgd (transformers) or adam (ResNets).")
    lr: float = option(3e-3, "Peak learning rate of the image side.", 0, 10)
    text_lr: float = option(3e-4, "Peak learning rate of the text encoder.", 0, 10)
    decoder_lr: float = option(3e-4, "Peak learning rate of the report transformer.", 0, 10)
    head_lr: float = option(0.0, "Peak learning rate of the linear classifier; 0 takes lr.", 0, 10)
    momentum: float = option(0.9, "SGD momentum.", 0, 0.999)
    weight_decay: float = option(1e-4, "Weight decay; never on biases.", 0, 1)
    decay_norms: bool = option(False, "Also decay BERT's LayerNorm weights, as the released code does.")
    clip_norm: float = option(0.0, "Largest gradient norm; 0 switches clipping off.", 0, 1e6)
    lookahead_every: int = option(
        0, "Lookahead: synchronise slow weights each N steps; 0 switches it off.", 0, 1000
    )
    lookahead_alpha: float = option(0.5, "Lookahead: step of the slow weights towards the fast ones.", 0, 1)


@dataclass(frozen=True, kw_only=True)
class Training:
    """What every run of the one training loop needs; shared by pre-training and fine-tuning."""

    steps: int = option(300_000, "Optimiser steps.", 1, 10_000_000)
    warmup_steps: int = option(10_000, "Linear warm-up steps; cosine decay to 0 follows.", 0, 10_000_000)
    batch_size: int = option(32, "Studies (or images) in a step.", 1, 65536)
    precision: Literal["bf16", "fp16", "fp32", "apex-o1", "apex-o2"] = option(
        "bf16", "Arithmetic of the forward pass."
    )
    optimiser: Optimiser = option(Optimiser, "Optimiser.")
    augment: Augment = option(Augment, "Augmentation.")
    select: Literal["best", "last"] = option(
        "best", "Keep the weights that validated best, or the last ones."
    )
    validate_every: int = option(0, "Steps between validations; 0 means once an epoch.", 0, 10_000_000)
    checkpoint_every: int = option(1000, "Steps between resume states on disk.", 1, 10_000_000)
    log_every: int = option(50, "Steps between lines in metrics.jsonl.", 1, 1_000_000)
    compile: bool = option(False, "Compile the model with torch.compile.")
    seed: int = option(0, "Seed of initialisation, data order, augmentation and dropout.", 0, 2**31 - 1)

    def __post_init__(self) -> None:
        if self.warmup_steps >= self.steps:
            raise UserError(f"warmup_steps {self.warmup_steps} is not below steps {self.steps}; lower it")


@dataclass(frozen=True, kw_only=True)
class Words:
    """Visual words, for objectives that learn from crops (TransVW)."""

    count: int = option(0, "Visual words to find; 0 finds none.", 0, 10_000)
    instances: int = option(1000, "Training images that show a word, its reference among them.", 1, 1_000_000)
    held_out: int = option(100, "Held-out images that show a word.", 1, 1_000_000)
    size: float = option(0.4, "Side of a word's crop as a share of the image's.", 0.05, 1)
    distance: float = option(0.03, "Smallest distance of two words as a share of the image's side.", 0, 1)
    black: float = option(0.15, "Largest share of black pixels in a reference's crop.", 0, 1)
    features: int = option(64, "Principal components by which images are compared.", 1, 1024)
    seed: int = option(0, "Seed of references and places.", 0, 2**31 - 1)


@dataclass(frozen=True, kw_only=True)
class Pretrain:
    """Pre-training of one encoder on MIMIC-CXR-JPG."""

    objective: str = option("refers", "Objective: the name of a file in workflow/scripts/refers/methods/.")
    init: Literal["scratch", "imagenet"] = option(
        "scratch",
        "Start of the encoder: random, or the encoder of the method `imagenet`, whose activation it then takes over."
        " Only a radiograph transformer of the same sizes and positions can start there.",
    )
    model: Model = option(Transformer, "The encoder; `architecture` says which kind.")
    training: Training = option(Training, "The training loop.")
    words: Words = option(Words, "Visual words, where the objective learns from crops.")
    settings: dict = option(dict, "Settings of the objective, as its file's `Settings` declares them.")


@dataclass(frozen=True, kw_only=True)
class Finetune:
    """Fine-tuning of one encoder on one dataset, label ratio and seed."""

    training: Training = option(Training, "The training loop.")
    dropout: float = option(0.0, "Dropout before the linear classifier.", 0, 0.9)
    evaluation_batch: int = option(256, "Images in a forward pass without gradients.", 1, 65536)


def load(kind: type, values: dict, where: str = "config") -> Any:
    """Build the frozen dataclass `kind` from plain values.

    Raises:
        UserError: unknown key, wrong type, value outside its range or choices; the message names the key's path.
    """
    if not isinstance(values, dict):
        raise UserError(f"{where}: expected a map of settings, found {values!r}")
    hints = typing.get_type_hints(kind)
    known = {entry.name: entry for entry in fields(kind)}
    for key in values:
        if key not in known:
            raise UserError(f"{where}: unknown key {key!r}; known keys are {', '.join(sorted(known))}")
    checked = {
        key: _check(hints[key], value, known[key].metadata, f"{where}.{key}") for key, value in values.items()
    }
    try:
        return kind(**checked)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def load_model(values: dict, where: str) -> Model:
    """Build the settings of an encoder; its `architecture` (default transformer) says of which kind."""
    architecture = values.get("architecture", "transformer") if isinstance(values, dict) else None
    if architecture not in MODELS:
        raise UserError(f"{where}.architecture: {architecture!r} is none of {', '.join(MODELS)}")
    return load(MODELS[architecture], values, where)


def _check(hint: Any, value: Any, metadata: Any, where: str) -> Any:
    if hint == Model:
        return load_model(value, where)
    if is_dataclass(hint):
        return load(hint, value, where)
    origin, choices = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        if value not in choices:
            raise UserError(f"{where}: {value!r} is none of {', '.join(map(str, choices))}")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple) or len(value) != len(choices):
            raise UserError(f"{where}: expected {len(choices)} numbers, found {value!r}")
        return tuple(_check(part, item, metadata, where) for part, item in zip(choices, value, strict=True))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not hint:
        raise UserError(f"{where}: expected {hint.__name__}, found {value!r}")
    low, high = metadata.get("low"), metadata.get("high")
    if (low is not None and value < low) or (high is not None and value > high):
        raise UserError(f"{where}: {value!r} is outside [{low}, {high}]")
    return value


def parse_json(text: str, where: str) -> dict:
    """The JSON map that a rule passes on the command line."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise UserError(f"{where}: not JSON ({error})") from None


def load_json(kind: type, text: str, where: str) -> Any:
    """Like `load`, from JSON text."""
    return load(kind, parse_json(text, where), where)


def merge(base: dict, *overlays: dict) -> dict:
    """Deep merge: maps are merged key by key, anything else is replaced. Inputs are left as they were."""
    merged = dict(base)
    for overlay in overlays:
        for key, value in overlay.items():
            both_maps = isinstance(value, dict) and isinstance(merged.get(key), dict)
            merged[key] = merge(merged[key], value) if both_maps else value
    return merged


def to_dict(settings: Any) -> dict:
    """Resolved settings as plain values, every default filled in."""
    return dataclasses.asdict(settings)


def json_schema(kind: type) -> dict:
    """JSON schema of a dataclass: the same keys, types, ranges and words."""
    hints = typing.get_type_hints(kind)
    properties = {entry.name: _property(hints[entry.name], entry) for entry in fields(kind)}
    return {
        "description": (kind.__doc__ or "").strip(),
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
    }


def _property(hint: Any, entry: dataclasses.Field) -> dict:
    doc = {"description": entry.metadata["doc"]}
    if hint == Model:
        others = [json_schema(kind) | {"required": ["architecture"]} for kind in (ResNet, Timm)]
        return doc | {"oneOf": [json_schema(Transformer), *others]}
    if is_dataclass(hint):
        return json_schema(hint) | doc
    default = entry.default_factory() if entry.default is dataclasses.MISSING else entry.default
    doc["default"] = list(default) if isinstance(default, tuple) else default
    origin, choices = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return doc | {"enum": list(choices)}
    bounds = {
        name: entry.metadata[key]
        for name, key in (("minimum", "low"), ("maximum", "high"))
        if entry.metadata[key] is not None
    }
    if origin is tuple:
        return doc | {
            "type": "array",
            "minItems": len(choices),
            "maxItems": len(choices),
            "items": {"type": "number"} | bounds,
        }
    names = {int: "integer", float: "number", str: "string", bool: "boolean", dict: "object"}
    return doc | {"type": names[hint]} | bounds


def write_schema(template: Path, target: Path) -> None:
    """Render the hand-written top level of the config schema with the generated parts filled in."""
    import yaml

    from refers.files import write_text

    schema = yaml.safe_load(template.read_text(encoding="utf-8"))
    schema["$defs"] = {kind.__name__.lower(): json_schema(kind) for kind in (Pretrain, Finetune)}
    header = f"# Generated by `make schema` from {template.name} and workflow/scripts/refers/config.py; edit those.\n"
    write_text(target, header + yaml.safe_dump(schema, sort_keys=False, width=120))


if __name__ == "__main__":
    folder = Path(__file__).parents[2] / "schemas"
    write_schema(folder / "config.template.yaml", folder / "config.schema.yaml")
