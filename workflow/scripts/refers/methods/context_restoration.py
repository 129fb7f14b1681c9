"""Context Restoration: put swapped patches back in place.

Paper: L. Chen et al., "Self-supervised learning for medical image analysis using image context restoration", Medical
Image Analysis 58 (2019). Pairs of small disjoint patches swap places, a fixed number of times in a row; the network
restores the original under a squared error. Compared in REFERS, §4, baselines.

Ours: number of swaps and patch sides (the publication's could not be confirmed) are 20 and 16 to 32 pixels of 224,
drawn per image and off the transformer's grid, on which the task would shrink to spotting permuted tokens; the shared
restoration decoder instead of the original's.
"""

from functools import partial
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from refers.config import Interval, Section
from refers.methods import Context
from refers.methods.common.restoration import Restoration
from refers.model.vit import Encoder

TRIES = 16


class Settings(Section):
    """Options of context restoration."""

    swaps: int = Field(20, ge=0, le=1000, description="Swaps in a row.")
    patch: Annotated[tuple[float, float], Interval(0.01, 0.5)] = Field(
        (1 / 14, 1 / 7), description="Range of a patch's side as a share of the image's."
    )
    decoder_width: int = Field(
        768, ge=0, le=4096, description="Channels at the start of the restoration decoder; 0: a linear one."
    )


def swap_patches(images: Tensor, swaps: int, smallest: int, largest: int) -> Tensor:
    """Swap `swaps` pairs of disjoint square patches in a row, in every image (B, 1, S, S), with one patch size per image.

    The result is a permutation of the pixels. A pair is drawn up to 16 times until it is disjoint; failing that, the
    swap is left out.
    """
    count, side, device = len(images), images.shape[-1], images.device
    # Patches differ in size, but all are swapped at once: an extra place takes the entries beyond a patch's pixels.
    flat = F.pad(images.flatten(), (0, 1))
    size = torch.randint(smallest, largest + 1, (count, 1), device=device)
    ticks = torch.arange(largest, device=device)
    inside = (ticks < size)[:, :, None] & (ticks < size)[:, None, :]
    start = torch.arange(count, device=device) * side * side
    offset = (ticks[:, None] * side + ticks)[None] + start[:, None, None]
    for _ in range(swaps):
        # corners of both patches: (B, tries, first or second, row or column)
        corner = (torch.rand(count, TRIES, 2, 2, device=device) * (side - size + 1)[..., None, None]).long()
        apart = ((corner[:, :, 0] - corner[:, :, 1]).abs() >= size[..., None]).any(-1)
        best = apart.int().argmax(1)
        corner = corner[torch.arange(count, device=device), best]
        where = inside & apart.any(1)[:, None, None]
        place = (corner[..., 0] * side + corner[..., 1])[..., None, None]
        first, second = (torch.where(where, offset + place[:, n], images.numel()) for n in (0, 1))
        kept = flat[first]
        flat[first] = flat[second]
        flat[second] = kept
    return flat[:-1].view_as(images)


class Objective(Restoration):
    """Restoration of swapped patches."""

    def __init__(self, encoder: Encoder, settings: Settings, context: Context) -> None:
        side = encoder.settings.image_size
        smallest, largest = (max(2, round(share * side)) for share in settings.patch)
        swap = partial(swap_patches, swaps=settings.swaps, smallest=smallest, largest=largest)
        super().__init__(encoder, settings.decoder_width, swap)
