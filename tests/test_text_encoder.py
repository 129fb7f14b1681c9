"""The small BERT that stands in for a downloaded one: the same reports give the same vocabulary."""

import sys

import build_text_encoder
import pandas as pd
import pytest
import tokenize_reports
from build_text_encoder import SPECIAL, write_vocabulary
from refers.errors import UserError
from refers.model.text_encoder import load_tokenizer


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


def test_a_special_piece_that_a_report_writes_is_text(tmp_path):
    text = "the [PAD] lungs [SEP] are [MASK] clear [CLS]"
    write_vocabulary([text], 100, tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    ids, lengths = tokenize_reports.encode(tokenizer, [text], 40)
    pieces = tokenizer.convert_ids_to_tokens(ids[0])
    assert [pieces.index("[SEP]"), pieces.count("[SEP]")] == [lengths[0] - 1, 1]
    assert [pieces[0], pieces.count("[CLS]"), pieces.count("[MASK]")] == ["[CLS]", 1, 0]
    assert pieces.count("[PAD]") == 40 - lengths[0]
    assert {"[", "pad", "sep", "mask", "cls", "]"} <= {*pieces}
