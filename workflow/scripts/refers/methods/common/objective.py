"""What every pre-training objective is: the base class whose attributes and hooks the pipeline reads."""

from typing import Any

from torch import nn

from refers.config import Optimiser
from refers.model.vit import Encoder


class PretrainingObjective(nn.Module):
    """Base of the `Objective` in each file of refers/methods/, built by `__init__(encoder, settings, context)`.

    `forward(batch)` returns a dict of scalar losses, of which the one named "loss" is minimised.

    Attributes:
        unit: what a batch item is: "study" (its views and its report; `Settings` extends `StudySettings`), "image" or
            "crop" (a visual word, for methods with `pretrain.words`; `Settings` extends `CropSettings`).
        encoder: what is saved; `__init__` keeps it. `build_objective` puts the settings beside it.
        crops: augmentations of an image in a step; in validation the first is the image as it is.
        batch_dependent: terms of the loss that relate the items of a batch, such as negatives. Where a batch does not
            fit into memory and gradients are accumulated, `run.json` names them as computed per micro-batch.
    """

    unit: str
    encoder: Encoder
    settings: Any
    crops: int = 1
    batch_dependent: str = ""

    def lr_overrides(self, optimiser: Optimiser) -> dict[str, float]:
        """Prefix of parameter names -> peak learning rate of its own."""
        return {}

    def before_step(self) -> None:
        """For what `forward` leaves to it: a batch that does not fit into memory comes again."""

    def after_step(self) -> None:
        """Called after the update."""
