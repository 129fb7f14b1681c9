"""Encoders to take away: timm loads the exports and computes our features; a model card says where weights are from."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import export as export_script
import model_card as card_script
import pytest
import timm
import torch
from helpers import PLAIN_VIT, ROOT
from refers import config
from refers.config.read import read_files
from refers.errors import UserError
from refers.model.encoder_file import save_encoder
from refers.model.encoders import build_encoder
from refers.model.import_checkpoint import import_encoder
from refers.model.layers import MEAN, STD
from refers.sharing import export as sharing
from refers.study.check import check
from safetensors.torch import save_file

SIZES = {"image_size": 32, "patch_size": 8, "width": 48, "depth": 2, "heads": 3, "mlp_width": 100}
ENCODERS = {
    "paper": config.load_model(SIZES),
    "code": config.load_model(
        SIZES
        | {"activation": "gelu", "position": "add", "aggregation": "add", "classifier": "aggregation"}
        | {"channels": 3, "class_position": True}
    ),
    "sum": config.load_model(SIZES | {"aggregation": "add"}),
    "plain": PLAIN_VIT,
    "resnet18": config.load_model({"architecture": "resnet18", "image_size": 64}),
    "convnext": config.load_model({"architecture": "timm", "name": "convnext_atto", "image_size": 64}),
    "standardised": config.load_model(
        {"architecture": "timm", "name": "resnetv2_50x1_bit", "image_size": 64}
    ),
    "options": config.load_model(
        {
            "architecture": "timm",
            "name": "eva02_small_patch14_224",
            "image_size": 32,
            "options": {"patch_size": 16, "depth": 1, "embed_dim": 48, "num_heads": 3, "ref_feat_shape": [2, 2]},
        }
    ),
}  # fmt: skip


def shaken(settings):
    torch.manual_seed(0)
    encoder = build_encoder(settings)
    with torch.no_grad():
        for tensor in encoder.parameters():
            tensor.add_(0.05 * torch.randn_like(tensor))
    return encoder.eval()


def images_for(network, grey):
    """Grey images in [0, 1] as timm's own preprocessing makes them from a picture, resizing aside."""
    about = timm.data.resolve_model_data_config(network)
    mean, std = (torch.tensor(about[key])[:, None, None] for key in ("mean", "std"))
    return (grey.expand(-1, len(mean), -1, -1) - mean) / std


@pytest.mark.parametrize("name", ENCODERS)
def test_timm_loads_an_export_and_computes_our_features(name, tmp_path):
    encoder = shaken(ENCODERS[name])
    feature = sharing.export_encoder(encoder, tmp_path / name)
    network = timm.create_model(f"local-dir:{tmp_path / name}", pretrained=True).eval()
    # a kernel that the network standardises is no sum of three
    assert network.pretrained_cfg["input_size"][0] == (1 if name == "standardised" else 3)
    size = encoder.settings.image_size
    grey = torch.rand(2, 1, size, size)
    with torch.no_grad():
        ours = encoder((grey - MEAN) / STD)
        found = sharing.feature_of(network, images_for(network, grey), feature)
        torch.testing.assert_close(found, ours.pooled, atol=1e-4, rtol=1e-4)
        if isinstance(encoder.settings, config.Transformer):
            tokens = network.forward_features(images_for(network, grey))
            torch.testing.assert_close(tokens[:, 0], ours.aggregation, atol=1e-4, rtol=1e-4)


def test_an_input_that_is_not_folded_is_exported_as_timms_own(tmp_path):
    torch.manual_seed(0)
    plain = timm.create_model("resnet18", num_classes=0).eval()
    save_file(plain.state_dict(), tmp_path / "net.safetensors")
    settings = config.load_model({"architecture": "timm", "name": "resnet18", "image_size": 64})
    encoder, _ = import_encoder(settings, str(tmp_path / "net.safetensors"))
    sharing.export_encoder(encoder.eval(), tmp_path / "out")
    network = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True)
    assert network.pretrained_cfg["mean"] == [0.485, 0.456, 0.406]
    assert all(torch.equal(tensor, network.state_dict()[name]) for name, tensor in plain.state_dict().items())


def test_what_timm_computes_otherwise_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(sharing, "_thirds", lambda kernel: kernel.repeat(1, 3, 1, 1))
    with pytest.raises(UserError, match="timm's network computes something else") as caught:
        sharing.export_encoder(shaken(ENCODERS["paper"]), tmp_path)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


# ---- model cards

