"""Distortions and the decoder of the methods that restore radiographs."""

from collections import Counter

import numpy as np
import pytest
import torch
from refers import config
from refers.errors import UserError
from refers.methods import context_restoration, model_genesis, transvw
from refers.methods.common import distortions
from refers.methods.common.restoration import Restoration, RestorationDecoder
from refers.model.encoders import build_encoder

SIDE = 224
CPU = torch.device("cpu")


@pytest.fixture
def images():
    torch.manual_seed(0)
    # every pixel its own value, so that a permutation can be told from anything else
    return torch.stack([torch.randperm(SIDE * SIDE).view(1, SIDE, SIDE) for _ in range(4)]) / (SIDE * SIDE)


@pytest.mark.parametrize(
    ("swaps", "smallest", "largest"), [(0, 8, 8), (1, 16, 16), (20, 16, 32), (60, 3, 40)]
)
def test_swapping_patches_is_a_permutation_of_a_bounded_share(images, swaps, smallest, largest):
    clean = images.clone()
    swapped = context_restoration.swap_patches(images, swaps, smallest, largest)
    assert torch.equal(images, clean)
    for before, after in zip(images, swapped, strict=True):
        assert torch.equal(before.flatten().sort().values, after.flatten().sort().values)
        changed = (before != after).float().mean()
        assert changed <= 2 * swaps * largest**2 / SIDE**2
        assert (changed > 0) == (swaps > 0)


def test_one_swap_exchanges_two_disjoint_squares_and_swapping_back_restores(images):
    for seed in range(30):
        torch.manual_seed(seed)
        swapped = context_restoration.swap_patches(images, 1, 16, 16)
        for before, after in zip(images, swapped, strict=True):
            assert int((before != after).sum()) == 2 * 16 * 16
        torch.manual_seed(seed)
        assert torch.equal(context_restoration.swap_patches(swapped, 1, 16, 16), images)


def test_replaying_the_swaps_in_reverse_restores(images, monkeypatch):
    draws, rand = [], torch.rand
    monkeypatch.setattr(torch, "rand", lambda *shape, **on: draws.append(rand(*shape, **on)) or draws[-1])
    torch.manual_seed(3)
    swapped = context_restoration.swap_patches(images, 40, 16, 40)
    assert len(draws) == 40
    assert (swapped != images).flatten(1).any(1).all()
    monkeypatch.setattr(torch, "rand", lambda *_shape, **_on: draws.pop())
    torch.manual_seed(3)  # of the sizes
    assert torch.equal(context_restoration.swap_patches(swapped, 40, 16, 40), images)


def test_changed_share_of_twenty_swaps(images):
    torch.manual_seed(1)
    changed = (
        context_restoration.swap_patches(images.repeat(16, 1, 1, 1), 20, 16, 16) != images.repeat(16, 1, 1, 1)
    ).float()
    assert float(changed.mean()) == pytest.approx(0.18, abs=0.02)


def test_local_shuffling_keeps_values_local_and_reads_from_the_original(images):
    torch.manual_seed(0)
    clean = images.clone()
    one = distortions.shuffle_locally(images, 1, 22)
    assert torch.equal(images, clean)
    for before, after in zip(images, one, strict=True):
        assert torch.equal(before.flatten().sort().values, after.flatten().sort().values)
        rows, columns = (
            torch.nonzero(before[0] != after[0]).unbind(1)
            if (before != after).any()
            else (torch.zeros(1), torch.zeros(1))
        )
        assert int(rows.max() - rows.min()) < 22
        assert int(columns.max() - columns.min()) < 22
    many = distortions.shuffle_locally(images, 1000, 22)
    for before, after in zip(images, many, strict=True):
        assert set(after.flatten().tolist()) <= set(before.flatten().tolist())
        assert float((before != after).float().mean()) == pytest.approx(0.89, abs=0.04)


def test_every_permutation_of_the_bank_is_one():
    bank = distortions._permutations(6, torch.device("cpu"))
    for height in range(1, 7):
        for width in range(1, 7):
            found = bank[height, width, :, : height * width].sort(1).values
            assert torch.equal(found, torch.arange(height * width).expand(distortions.BANK, -1))


