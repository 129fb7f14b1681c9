"""What every pre-training objective is: the base class whose attributes and hooks the pipeline reads."""

from typing import Any

from torch import Tensor, nn

from refers.config import Optimiser
from refers.model.vit import Encoder


class PretrainingObjective(nn.Module):
    """Base of the `Objective` in each file of refers/methods/, built by `__init__(encoder, settings, context)`.

    Attributes:
        unit: "study" (a batch item is a study with its views and its report; `Settings` extends `StudySettings`),
            "image", or "crop" (a visual word in an image, for methods with `pretrain.words`; `Settings` extends
            `CropSettings`).
        encoder: what is saved; `__init__` keeps it.
        settings: the file's `Settings`, put there by `build_objective`; the pipeline reads how to draw views and crops.
        crops: augmentations of an image in a step; in validation the first is the image as it is.
        batch_dependent: terms of the loss that relate the items of a batch, such as negatives. Where a batch does not
            fit into memory and gradients are accumulated, `run.json` names them as computed per micro-batch.
    """

    unit: str
    encoder: Encoder
    settings: Any
    crops: int = 1
    batch_dependent: str = ""

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Scalar losses of a batch, of which the one named "loss" is minimised."""
        raise NotImplementedError

    def lr_overrides(self, optimiser: Optimiser) -> dict[str, float]:
        """Prefix of parameter names -> peak learning rate of its own."""
        return {}

    def before_step(self) -> None:
        """For what `forward` leaves to it: a batch that does not fit into memory comes again."""

    def after_step(self) -> None:
        """Called after the update."""
