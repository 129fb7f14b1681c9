"""Distortions of grey radiographs that several restoration methods share, a whole batch at once on its device.

Every function takes images (B, 1, S, S) in [0, 1], leaves them as they are and returns new ones. Draws come from torch's
default generator. Written from the publications' descriptions (Models Genesis, Medical Image Analysis 67, 2021;
TransVW, IEEE TMI 40(10), 2021).
"""

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

MARGIN, AGAIN, BANK = 3, 0.95, 8


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


def boxes(count: int, side: int, smallest: int, largest: int, most: int, device: torch.device) -> Tensor:
    """Union of one to `most` random boxes (each further one with probability 0.95), 3 pixels off the border: (B, 1, S, S) bool."""
    shape = torch.randint(smallest, largest + 1, (count, most, 2), device=device)
    corner = MARGIN + (torch.rand(count, most, 2, device=device) * (side - 2 * MARGIN - shape + 1)).long()
    drawn = (torch.rand(count, most, device=device) < AGAIN).cumprod(1).roll(1, 1)
    drawn[:, 0] = 1
    ticks = torch.arange(side, device=device)
    inside = (ticks >= corner[..., None]) & (ticks < (corner + shape)[..., None])
    covered = inside[:, :, 0, :, None] & inside[:, :, 1, None, :] & drawn.bool()[..., None, None]
    return covered.any(1, keepdim=True)


def paint_inside(images: Tensor, most: int) -> Tensor:
    """In-painting: up to `most` boxes of a sixth to a third of the side become uniform noise."""
    side = images.shape[-1]
    hole = boxes(len(images), side, side // 6, side // 3, most, images.device)
    return torch.where(hole, torch.rand_like(images), images)


def paint_outside(images: Tensor, most: int) -> Tensor:
    """Out-painting: all but up to `most` windows of three to four sevenths of the side becomes uniform noise."""
    side = images.shape[-1]
    window = boxes(len(images), side, side - 4 * side // 7, side - 3 * side // 7, most, images.device)
    return torch.where(window, images, torch.rand_like(images))


@cache
def _bumps(side: int, smoothness: float, device: torch.device) -> Tensor:
    """Gaussian bumps on a coarse grid of knots, (side, knots), scaled so that unit noise on knots is unit noise on pixels."""
    spacing = max(smoothness / 2, 1.0)
    knots = torch.arange(-2 * smoothness, side + 2 * smoothness, spacing)
    bumps = (-(((torch.arange(side)[:, None] + 0.5 - knots) / smoothness) ** 2) / 2).exp()
    return (bumps / bumps.square().sum(1, keepdim=True).sqrt()).to(device)


def displacements(count: int, side: int, distance: float, smoothness: float, device: torch.device) -> Tensor:
    """Smooth random displacement fields (B, S, S, 2) in pixels: Gaussian noise of standard deviation `distance`,
    smoothed over `smoothness` pixels."""
    bumps = _bumps(side, smoothness, device)
    noise = torch.randn(count, 2, bumps.shape[1], bumps.shape[1], device=device)
    return (distance * (bumps @ noise @ bumps.T)).movedim(1, -1)


def warp(images: Tensor, distance: float, smoothness: float) -> Tensor:
    """Elastic deformation, each image by its own field; pixels beyond the border repeat it."""
    side, device = images.shape[-1], images.device
    ticks = (torch.arange(side, device=device) * 2 + 1) / side - 1
    still = torch.stack(torch.meshgrid(ticks, ticks, indexing="xy"), dim=-1)
    grid = still + displacements(len(images), side, distance, smoothness, device) * (2 / side)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)
