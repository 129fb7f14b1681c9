"""Damage that `make fuzz` found to pass, in files whose content can tell it."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import made_tables
import numpy as np
import pandas as pd
import tokenize_reports
from build_text_encoder import write_vocabulary
from refers.data.index import read_index
from refers.files import write_parquet
from refers.model.text_encoder import TextEncoder, load_tokenizer
from refers.reporting.table_formats import read_csv, to_csv
from transformers import BertConfig, BertModel

from field import Case, refused

LABEL = b"label:Edema"
# of the small vocabulary, and the words of a report that it has
PIECES, WORDS = 35, ["large", "heart", "no", "effusion"]


def vocabulary(change: Callable[[list[str]], list[str]], beside: bool = False) -> Callable[[Path], Path]:
    """A vocabulary of pieces alone, or beside the tokenizer.json that is read in its place."""

    def make(folder: Path) -> Path:
        write_vocabulary(["no effusion", "large heart"], 40, folder)
        pieces = (folder / "vocab.txt").read_text().splitlines()
        (folder / "vocab.txt").write_text("\n".join(change(pieces)) + "\n")
        if not beside:
            (folder / "tokenizer.json").unlink()
        return folder

    return make


def with_pipe(folder: Path) -> Path:
    vocabulary(list)(folder)
    os.mkfifo(folder / "config.json")
    return folder


def without_pieces(folder: Path) -> Path:
    """A tokenizer.json that lost a piece, not the last."""
    vocabulary(list, beside=True)(folder)
    about = json.loads((folder / "tokenizer.json").read_text())
    del about["model"]["vocab"]["effusion"]
    (folder / "tokenizer.json").write_text(json.dumps(about))
    return folder


def tokenized(change: Callable[[list[str]], list[str]], rows: int = 0) -> Callable[[Path], Path]:
    """Reports, and a BERT whose vocabulary is changed; its embedding has a row for each piece, or this number of rows."""

    def make(folder: Path) -> Path:
        vocabulary(change)(folder)
        about = {"model_type": "bert", "vocab_size": rows or PIECES, "max_position_embeddings": 12}
        (folder / "config.json").write_text(json.dumps(about))
        pd.DataFrame({"study_id": ["a"], "text": ["large heart no effusion"]}).to_parquet(
            folder / "reports.parquet"
        )
        return folder

    return make


def tokens_of(folder: Path) -> list[str]:
    files = ["--reports", f"{folder / 'reports.parquet'}", "--text-encoder", str(folder)]
    with patch.object(
        sys, "argv", ["tokenize", *files, "--max-length", "12", "--out", f"{folder / 'tokens.npz'}"]
    ):
        tokenize_reports.main()
    with np.load(folder / "tokens.npz") as found:
        return load_tokenizer(folder).convert_ids_to_tokens(found["tokens"][0])[1:5]


def with_config(key: str, value) -> Callable[[Path], Path]:
    """A small BERT whose config.json states something else than its weights have."""

    def make(folder: Path) -> Path:
        sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
        BertModel(BertConfig(vocab_size=9, max_position_embeddings=8, **sizes)).save_pretrained(folder)
        about = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(about | {key: value}))
        return folder

    return make


def size(folder: Path) -> int:
    return len(load_tokenizer(folder))


def pieces(folder: Path) -> int:
    return len((folder / "vocab.txt").read_text().split())


def table(change: Callable[[str], str]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        written = to_csv(made_tables.table_of([made_tables.REFERS, made_tables.C2L]))
        (folder / "table1.csv").write_text(change(written))
        return folder / "table1.csv"

    return make


def rows_of(path: Path) -> int:
    return len(read_csv(path))


def pipe(folder: Path) -> Path:
    os.mkfifo(folder / "table1.csv")
    return folder / "table1.csv"


def index(change: Callable[[bytes], bytes]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        frame = pd.DataFrame({"image_id": ["a", "b"], LABEL.decode(): [1.0, 0.0]})
        write_parquet(folder / "index.parquet", frame)
        content = (folder / "index.parquet").read_bytes()
        (folder / "index.parquet").write_bytes(change(content))
        return folder / "index.parquet"

    return make


def other_name(content: bytes) -> bytes:
    """The label is called otherwise in the schema, in as many letters."""
    place = content.index(LABEL)
    return content[:place] + LABEL.replace(b"m", b"n") + content[place + len(LABEL) :]


def another_value(content: bytes) -> bytes:
    """One other bit among the values of the label."""
    place = content.index(b"\0\0\0\0\0\0\xf0\x3f")
    return content[: place + 7] + b"\x3e" + content[place + 8 :]


def names_of(path: Path) -> list[str]:
    return list(read_index(path, ["image_id"]))


CASES = [
    Case("a piece twice", vocabulary(lambda given: [*given[:9], *given[8:]]), size, refused("vocab.txt", "row 10")),
    Case("a special piece less", vocabulary(lambda given: [*given[:4], *given[5:]]), size, refused("[MASK]")),
    Case("a control character in a piece", vocabulary(lambda given: [*given[:9], "a\0b", *given[10:]]), size, refused("vocab.txt", "row 10")),
    Case("a piece twice that nothing reads", vocabulary(lambda given: [*given[:9], *given[8:]], beside=True), lambda folder: pieces(folder) - size(folder), 1),
    Case("a pipe as config.json", with_pipe, size, refused("config.json", "regular")),
    Case("a blank row in the middle", vocabulary(lambda given: [*given[:9], "", *given[9:]]), size, refused("vocab.txt", "row 10")),
    Case("a blank row at the end", vocabulary(lambda given: [*given, ""]), size, refused("vocab.txt", f"row {PIECES + 1}")),
    Case("a byte-order mark", vocabulary(lambda given: ["\ufeff" + given[0], *given[1:]]), size, refused("vocab.txt", "BOM")),
    Case("a piece less in tokenizer.json", without_pieces, size, refused("vocabulary")),
    Case("a whole vocabulary", tokenized(list), tokens_of, WORDS),
    Case("a whole vocabulary of a padded embedding", tokenized(list, PIECES + 5), tokens_of, WORDS),
    Case("a row less in a vocabulary", tokenized(lambda given: [*given[:9], *given[10:]]), tokens_of, refused("vocabulary", str(PIECES))),
    Case("half a vocabulary", tokenized(lambda given: given[: PIECES // 2]), tokens_of, refused("vocabulary", str(PIECES))),
    Case("a vocabulary in capitals", tokenized(lambda given: [piece.upper() for piece in given]), tokens_of, refused("[UNK]", "reports.parquet")),
    Case("an activation that does not exist", with_config("hidden_act", "bogus"), TextEncoder, refused("bogus")),
    Case("layers without end", with_config("num_hidden_layers", 10**30), TextEncoder, refused("config.json", "num_hidden_layers")),
    Case("a comma less in a row of a table", table(lambda text: text[:-9] + text[-9:].replace(",", "", 1)), rows_of, refused("table1.csv", "row")),
    Case("an empty table", table(lambda text: ""), rows_of, refused("table1.csv", "header")),
    Case("a pipe as a table", pipe, rows_of, refused("table1.csv", "regular")),
    Case("an index", index(bytes), names_of, ["image_id", LABEL.decode()]),
    Case("an index with another name for a label", index(other_name), names_of, refused("index.parquet")),
    Case("an index with another value", index(another_value), names_of, refused("index.parquet")),
]  # fmt: skip
