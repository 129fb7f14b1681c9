"""The small BERT that stands in for a downloaded one: the same reports give the same vocabulary."""

import sys
from pathlib import Path

from refers.text_encoder import load_tokenizer

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow/scripts"))
from build_text_encoder import SPECIAL, write_vocabulary


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
