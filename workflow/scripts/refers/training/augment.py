"""Augmentation of a whole batch at once, on the training device (paper §4, data augmentation).

Crop, resize, flip and rotation are one affine sampling of the stored uint8 images; brightness and contrast are
one multiply-add. Draws come from torch's default generator, which the training loop seeds at every step.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from refers.config import Augment

MEAN, STD = 0.5, 0.5  # one grey normalisation for every method, as in the ViT checkpoints of timm


class Draw(NamedTuple):
    """Random parameters of N images; every tensor has shape (N,).

    scale_x, scale_y: side of the sampled window as a share of the stored image; shift_x, shift_y: its centre in
    [-1, 1] coordinates; flip: bool; angle: radians; brightness, contrast: factors.
    """

    scale_x: Tensor
    scale_y: Tensor
    shift_x: Tensor
    shift_y: Tensor
    flip: Tensor
    angle: Tensor
    brightness: Tensor
    contrast: Tensor


def draw(settings: Augment, count: int, stored: int, size: int, device: torch.device) -> Draw:
    """Draw the augmentation of `count` images of `stored` pixels a side that become `size` pixels a side."""

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(count, device=device) * (high - low) + low

    if settings.crop == "area":
        area = uniform(*settings.area)
        root = uniform(*map(math.log, settings.ratio)).exp().sqrt()
        scale_x, scale_y = (area.sqrt() * root).clamp(max=1), (area.sqrt() / root).clamp(max=1)
    else:
        scale_x = scale_y = torch.full((count,), size / stored, device=device)
    jitter = uniform(0, 1) < settings.jitter_probability
    one = torch.ones(count, device=device)
    return Draw(
        scale_x=scale_x,
        scale_y=scale_y,
        shift_x=uniform(-1, 1) * (1 - scale_x),
        shift_y=uniform(-1, 1) * (1 - scale_y),
        flip=uniform(0, 1) < settings.flip,
        angle=uniform(-1, 1) * math.radians(settings.rotation),
        brightness=torch.where(jitter, 1 + settings.brightness * uniform(-1, 1), one),
        contrast=torch.where(jitter, 1 + settings.contrast * uniform(-1, 1), one),
    )


def still(settings: Augment, count: int, stored: int, size: int, device: torch.device) -> Draw:
    """No augmentation: the centre window of `size` pixels, or the whole stored image resized to it."""
    zero, one = torch.zeros(count, device=device), torch.ones(count, device=device)
    scale = one * (size / stored) if settings.evaluation == "centre" else one
    return Draw(scale, scale, zero, zero, zero.bool(), zero, one, one)


def keep_first(still: Draw, drawn: Draw, crops: int) -> Draw:
    """Of the `crops` crops of an image, which follow one another, the first one as in `still`, the others as drawn."""
    first = torch.arange(len(drawn.flip), device=drawn.flip.device) % crops == 0
    return Draw(*(torch.where(first, *pair) for pair in zip(still, drawn, strict=True)))


def repeat_flip(drawn: Draw, views: int) -> Draw:
    """Give the `views` images of a study, which follow one another, the flip of the first one."""
    return drawn._replace(flip=drawn.flip[::views].repeat_interleave(views))


def aim(drawn: Draw, places: Tensor, zoom: tuple[float, float] = (1.0, 1.0), shift: float = 0.0) -> Draw:
    """Crop at given places instead: N rows of the centre (x, y) in [-1, 1] and the side as a share of the stored image.

    Side and centre vary by the range `zoom` and by up to `shift` sides, inside the image. Neither flip nor rotation is
    left: the place is what matters.
    """

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(len(places), device=places.device) * (high - low) + low

    x, y, side = places.unbind(1)
    scale = (side * uniform(*zoom)).clamp(max=1)
    reach = 1 - scale
    x, y = (centre + 2 * side * uniform(-shift, shift) for centre in (x, y))
    still = torch.zeros_like(scale)
    return drawn._replace(
        scale_x=scale,
        scale_y=scale,
        shift_x=x.clamp(-reach, reach),
        shift_y=y.clamp(-reach, reach),
        flip=still.bool(),
        angle=still,
    )


def apply(drawn: Draw, images: Tensor, size: int) -> Tensor:
    """uint8 images (N, H, H) -> normalised float images (N, 1, size, size)."""
    ticks = (torch.arange(size, device=images.device) * 2 + 1) / size - 1
    sign = torch.where(drawn.flip, -1.0, 1.0)
    cos, sin = drawn.angle.cos(), drawn.angle.sin()

    # Built by broadcasting: F.affine_grid is three times slower than the sampling itself.
    def axis(along_x: Tensor, along_y: Tensor, shift: Tensor) -> Tensor:
        return (
            (along_x * sign)[:, None, None] * ticks
            + along_y[:, None, None] * ticks[:, None]
            + shift[:, None, None]
        )

    grid_x = axis(cos * drawn.scale_x, -sin * drawn.scale_y, drawn.shift_x)
    grid_y = axis(sin * drawn.scale_x, cos * drawn.scale_y, drawn.shift_y)
    pixels = images.unsqueeze(1).float()
    sampled = F.grid_sample(pixels, torch.stack([grid_x, grid_y], dim=-1), align_corners=False) / 255
    mean = sampled.mean((1, 2, 3))
    gain = drawn.brightness * drawn.contrast
    offset = drawn.brightness * (1 - drawn.contrast) * mean
    jittered = (sampled * gain[:, None, None, None] + offset[:, None, None, None]).clamp(0, 1)
    return (jittered - MEAN) / STD
