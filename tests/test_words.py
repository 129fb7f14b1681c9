"""Visual words: their discovery, their crops in a batch, and TransVW's loss."""

import dataclasses
import math
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import WORDS
from refers import config
from refers.data import visual_words
from refers.data.mimic_studies import MimicStudies
from refers.data.visual_words import COLUMNS, discover, is_informative, principal_components, thumbnails
from refers.errors import UserError
from refers.methods import build_objective, transvw
from refers.model.encoders import build_encoder
from refers.training import augment
from refers.training.pretraining import pretraining_task


@pytest.fixture(scope="module")
def found(studies):
    return discover(studies, WORDS)


def test_every_word_has_its_instances_at_one_place(found):
    assert list(found.columns) == COLUMNS
    assert sorted(found["label"].unique()) == list(range(WORDS.count))
    assert (found.groupby(["label", "split"]).size().unstack() == [6, 3]).all(None)
    assert (found.groupby("label")[["x", "y", "size"]].nunique() == 1).all(None)
    assert not found.duplicated(["label", "image_id"]).any()


def test_words_keep_their_distance_and_stay_inside(studies):
    spread = WORDS.replace(distance=0.3, count=4)
    found = discover(studies, spread).drop_duplicates("label")
    corners = found[["y", "x"]].to_numpy()
    assert all(np.hypot(*(a - b)) >= 0.3 * 36 for a, b in combinations(corners, 2))
    assert corners.min() >= 0
    assert corners.max() + found["size"].iloc[0] <= 36


def test_held_out_images_stay_held_out(studies, found):
    split = {
        name: set(studies.image_ids[studies.images_of(members)[0]])
        for name, members in studies.splits.items()
    }
    for name, part in found.groupby("split"):
        assert set(part["image_id"]) <= split[name]
    assert not set(found["image_id"]) - set(studies.image_ids[studies.frontal])


def test_a_word_is_its_reference_and_the_images_nearest_to_it(studies, monkeypatch):
    references, free_corner = [], visual_words._free_corner

    def watched(image, *others):
        corner = free_corner(image, *others)
        if corner is not None:
            references.append(image.copy())
        return corner

    monkeypatch.setattr(visual_words, "_free_corner", watched)
    found = discover(studies, WORDS)
    rows = {name: studies.images_of(members)[0] for name, members in studies.splits.items()}
    rows = {name: rows[name][studies.frontal[rows[name]]] for name in ("train", "val")}
    features = principal_components(
        {name: thumbnails(studies.store, part) for name, part in rows.items()}, WORDS.features
    )
    assert len(references) == WORDS.count
    assert found[(found["rank"] == 0) & (found["split"] == "train")]["image_id"].is_unique
    for label, image in enumerate(references):
        place = next(place for place, row in enumerate(rows["train"]) if (studies.store[row] == image).all())
        for split, part in found[found["label"] == label].groupby("split"):
            away = np.linalg.norm(features[split] - features["train"][place], axis=1)
            names = studies.image_ids[rows[split][np.argsort(away, kind="stable")[: len(part)]]]
            assert part.sort_values("rank")["image_id"].tolist() == names.tolist()
            if split == "train":
                assert away.min() == away[place] == 0
                assert part[part["rank"] == 0]["image_id"].item() == studies.image_ids[rows["train"][place]]


def test_splits_are_measured_on_the_same_components(studies):
    rows = np.arange(len(studies.store))
    features = principal_components(
        {name: thumbnails(studies.store, rows) for name in ("train", "val")}, 1024
    )
    np.testing.assert_allclose(features["train"], features["val"], atol=1e-3)


def test_all_components_keep_all_distances(studies):
    images = thumbnails(studies.store, np.arange(20))
    plain = images - images.mean(1, keepdims=True, dtype=np.float32)
    plain /= plain.std(1, keepdims=True)
    features = principal_components({"train": images}, 1024)["train"]
    away = np.linalg.norm(features[:, None] - features, axis=2)
    np.testing.assert_allclose(away, np.linalg.norm(plain[:, None] - plain, axis=2), atol=0.05)


