"""The text encoder: one in a Python package, and the small one that is built from the reports."""

import sys

import build_text_encoder
import copy_text_encoder
import pandas as pd
import pytest
import tokenize_reports
from build_text_encoder import SPECIAL, write_vocabulary
from refers.errors import UserError
from refers.model.text_encoder import load_tokenizer
from refers.study.packages import package_files, package_folder


def test_the_vocabulary_is_characters_then_words_by_frequency_then_by_name(tmp_path):
    write_vocabulary(["The lungs are clear. the heart", "Clear lungs, big heart"], 100, tmp_path)
    entries = (tmp_path / "vocab.txt").read_text().split("\n")[:-1]
    assert entries[:5] == SPECIAL
    assert [entry for entry in entries[5:] if len(entry.removeprefix("##")) > 1] == [
        "clear",
        "heart",
        "lungs",
        "the",
        "are",
        "big",
    ]
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.convert_ids_to_tokens(tokenizer("the CLEAR Thea, ?")["input_ids"]) == [
        "[CLS]",
        "the",
        "clear",
        *("the", "##a"),
        ",",
        "[UNK]",
        "[SEP]",
    ]


def test_the_vocabulary_keeps_to_its_size(tmp_path):
    write_vocabulary(["the lungs are clear", "the heart"], 30, tmp_path)
    assert len(load_tokenizer(tmp_path)) == 30


@pytest.mark.parametrize("script", [build_text_encoder, tokenize_reports])
@pytest.mark.parametrize(
    ("column", "says"), [("texts", "no column 'text'"), (None, "unreadable reports file")]
)
def test_neither_vocabulary_nor_tokens_come_of_a_malformed_table(tmp_path, monkeypatch, script, column, says):
    write_vocabulary(["no effusion"], 50, tmp_path)
    table, out = tmp_path / "reports.parquet", tmp_path / "out"
    if column:
        pd.DataFrame({"study_id": ["s1"], column: ["no effusion"]}).to_parquet(table)
    arguments = ["--config", "{}"] if script is build_text_encoder else ["--text-encoder", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["script", "--reports", str(table), "--out", str(out), *arguments])
    with pytest.raises(UserError, match=rf"reports\.parquet: {says}.*clean_reports\.py"):
        script.main()
    assert not out.exists()


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package whose import fails, with a BERT's files in its folder `model`."""
    folder = tmp_path / "site/some_bert/model"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("raise RuntimeError('imported')")
    for name in ("config.json", "model.safetensors", "vocab.txt", "README.md"):
        (folder / name).write_text(name)
    monkeypatch.syspath_prepend(tmp_path / "site")
    return folder


def test_a_package_is_found_without_its_import(package):
    assert package_folder("package:some_bert/model") == package
    names = [path.name for path in package_files("package:some_bert/model")]
    assert names == ["config.json", "model.safetensors", "vocab.txt"]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("package:other_bert/model", "other_bert is not installed"),
        ("package:some_bert/mode", "no folder 'mode'"),
        ("package:some_bert/model/vocab.txt", "no folder"),
    ],
)
def test_a_package_that_is_not_there_is_one_line(package, name, says):
    with pytest.raises(UserError, match=says) as caught:
        package_files(name)
    assert str(caught.value).startswith(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "vocab.txt"])
def test_a_package_without_one_of_the_files_is_one_line(package, file):
    (package / file).unlink()
    with pytest.raises(UserError, match=rf"some_bert/model: no {file}"):
        package_files("package:some_bert/model")


def test_a_copied_package_leaves_nothing_of_another(package, tmp_path, monkeypatch):
    out = tmp_path / "out"
    out.mkdir()
    (out / "tokenizer.json").write_text("of another")
    arguments = ["--package", "package:some_bert/model", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["copy_text_encoder.py", *arguments])
    copy_text_encoder.main()
    found = {path.name: path.read_text() for path in out.iterdir()}
    assert found == {name: name for name in ("config.json", "model.safetensors", "vocab.txt")}
