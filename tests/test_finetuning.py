"""Fine-tuning: the losses, the scores, what picks the weights, and the script on a tiny set."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from authors import preset
from refers import config
from refers.evaluation.metrics import auc
from refers.model.classifier import Classifier, classification_loss, probabilities
from refers.model.encoder_file import read_encoder, save_encoder
from refers.model.encoders import build_encoder
from refers.training import trainer
from refers.training.finetuning import LabelledImages, finetuning_task
from torch.nn import functional as F

ROOT = Path(__file__).parents[1]


def test_binary_and_multi_label_losses_by_hand():
    torch.manual_seed(0)
    logits, labels = torch.randn(6, 3), torch.randint(0, 2, (6, 3)).float()
    sigmoid = logits.sigmoid()
    expected = -(labels * sigmoid.log() + (1 - labels) * (1 - sigmoid).log()).mean()
    torch.testing.assert_close(classification_loss(logits, labels), expected)
    pair, binary = torch.randn(6, 2), torch.randint(0, 2, (6, 1)).float()
    picked = pair.softmax(1)[torch.arange(6), binary[:, 0].long()]
    torch.testing.assert_close(classification_loss(pair, binary), -picked.log().mean())


def test_scores_keep_their_order_where_float32_would_tie():
    logits = torch.tensor([[0.0, 30.0], [0.0, 31.0], [0.0, -40.0]])
    scores = probabilities(logits, 1)
    assert scores.shape == (3, 1)
    assert scores[2] < scores[0] < scores[1] < 1
    np.testing.assert_allclose(probabilities(torch.zeros(1, 3), 3), 0.5)
    torch.testing.assert_close(
        torch.from_numpy(probabilities(logits, 1))[:, 0], F.softmax(logits.double(), 1)[:, 1]
    )


def labelled(rng, count, classes, offset=0):
    frame = pd.DataFrame(
        {"row": np.arange(count) + offset, "image_id": [f"i{offset + n}" for n in range(count)]}
    )
    frame["patient_id"] = frame["image_id"]
    for name in classes:
        frame[f"label:{name}"] = rng.integers(0, 2, count).astype(np.float32)
    return frame


def test_validation_is_the_mean_auc_and_one_without_both_labels_falls_back_to_the_loss(small_model):
    rng = np.random.default_rng(0)
    store = rng.integers(0, 256, (20, 36, 36), dtype=np.uint8)
    frame = labelled(rng, 20, ["A", "B"])
    model = Classifier(build_encoder(small_model), 2, 0.0)
    settings = config.Finetune(evaluation_batch=7)
    data = LabelledImages(store, frame, ["A", "B"])
    scores = finetuning_task(model, data, data, settings, 32, torch.device("cpu")).validate()
    assert scores["score"] == scores["auc"] > 0
    frame["label:A"] = frame["label:B"] = 1.0
    data = LabelledImages(store, frame, ["A", "B"])
    scores = finetuning_task(model, data, data, settings, 32, torch.device("cpu")).validate()
    assert scores["auc"] == -1
    assert scores["score"] == -scores["loss"]


@pytest.mark.parametrize(("images", "epoch"), [(20, 2), (23, 2), (24, 3), (5, 1)])
def test_validation_is_after_every_epoch_of_whole_batches(small_model, tmp_path, images, epoch):
    rng = np.random.default_rng(0)
    store = rng.integers(0, 256, (images, 36, 36), dtype=np.uint8)
    data = LabelledImages(store, labelled(rng, images, ["A"]), ["A"])
    training = config.Training(steps=7, warmup_steps=1, batch_size=8, precision="fp32")
    settings = config.Finetune(training=training)
    model, cpu = Classifier(build_encoder(small_model), 1, 0.0), torch.device("cpu")
    task = finetuning_task(model, data, data, settings, 32, cpu)
    assert task.epoch_steps == epoch
    trainer.fit(task, training, cpu, tmp_path, "x")
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    validated = [record["step"] for record in records if "validation" in record]
    assert validated == sorted({*range(0, 8, epoch), 7})


@pytest.mark.parametrize(
    ("validations", "best"),
    [
        ([(1.0, 0.5), (1.0, 0.3), (1.0, 0.4)], 2),  # of equal AUCs the lowest loss
        ([(0.9, 0.1), (1.0, 0.5), (1.0, 0.5)], 2),  # of equal losses the earliest step; a lower AUC never
        ([(1.0, 0.2), (1.0, 0.3), (1.0, 0.4)], 1),
        ([(0.8, 0.3), (0.9, 0.9), (0.7, 0.1)], 2),
    ],
)
@pytest.mark.parametrize("interrupted", [False, True])
def test_ties_of_the_validation_auc_are_broken_by_its_loss(
    small_model, tmp_path, monkeypatch, validations, best, interrupted
):
    rng = np.random.default_rng(0)
    data = LabelledImages(rng.integers(0, 256, (8, 36, 36), dtype=np.uint8), labelled(rng, 8, ["A"]), ["A"])
    training = config.Training(
        steps=3, warmup_steps=1, batch_size=8, precision="fp32", validate_every=1, checkpoint_every=1
    )
    seen, cpu = [], torch.device("cpu")

    def task(model, stop):
        found = finetuning_task(model, data, data, config.Finetune(training=training), 32, cpu)

        def validate():
            weights = {name: value.clone() for name, value in model.state_dict().items()}
            # the first is of the untrained module
            place = sum("validation" in record for record in running.progress.records) - 1
            if stop and place == 2:
                raise KeyboardInterrupt
            score, loss = (1.0, 0.0) if place < 0 else validations[place]
            seen[max(place, 0) :] = [weights]
            return {"score": score, "auc": score, "loss": loss}

        return dataclasses.replace(found, validate=validate)

    for stop in (True, False) if interrupted else (False,):
        torch.manual_seed(0)
        model = Classifier(build_encoder(small_model), 1, 0.0)
        running = trainer.Trainer.__new__(trainer.Trainer)
        running.__init__(task(model, stop), training, cpu, tmp_path, "x", 0.0)
        if stop:
            with pytest.raises(KeyboardInterrupt):
                running.fit()
        else:
            assert running.start == (2 if interrupted else 0)
            assert running.fit()["best_step"] == best
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, seen[best - 1][name])


@pytest.fixture
def world(tmp_path, small_model):
    """A set whose label is the brightness of the image; validation and test are held out."""
    rng = np.random.default_rng(0)
    frame = labelled(rng, 90, ["Bright"])
    frame["split"] = ["train"] * 50 + ["val"] * 15 + ["test"] * 25
    images = rng.integers(0, 60, (90, 36, 36)) + 120 * frame["label:Bright"].to_numpy(int)[:, None, None]
    np.save(tmp_path / "images.npy", images.astype(np.uint8))
    frame.to_parquet(tmp_path / "split.parquet")
    frame[frame["split"] == "train"][["row", "image_id"]].head(20).to_csv(
        tmp_path / "subset.csv", index=False
    )
    torch.manual_seed(0)
    save_encoder(tmp_path / "encoder.safetensors", build_encoder(small_model), {"method": "x"})
    return tmp_path


def finetune_command(world, out, **training):
    values = {"steps": 40, "warmup_steps": 2, "batch_size": 8, "precision": "fp32", "checkpoint_every": 10}
    values |= {"optimiser": {"name": "adam", "lr": 3e-3}, "validate_every": 10} | training
    command = [
        sys.executable,
        ROOT / "workflow/scripts/finetune.py",
        "--config",
        json.dumps({"training": values}),
    ]
    for name, file in (
        ("encoder", "encoder.safetensors"),
        ("store", "images.npy"),
        ("split", "split.parquet"),
        ("subset", "subset.csv"),
    ):
        command += [f"--{name}", world / file]
    return [*map(str, command), "--seeds", "1", "2", "--device", "cpu", "--out", str(out)]


def finetune(world, out, **training):
    return subprocess.run(finetune_command(world, out, **training), capture_output=True, text=True)


def test_the_script_learns_predicts_and_records(world):
    done = finetune(world, world / "run")
    assert done.returncode == 0, done.stderr
    found = pd.read_parquet(world / "run/seed1/predictions.parquet")
    assert found.groupby("split").size().to_dict() == {"val": 15, "test": 25}
    assert list(found.columns) == ["split", "image_id", "patient_id", "label:Bright", "score:Bright"]
    test = found[found["split"] == "test"]
    assert auc(test[["label:Bright"]].to_numpy(), test[["score:Bright"]].to_numpy())[0] > 0.95
    other = pd.read_parquet(world / "run/seed2/predictions.parquet")
    assert not np.array_equal(found["score:Bright"], other["score:Bright"])
    for seed in (1, 2):
        record = json.loads((world / f"run/seed{seed}/run.json").read_text())
        assert record["settings"]["training"]["seed"] == seed
    assert record["images"] == {"train": 20, "val": 15, "test": 25}
    assert record["encoder"] == {"method": "x"}
    assert {
        "settings_sha256",
        "library_sha256",
        "versions",
        "wall_seconds",
        "peak_memory_mib",
        "inputs",
    } <= record.keys()
    assert sorted(str(path.relative_to(world / "run")) for path in (world / "run").rglob("*.*")) == [
        f"seed{seed}/{name}"
        for seed in (1, 2)
        for name in ("metrics.jsonl", "predictions.parquet", "run.json")
    ]


def test_the_script_follows_the_code_preset(world, small_model):
    """One logit, crops and views of the original picture, a smaller last batch; without the pictures' sizes one line."""
    settings = config.to_dict(preset().finetune_settings("refers", "shenzhen", 100))
    training = {"steps": 41, "warmup_steps": 2, "batch_size": 8, "precision": "fp32"}
    training |= {"optimiser": {"name": "adam", "lr": 3e-3}}
    model = small_model.replace(channels=3, class_position=True, classifier="aggregation")
    save_encoder(world / "encoder.safetensors", build_encoder(model), {"method": "x"})
    command = finetune_command(world, world / "run")
    command[command.index("--config") + 1] = json.dumps(config.merge(settings, {"training": training}))
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "width and height of the pictures are unknown" in done.stderr.splitlines()[-1]
    frame = pd.read_parquet(world / "split.parquet")
    frame.assign(width=36, height=np.arange(len(frame)) % 9 + 30).to_parquet(world / "split.parquet")
    done = subprocess.run([*command, "--keep", "1"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    test = pd.read_parquet(world / "run/seed1/predictions.parquet").query("split == 'test'")
    assert auc(test[["label:Bright"]].to_numpy(), test[["score:Bright"]].to_numpy())[0] > 0.95
    tensors, _, _ = read_encoder(world / "run/seed1/classifier.safetensors")
    assert tensors["head.weight"].shape == (1, small_model.width)
    records = map(json.loads, (world / "run/seed1/metrics.jsonl").read_text().splitlines())
    # 20 images in batches of 8: an epoch has three steps
    assert [each["step"] for each in records if "validation" in each] == [*range(0, 41, 3), 41]


def test_the_same_seed_gives_the_same_predictions(world):
    for name in ("a", "b"):
        assert finetune(world, world / name, steps=10).returncode == 0
    for seed in ("seed1", "seed2"):
        first, second = (pd.read_parquet(world / name / seed / "predictions.parquet") for name in "ab")
        pd.testing.assert_frame_equal(first, second)


@pytest.mark.parametrize(
    "settings",
    [
        config.ResNet(architecture="resnet18", image_size=32),
        config.Timm(name="convnext_atto", image_size=32),
    ],
)
def test_networks_of_other_libraries_are_fine_tuned_too(world, settings):
    save_encoder(world / "encoder.safetensors", build_encoder(settings), {"method": "x"})
    done = finetune(world, world / "run", steps=3)
    assert done.returncode == 0, done.stderr
    assert (world / "run/seed2/predictions.parquet").exists()


def test_seeds_with_subsets_of_their_own_train_on_these(world):
    rows = [(1, row) for row in range(20)] + [(2, row) for row in range(10, 30)]
    lines = "".join(f"{row},i{row},{seed}\n" for seed, row in rows)
    (world / "subset.csv").write_text("row,image_id,seed\n" + lines)
    assert finetune(world, world / "own", steps=10).returncode == 0
    (world / "subset.csv").write_text("row,image_id\n" + "".join(f"{row},i{row}\n" for row in range(10, 30)))
    assert finetune(world, world / "shared", steps=10).returncode == 0
    one, two = (
        [pd.read_parquet(world / name / seed / "predictions.parquet") for name in ("own", "shared")]
        for seed in ("seed1", "seed2")
    )
    assert not one[0].equals(one[1])
    pd.testing.assert_frame_equal(*two)
    (world / "subset.csv").write_text("row,image_id,seed\n1,i1,1\n")
    done = finetune(world, world / "less", steps=10)
    assert done.returncode == 1
    assert "no images of seed 2" in done.stderr.splitlines()[-1]


def test_a_subset_of_other_images_is_refused(world):
    (world / "subset.csv").write_text("row,image_id\n60,i60\n")
    done = finetune(world, world / "run")
    assert done.returncode == 1
    assert "i60 is not a training image" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (world / "run").exists()


def test_a_cut_split_is_refused(world):
    content = (world / "split.parquet").read_bytes()
    (world / "split.parquet").write_bytes(content[: len(content) // 2])
    done = finetune(world, world / "run")
    assert done.returncode == 1
    assert re.search(
        r"split\.parquet: unreadable split file .*; create it with split_dataset\.py", done.stderr
    )
    assert len(done.stderr.splitlines()) == 1
    assert not (world / "run").exists()