def test_intensity_curves_are_monotone_between_both_corners():
    torch.manual_seed(0)
    curves = distortions.intensity_curves(500, torch.device("cpu"))
    rising = curves[:, -1] > curves[:, 0]
    assert float(rising.float().mean()) == pytest.approx(0.5, abs=0.07)
    steps = curves.diff(dim=1)
    assert (steps[rising] >= -1e-5).all()
    assert (steps[~rising] <= 1e-5).all()
    ends = torch.where(rising, curves[:, 0], curves[:, -1]), torch.where(rising, curves[:, -1], curves[:, 0])
    torch.testing.assert_close(ends[0], torch.zeros(500), atol=1e-4, rtol=0)
    torch.testing.assert_close(ends[1], torch.ones(500), atol=1e-4, rtol=0)
    identity = torch.linspace(0, 1, 256).expand(2, -1)
    grey = torch.rand(2, 1, 9, 9)
    torch.testing.assert_close(distortions.apply_curves(grey, identity), grey, atol=1e-6, rtol=0)


def test_boxes_keep_off_the_border_and_to_their_sizes():
    torch.manual_seed(0)
    shares = {"inside": [], "outside": []}
    for _ in range(5):
        holes = distortions.boxes(400, SIDE, SIDE // 6, SIDE // 3, 0, 5, CPU)
        assert not holes[..., :3, :].any()
        assert not holes[..., -3:, :].any()
        assert not holes[..., :3].any()
        assert not holes[..., -3:].any()
        windows = distortions.boxes(400, SIDE, SIDE - 4 * SIDE // 7, SIDE - 3 * SIDE // 7, 1, 5, CPU)
        shares["inside"].append(float(holes.float().mean()))
        shares["outside"].append(float(1 - windows.float().mean()))
    # noise in the published loops
    assert np.mean(shares["inside"]) == pytest.approx(0.2232, abs=0.005)
    assert np.mean(shares["outside"]) == pytest.approx(0.456, abs=0.005)


def test_each_box_beyond_the_fewest_is_a_draw():
    torch.manual_seed(0)
    empty = ~distortions.boxes(20_000, 16, 2, 5, 0, 5, CPU).flatten(1).any(1)
    assert float(empty.float().mean()) == pytest.approx(0.05, abs=0.005)
    assert distortions.boxes(2000, 16, 2, 5, 1, 5, CPU).flatten(1).any(1).all()
    single = distortions.boxes(20_000, 16, 2, 2, 0, 1, CPU).flatten(1).sum(1)
    assert set(single.tolist()) == {0, 4}
    # five boxes of one pixel, hardly ever on one place: their number is the number of draws
    number = distortions.boxes(5000, 100, 1, 1, 1, 5, CPU).flatten(1).sum(1)
    assert float((number == 5).float().mean()) == pytest.approx(0.95**4, abs=0.015)


@pytest.fixture
def traced(monkeypatch):
    """Distortions that leave their number in the image instead, the last one rightmost."""

    def trace(module, **numbers):
        for name, number in numbers.items():
            monkeypatch.setattr(
                module.distortions, name, lambda images, *_, number=number: 10 * images + number
            )

    return trace


def test_model_genesis_distorts_in_its_order_at_its_rates_and_never_paints_twice(traced):
    traced(model_genesis, shuffle_locally=1, apply_curves=2, paint_inside=3, paint_outside=4)
    torch.manual_seed(0)
    found = model_genesis.distort(torch.zeros(10_000, 1, 4, 4), model_genesis.Settings())
    assert (found == found[..., :1, :1]).all()
    codes = Counter(f"{int(code)}" for code in found[:, 0, 0, 0].tolist())
    assert codes.keys() <= {"0", *"1234", "12", "13", "14", "23", "24", "123", "124"}
    for number, rate in (("1", 0.5), ("2", 0.9), ("3", 0.18), ("4", 0.72)):
        seen = sum(count for code, count in codes.items() if number in code)
        assert seen / 10_000 == pytest.approx(rate, abs=0.02), number


def test_transvw_warps_and_then_distorts_in_exactly_one_way(traced):
    traced(transvw, warp=5, shuffle_locally=1, apply_curves=2, paint_inside=3, paint_outside=4)
    torch.manual_seed(0)
    found = transvw.distort(torch.zeros(10_000, 1, 4, 4), transvw.Settings())
    assert (found == found[..., :1, :1]).all()
    codes = Counter(int(code) for code in found[:, 0, 0, 0].tolist())
    assert codes.keys() == {51, 52, 53, 54}
    for code, count in codes.items():
        assert count / 10_000 == pytest.approx(0.25, abs=0.02), code


def test_each_distortion_shows_at_its_rate():
    torch.manual_seed(0)
    clean = torch.rand(1, 1, 32, 32).repeat(10_000, 1, 1, 1)
    only = {"shuffle": 0.0, "intensity": 0.0, "paint": 0.0}
    # in-painting, a fifth of painting, is without a box at a rate of 0.05
    for name, rate, seen in (
        ("shuffle", 0.5, 0.5),
        ("intensity", 0.9, 0.9),
        ("paint", 0.9, 0.9 * (1 - 0.2 * 0.05)),
    ):
        settings = model_genesis.Settings(**{**only, name: rate, "windows": 40})
        share = (model_genesis.distort(clean, settings) != clean).flatten(1).any(1).float().mean()
        assert float(share) == pytest.approx(seen, abs=0.02), name
    noisy = model_genesis.distort(clean, model_genesis.Settings(**{**only, "paint": 1.0})) != clean
    border = noisy[:, 0, 0].any(1)  # out-painting reaches the border, in-painting never does
    assert float(border.float().mean()) == pytest.approx(0.8, abs=0.02)
    untouched = ~noisy.flatten(1).any(1)
    assert float(untouched.float().mean()) == pytest.approx(0.2 * 0.05, abs=0.005)


def test_the_same_seed_distorts_the_same_way_and_never_the_input(images):
    clean = images.clone()
    found = []
    for _ in range(2):
        torch.manual_seed(5)
        found.append(model_genesis.distort(images, model_genesis.Settings(windows=50)))
    assert torch.equal(*found)
    assert torch.equal(images, clean)
    assert 0 <= float(found[0].min()) <= float(found[0].max()) <= 1


def test_the_decoder_doubles_up_to_the_image_and_keeps_places():
    torch.manual_seed(0)
    decoder = RestorationDecoder(token_width=12, grid=4, scale=8, width=32)
    tokens = torch.randn(2, 16, 12, requires_grad=True)
    image = decoder(tokens)
    assert image.shape == (2, 1, 32, 32)
    assert 0 < image.min().item() < image.max().item() < 1
    at_paper_size = RestorationDecoder(1536, 14, 16)
    assert at_paper_size(torch.randn(1, 196, 1536)).shape == (1, 1, 224, 224)


@pytest.mark.parametrize(
    ("settings", "width"),
    [
        (config.Transformer(image_size=36, patch_size=12, width=16, heads=2, depth=1, mlp_width=16), 32),
        (config.Transformer(image_size=35, patch_size=7, width=16, heads=2, depth=1, mlp_width=16), 100),
        (config.Transformer(image_size=32, patch_size=8, width=16, heads=2, depth=1, mlp_width=16), 1),
        (config.ResNet(architecture="resnet18", image_size=48), 100),
        (config.Timm(name="vit_tiny_patch16_224", image_size=64), 32),
        (config.Timm(name="vit_tiny_patch16_224", image_size=64), 0),
    ],
    ids=["patches of 12", "patches of 7", "narrowest", "resnet", "timm", "timm, linear"],
)
def test_any_encoder_whose_tokens_tile_the_image_can_restore(settings, width):
    torch.manual_seed(0)
    objective = Restoration(build_encoder(settings), width, lambda images: images * 0.5)
    images = torch.randn(2, 1, settings.image_size, settings.image_size)
    objective({"images": images})["loss"].backward()
    assert all(parameter.grad is not None for parameter in objective.decoder.parameters())


@pytest.mark.parametrize(
    "settings",
    [
        config.ResNet(architecture="resnet18", image_size=70),
        config.Timm(name="vit_tiny_patch16_224", image_size=70),
    ],
    ids=["resnet", "timm"],
)
def test_tokens_that_do_not_tile_the_image_are_one_line(settings):
    with pytest.raises(UserError, match=r"70 pixels are not a multiple of the \d x \d tokens"):
        Restoration(build_encoder(settings), 32, torch.clone)


def test_the_loss_is_the_mean_squared_error_over_all_pixels(small_model):
    torch.manual_seed(0)
    objective = Restoration(build_encoder(small_model), 32, lambda images: images * 0.5).eval()
    clean = torch.rand(3, 1, 32, 32)
    losses = objective({"images": clean * 2 - 1})
    restored = objective.decoder(objective.encoder(clean * 0.5 * 2 - 1).tokens)
    torch.testing.assert_close(losses["loss"], (restored - clean).square().mean())
    unchanged = Restoration(build_encoder(small_model), 32, lambda images: images).eval()
    assert float(unchanged({"images": clean * 2 - 1})["changed"]) == 0


def test_restoration_teaches_the_aggregation_output(small_model):
    torch.manual_seed(0)
    objective = Restoration(build_encoder(small_model), 32, lambda images: images)
    seen = {}
    objective.encoder.norm.register_forward_hook(
        lambda _module, _given, out: (out.retain_grad(), seen.update(out=out))[1]
    )
    objective({"images": torch.randn(2, 1, 32, 32)})["loss"].backward()
    assert seen["out"].grad[:, 0].abs().sum() > 0


def test_four_images_can_be_overfitted(small_model):
    torch.manual_seed(0)
    settings = config.Transformer(
        image_size=32, patch_size=8, width=32, depth=1, heads=2, mlp_width=64, dropout=0.0
    )
    objective = Restoration(build_encoder(settings), 64, lambda images: images)
    batch = {"images": torch.nn.functional.interpolate(torch.rand(4, 1, 4, 4), scale_factor=8) * 2 - 1}
    optimiser = torch.optim.Adam(objective.parameters(), lr=5e-3)
    losses = []
    for _ in range(200):
        loss = objective(batch)["loss"]
        optimiser.zero_grad(), loss.backward(), optimiser.step()
        losses.append(float(loss))
    assert losses[-1] < losses[0] / 10


def test_the_elastic_warp_moves_pixels_smoothly_and_by_the_asked_distance():
    torch.manual_seed(0)
    field = distortions.displacements(40, SIDE, 3.0, 8.0, torch.device("cpu"))
    assert field.shape == (40, SIDE, SIDE, 2)
    assert float(field.std()) == pytest.approx(3, rel=0.03)
    assert float(field[:, :8].std()) == pytest.approx(3, rel=0.1)  # the border moves as the middle does
    # neighbours move together: for a Gaussian of width s the step between pixels has deviation distance / (s sqrt 2)
    assert float(field.diff(dim=1).std()) == pytest.approx(3 / (8 * 2**0.5), rel=0.05)


def test_a_warp_of_no_distance_is_the_image(images):
    torch.testing.assert_close(distortions.warp(images, 0.0, 8.0), images, atol=1e-3, rtol=0)
    warped = distortions.warp(images, 3.0, 8.0)
    assert warped.shape == images.shape
    assert images.min() <= warped.min() <= warped.max() <= images.max()


@pytest.mark.parametrize(("smallest", "largest"), [(SIDE // 6, SIDE // 3), (96, 128)])
def test_one_box_is_a_rectangle_with_sides_in_its_range(smallest, largest):
    torch.manual_seed(0)
    holes = distortions.boxes(200, SIDE, smallest, largest, 1, 1, CPU)[:, 0]
    rows, columns = holes.any(2), holes.any(1)
    assert torch.equal(holes, rows[:, :, None] & columns[:, None, :])
    for sides in (rows.sum(1), columns.sum(1)):
        assert smallest <= int(sides.min()) <= smallest + 3
        assert largest - 3 <= int(sides.max()) <= largest


@pytest.mark.parametrize(
    ("paint", "boxes"), [(distortions.paint_inside, (1, 5)), (distortions.paint_outside, (5,))]
)
def test_painting_changes_nothing_but_what_it_paints_over(images, paint, boxes):
    torch.manual_seed(0)
    clean = images.clone()
    painted = paint(images, *boxes)
    assert torch.equal(images, clean)
    share = (painted != clean).float().mean()
    assert 0.02 < float(share) < 0.9
    unpainted = painted == clean
    if paint is distortions.paint_outside:  # a window of at least 96 x 96 pixels is left
        assert int(unpainted.flatten(1).sum(1).min()) >= 96 * 96


def test_what_is_restored_perfectly_costs_nothing(small_model):
    objective = Restoration(build_encoder(small_model), 32, lambda images: images * 0.5)
    clean = torch.rand(3, 1, 32, 32)
    objective.decoder.forward = lambda tokens: clean
    losses = objective({"images": clean * 2 - 1})
    assert float(losses["loss"]) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("place", [(0, 0), (0, 3), (2, 1), (3, 3)])
@pytest.mark.parametrize("width", [0, 32])
def test_a_token_paints_its_own_block(place, width):
    torch.manual_seed(0)
    decoder = RestorationDecoder(token_width=12, grid=4, scale=8, width=width)
    tokens = torch.randn(1, 16, 12)
    other = tokens.clone()
    other[0, place[0] * 4 + place[1]] += 3
    with torch.no_grad():
        change = (decoder(other) - decoder(tokens)).abs()[0, 0]
    blocks = change.unfold(0, 8, 8).unfold(1, 8, 8).mean((2, 3))
    assert divmod(int(blocks.argmax()), 4) == place
    if not width:
        assert int((blocks > 0).sum()) == 1