def test_thumbnails_average_areas():
    store = np.random.default_rng(0).integers(0, 256, (3, 64, 64), dtype=np.uint8)
    expected = store.reshape(3, 32, 2, 32, 2).mean((2, 4)).reshape(3, -1)
    assert np.abs(thumbnails(store, np.arange(3)) - expected).max() <= 0.5


def test_the_seed_decides(studies, found):
    pd.testing.assert_frame_equal(discover(studies, WORDS), found)
    other = discover(studies, WORDS.replace(seed=1))
    assert not other[["x", "y"]].equals(found[["x", "y"]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": 500, "distance": 0.2}, r"\d+ of 500 words.*lower words\.count or words\.distance"),
        ({"instances": 100}, r"\d+ frontal train images, .*100 .*words\.instances"),
        ({"held_out": 100}, r"\d+ frontal val images, .*100 .*words\.held_out"),
    ],
)
def test_impossible_wishes_are_one_line(studies, change, message):
    with pytest.raises(UserError, match=message):
        discover(studies, WORDS.replace(**change))


def test_black_and_flat_crops_are_no_words():
    busy = np.random.default_rng(0).integers(40, 200, (20, 20))
    assert is_informative(busy, WORDS)
    assert not is_informative(np.where(np.arange(20) < 5, 0, busy), WORDS)
    assert not is_informative(np.full((20, 20), 90), WORDS)


def test_the_limits_of_black_and_flat_crops():
    """A standard deviation of 8 grey levels suffices; levels below 16 are black, of which `black` may be."""
    checkers = np.indices((20, 20)).sum(0) % 2
    assert is_informative(100 + 16 * checkers, WORDS)
    assert not is_informative(100 + 15 * checkers, WORDS)
    rows = np.arange(20)[:, None] < 20 * WORDS.black
    assert is_informative(np.where(rows, 15, 100 + 16 * checkers), WORDS)
    rows = np.arange(20)[:, None] < 20 * WORDS.black + 1
    assert not is_informative(np.where(rows, 15, 100 + 16 * checkers), WORDS)
    assert is_informative(np.where(rows, 16, 100 + 16 * checkers), WORDS)


def test_words_come_back_from_their_file(mimic, studies, found):
    assert studies.words == WORDS.count
    crops = studies.crops["train"]
    rows = found[found["split"] == "train"].reset_index(drop=True)
    assert (studies.image_ids[crops["row"]] == rows["image_id"]).all()
    np.testing.assert_array_equal(crops["word"], rows["label"])
    left = (crops["place"][:, 0] + 1) * 18 - rows["size"] / 2
    np.testing.assert_allclose(left, rows["x"], atol=1e-4)
    np.testing.assert_allclose(crops["place"][:, 2] * 36, rows["size"], atol=1e-4)
    members = studies.images_of(np.arange(20))
    owner = dict(zip(*members, strict=True))
    assert [owner[row] for row in crops["row"]] == crops["study"].tolist()


def test_words_of_other_images_are_refused(mimic, tmp_path):
    (tmp_path / "words.csv").write_text("image_id,x,y,size,label,rank,split\nnobody,1,1,9,0,0,train\n")
    with pytest.raises(UserError, match=r"words\.csv: image nobody .*rerun discover_words\.py"):
        MimicStudies(*mimic, words=tmp_path / "words.csv")


@pytest.mark.parametrize("content", [None, "", "image_id,x,y\na,1,1\n"])
def test_words_that_cannot_be_read_are_one_line(mimic, tmp_path, content):
    if content is not None:
        (tmp_path / "words.csv").write_text(content)
    with pytest.raises(UserError, match=r"words\.csv: .*rerun discover_words\.py"):
        MimicStudies(*mimic, words=tmp_path / "words.csv")


