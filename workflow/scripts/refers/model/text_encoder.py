"""The BERT of task 2 and its tokenizer, always from a local folder (paper §4.2).

Of the folder are read config.json, model.safetensors or, where that is absent, pytorch_model.bin, and the tokenizer's
files. No code that a folder brings is run, and no pickle but for its tensors.
"""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from refers.columns import CONTROL
from refers.config.settings import BERT_FILES
from refers.errors import UserError, first_line
from refers.model.checkpoint_file import as_floats, read_network
from refers.model.encoder_file import check_finite
from refers.model.layers import Dropout

# A training job never downloads: weights are put in place by hand.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

# heads that a checkpoint was pre-trained or fine-tuned with, and indices that are no weights
UNUSED = ("cls.", "classifier.", "qa_outputs.", "embeddings.position_ids")
BOM = "\ufeff"
# Some embeddings are padded for the matrix units of a GPU: to a multiple of 8 rows, by fewer than 128.
PADDED_TO, PADDED_BY = 8, 128
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
# names of the first BERT files
OLD_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
# tensors by which a BERT is known, the names of its norms apart
LAYOUT = (
    *(f"embeddings.{name}_embeddings.weight" for name in ("word", "position", "token_type")),
    *(f"encoder.layer.0.attention.self.{name}.weight" for name in ("query", "key", "value")),
)


def load_tokenizer(folder: Path):
    """The WordPiece tokenizer in `folder`; its [CLS] and [SEP] are the report's start and end tokens.

    Raises:
        UserError: the folder has no vocabulary, or one that is not a WordPiece of BERT with padding id 0.
    """
    from transformers import AutoTokenizer

    _expect_regular(folder)
    names = BERT_FILES[2].split("|")
    if not any((folder / name).is_file() for name in names):
        # transformers would return a tokenizer that knows no word
        raise UserError(
            f"{folder}: no vocabulary, neither {' nor '.join(names)}; place it there (docs/data.md says which)"
        )
    _expect_own_pieces(folder, names)
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        # tokenizers raises plain Exceptions
        raise UserError(_advice(folder, error)) from None
    specials = (tokenizer.pad_token, tokenizer.unk_token, tokenizer.cls_token, tokenizer.sep_token)
    known = tokenizer.get_vocab()
    if lacking := [name for name in specials if name not in known]:
        raise UserError(f"{folder}: no {lacking[0]} in its vocabulary; use a BERT WordPiece vocabulary")
    if tokenizer.pad_token_id != 0:
        raise UserError(
            f"{folder}: padding has id {tokenizer.pad_token_id}, 0 is expected; use a BERT WordPiece vocabulary"
        )
    # A tokenizer.json states the id of every piece: one that was taken out leaves its id unused.
    if len(set(known.values())) <= max(known.values()):
        raise UserError(
            f"{folder}: an id of its vocabulary has no piece; place the vocabulary of the weights"
        )
    if not set(known) - set(tokenizer.all_special_tokens):
        raise UserError(f"{folder}: its vocabulary has no word; place the one that belongs to the weights")
    return tokenizer


def _expect_regular(folder: Path) -> None:
    """Raise a UserError naming what is neither file nor folder, such as a pipe, which transformers would wait for."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise UserError(f"{path}: not a regular file; download it again")


def _expect_own_pieces(folder: Path, names: Sequence[str]) -> None:
    """Raise a UserError where a plain vocabulary has a piece twice, a special one not at all, a blank row or a control
    character, or begins with a byte-order mark.

    The pieces behind it have other ids than they had when the weights were trained.

    names: of the files of a vocabulary; where another one exists, the plain one is not read.
    """
    plain, others = folder / names[0], [folder / name for name in names[1:]]
    if not plain.is_file() or any(path.is_file() for path in others):
        return
    try:
        pieces = plain.read_text(encoding="utf-8").split("\n")
    except ValueError as error:
        raise UserError(_advice(folder, error)) from None
    if pieces[0].startswith(BOM):
        raise UserError(f"{plain}: begins with a byte-order mark (BOM); save it as UTF-8 without one")
    # transformers would append a special token that the file lacks, behind pieces that all moved up.
    if lacking := [name for name in SPECIAL if name not in pieces]:
        raise UserError(f"{folder}: no {lacking[0]} in its vocabulary; use a BERT WordPiece vocabulary")
    seen: set[str] = set()
    for number, piece in enumerate(pieces, 1):
        if not piece.strip(" \t") and number < len(pieces):
            raise UserError(f"{plain}: row {number}: blank; place the vocabulary of the weights")
        if re.search(CONTROL, piece):
            raise UserError(
                f"{plain}: row {number}: a control character; place the vocabulary of the weights"
            )
        if piece in seen and piece:
            raise UserError(
                f"{plain}: row {number}: {piece[:40]!r} is there twice; place the vocabulary of the weights"
            )
        seen.add(piece)


def check_sizes(folder: Path, vocabulary: int, max_length: int) -> None:
    """Refuse a BERT that cannot take reports of this length, or whose embedding is not of a vocabulary of this size.

    A vocabulary that lost pieces gives those behind them other ids than the weights were trained with. An embedding may have
    more rows than there are pieces where it is padded (`PADDED_TO`).

    Raises:
        UserError: its positions are too few, or its embedding has fewer or more rows than the vocabulary pieces.
    """
    sizes = _sizes(folder)
    for what, wanted, found, remedy in (
        ("tokens", vocabulary, sizes.vocab_size, "place the vocabulary that belongs to the weights"),
        ("positions", max_length, sizes.max_position_embeddings, "lower text.max_length"),
    ):
        if found < wanted:
            raise UserError(f"{folder}: has {found} {what}, {wanted} are needed; {remedy}")
    rows = sizes.vocab_size
    padded = rows % PADDED_TO == 0 and rows - vocabulary < PADDED_BY
    if rows > vocabulary and not padded:
        raise UserError(
            f"{folder}: its vocabulary has {vocabulary} tokens, its weights have {rows}; place the vocabulary that belongs"
            " to the weights"
        )


def weights_file(folder: Path) -> Path:
    """The file of a folder's weights: model.safetensors, or pytorch_model.bin where that is absent."""
    names = BERT_FILES[1].split("|")
    return folder / next((name for name in names if (folder / name).is_file()), names[0])


