"""Readers of weights: a BERT's folder, checkpoints of others, encoders, resume states."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from build_text_encoder import write_vocabulary
from generate_checkpoint import random_arrays
from refers import config
from refers.errors import UserError
from refers.model.encoder_file import save_encoder
from refers.model.encoders import build_encoder, load_encoder
from refers.model.import_checkpoint import import_encoder
from refers.model.text_encoder import TextEncoder, check_sizes, load_tokenizer
from refers.training.resume import load_state, save_state
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel

from fuzz import Reader, Told
from fuzz.damage import ARCHIVE, BYTES, JSON, LINES, TENSORS, WHOLE

SMALL = config.Transformer(
    image_size=16, patch_size=8, width=12, depth=1, heads=2, mlp_width=24, activation="gelu", dropout=0.0
)
INPUT = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
# Kinds that put other bytes in the place of some.
OTHER_BYTES = ("flip", "byte", "head", "zeros", "insert", "remove", "repeat")
SENTENCE = "no effusion, heart is large"


# ---- a BERT


def _bert(file: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        texts = ["no effusion", "the heart is large", "no acute process"]
        write_vocabulary(texts, 60, folder)
        torch.manual_seed(0)
        sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
        sizes |= {"vocab_size": len(load_tokenizer(folder)), "max_position_embeddings": 12}
        BertModel(BertConfig(**sizes)).save_pretrained(folder)
        if file == "pytorch_model.bin":
            torch.save(load_file(folder / "model.safetensors"), folder / file)
            (folder / "model.safetensors").unlink()
        if file == "vocab.txt":
            for name in ("tokenizer.json", "tokenizer_config.json"):
                (folder / name).unlink(missing_ok=True)
        return folder / file

    return make


def _encoded(file: Path) -> Told:
    """Weights and tokens; the size of the vocabulary is printed by tokenize_reports.py."""
    tokenizer = load_tokenizer(file.parent)
    check_sizes(file.parent, len(tokenizer), 12)
    tokens = tokenizer([SENTENCE], truncation=True, max_length=12, split_special_tokens=True)["input_ids"]
    text_encoder = TextEncoder(file.parent).eval()
    return Told((tokens, text_encoder.state_dict()), len(tokenizer))


TEXT_ENCODERS = (
    Reader("BERT: config.json", _bert("config.json"), _encoded, BYTES | WHOLE | JSON),
    Reader(
        "BERT: model.safetensors", _bert("model.safetensors"), _encoded, BYTES | WHOLE | TENSORS,
        (*OTHER_BYTES, "tensors"),
    ),
    Reader("BERT: pytorch_model.bin", _bert("pytorch_model.bin"), _encoded, BYTES | WHOLE | ARCHIVE, ("member byte", "member of another")),
    Reader(
        "BERT: vocab.txt", _bert("vocab.txt"), _encoded, BYTES | WHOLE | LINES,
        contents=("letter", "number", "sign", "flip", "byte", "head", "insert", "remove", "lines mixed"),
    ),
    Reader(
        "BERT: tokenizer.json", _bert("tokenizer.json"), _encoded, BYTES | WHOLE | JSON,
        contents=("letter", "number", "sign", "flip", "byte", "head", "insert", "remove", "node", "line less", "line twice"),
    ),
)  # fmt: skip


# ---- checkpoints of others, encoders


def _google(folder: Path) -> Path:
    np.savez(folder / "vit.npz", **random_arrays(SMALL, seed=0))
    return folder / "vit.npz"


def _timms(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        torch.manual_seed(0)
        sizes = {"img_size": 16, "patch_size": 8, "embed_dim": 12, "depth": 1, "num_heads": 2, "mlp_ratio": 2}
        tensors = timm.create_model("vit_tiny_patch16_224", num_classes=2, **sizes).state_dict()
        save = save_file if name.endswith("safetensors") else torch.save
        save(tensors, folder / name)
        return folder / name

    return make


def _imported(file: Path) -> Told:
    settings = SMALL if file.suffix == ".npz" else SMALL.replace(input=INPUT)
    encoder, report = import_encoder(settings, str(file))
    return Told(encoder.state_dict(), report)


def _own(folder: Path) -> Path:
    torch.manual_seed(0)
    save_encoder(folder / "encoder.safetensors", build_encoder(SMALL), {"method": "refers", "seed": 0})
    return folder / "encoder.safetensors"


def _loaded(file: Path) -> Any:
    encoder, about = load_encoder(file)
    return encoder.state_dict(), about


def _resume(folder: Path) -> Path:
    torch.manual_seed(0)
    state = {"step": 3, "weights": {"a": torch.randn(4, 4)}, "optimiser": {"state": {0: torch.randn(4)}}}
    save_state(folder / "resume.pt", "fingerprint", state)
    return folder / "resume.pt"


def _resumed(file: Path) -> dict:
    """A state, or one line on stderr that it is refused, as the trainer prints it."""
    state = load_state(file, "fingerprint")
    if state is None:
        raise UserError("refused: starting over")
    return state


# A zip has checksums: only members that were packed anew pass.
PACKED = ("member byte", "member of another")
CHECKPOINTS = (
    Reader("checkpoint: npz", _google, _imported, BYTES | WHOLE | ARCHIVE, PACKED),
    Reader("checkpoint: safetensors", _timms("vit.safetensors"), _imported, BYTES | WHOLE | TENSORS, (*OTHER_BYTES, "tensors")),
    Reader("checkpoint: pt", _timms("vit.pt"), _imported, BYTES | WHOLE | ARCHIVE, PACKED),
    Reader("encoder", _own, _loaded, BYTES | WHOLE | TENSORS, (*OTHER_BYTES, "tensors")),
    Reader("resume state", _resume, _resumed, BYTES | WHOLE | ARCHIVE, contents=PACKED),
)  # fmt: skip

READERS = (*TEXT_ENCODERS, *CHECKPOINTS)
