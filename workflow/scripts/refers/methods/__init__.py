"""Pre-training objectives, one file a method.

A file defines `Settings` (a `refers.config.Section` of documented fields) and `Objective`, an nn.Module:

- class attribute `unit`: "study" (a batch item is a study with its views and its report; `Settings` extends
  `StudySettings`), "image", or "crop" (a visual word in an image, for methods with `pretrain.words`; `Settings` extends
  `CropSettings`);
- `__init__(encoder, settings, context)`, which keeps the encoder as `self.encoder`; `build_objective` puts the settings
  beside it as `self.settings`, where the pipeline reads how to draw views and crops;
- `forward(batch) -> dict` of scalar losses, the one named "loss" is minimised;
- optional class attribute `crops`: augmentations of an image in a step (1); in validation the first is the image as it is;
- optional attribute `batch_dependent`: terms of the loss that relate the items of a batch, such as negatives. Where a
  batch does not fit into memory and gradients are accumulated, `run.json` names them as computed per micro-batch;
- optional `lr_overrides(optimiser) -> {parameter-name prefix: peak learning rate}`;
- optional `after_step()`; and `before_step()`, for what `forward` leaves to it: a batch that does not fit comes again.

`batch` holds `images` (B, V, 1, S, S) for studies, (B, 1, S, S) for images or (B, crops, 1, S, S) for several crops of
each, augmented and normalised; `tokens` (B, T) report tokens with 0 as padding, already side-swapped where the study
was flipped; `labels` (B, C) with 1 present, 0 absent, -1 uncertain, NaN not mentioned; for crops `word` (B,).
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from refers import config
from refers.config import Interval, Section
from refers.errors import UserError

if TYPE_CHECKING:  # a config is checked without torch, whose import takes seconds
    from torch import nn


class StudySettings(Section):
    """What the pipeline asks of an objective whose unit is the study: which views it is shown, and how they are flipped."""

    views: int = Field(3, ge=1, le=8, description="Views of a study in a step.")
    view_sampling: Literal["distinct", "replacement"] = Field(
        "distinct",
        description="distinct: without replacement, repeats only to fill up (paper); replacement: independent draws (code).",
    )
    flip: Literal["study", "view"] = Field(
        "study",
        description="study: all views flip together (paper); view: each on its own, the report follows the first (code).",
    )


class CropSettings(Section):
    """What the pipeline asks of an objective whose unit is the crop: how a crop strays from its word, see `augment.crop_at`."""

    zoom: Annotated[tuple[float, float], Interval(0.1, 3)] = Field(
        (1.0, 1.0), description="Range of a crop's side against the word's."
    )
    shift: float = Field(
        0.0, ge=0, le=1, description="Largest shift of a crop, as a share of the word's side."
    )


UNITS = {"study": StudySettings, "image": Section, "crop": CropSettings}


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
        UserError: there is no such file, or it lacks what the contract above asks for.
    """
    try:
        module = import_module(f"refers.methods.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"refers.methods.{name}":
            raise
        raise UserError(
            f"objective {name!r}: no file workflow/scripts/refers/methods/{name}.py; write it or fix the name"
        ) from None
    if missing := [part for part in ("Objective", "Settings") if not hasattr(module, part)]:
        raise UserError(f"objective {name!r}: {name}.py defines no {missing[0]}; add it")
    unit = getattr(module.Objective, "unit", None)
    if unit not in UNITS:
        raise UserError(
            f"objective {name!r}: unit {unit!r} is none of {', '.join(UNITS)}; set Objective.unit"
        )
    if not issubclass(module.Settings, UNITS[unit]):
        raise UserError(
            f"objective {name!r}: its unit is the {unit}, so its Settings must extend refers.methods.{UNITS[unit].__name__}"
        )
    return module.Objective, module.Settings


def build_objective(name: str, encoder: nn.Module, settings: dict, context: Context) -> nn.Module:
    """An objective around `encoder`, its settings checked and left on it as `settings`.

    Raises:
        UserError: as `load_objective`; a setting that `Settings` does not take; or no `encoder` on the objective.
    """
    objective, kind = load_objective(name)
    checked = config.load(kind, settings, f"{name}.settings")
    built = objective(encoder, checked, context)
    if getattr(built, "encoder", None) is not encoder:
        raise UserError(
            f"objective {name!r}: set self.encoder = encoder in its __init__; that is what is saved"
        )
    built.settings = checked
    return built
