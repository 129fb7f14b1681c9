"""Numbers of the authors' released modules (tests/parity) and the code preset at their small sizes.

The preset is read from config/config.yaml and config/code.yaml by the code that reads a study; the overlay below holds sizes,
lengths of runs and rates of dropout, which the numbers are without.
"""

import json
from pathlib import Path

import torch
from refers import config
from refers.config import read
from refers.methods import Context, build_objective
from refers.model.import_checkpoint import import_encoder
from refers.study.check import check
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).parents[1]
PARITY = Path(__file__).with_name("parity")
ABOUT = json.loads((PARITY / "parity.json").read_text())
NUMBERS = load_file(PARITY / "parity.safetensors")
# of the fixture: two more implementations and double precision stay well within
OUTPUT, LOSS, GRADIENT, WEIGHT = 5e-5, 5e-6, 1e-5, 1e-6
VISUAL = "visual.vit.transformer."

RUN = {"steps": 10, "warmup_steps": 2, "precision": "fp32"}
SMALL = {
    "text": {"max_length": 20},
    "pretrain": {
        "model": {
            "image_size": 32,
            "patch_size": 8,
            "width": 48,
            "depth": 2,
            "heads": 3,
            "mlp_width": 96,
            "dropout": 0.0,
        },
        "training": {**RUN, "batch_size": 4},
    },
    "methods": {
        "refers": {
            "pretrain": {
                "settings": {
                    "decoder": {
                        "width": 64,
                        "heads": 4,
                        "mlp_width": 128,
                        "dropout": 0.0,
                        "inner_dropout": 0.0,
                    }
                }
            }
        }
    },
    "finetune": {
        "defaults": {"training": {"precision": "fp32"}},
        "datasets": {name: {"training": RUN} for name in ("shenzhen", "vinbigdata")},
    },
}


def preset(overlay=None):
    """The study of the code preset, checked, with an overlay over it."""
    values = read.read_files([ROOT / "config/config.yaml", ROOT / "config/code.yaml"])
    return check(config.merge(values, overlay or {}))


def expect(found, wanted, tolerance, name=""):
    """Numbers of the fixture, by name, are those found up to a tolerance."""
    wanted = NUMBERS[wanted] if isinstance(wanted, str) else torch.as_tensor(wanted)
    found = found.detach().to(wanted.dtype).reshape(wanted.shape)
    torch.testing.assert_close(found, wanted, atol=tolerance, rtol=0, msg=lambda text: f"{name}: {text}")


def numbers_below(prefix):
    """The numbers of the fixture whose names begin so, by the rest of their names."""
    return {name.removeprefix(prefix): tensor for name, tensor in NUMBERS.items() if name.startswith(prefix)}


def authors_encoder(model, folder):
    """An encoder of these settings with the authors' weights, read as their checkpoint is."""
    path = folder / "authors.safetensors"
    weights = numbers_below(f"weights/{VISUAL}")
    save_file({VISUAL + name: tensor for name, tensor in weights.items()}, path)
    return import_encoder(model, str(path))


def pieces(name, ours):
    """Our tensors that one of theirs consists of, along its first dimension; `ours` gives a tensor by our name of its parameter."""
    if name.startswith(VISUAL):
        return _visual(name.removeprefix(VISUAL), lambda mine: ours(f"encoder.{mine}"))
    kind = name.rpartition(".")[2]
    if name.startswith("fusion."):
        place = int(name[len("fusion.fc")]) - 1
        return [ours(f"fusion.score.{kind}")[place : place + 1]]
    if name.startswith("contrastive_bert.text_encoder."):
        return [ours(name.replace("contrastive_bert.text_encoder.", "text.bert."))]
    renamed = {
        "contrastive_bert.fc": "project",
        "textual.visual_projection": "decoder.memory",
        "textual.embedding.layer_norm": "decoder.norm",
    }
    single = {
        "textual.embedding.words.weight": "decoder.words.weight",
        "textual.output.weight": "decoder.words.weight",
        "textual.embedding.positions.weight": "decoder.positions",
        "textual.output.bias": "decoder.bias",
    }
    if name in single:
        return [ours(single[name])]
    if name.rpartition(".")[0] in renamed:
        return [ours(f"{renamed[name.rpartition('.')[0]]}.{kind}")]
    return _decoder_layer(name.removeprefix("textual.transformer."), ours)


def _decoder_layer(name, ours):
    """Of `layers.N.part.kind`."""
    _, number, part, *inner = name.split(".")
    layer, kind = f"decoder.layers.{number}", inner[-1].removeprefix("in_proj_")
    if part.startswith("linear"):
        return [ours(f"{layer}.mlp.fc{part[-1]}.{kind}")]
    if part.startswith("norm"):
        return [ours(f"{layer}.norms.{int(part[-1]) - 1}.{kind}")]
    attention = f"{layer}.{'self' if part == 'self_attn' else 'cross'}_attention"
    if inner[0] == "out_proj":
        return [ours(f"{attention}.out.{kind}")]
    parts = ["qkv"] if part == "self_attn" else ["query", "key_value"]
    return [ours(f"{attention}.{each}.{kind}") for each in parts]


def _visual(name, ours):
    kind = name.rpartition(".")[2]
    if name == "embeddings.cls_token":
        return [ours("aggregation")[None]]
    if name == "embeddings.position_embeddings":
        return [ours("aggregation_position")[None], ours("position")]
    if name.startswith("embeddings.patch_embeddings"):
        return [ours(f"patch.{kind}")]
    if name.startswith("encoder.encoder_norm"):
        return [ours(f"norm.{kind}")]
    _, _, number, *inner, _ = name.split(".")
    block, inner = f"blocks.{number}", ".".join(inner)
    if inner in ("attn.query", "attn.key", "attn.value"):
        third = ("attn.query", "attn.key", "attn.value").index(inner)
        return [ours(f"{block}.attention.qkv.{kind}").chunk(3)[third]]
    renamed = {"attn.out": "attention.out", "attention_norm": "norm1", "ffn_norm": "norm2"}
    renamed |= {"ffn.fc1": "mlp.fc1", "ffn.fc2": "mlp.fc2"}
    return [ours(f"{block}.{renamed[inner]}.{kind}")]


def as_theirs(name, module, gradient=False):
    """One of their parameters, or its gradient, out of our module."""
    parameters = dict(module.named_parameters())

    def ours(mine):
        return parameters[mine].grad if gradient else parameters[mine].detach()

    return torch.cat(pieces(name, ours))


def authors_objective(study, folder):
    """The objective of `refers` that the study builds, every parameter the authors', their text encoder in `folder`."""
    from transformers import BertConfig, BertModel

    settings = study.pretrain_settings("refers")
    sizes = BertConfig(**ABOUT["sizes"]["bert"], hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    BertModel(sizes).save_pretrained(folder / "bert")
    vocabulary = ABOUT["sizes"]["decoder"]["vocabulary"]
    context = Context(
        text_encoder=folder / "bert",
        vocabulary=vocabulary,
        max_length=study.config.text.max_length,
        label_names=(),
    )
    encoder, _ = authors_encoder(settings.model, folder)
    objective = build_objective(settings.objective, encoder, settings.settings, context)
    parameters, filled = dict(objective.named_parameters()), set()

    def ours(mine):
        filled.add(mine)
        return parameters[mine].detach()

    for name, tensor in numbers_below("weights/").items():
        parts = pieces(name, ours)
        flat = tensor.reshape(torch.cat(parts).shape)
        for part, content in zip(parts, flat.split([len(part) for part in parts]), strict=True):
            part.copy_(content)
    assert filled == parameters.keys()
    return objective
