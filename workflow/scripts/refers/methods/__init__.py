"""Pre-training objectives, one file a method.

A file defines `Settings` (a frozen dataclass of documented options) and `Objective`, an nn.Module:

- class attribute `unit`: "study" (a batch item is a study with its views and its report), "image", or "crop" (a visual
  word in an image, for methods with `pretrain.words`; `Settings` then has `zoom` and `shift`, see `augment.aim`);
- `__init__(encoder, settings, context)`;
- `forward(batch) -> dict` of scalar losses, the one named "loss" is minimised;
- optional class attribute `crops`: augmentations of an image in a step (1); in validation the first is the image as it is;
- optional attribute `coupled`: what of the loss the items of a batch share, such as negatives. Where a batch does not
  fit into memory and passes in parts, `run.json` names it as what spans a part only;
- optional `rates(optimiser) -> {parameter-name prefix: peak learning rate}`;
- optional `after_step()`; and `before_step()`, for what `forward` leaves to it: a batch that does not fit comes again.

`batch` holds `images` (B, V, 1, S, S) for studies, (B, 1, S, S) for images or (B, crops, 1, S, S) for several crops of
each, augmented and normalised; `tokens` (B, T) report tokens with 0 as padding, already side-swapped where the study
was flipped; `labels` (B, C) with 1 present, 0 absent, -1 uncertain, NaN not mentioned; for crops `word` (B,).
"""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from torch import nn

from refers import config
from refers.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Context:
    """What an objective may need to know about the data: the text encoder's folder, sizes, label names, number of words."""

    text_encoder: Path
    vocabulary: int
    max_length: int
    label_names: tuple[str, ...]
    words: int = 0


def load_objective(name: str) -> tuple[type[nn.Module], type]:
    """The `Objective` and `Settings` of refers/methods/{name}.py.

    Raises:
        UserError: there is no such file.
    """
    try:
        module = import_module(f"refers.methods.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"refers.methods.{name}":
            raise
        raise UserError(
            f"objective {name!r}: no file workflow/scripts/refers/methods/{name}.py; write it or fix the name"
        ) from None
    return module.Objective, module.Settings


def build_objective(name: str, encoder: nn.Module, settings: dict, context: Context) -> nn.Module:
    """An objective around `encoder`, its settings checked."""
    objective, kind = load_objective(name)
    return objective(encoder, config.load(kind, settings, f"{name}.settings"), context)
