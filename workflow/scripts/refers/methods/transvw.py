"""TransVW: restore distorted crops and classify the visual word that they show.

Paper: F. Haghighi et al., "Transferable visual words", IEEE TMI 40(10), 2021. Compared in REFERS, §4, baselines, which
describes it as contrasting local patches; the publication's objective is restoration plus classification of words
found by `refers.data.visual_words`. Every crop is warped elastically and then undergoes exactly one of four distortions with equal
chance: local shuffling, a non-linear intensity map, in-painting, out-painting. Loss: squared error + 0.01 x
cross-entropy over the words; the target is the crop before the warp.

Ours: two dimensions, so the warp is scaled to the displacement of 3 pixels that the original's settings give in three;
crops of 0.4 of the side, shifted and zoomed at random in every step by the published ranges instead of two more saved
sizes; no flip and no rotation, since a word is a place; 100 words of 1,000 training images each (the original's 44 of
200 come from far fewer scans); the shared restoration decoder, optimiser and budget.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from refers.config import option
from refers.errors import UserError
from refers.methods import Context, CropSettings
from refers.methods.common import distortions
from refers.methods.common.restoration import Restoration
from refers.training import distributed

KINDS = 4


@dataclass(frozen=True, kw_only=True)
class Settings(CropSettings):
    """Options of TransVW."""

    zoom: tuple[float, float] = option((0.78, 1.23), "Range of a crop's side against the word's.", 0.1, 3)
    shift: float = option(0.156, "Largest shift of a crop, as a share of the word's side.", 0, 1)
    displacement: float = option(
        3 / 224, "Standard deviation of the elastic warp, as a share of the side.", 0, 1
    )
    smoothness: float = option(8 / 224, "Smoothing of the elastic warp, as a share of the side.", 0.01, 1)
    windows: int = option(5, "Windows of local shuffling.", 1, 10000)
    words: float = option(0.01, "Weight of the classification of words.", 0, 100)
    hidden: int = option(1024, "Hidden width of the word classifier.", 1, 8192)
    decoder_width: int = option(
        768, "Channels at the start of the restoration decoder; 0: a linear one.", 0, 4096
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

    def __init__(self, encoder: nn.Module, settings: Settings, context: Context) -> None:
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
