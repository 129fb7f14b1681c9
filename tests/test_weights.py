"""Weights are data: nothing in a checkpoint is executed, and the authors' own layout is read whole or refused."""

import ast
import copy
import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import import_encoder as script
import numpy as np
import pytest
import timm
import torch
from helpers import PLAIN_VIT
from refers import config
from refers.data.store import open_store
from refers.errors import UserError
from refers.model.checkpoint_file import read_content
from refers.model.encoder_file import read_encoder
from refers.model.import_checkpoint import import_encoder
from refers.model.text_encoder import TextEncoder
from refers.training.resume import load_state
from safetensors.torch import save_file
from torchvision.transforms import Normalize

ROOT = Path(__file__).parents[1]


class Malicious:
    """Unpickled, it makes a folder."""

    def __init__(self, mark):
        self.mark = str(mark)

    def __reduce__(self):
        return (os.mkdir, (self.mark,))


def poisoned(kind, path, mark):
    """A file that makes the folder `mark` if its pickle runs."""
    tensors = {"weight": torch.zeros(2), "extra": Malicious(mark)}
    if kind == "torch":
        torch.save(tensors, path)
    elif kind == "wrapped":
        torch.save({"model": {"weight": torch.zeros(2)}, "optimizer": Malicious(mark)}, path)
    elif kind == "old":
        torch.save(tensors, path, _use_new_zipfile_serialization=False)
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(tensors))
    else:
        np.savez(path, weight=np.array([Malicious(mark)], dtype=object))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", ["torch", "wrapped", "old", "pickle", "npz"])
def test_a_malicious_checkpoint_is_refused_in_one_line_and_does_nothing(tmp_path, kind):
    path = tmp_path / ("net.npz" if kind == "npz" else "net.pth")
    poisoned(kind, path, tmp_path / "mark")
    with pytest.raises(UserError, match=r"not a checkpoint in npz, safetensors or torch's format") as caught:
        read_content(str(path))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "mark").exists()
    if kind != "npz":  # the trap is real
        torch.load(path, weights_only=False) if kind != "pickle" else pickle.loads(path.read_bytes())
        assert (tmp_path / "mark").exists()


def test_a_download_that_trusts_its_file_executes_nothing_either(tmp_path, monkeypatch):
    path, mark = tmp_path / "net.pth", tmp_path / "mark"
    poisoned("torch", path, mark)
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained: torch.load(path, weights_only=False))
    with pytest.raises(UserError, match=r"timm:resnet18: cannot be downloaded"):
        import_encoder(config.Timm(name="resnet18", image_size=32), "timm:resnet18")
    assert not mark.exists()
    torch.load(path, weights_only=False)  # the switch is the download's alone
    assert mark.exists()


def test_a_malicious_resume_state_is_moved_away_and_does_nothing(tmp_path, capsys):
    torch.save(
        {"version": 2, "fingerprint": "x", "state": Malicious(tmp_path / "mark")}, tmp_path / "resume.pt"
    )
    assert load_state(tmp_path / "resume.pt", "x") is None
    assert "refused, the file is damaged (MoreThanTensors)" in capsys.readouterr().err
    assert not (tmp_path / "mark").exists()


def test_a_malicious_store_text_encoder_and_encoder_do_nothing(tmp_path, small_bert):
    np.save(tmp_path / "images.npy", np.array([Malicious(tmp_path / "mark")], dtype=object))
    with pytest.raises(UserError, match=r"images\.npy"):
        open_store(tmp_path / "images.npy")
    (tmp_path / "config.json").write_text((small_bert / "config.json").read_text())
    torch.save({"embeddings": Malicious(tmp_path / "mark")}, tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"pytorch_model\.bin: .*more than tensors"):
        TextEncoder(tmp_path)
    torch.save({"weight": Malicious(tmp_path / "mark")}, tmp_path / "encoder.safetensors")
    with pytest.raises(UserError, match="cannot be read as an encoder"):
        read_encoder(tmp_path / "encoder.safetensors")
    assert not (tmp_path / "mark").exists()


def test_no_code_unpickles():
    for path in (ROOT / "workflow/scripts").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            called, given = (
                ast.unparse(node.func),
                {word.arg: ast.unparse(word.value) for word in node.keywords},
            )
            assert called != "torch.load" or given.get("weights_only") == "True", path
            assert called not in ("pickle.load", "pickle.loads", "joblib.load", "pd.read_pickle"), path
            assert given.get("allow_pickle", "False") == "False", path


WRITE = """
import sys, torch
from pathlib import Path
from refers import config
from refers.model.encoder_file import save_encoder
from refers.model.encoders import build_encoder
torch.manual_seed(0)
sizes = {"image_size": 32, "patch_size": 8, "width": 48, "depth": 1, "heads": 3, "mlp_width": 64}
encoder = build_encoder(config.load_model(sizes))
for copy in range(4):
    about = {"method": "m", "checkpoint": "c", "input": {"mean": [0.5]}}
    save_encoder(Path(sys.argv[1]) / f"{copy}.safetensors", encoder, about)
"""


def test_equal_encoders_are_equal_files_in_every_process(tmp_path):
    for seed in ("0", "1"):
        (tmp_path / seed).mkdir()
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT / "workflow/scripts")}
        subprocess.run([sys.executable, "-c", WRITE, str(tmp_path / seed)], env=environment, check=True)
    files = list(tmp_path.glob("*/*.safetensors"))
    assert len(files) == 8
    assert len({path.read_bytes() for path in files}) == 1


# ---- the authors' layout


@pytest.fixture(scope="module")
def plain(timm_vit):
    """The plain vision transformer that the authors' code trains, as timm has it."""
    return timm_vit(classes=0)


