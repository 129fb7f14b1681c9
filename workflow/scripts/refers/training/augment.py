"""Augmentation of a whole batch at once, on the training device (paper §4, data augmentation).

Crop, resize, flip and rotation are one affine sampling of the stored uint8 images; brightness and contrast are
one multiply-add. Parameters are sampled from torch's default generator, which the trainer seeds at every step.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from refers.config import Augment
from refers.errors import UserError
from refers.model.layers import MEAN, STD

# Images that a CPU works through at a time: what a step writes is still in the cache when the next one reads it.
IN_CACHE = 4


class AugmentParams(NamedTuple):
    """Parameters of the augmentation of N images; every tensor has shape (N,).

    scale_x, scale_y: sides of the crop as shares of the stored image's; shift_x, shift_y: its centre in [-1, 1]
    coordinates; flip: bool; angle: radians; brightness, contrast: factors.
    """

    scale_x: Tensor
    scale_y: Tensor
    shift_x: Tensor
    shift_y: Tensor
    flip: Tensor
    angle: Tensor
    brightness: Tensor
    contrast: Tensor


def sample_params(
    settings: Augment, count: int, stored: int, size: int, device: torch.device, aspect: Tensor | None = None
) -> AugmentParams:
    """Random parameters for `count` images of `stored` x `stored` pixels that become `size` x `size`.

    `aspect` (N,) is width over height of the original pictures, of which the stored ones are squashed copies.

    Raises:
        UserError: crops that fit into the original picture are asked for, and its aspect is unknown.
    """

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(count, device=device) * (high - low) + low

    centred = torch.zeros(count, dtype=torch.bool, device=device)
    if settings.crop == "area" and settings.attempts:
        scale_x, scale_y, centred = fitting_crops(settings, _known(aspect))
    elif settings.crop == "area":
        area = uniform(*settings.area)
        root = uniform(*map(math.log, settings.ratio)).exp().sqrt()
        scale_x, scale_y = (area.sqrt() * root).clamp(max=1), (area.sqrt() / root).clamp(max=1)
    else:
        scale_x = scale_y = torch.full((count,), size / stored, device=device)
    jitter = uniform(0, 1) < settings.jitter_probability
    one = torch.ones(count, device=device)
    return AugmentParams(
        scale_x=scale_x,
        scale_y=scale_y,
        shift_x=uniform(-1, 1) * (1 - scale_x) * ~centred,
        shift_y=uniform(-1, 1) * (1 - scale_y) * ~centred,
        flip=uniform(0, 1) < settings.flip,
        angle=uniform(-1, 1) * math.radians(settings.rotation),
        brightness=torch.where(jitter, 1 + settings.brightness * uniform(-1, 1), one),
        contrast=torch.where(jitter, 1 + settings.contrast * uniform(-1, 1), one),
    )


def fitting_crops(settings: Augment, aspect: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sides of a crop of each picture (N,) as shares of the picture's, and which crops must be in its centre (N,).

    As torchvision's and albumentations' RandomResizedCrop: a share of the area and a log-uniform ratio are drawn until both
    sides fit, `attempts` times at most; then the crop is the largest centred one with the allowed ratio nearest to the
    picture's. All draws are made at once.
    """
    shape, device = (settings.attempts, len(aspect)), aspect.device
    smallest, largest = settings.area
    low, high = map(math.log, settings.ratio)
    area = torch.rand(shape, device=device) * (largest - smallest) + smallest
    # of the sides' shares: the ratio of the sides in pixels over that of the picture
    ratio = (torch.rand(shape, device=device) * (high - low) + low).exp() / aspect
    x, y = (area * ratio).sqrt(), (area / ratio).sqrt()
    fits = (x <= 1) & (y <= 1)
    first, none = fits.int().argmax(0, keepdim=True), ~fits.any(0)
    last = aspect.clamp(*settings.ratio) / aspect
    x, y = (drawn.gather(0, first)[0] for drawn in (x, y))
    return torch.where(none, last.clamp(max=1), x), torch.where(none, (1 / last).clamp(max=1), y), none


