"""Class activation maps: exact for the classifier that they explain, and boxes in the pixels of its crop."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import NIH_ROWS, make_nih
from refers import config
from refers.data.adapters import adapter
from refers.errors import UserError
from refers.evaluation import class_activation
from refers.evaluation.localisation import read_maps, read_overlap
from refers.files import file_digest, write_parquet
from refers.model.classifier import Classifier
from refers.model.encoder_file import save_encoder
from refers.model.encoders import build_encoder
from refers.model.vit import Features


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("kind", ["transformer", "resnet18"])
def test_the_mean_of_a_map_is_the_logit(small_model, classes, kind):
    torch.manual_seed(0)
    settings = small_model if kind == "transformer" else config.ResNet(architecture=kind, image_size=64)
    model = Classifier(build_encoder(settings), classes, 0.0).eval()
    images = torch.randn(2, 1, settings.image_size, settings.image_size)
    maps = class_activation.class_activation(model, images)
    logits = model(images)
    logits = logits[:, 1:] - logits[:, :1] if classes == 1 else logits
    torch.testing.assert_close(maps.mean((2, 3)), logits, atol=1e-5, rtol=1e-4)


def test_a_map_keeps_the_places_of_its_tokens(small_model):
    torch.manual_seed(0)
    model = Classifier(build_encoder(small_model), 1, 0.0).eval()
    tokens = model.encoder(torch.randn(1, 1, 32, 32)).tokens
    model.encoder.forward = lambda images: Features(tokens, tokens.mean(1), tokens.mean(1))
    maps = class_activation.class_activation(model, torch.zeros(1))
    binary = model.head(tokens)[0, :, 1] - model.head(tokens)[0, :, 0]
    torch.testing.assert_close(maps[0, 0, 2, 1], binary[2 * 4 + 1])


def test_a_kept_classifier_comes_back(small_model, tmp_path):
    torch.manual_seed(0)
    model = Classifier(build_encoder(small_model), 3, 0.0).eval()
    save_encoder(tmp_path / "c.safetensors", model, {"classes": 3})
    images = torch.randn(2, 1, 32, 32)
    torch.testing.assert_close(
        class_activation.load_classifier(tmp_path / "c.safetensors")(images), model(images)
    )


def test_a_classifier_that_reads_the_aggregation_output_has_no_map(small_model, tmp_path):
    settings = small_model.replace(classifier="aggregation")
    model = Classifier(build_encoder(settings), 3, 0.0)
    save_encoder(tmp_path / "c.safetensors", model, {"classes": 3})
    with pytest.raises(UserError, match="has no class activation map; set classifier: mean"):
        class_activation.load_classifier(tmp_path / "c.safetensors")


@pytest.mark.parametrize("name", ["convnext_atto", "vit_tiny_patch16_224"])
def test_a_network_that_does_not_read_the_mean_of_its_tokens_has_no_map(name):
    torch.manual_seed(0)
    model = Classifier(build_encoder(config.Timm(name=name, image_size=64)), 3, 0.0).eval()
    with pytest.raises(UserError, match="feature is not the mean of its tokens"):
        class_activation.class_activation(model, torch.randn(1, 1, 64, 64))


@pytest.fixture
def attend(small_model, tmp_path):
    """Runs attend.py on three images of NIH, one of them with a box, and a classifier with its record."""
    download = make_nih(tmp_path / "nih")
    row = f"{NIH_ROWS[2][0]},Mass,0,0,512,512\n"
    (download / "BBox_List_2017.csv").write_text("Image Index,Finding Label,Bbox [x,y,w,h],,,\n" + row)
    index, _ = adapter("nih")(download)
    write_parquet(tmp_path / "index.parquet", index)
    np.save(tmp_path / "images.npy", np.random.default_rng(0).integers(0, 255, (3, 32, 32), np.uint8))
    split = index[["image_id", "patient_id"]].assign(
        row=range(3), split=["train", "val", "test"], **{"label:Mass": np.float32([0, 1, 1])}
    )
    write_parquet(tmp_path / "split.parquet", split)
    torch.manual_seed(0)
    classifier = tmp_path / "classifier.safetensors"
    save_encoder(classifier, Classifier(build_encoder(small_model), 1, 0.0), {"classes": 1})
    record = {"script": "finetune.py", "settings": {}, "seed": 0}
    record["outputs"] = {"classifier": file_digest(classifier), "predictions": "1" * 64}
    record["inputs"] = {"split": file_digest(tmp_path / "split.parquet")}
    (tmp_path / "run.json").write_text(json.dumps(record))
    script = Path(__file__).parents[1] / "workflow/scripts/attend.py"
    files = ["classifier.safetensors", "split.parquet", "index.parquet", "images.npy", "nih", "out/maps.npz"]
    names = ("classifier", "split", "index", "store", "download", "out")
    given = [word for name, file in zip(names, files, strict=True) for word in (f"--{name}", tmp_path / file)]
    given += ["--layout=nih", "--images", 1, "--threshold", 0.5, "--seed", 0, "--device", "cpu"]
    return lambda: subprocess.run(
        list(map(str, [sys.executable, script, *given])), capture_output=True, text=True
    )


def test_maps_name_what_they_were_made_from(attend, tmp_path):
    done = attend()
    assert done.returncode == 0, done.stderr
    overlap = tmp_path / "out/iou.csv"
    found = read_maps(tmp_path / "out/maps.npz", overlap)
    assert read_overlap(overlap)["image_id"].tolist() == [fact["image_id"] for fact in found.facts]
    assert found.about == {
        "classifier": file_digest(tmp_path / "classifier.safetensors"),
        "split": file_digest(tmp_path / "split.parquet"),
        "predictions": "1" * 64,
        "overlap": file_digest(overlap),
    }


@pytest.mark.parametrize("other", ["split.parquet", "classifier.safetensors"])
def test_a_classifier_of_another_split_or_run_gives_no_map(attend, small_model, tmp_path, other):
    if other == "split.parquet":
        frame = pd.read_parquet(tmp_path / other)
        write_parquet(tmp_path / other, frame.assign(split=["val", "train", "test"]))
    else:
        save_encoder(tmp_path / other, Classifier(build_encoder(small_model), 1, 0.0), {"classes": 1})
    done = attend()
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "classifier.safetensors: " in done.stderr
    assert "rerun finetune.py" in done.stderr
    assert not (tmp_path / "out").exists()
