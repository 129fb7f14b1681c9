"""Damage that `make fuzz` found to pass, in files whose content can tell it."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import made_tables
import pandas as pd
from build_text_encoder import write_vocabulary
from refers.data.index import read_index
from refers.files import write_parquet
from refers.model.text_encoder import TextEncoder, load_tokenizer
from refers.reporting.table_formats import read_csv, to_csv
from transformers import BertConfig, BertModel

from field import Case, refused

LABEL = b"label:Edema"


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


def with_layers(number: int) -> Callable[[Path], Path]:
    """A small BERT whose config.json states another number of layers than its weights have."""

    def make(folder: Path) -> Path:
        sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
        BertModel(BertConfig(vocab_size=9, max_position_embeddings=8, **sizes)).save_pretrained(folder)
        about = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(about | {"num_hidden_layers": number}))
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
    Case("layers without end", with_layers(10**30), TextEncoder, refused("config.json", "num_hidden_layers")),
    Case("a comma less in a row of a table", table(lambda text: text[:-9] + text[-9:].replace(",", "", 1)), rows_of, refused("table1.csv", "row")),
    Case("an empty table", table(lambda text: ""), rows_of, refused("table1.csv", "header")),
    Case("a pipe as a table", pipe, rows_of, refused("table1.csv", "regular")),
    Case("an index", index(bytes), names_of, ["image_id", LABEL.decode()]),
    Case("an index with another name for a label", index(other_name), names_of, refused("index.parquet")),
    Case("an index with another value", index(another_value), names_of, refused("index.parquet")),
]  # fmt: skip