RECORD = {
    "settings": config.to_dict(check(read_files([ROOT / "config/config.yaml"])).pretrain_settings("refers")),
    "inputs": {"index": "a" * 64, "store": "b" * 64},
    "library_sha256": "c" * 64,
    "commit": "d" * 40,
    "device": "cpu",
    "versions": {"torch": "2.9"},
    "finished": "2025-01-01T00:00:00Z",
    "studies": {"train": 200, "validate": 20},
    "best_step": 700,
}
STEPS = str(RECORD["settings"]["training"]["steps"])
SOURCE = {
    "name": "mimic",
    "origin": "https://example.org/mimic",
    "access": "a signed agreement",
    "credit": "",
}
FACTS = {"method": "refers", "title": "Our REFERS", "note": "Demo", "checkpoint": "", "sources": [SOURCE]}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    encoder = shaken(ENCODERS["paper"])
    save_encoder(folder / "encoder.safetensors", encoder, {})
    (folder / "run.json").write_text(json.dumps(RECORD))
    return folder, encoder


def run(monkeypatch, script, **options):
    words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
    monkeypatch.setattr(sys, "argv", ["script.py", *words])
    script.main()


def test_a_model_card_has_data_terms_and_code_that_loads_the_encoder(made, monkeypatch):
    """The code runs in a process of its own, with the library on its path, and needs no Snakemake."""
    folder, encoder = made
    options = {"encoder": folder / "encoder.safetensors", "record": folder / "run.json"}
    run(monkeypatch, card_script, **options, facts=json.dumps(FACTS), out=folder / "README.md")
    text = (folder / "README.md").read_text()
    for fact in (
        "Our REFERS",
        "refers",
        STEPS,
        "a" * 64,
        "b" * 64,
        "a signed agreement",
        RECORD["settings"]["init"],
        "Demo",
    ):
        assert fact in text
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(code.strip().splitlines()) == 2
    code += "import torch, sys\ntorch.manual_seed(1)\nprint(encoder.eval()(torch.randn(1, 1, 32, 32)).pooled.sum().item())"
    code += "\nassert 'snakemake' not in sys.modules"
    environment = os.environ | {"PYTHONPATH": str(ROOT / "workflow/scripts")}
    found = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=folder
    )
    assert found.returncode == 0, found.stderr
    torch.manual_seed(1)
    with torch.no_grad():
        expected = encoder(torch.randn(1, 1, 32, 32)).pooled.sum().item()
    assert float(found.stdout) == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_exports_have_cards_whose_code_loads_them_with_timm_alone(made, monkeypatch, capsys):
    folder, encoder = made
    facts = {"refers": FACTS | {"encoder": str(folder / "encoder.safetensors")}}
    run(monkeypatch, export_script, facts=json.dumps(facts), out=folder / "export")
    text = (folder / "export/refers/README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    code = (
        "import torch\ntorch.manual_seed(1)\nimages = torch.randn(1, 1, 32, 32).repeat(1, 3, 1, 1)\n" + code
    )
    code += "\nprint(feature.sum().item())"
    found = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, cwd=folder / "export"
    )
    assert found.returncode == 0, found.stderr
    torch.manual_seed(1)
    with torch.no_grad():
        expected = encoder(torch.randn(1, 1, 32, 32)).pooled.sum().item()
    assert float(found.stdout) == pytest.approx(expected, rel=1e-4, abs=1e-4)
    assert "refers" in (folder / "export/README.md").read_text()


def test_an_export_without_any_encoder_is_one_line(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="no encoder exists yet") as caught:
        run(monkeypatch, export_script, facts="{}", out=tmp_path / "export")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_an_imported_encoders_card_names_the_checkpoint_and_not_its_folder(made, monkeypatch):
    folder, _ = made
    keys = {"read": 9, "loaded": 7, "left_out": ["head.weight", "head.bias"]}
    record = RECORD | {"inputs": {"checkpoint": "e" * 64}, "keys": keys}
    (folder / "imported.json").write_text(json.dumps(record))
    facts = json.dumps(FACTS | {"checkpoint": "model.safetensors", "sources": []})
    options = {"encoder": folder / "encoder.safetensors", "record": folder / "imported.json"}
    run(monkeypatch, card_script, **options, facts=facts, out=folder / "imported.md")
    text = (folder / "imported.md").read_text()
    assert "e" * 64 in text
    assert "model.safetensors" in text
    assert STEPS not in text


# ---- the rules


def test_cards_come_with_the_encoders_and_an_export_trains_nothing(snakemake, downloads, tmp_path):
    found = snakemake("-n", "encoders", "--cores", 1, "--verbose", *downloads)
    assert found.code == 0, found.output
    assert "results/encoders/refers/README.md" in found.output
    values = [*downloads, f"pathvars={{results: {tmp_path}}}"]
    folder = tmp_path / "encoders/refers"
    folder.mkdir(parents=True)
    for name in ("encoder.safetensors", "run.json"):
        (folder / name).touch()
    found = snakemake("-n", "export", "--cores", 1, "--verbose", *values)
    assert found.code == 0, found.output
    assert re.findall(r"^(?:local)?rule (\w+):", found.output, re.MULTILINE) == ["export"]
    assert str(Path(folder, "encoder.safetensors")) not in re.findall(r"    input: (.*)", found.output)