def _sizes(folder: Path):
    from transformers import BertConfig

    _expect_regular(folder)
    try:
        # transformers takes BERT-base's sizes where there is no config.json, and those of another model as they are
        kind = json.loads((folder / BERT_FILES[0]).read_text(encoding="utf-8")).get("model_type", "bert")
        if kind != "bert":
            raise ValueError(f"config.json is of a {kind}")
        return BertConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(_advice(folder, error)) from None


def _advice(folder: Path, error: Exception) -> str:
    return f"{folder}: not a BERT checkpoint ({first_line(error)}); place one there (docs/data.md says which)"


def _weights(folder: Path) -> dict[str, Tensor]:
    """The encoder's tensors in fp32 under transformers' names.

    Raises:
        UserError: the file is missing or damaged, or a weight is NaN or Inf.
    """
    path = weights_file(folder)
    if not path.is_file():
        raise UserError(f"{path} not found; place a BERT there (docs/data.md says which)")
    network = read_network(str(path), [LAYOUT], has_key=False)
    found = {}
    for name, tensor in (network.tensors | network.outside).items():
        name = name.removeprefix("bert.")
        for old, new in OLD_NAMES.items():
            name = name.replace(old, new)
        if not name.startswith(UNUSED):
            found[name] = tensor
    found = as_floats(found, str(path))
    check_finite(found, str(path))
    return found


def _check_tensors(folder: Path, found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Refuse weights that are not, tensor by tensor, those of the architecture in config.json."""
    shared = found.keys() & expected.keys()
    problems = {
        "are missing": [name for name in expected if name not in found],
        "have no place in the model of its config.json": [name for name in found if name not in expected],
        "have other shapes than its config.json says": [
            name for name in expected if name in shared and found[name].shape != expected[name].shape
        ],
    }
    for what, names in problems.items():
        if names:
            raise UserError(
                f"{weights_file(folder)}: {len(names)} tensors {what}, first {names[0]};"
                " use weights and config.json of one complete checkpoint"
            )


class TextEncoder(nn.Module):
    """Token ids (B, T), 0 for padding -> pooled report features (B, hidden).

    Raises:
        UserError: a file of the folder is missing or damaged, or its tensors are not those of its config.json.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        from transformers import BertModel

        sizes, weights = _sizes(folder), _weights(folder)
        # These alone would be built one by one for ever.
        if sizes.num_hidden_layers > len(weights):
            raise UserError(
                f"{folder / BERT_FILES[0]}: num_hidden_layers is {sizes.num_hidden_layers}, the weights have fewer;"
                " use weights and config.json of one complete checkpoint"
            )
        # every weight is replaced: its first values must not move the random numbers of the parts built next
        try:
            with torch.random.fork_rng(devices=[]):
                # Without memory first: sizes of a damaged config.json may ask for more than there is.
                with torch.device("meta"):
                    plan = BertModel._from_config(sizes, attn_implementation="sdpa")
                _check_tensors(folder, weights, plan.state_dict())
                self.bert = BertModel._from_config(sizes, attn_implementation="sdpa")
        # KeyError: an activation function that does not exist.
        except (
            ValueError, TypeError, RuntimeError, AttributeError, ArithmeticError, KeyError
        ) as error:  # fmt: skip
            raise UserError(_advice(folder, error)) from None
        self.bert.load_state_dict(weights)
        self.hidden = self.bert.config.hidden_size
        for part in list(self.bert.modules()):
            for name, child in part.named_children():
                if isinstance(child, nn.Dropout):
                    setattr(part, name, Dropout(child.p))

    def forward(self, tokens: Tensor) -> Tensor:
        # With a mask of two dimensions BERT asks the device in every step whether it is all ones, and the host waits.
        real = (tokens != 0)[:, None, None].expand(-1, 1, tokens.shape[1], -1)
        return self.bert(input_ids=tokens, attention_mask=real).pooler_output
