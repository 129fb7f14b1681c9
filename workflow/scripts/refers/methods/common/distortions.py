"""Distortions of grey radiographs that several restoration methods share, a whole batch at once on its device.

Every function takes images (B, 1, S, S) in [0, 1], does not change them and returns new ones. Random numbers come from
torch's default generator. Written from the publications' descriptions (Models Genesis, Medical Image Analysis 67, 2021;
TransVW, IEEE TMI 40(10), 2021).
"""

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

MARGIN, AGAIN, BANK = 3, 0.95, 8


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor from host to device without waiting for the work that is queued on the device."""
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)


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

    Where windows overlap the last one counts. All windows are resolved at once: their pixels form one list, in order,
    and each pixel of an image takes the last entry that covers it.
    """
    count, side, device = len(images), images.shape[-1], images.device
    # Drawn on the host, which then knows the length of the list without waiting for the device.
    shape = torch.randint(1, largest + 1, (count, windows, 2))
    entries = int(shape.prod(2).sum())
    shape = to_device(shape, device)
    corner = (torch.rand(count, windows, 2, device=device) * (side - shape + 1)).long().flatten(0, 1)
    which = torch.randint(0, BANK, (count, windows), device=device).flatten()
    height, width = shape.flatten(0, 1).unbind(1)
    image = torch.arange(count, device=device).repeat_interleave(windows, output_size=count * windows)
    origin = image * side * side + corner[:, 0] * side + corner[:, 1]

    area = height * width
    window = torch.repeat_interleave(area, output_size=entries)
    entry = torch.arange(entries, device=device)
    place = entry - (area.cumsum(0) - area)[window]
    source = _permutations(largest, device)[height[window], width[window], which[window], place]
    origin, width = origin[window], width[window]
    last = torch.full((images.numel(),), -1, device=device)
    last.scatter_reduce_(0, origin + place // width * side + place % width, entry, "amax")

    pixels = images.flatten()
    taken = pixels[origin + source // width * side + source % width]
    return torch.where(last >= 0, taken[last.clamp(min=0)], pixels).view_as(images)


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
    """Map images (B, 1, S, S) in [0, 1] through their curves (B, levels), linearly between levels."""
    position = images.flatten(1) * (curves.shape[1] - 1)
    low = position.long().clamp(max=curves.shape[1] - 2)
    start, end = curves.gather(1, low), curves.gather(1, low + 1)
    return (start + (end - start) * (position - low)).view_as(images)


def boxes(
    count: int, side: int, smallest: int, largest: int, fewest: int, most: int, device: torch.device
) -> Tensor:
    """Union of `fewest` to `most` random boxes, each beyond the fewest tried with probability 0.95 until one fails,
    3 pixels off the border: (B, 1, S, S) bool."""
    shape = torch.randint(smallest, largest + 1, (count, most, 2), device=device)
    corner = MARGIN + (torch.rand(count, most, 2, device=device) * (side - 2 * MARGIN - shape + 1)).long()
    tried = torch.rand(count, most, device=device) < AGAIN
    tried[:, :fewest] = True
    ticks = torch.arange(side, device=device)
    inside = (ticks >= corner[..., None]) & (ticks < (corner + shape)[..., None])
    drawn = tried.cumprod(1).bool()[..., None, None]
    return (inside[:, :, 0, :, None] & inside[:, :, 1, None, :] & drawn).any(1, keepdim=True)


def paint_inside(images: Tensor, fewest: int, most: int) -> Tensor:
    """In-painting: `fewest` to `most` boxes of a sixth to a third of the side become uniform noise."""
    side = images.shape[-1]
    hole = boxes(len(images), side, side // 6, side // 3, fewest, most, images.device)
    return torch.where(hole, torch.rand_like(images), images)


def paint_outside(images: Tensor, most: int) -> Tensor:
    """Out-painting: all but one to `most` windows of three to four sevenths of the side becomes uniform noise."""
    side = images.shape[-1]
    window = boxes(len(images), side, side - 4 * side // 7, side - 3 * side // 7, 1, most, images.device)
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