def test_an_aimed_crop_shows_its_place():
    images = torch.randint(0, 256, (2, 36, 36), dtype=torch.uint8)
    places = torch.tensor([[(4 + 6) / 18 - 1, (10 + 6) / 18 - 1, 12 / 36]]).repeat(2, 1)
    params = augment.crop_at(
        augment.sample_params(config.Augment(jitter_probability=0.0), 2, 36, 12, torch.device("cpu")), places
    )
    crop = (augment.apply(params, images, 12) * augment.STD + augment.MEAN) * 255
    torch.testing.assert_close(crop[:, 0], images[:, 10:22, 4:16].float(), atol=1e-2, rtol=0)


def test_a_varied_crop_stays_inside_and_near():
    torch.manual_seed(0)
    places = torch.tensor([[-0.5, 0.55, 0.4]]).repeat(500, 1)
    params = augment.identity_params(config.Augment(), 500, 36, 12, torch.device("cpu"))
    params = augment.crop_at(params, places, zoom=(0.78, 1.23), shift=0.156)
    for centre, start in ((params.shift_x, -0.5), (params.shift_y, 0.55)):
        assert float((centre.abs() + params.scale_x).max()) <= 1 + 1e-6
        assert float((centre - start).abs().max()) <= 2 * 0.4 * 0.156 + 0.06
    assert 0.4 * 0.78 <= float(params.scale_x.min()) < 0.32 < 0.48 < float(params.scale_x.max()) <= 0.4 * 1.23
    assert not params.flip.any()
    assert not params.angle.any()


def test_distorting_leaves_the_crop_and_changes_its_copy():
    torch.manual_seed(0)
    clean = torch.rand(64, 1, 64, 64)
    before = clean.clone()
    found = transvw.distort(clean, transvw.Settings().replace(displacement=0.0))
    assert torch.equal(clean, before)
    assert ((found - clean).abs() > 1e-4).flatten(1).any(1).all()


def objective_of(small_model, context, **settings):
    torch.manual_seed(0)
    return build_objective(
        "transvw", build_encoder(small_model), {"hidden": 16, "decoder_width": 32} | settings, context
    )


def test_the_loss_is_restoration_plus_a_hundredth_of_the_words(small_model, context):
    objective = objective_of(small_model, context)
    batch = {"images": torch.randn(5, 1, 32, 32).clamp(-1, 1), "word": torch.tensor([0, 1, 2, 0, 1])}
    losses = objective(batch)
    torch.testing.assert_close(losses["loss"], losses["restoration"] + 0.01 * losses["words"])
    torch.manual_seed(0)
    many = dataclasses.replace(context, words=44)
    start = objective_of(small_model, many)(
        {"images": torch.randn(64, 1, 32, 32).clamp(-1, 1), "word": torch.randint(44, (64,))}
    )
    assert float(start["words"]) == pytest.approx(math.log(44), abs=0.25)


def test_a_method_without_words_says_which_key_is_missing(small_model, context):
    with pytest.raises(UserError, match=r"set pretrain\.words\.count"):
        objective_of(small_model, dataclasses.replace(context, words=0))


def test_a_batch_brings_the_words_of_its_crops(small_model, context, studies, monkeypatch):
    training = config.Training(steps=10, warmup_steps=1, batch_size=4)
    task = pretraining_task(studies, objective_of(small_model, context), training, 32, torch.device("cpu"))
    batch = task.load(0)
    crops = studies.crops["train"]
    for row, word in zip(batch["images"].numpy(), batch["word"].tolist(), strict=True):
        rows = crops["row"][crops["word"] == word]
        assert any((studies.store[number] == row).all() for number in rows)
    seen = {}
    monkeypatch.setattr(task.module, "forward", lambda given: seen.update(given) or {"loss": torch.zeros(())})
    task.loss(batch)
    assert seen["images"].shape == (4, 1, 32, 32)
    assert task.epoch_steps == 18 // 4
    assert "score" in task.validate()