def in_the_authors_layout(plain, prefix):
    """Its weights by the names of their code: query, key and value apart."""
    names = {"norm1": "attention_norm", "norm2": "ffn_norm", "attn.proj": "attn.out"}
    names |= {"mlp.fc1": "ffn.fc1", "mlp.fc2": "ffn.fc2"}
    outer = {"cls_token": "embeddings.cls_token", "pos_embed": "embeddings.position_embeddings"}
    found = {}
    for name, tensor in plain.state_dict().items():
        parts = name.split(".")
        if parts[0] == "blocks":
            block, inner, kind = f"encoder.layer.{parts[1]}.", ".".join(parts[2:-1]), parts[-1]
            if inner == "attn.qkv":
                for part, third in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                    found[f"{prefix}{block}attn.{part}.{kind}"] = third.clone()
            else:
                found[f"{prefix}{block}{names[inner]}.{kind}"] = tensor
        elif parts[0] == "patch_embed":
            found[f"{prefix}embeddings.patch_embeddings.{parts[-1]}"] = tensor
        else:
            found[prefix + outer.get(name, f"encoder.encoder_norm.{parts[-1]}")] = tensor
    return found


def released(plain, path, spoil=lambda tensors: None):
    """A checkpoint of their pre-training: half precision, the other networks, optimiser, scheduler and iteration."""
    tensors = in_the_authors_layout(plain, "module.visual.vit.transformer.")
    tensors |= {
        "module.textual.embedding.words.weight": torch.zeros(5, 4),
        "module.fusion.fc1.weight": torch.zeros(1, 9),
    }
    tensors = {name: tensor.half() for name, tensor in tensors.items()}
    spoil(tensors)
    state = {0: {"momentum_buffer": torch.zeros(3)}}
    torch.save(
        {
            "model": tensors,
            "optimizer": {"state": state, "param_groups": [{"lr": 3e-3, "params": [0]}]},
            "scheduler": {"last_epoch": 9, "lr_lambdas": [None]},
            "iteration": 9,
        },
        path,
    )
    return str(path)


def test_the_authors_checkpoint_computes_what_their_network_does(plain, tmp_path):
    encoder, report = import_encoder(PLAIN_VIT, released(plain, tmp_path / "released.pth"))
    assert report["left_out"] == ["fusion.fc1.weight", "textual.embedding.words.weight"]
    assert report["read"] == report["loaded"] + 2 == len(in_the_authors_layout(plain, "")) + 2
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    facts = {"mean": mean, "std": std, "from": "the authors' code", "applied": "folded into the first kernel"}
    assert report["input"] == facts
    grey = torch.rand(3, 1, 32, 32)
    with torch.no_grad():
        images = Normalize(mean, std)(grey.expand(-1, 3, -1, -1))
        expected = copy.deepcopy(plain).half().float().forward_features(images)
        features = encoder.eval()((grey - 0.5) / 0.5)
    torch.testing.assert_close(features.pooled, expected[:, 0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(features.tokens, expected[:, 1:] + expected[:, :1], atol=1e-5, rtol=1e-5)


def test_their_fine_tuned_network_is_read_too_without_its_classifier(plain, tmp_path):
    tensors = in_the_authors_layout(plain, "transformer.") | {"head.weight": torch.zeros(14, 48)}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, tmp_path / "tuned.safetensors")
    _, report = import_encoder(PLAIN_VIT, str(tmp_path / "tuned.safetensors"))
    assert report["left_out"] == ["head.weight"]
    assert report["input"]["mean"] == [0.485, 0.456, 0.406]


def test_what_is_left_out_is_told_by_part_and_recorded_by_name(plain, tmp_path, monkeypatch, capsys):
    more = {f"module.textual.layer{number}.weight": torch.zeros(1) for number in range(70)}
    source = released(plain, tmp_path / "released.pth", lambda tensors: tensors.update(more))
    model, out = json.dumps(config.to_dict(PLAIN_VIT)), tmp_path / "out/encoder.safetensors"
    arguments = ["--method", "m", "--checkpoint", source, "--config", model, "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["import_encoder.py", *arguments])
    script.main()
    told = capsys.readouterr().out
    assert re.search(r"left out: 72 \((fusion 1, textual 71|textual 71, fusion 1)\);", told)
    assert "layer1" not in told
    left_out = json.loads(out.with_name("run.json").read_text())["keys"]["left_out"]
    assert {name.removeprefix("module.") for name in more} < set(left_out)
    assert len(left_out) == 72


LAYER = "visual.vit.transformer.encoder.layer.1."


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t.pop(f"module.{LAYER}ffn.fc1.weight"), "1 missing: blocks.1.mlp.fc1.weight"),
        (lambda t: t.pop(f"module.{LAYER}attn.key.bias"), f"lacks {LAYER}attn.key.bias"),
        (lambda t: t.pop("module.visual.vit.transformer.embeddings.cls_token"), "lacks cls_token"),
        (lambda t: t.update({f"module.{LAYER}gate": torch.zeros(1)}), "1 tensors have no counterpart"),
        (
            lambda t: t.update({f"module.{LAYER}ffn_norm.bias": torch.zeros(3)}),
            "1 wrong shape: blocks.1.norm2.bias",
        ),
    ],
)
def test_a_partial_match_with_the_authors_layout_is_refused(plain, tmp_path, spoil, message):
    with pytest.raises(UserError, match=message) as caught:
        import_encoder(PLAIN_VIT, released(plain, tmp_path / "released.pth", spoil))
    assert "\n" not in str(caught.value)
