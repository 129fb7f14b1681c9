"""TransVW: restore distorted crops and classify the visual word that they show.

Paper: F. Haghighi et al., "Transferable visual words", IEEE TMI 40(10), 2021. Compared in REFERS, §4, baselines, which
describes it as contrasting local patches; the publication's objective is restoration plus classification of words
found by `refers.data.visual_words`. Every crop is warped elastically and then undergoes exactly one of four distortions with equal
chance: local shuffling, a non-linear intensity map, in-painting, out-painting. Loss: squared error + 0.01 x
cross-entropy over the words; the target is the crop before the warp.

Ours: two dimensions, so the warp is scaled to the displacement of 3 pixels that the original's settings give in three;
crops of 0.4 of the side, shifted and zoomed at random in every step by the published ranges instead of two more saved
sizes; no flip and no rotation, since a word is a place; 100 words of 1,000 training images each (the original's 44 of
200 come from far fewer scans); the shared restoration decoder and budget; its Adam at 1e-3 is one
candidate of the pilot.
"""

from collections.abc import Iterable, Iterator
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from refers.config import Interval
from refers.errors import UserError
from refers.methods import Context, CropSettings
from refers.methods.common import distortions
from refers.methods.common.restoration import Restoration
from refers.model.vit import Encoder
from refers.training import distributed
from refers.training.task import Batch

KINDS = 4


class Settings(CropSettings):
    """Options of TransVW."""

    zoom: Annotated[tuple[float, float], Interval(0.1, 3)] = Field(
        (0.78, 1.23), description="Range of a crop's side against the word's."
    )
    shift: float = Field(
        0.156, ge=0, le=1, description="Largest shift of a crop, as a share of the word's side."
    )
    displacement: float = Field(
        3 / 224, ge=0, le=1, description="Standard deviation of the elastic warp, as a share of the side."
    )
    smoothness: float = Field(
        8 / 224, ge=0.01, le=1, description="Smoothing of the elastic warp, as a share of the side."
    )
    windows: int = Field(5, ge=1, le=10000, description="Windows of local shuffling.")
    words: float = Field(0.01, ge=0, le=100, description="Weight of the classification of words.")
    hidden: int = Field(1024, ge=1, le=8192, description="Hidden width of the word classifier.")
    decoder_width: int = Field(
        768, ge=0, le=4096, description="Channels at the start of the restoration decoder; 0: a linear one."
    )


def distort(images: Tensor, settings: Settings) -> Tensor:
    """Elastic warp, then exactly one of four distortions for each image: (B, 1, S, S) in [0, 1]."""
    side, device = images.shape[-1], images.device
    found = distortions.warp(images, settings.displacement * side, settings.smoothness * side)
    # Drawn on the host, which then knows the number of each without waiting for the device.
    kind = torch.randint(KINDS, (len(images),))
    for number, change in enumerate(
        (
            lambda some: distortions.shuffle_locally(some, settings.windows, max(1, side // 10)),
            lambda some: distortions.apply_curves(some, distortions.intensity_curves(len(some), device)),
            lambda some: distortions.paint_inside(some, 1, 1),
            lambda some: distortions.paint_outside(some, 1),
        )
    ):
        members = distortions.to_device((kind == number).nonzero()[:, 0], device)
        found[members] = change(found[members])
    return found


class Objective(Restoration):
    """Restoration of crops and classification of their words."""

    unit = "crop"

    def __init__(self, encoder: Encoder, settings: Settings, context: Context) -> None:
        if not context.words:
            raise UserError("transvw needs visual words; set pretrain.words.count for this method")
        super().__init__(encoder, settings.decoder_width, lambda images: distort(images, settings))
        self.settings = settings
        self.head = nn.Sequential(
            nn.Linear(encoder.feature_width, settings.hidden),
            nn.ReLU(inplace=True),
            nn.Linear(settings.hidden, context.words),
        )

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        losses, features = self.restoration(batch["images"])
        classified = F.cross_entropy(distributed.gather(self.head(features.pooled)).float(), batch["word"])
        restored = losses.pop("loss")
        return {
            "loss": restored + self.settings.words * classified,
            "restoration": restored,
            "words": classified,
            **losses,
        }

    def trivial_loss(self, batches: Iterable[Batch]) -> float:
        """That of the best constant grey image and of the words' own frequencies."""
        words: list[Tensor] = []

        def passed_on() -> Iterator[Batch]:
            for batch in batches:
                words.append(batch["word"])
                yield batch

        restored = super().trivial_loss(passed_on())
        share = torch.cat(words).bincount().double() / sum(map(len, words))
        return restored + self.settings.words * float(torch.special.entr(share).sum())
