"""Properties of the batched augmentation."""

import math

import pytest
import torch
from refers import config
from refers.training import augment
from torch.nn import functional as F

CPU = torch.device("cpu")
PLAIN = config.Augment(rotation=0.0, brightness=0.0, contrast=0.0, flip=0.0)


@pytest.fixture
def images():
    torch.manual_seed(0)
    return torch.randint(0, 256, (6, 40, 40), dtype=torch.uint8)


def pixels(batch):
    return (batch[:, 0] * augment.STD + augment.MEAN) * 255


def test_without_augmentation_the_centre_or_the_whole_image_is_read(images):
    centre = augment.apply(augment.identity_params(config.Augment(), 6, 40, 32, CPU), images, 32)
    torch.testing.assert_close(pixels(centre), images[:, 4:36, 4:36].float(), atol=0.01, rtol=0)
    whole = augment.identity_params(config.Augment(evaluation="whole"), 6, 40, 20, CPU)
    halves = F.interpolate(images[:, None].float(), (20, 20), mode="bilinear")[:, 0]
    torch.testing.assert_close(pixels(augment.apply(whole, images, 20)), halves, atol=0.01, rtol=0)


def test_a_flip_mirrors_the_image(images):
    params = augment.identity_params(config.Augment(), 6, 40, 32, CPU)
    straight = augment.apply(params, images, 32)
    mirrored = augment.apply(params._replace(flip=torch.ones(6, dtype=torch.bool)), images, 32)
    torch.testing.assert_close(mirrored, straight.flip(-1), atol=1e-4, rtol=0)


def test_a_quarter_turn_rotates_the_image(images):
    params = augment.identity_params(config.Augment(), 6, 40, 40, CPU)
    turned = augment.apply(params._replace(angle=torch.full((6,), math.pi / 2)), images, 40)
    torch.testing.assert_close(pixels(turned), images.rot90(1, (1, 2)).float(), atol=0.02, rtol=0)


def test_a_window_crop_is_a_window_of_the_image(images):
    torch.manual_seed(1)
    params = augment.sample_params(PLAIN, 6, 40, 32, CPU)
    # shifts are continuous; put them on whole pixels to compare with slices
    place = ((params.shift_x + 0.2) * 20).round(), ((params.shift_y + 0.2) * 20).round()
    params = params._replace(shift_x=place[0] / 20 - 0.2, shift_y=place[1] / 20 - 0.2)
    found = pixels(augment.apply(params, images, 32))
    for image, left, top, crop in zip(images, *(axis.int().tolist() for axis in place), found, strict=True):
        torch.testing.assert_close(crop, image[top : top + 32, left : left + 32].float(), atol=0.05, rtol=0)


def test_brightness_and_contrast_by_hand(images):
    params = augment.identity_params(config.Augment(), 6, 40, 32, CPU)
    plain = pixels(augment.apply(params, images, 32)) / 255
    params = params._replace(brightness=torch.full((6,), 0.8), contrast=torch.full((6,), 0.5))
    brighter = plain * 0.8
    mean = brighter.mean((1, 2), keepdim=True)
    torch.testing.assert_close(
        pixels(augment.apply(params, images, 32)) / 255, (brighter - mean) * 0.5 + mean, atol=1e-4, rtol=0
    )


def test_draws_stay_in_their_ranges():
    torch.manual_seed(0)
    settings = config.Augment(crop="area", area=(0.05, 1.0), ratio=(0.6, 1.0))
    params = augment.sample_params(settings, 5000, 256, 224, CPU)
    area = params.scale_x * params.scale_y
    assert float(area.min()) >= 0.03
    assert float(area.max()) <= 1
    assert float((params.shift_x.abs() + params.scale_x).max()) <= 1 + 1e-6
    assert float(params.flip.float().mean()) == pytest.approx(0.5, abs=0.03)
    assert float(params.angle.abs().max()) <= math.radians(10)
    assert float((params.brightness != 1).float().mean()) == pytest.approx(0.8, abs=0.03)
    assert float(params.contrast.min()) >= 0.6
    assert float(params.contrast.max()) <= 1.4


def test_the_views_of_a_study_share_the_flip():
    torch.manual_seed(0)
    params = augment.repeat_flip(augment.sample_params(config.Augment(), 30, 40, 32, CPU), 3)
    flips = params.flip.view(10, 3)
    assert (flips == flips[:, :1]).all()
    assert flips.any()
    assert not flips.all()