def identity_params(
    settings: Augment, count: int, stored: int, size: int, device: torch.device, aspect: Tensor | None = None
) -> AugmentParams:
    """No augmentation, by `settings.evaluation`: the centre crop of `size` x `size` pixels of the stored image, all of it,
    or the part of it that is the largest central square of the original picture, of `aspect` (N,) width over height.

    Raises:
        UserError: the aspect is needed and unknown.
    """
    zero, one = torch.zeros(count, device=device), torch.ones(count, device=device)
    scale_x = scale_y = one * (size / stored) if settings.evaluation == "centre" else one
    if settings.evaluation == "short_side":
        known = _known(aspect)
        scale_x, scale_y = (1 / known).clamp(max=1), known.clamp(max=1)
    return AugmentParams(scale_x, scale_y, zero, zero, zero.bool(), zero, one, one)


def _known(aspect: Tensor | None) -> Tensor:
    if aspect is None:
        lacking = "the width and height of the pictures are unknown, which attempts and short_side need"
        raise UserError(f"augment: {lacking}; delete split.parquet and index.parquet and rerun")
    return aspect


def keep_identity_first(identity: AugmentParams, sampled: AugmentParams, crops: int) -> AugmentParams:
    """Of the `crops` consecutive crops of an image, the first one from `identity`, the others from `sampled`."""
    first = torch.arange(len(sampled.flip), device=sampled.flip.device) % crops == 0
    return AugmentParams(*(torch.where(first, *pair) for pair in zip(identity, sampled, strict=True)))


def repeat_flip(params: AugmentParams, views: int) -> AugmentParams:
    """Give the `views` consecutive images of a study the flip of the first one."""
    return params._replace(flip=params.flip[::views].repeat_interleave(views))


def crop_at(
    params: AugmentParams, places: Tensor, zoom: tuple[float, float] = (1.0, 1.0), shift: float = 0.0
) -> AugmentParams:
    """Crop at given places (N, 3) instead: centre x, y in [-1, 1] and side as a share of the stored image's.

    The side varies by a factor in `zoom` and the centre by up to `shift` sides, inside the image. Flip and rotation are
    switched off, since they would move the place.
    """

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(len(places), device=places.device) * (high - low) + low

    x, y, side = places.unbind(1)
    scale = (side * uniform(*zoom)).clamp(max=1)
    reach = 1 - scale
    x, y = ((centre + 2 * side * uniform(-shift, shift)).clamp(-reach, reach) for centre in (x, y))
    zero = torch.zeros_like(scale)
    return params._replace(scale_x=scale, scale_y=scale, shift_x=x, shift_y=y, flip=zero.bool(), angle=zero)


def apply(params: AugmentParams, images: Tensor, size: int) -> Tensor:
    """uint8 images (N, H, H) -> normalised float images (N, 1, size, size)."""
    ticks = (torch.arange(size, device=images.device) * 2 + 1) / size - 1
    sign = torch.where(params.flip, -1.0, 1.0)
    cos, sin = params.angle.cos(), params.angle.sin()

    # Built by broadcasting, x and y apart: F.affine_grid takes longer than the sampling itself.
    def pairs(x: Tensor, y: Tensor) -> Tensor:
        return torch.stack([x, y])[:, :, None, None]

    along_x = pairs(cos * params.scale_x * sign, sin * params.scale_x * sign) * ticks
    along_y = pairs(-sin * params.scale_y, cos * params.scale_y) * ticks[:, None]
    shift = pairs(params.shift_x, params.shift_y)
    gain, lift = (
        factor[:, None, None, None]
        for factor in (params.brightness * params.contrast, params.brightness * (1 - params.contrast))
    )
    count = len(images)
    together = IN_CACHE if images.device.type == "cpu" else max(count, 1)
    done = torch.empty(count, 1, size, size, device=images.device)
    for start in range(0, count, together):
        part = slice(start, start + together)
        grid = (along_x[:, part] + along_y[:, part]).add_(shift[:, part])
        pixels = images[part, None].float()
        sampled = F.grid_sample(pixels, grid.permute(1, 2, 3, 0), align_corners=False).div_(255)
        mean = sampled.mean((1, 2, 3), keepdim=True)
        jittered = sampled.mul_(gain[part]).add_(lift[part] * mean).clamp_(0, 1)
        torch.div(jittered.sub_(MEAN), STD, out=done[part])
    return done
