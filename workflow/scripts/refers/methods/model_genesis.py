"""Model Genesis: restore radiographs from local shuffling, non-linear intensities, in- and out-painting.

Paper: Z. Zhou et al., "Models Genesis", Medical Image Analysis 67 (2021). Compared in REFERS, §4, baselines. Written
from the publication's description: rates 0.5 (shuffling), 0.9 (intensity), 0.9 (painting, of which a fifth in-painting),
squared error over all pixels, sigmoid output.

Ours: two dimensions instead of CT cubes; 1,000 shuffling windows of up to a tenth of the side (the original's 10,000
change no more than 99 % instead of 89 % of the pixels); the flip of the shared augmentation; the shared restoration decoder,
optimiser and budget. A window's permutation comes from a bank of eight for each window size.
"""

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from refers.config import option
from refers.methods import Context
from refers.restoration import Restoration

MARGIN, BOXES, AGAIN, BANK = 3, 5, 0.95, 8


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Options of Model Genesis."""

    shuffle: float = option(0.5, "Probability of local shuffling.", 0, 1)
    windows: int = option(1000, "Shuffling windows.", 1, 10000)
    intensity: float = option(0.9, "Probability of the non-linear intensity map.", 0, 1)
    paint: float = option(0.9, "Probability of painting.", 0, 1)
    inpaint: float = option(0.2, "Share of in-painting in painting; the rest is out-painting.", 0, 1)
    decoder_width: int = option(768, "Channels at the start of the restoration decoder.", 16, 4096)


@cache
def _permutations(largest: int, device: torch.device) -> Tensor:
    """Bank of permutations: [height, width, which, place] -> place, for windows up to `largest` a side."""
    generator = torch.Generator().manual_seed(0)
    bank = torch.zeros(largest + 1, largest + 1, BANK, largest * largest, dtype=torch.int64)
    for height in range(1, largest + 1):
        for width in range(1, largest + 1):
            keys = torch.rand(BANK, height * width, generator=generator)
            bank[height, width, :, : height * width] = keys.argsort(1)
    return bank.to(device)


def shuffle_locally(images: Tensor, windows: int, largest: int) -> Tensor:
    """Permute the pixels inside random windows of images (B, 1, S, S): read from the original, written in order.

    Where windows overlap the last one stands. All windows are resolved at once: each pixel asks for the last window
    that covers it and takes the pixel that this window's permutation sends there.
    """
    count, side, device = len(images), images.shape[-1], images.device
    shape = torch.randint(1, largest + 1, (count, windows, 2), device=device)
    corner = (torch.rand(count, windows, 2, device=device) * (side - shape + 1)).long()
    which = torch.randint(0, BANK, (count, windows), device=device)
    ticks = torch.arange(largest, device=device)
    covered = (ticks < shape[..., :1])[..., :, None] & (ticks < shape[..., 1:])[..., None, :]
    pixel = (corner[..., 0] * side + corner[..., 1])[..., None, None] + (ticks[:, None] * side + ticks)
    image, number = (
        part.expand(count, windows)
        for part in (torch.arange(count, device=device)[:, None], torch.arange(windows, device=device))
    )
    last = torch.full((count * side * side,), -1, device=device)
    target = (image * side * side)[..., None, None] + pixel
    last.scatter_reduce_(0, target[covered], number[..., None, None].expand_as(pixel)[covered], "amax")
    changed = torch.nonzero(last >= 0)[:, 0]
    row, within = changed // (side * side), changed % (side * side)
    window = last[changed]
    top, left = corner[row, window].unbind(1)
    height, width = shape[row, window].unbind(1)
    place = (within // side - top) * width + within % side - left
    source = _permutations(largest, device)[height, width, which[row, window], place]
    shuffled = images.clone().flatten()
    origin = row * side * side + (top + source // width) * side + left + source % width
    shuffled[changed] = images.flatten()[origin]
    return shuffled.view_as(images)


def intensity_curves(count: int, device: torch.device, samples: int = 1000, levels: int = 256) -> Tensor:
    """Monotone cubic Bezier maps from (0, 0) to (1, 1), half of them inverted, sampled at `levels` grey levels: (B, levels)."""
    t = torch.linspace(0, 1, samples, device=device)
    inner = torch.rand(count, 2, 2, device=device)
    weights = torch.stack([3 * (1 - t) ** 2 * t, 3 * (1 - t) * t**2])
    x, y = (inner.transpose(1, 2) @ weights + t**3).unbind(1)
    y = torch.where(torch.rand(count, 1, device=device) < 0.5, y.flip(1), y)
    grey = torch.linspace(0, 1, levels, device=device).expand(count, -1).contiguous()
    right = torch.searchsorted(x.contiguous(), grey).clamp(1, samples - 1)
    x0, x1, y0, y1 = x.gather(1, right - 1), x.gather(1, right), y.gather(1, right - 1), y.gather(1, right)
    return y0 + (y1 - y0) * ((grey - x0) / (x1 - x0).clamp(min=1e-8)).clamp(0, 1)


def apply_curves(images: Tensor, curves: Tensor) -> Tensor:
    """Look images (B, 1, S, S) in [0, 1] up in their curves (B, levels), linearly between levels."""
    position = images.flatten(1) * (curves.shape[1] - 1)
    low = position.long().clamp(max=curves.shape[1] - 2)
    start, end = curves.gather(1, low), curves.gather(1, low + 1)
    return (start + (end - start) * (position - low)).view_as(images)


def boxes(count: int, side: int, smallest: int, largest: int, device: torch.device) -> Tensor:
    """Union of one to five random boxes (each further one with probability 0.95), 3 pixels off the border: (B, 1, S, S) bool."""
    shape = torch.randint(smallest, largest + 1, (count, BOXES, 2), device=device)
    corner = MARGIN + (torch.rand(count, BOXES, 2, device=device) * (side - 2 * MARGIN - shape + 1)).long()
    drawn = (torch.rand(count, BOXES, device=device) < AGAIN).cumprod(1).roll(1, 1)
    drawn[:, 0] = 1
    ticks = torch.arange(side, device=device)
    inside = (ticks >= corner[..., None]) & (ticks < (corner + shape)[..., None])
    covered = inside[:, :, 0, :, None] & inside[:, :, 1, None, :] & drawn.bool()[..., None, None]
    return covered.any(1, keepdim=True)


def distort(images: Tensor, settings: Settings) -> Tensor:
    """All distortions in their published order, each image on its own dice: (B, 1, S, S) in [0, 1]."""
    count, side, device = len(images), images.shape[-1], images.device

    def chosen(probability: float) -> Tensor:
        return (torch.rand(count, device=device) < probability).view(-1, 1, 1, 1)

    picked = chosen(settings.shuffle).flatten()
    found = images.clone()
    found[picked] = shuffle_locally(images[picked], settings.windows, max(1, side // 10))
    curved = apply_curves(found, intensity_curves(count, device))
    found = torch.where(chosen(settings.intensity), curved, found)
    noise = torch.rand_like(found)
    painted, inside = chosen(settings.paint), chosen(settings.inpaint)
    hole = boxes(count, side, side // 6, side // 3, device)
    window = boxes(count, side, side - 4 * side // 7, side - 3 * side // 7, device)
    noisy = torch.where(inside, hole, ~window) & painted
    return torch.where(noisy, noise, found)


class Objective(Restoration):
    """Restoration of Model Genesis' distortions."""

    def __init__(self, encoder: nn.Module, settings: Settings, context: Context) -> None:
        super().__init__(encoder, settings.decoder_width, lambda images: distort(images, settings))
