"""Pre-training objectives, one file per method.

A file defines `Settings`, a `refers.config.Section` of documented fields, and `Objective`, which extends
`refers.training.task.PretrainingObjective` and is documented there.

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
    from refers.model.vit import Encoder
    from refers.training.task import PretrainingObjective


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
    """What an objective may need to know about the data: the text encoder's folder (None where the images have no reports),
    sizes, label names, number of words."""

    text_encoder: Path | None
    vocabulary: int
    max_length: int
    label_names: tuple[str, ...]
    words: int = 0


def load_objective(name: str) -> tuple[type[PretrainingObjective], type[Section]]:
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
    from refers.training.task import PretrainingObjective

    if not issubclass(module.Objective, PretrainingObjective):
        raise UserError(
            f"objective {name!r}: Objective must extend refers.training.task.PretrainingObjective"
        )
    unit = getattr(module.Objective, "unit", None)
    if unit not in UNITS:
        raise UserError(
            f"objective {name!r}: unit {unit!r} must be one of {', '.join(UNITS)}; set Objective.unit"
        )
    if not issubclass(module.Settings, UNITS[unit]):
        raise UserError(
            f"objective {name!r}: its unit is the {unit}, so its Settings must extend refers.methods.{UNITS[unit].__name__}"
        )
    return module.Objective, module.Settings


def build_objective(name: str, encoder: Encoder, settings: dict, context: Context) -> PretrainingObjective:
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
