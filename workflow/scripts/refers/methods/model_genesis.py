"""Model Genesis: restore radiographs from local shuffling, non-linear intensities, in- and out-painting.

Paper: Z. Zhou et al., "Models Genesis", Medical Image Analysis 67 (2021). Compared in REFERS, §4, baselines. Written
from the publication's description: probabilities 0.5 (shuffling), 0.9 (intensity), 0.9 (painting, of which a fifth in-painting),
squared error over all pixels, sigmoid output.

Ours: two dimensions instead of CT cubes; 1,000 shuffling windows of up to a tenth of the side (the original's 10,000
change no more than 99 % instead of 89 % of the pixels); the flip of the shared augmentation; the shared restoration decoder
and budget; its SGD at a rate of 1.0, meant for a batch-normalised U-Net, is one candidate of the pilot. A window's
permutation comes from a bank of eight for each window size.
"""

import torch
from pydantic import Field
from torch import Tensor

from refers.config import Section
from refers.methods import Context
from refers.methods.common import distortions
from refers.methods.common.restoration import Restoration
from refers.model.vit import Encoder

BOXES = 5


class Settings(Section):
    """Options of Model Genesis."""

    shuffle: float = Field(0.5, ge=0, le=1, description="Probability of local shuffling.")
    windows: int = Field(1000, ge=1, le=10000, description="Shuffling windows.")
    intensity: float = Field(0.9, ge=0, le=1, description="Probability of the non-linear intensity map.")
    paint: float = Field(0.9, ge=0, le=1, description="Probability of painting.")
    inpaint: float = Field(
        0.2, ge=0, le=1, description="Share of in-painting in painting; the rest is out-painting."
    )
    decoder_width: int = Field(
        768, ge=0, le=4096, description="Channels at the start of the restoration decoder; 0: a linear one."
    )


def distort(images: Tensor, settings: Settings) -> Tensor:
    """All distortions in their published order, drawn per image: (B, 1, S, S) in [0, 1]."""
    count, device = len(images), images.device

    def chosen(probability: float) -> Tensor:
        return (torch.rand(count, device=device) < probability).view(-1, 1, 1, 1)

    # Drawn on the host, which then knows their number without waiting for the device.
    picked = distortions.to_device((torch.rand(count) < settings.shuffle).nonzero()[:, 0], device)
    found = images.clone()
    found[picked] = distortions.shuffle_locally(
        images[picked], settings.windows, max(1, images.shape[-1] // 10)
    )
    curved = distortions.apply_curves(found, distortions.intensity_curves(count, device))
    found = torch.where(chosen(settings.intensity), curved, found)
    inside = chosen(settings.inpaint)
    painted = torch.where(
        inside, distortions.paint_inside(found, 0, BOXES), distortions.paint_outside(found, BOXES)
    )
    return torch.where(chosen(settings.paint), painted, found)


class Objective(Restoration):
    """Restoration of Model Genesis' distortions."""

    def __init__(self, encoder: Encoder, settings: Settings, context: Context) -> None:
        super().__init__(encoder, settings.decoder_width, lambda images: distort(images, settings))
