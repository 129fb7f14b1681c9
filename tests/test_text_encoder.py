"""The text encoder: a real one in a Python package, folders that are damaged, and the small one built from the reports."""

import json
import os
import shutil
import signal
import sys

import build_text_encoder
import copy_text_encoder
import numpy as np
import pandas as pd
import pytest
import tokenize_reports
import torch
from build_text_encoder import SPECIAL, write_vocabulary
from helpers import in_a_child
from refers import config
from refers.errors import UserError
from refers.methods import Context, build_objective
from refers.model.encoders import build_encoder
from refers.model.text_encoder import TextEncoder, check_sizes, load_tokenizer
from refers.study.bert_files import files_read, package_files, package_folder
from refers.text.laterality import swap_sides
from refers.training import optim
from safetensors.torch import load_file, save_file


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


def test_a_build_that_is_killed_leaves_the_old_files_and_the_next_one_leaves_nothing_of_it(
    tmp_path, monkeypatch
):
    """The vocabulary of reports stands in the folder of the BERT alone, whenever the build is killed."""
    from transformers import BertModel

    table, out = tmp_path / "reports.parquet", tmp_path / "interim/bert"
    pd.DataFrame({"study_id": ["s1", "s2"], "text": ["no effusion", "clear lungs"]}).to_parquet(table)
    sizes = {
        "vocabulary": 60,
        "width": 8,
        "depth": 1,
        "heads": 2,
        "max_length": 12,
        "dropout": 0.1,
        "seed": 0,
    }
    words = ["build", "--reports", str(table), "--out", str(out), "--config", json.dumps(sizes)]
    monkeypatch.setattr(sys, "argv", words)
    build_text_encoder.main()
    first = {path.name: path.read_bytes() for path in out.iterdir()}
    assert {"config.json", "model.safetensors", "vocab.txt", "tokenizer.json"} <= first.keys()

    def killed(*_, **__):
        os.kill(os.getpid(), signal.SIGKILL)

    def build_and_die():
        BertModel.save_pretrained = killed
        build_text_encoder.main()

    assert in_a_child(build_and_die) == -signal.SIGKILL
    left = {path.name for path in out.iterdir()} - first.keys()
    assert left == {build_text_encoder.UNFINISHED}
    assert {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()} == first
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    build_text_encoder.main()
    assert {path.name: path.read_bytes() for path in out.iterdir()} == first
    assert [path.name for path in out.parent.iterdir()] == [out.name]


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


# ---- a real BERT


def pieces(tokenizer, text, max_length=100):
    ids, lengths = tokenize_reports.encode(tokenizer, [text], max_length)
    return tokenizer.convert_ids_to_tokens(ids[0, : lengths[0]])


def test_a_real_tokenizer_frames_a_report_and_lower_cases_it(minilm):
    tokenizer = load_tokenizer(minilm)
    assert (len(tokenizer), tokenizer.pad_token_id) == (30522, 0)
    assert pieces(tokenizer, "LEFT pleural effusion.") == [
        *("[CLS]", "left", "pl", "##eur", "##al", "e", "##ff", "##usion", ".", "[SEP]"),
    ]


def test_a_report_is_cut_to_its_length_with_its_end(minilm):
    ids, lengths = tokenize_reports.encode(load_tokenizer(minilm), ["no effusion " * 90, "no"], 16)
    assert lengths.tolist() == [16, 3]
    assert ids[0, -1] == 102
    assert ids[1].tolist() == [101, 2053, 102] + [0] * 13
    assert ids.dtype == np.uint16


def test_sides_are_exchanged_before_the_text_is_cut_into_pieces(minilm):
    tokenizer, report = load_tokenizer(minilm), "Left effusion, leftward shift; the right hilum is bright."
    before, after = (pieces(tokenizer, text) for text in (report, swap_sides(report)))
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert changed == [("left", "right"), ("left", "right"), ("right", "left")]


def test_special_tokens_that_a_report_spells_are_text(minilm):
    found = pieces(load_tokenizer(minilm), "a [PAD] b [SEP] c [MASK]")
    assert found == ["[CLS]", "a", "[", "pad", "]", "b", "[", "sep", "]", "c", "[", "mask", "]", "[SEP]"]


def test_the_encoder_is_transformers_own_and_padding_changes_nothing(minilm):
    from transformers import BertModel

    encoder, theirs = TextEncoder(minilm).eval(), BertModel.from_pretrained(minilm).eval()
    tokens = torch.tensor([[101, 2053, 1041, 4246, 14499, 102], [101, 2053, 102, 0, 0, 0]])
    with torch.no_grad():
        wanted = theirs(input_ids=tokens, attention_mask=(tokens != 0).long()).pooler_output
        torch.testing.assert_close(encoder(tokens), wanted, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(encoder(tokens[1:, :3])[0], wanted[1], atol=1e-5, rtol=1e-5)
    assert encoder.hidden == 384
    assert all(parameter.requires_grad for parameter in encoder.parameters())


def test_a_real_bert_trains_with_the_objective_at_its_own_rate(minilm, small_model, one_thread):
    context = Context(text_encoder=minilm, vocabulary=30522, max_length=16, label_names=())
    settings = {"fusion_hidden": 8, "decoder": {"width": 16, "depth": 1, "heads": 2, "mlp_width": 16}}
    objective = build_objective("refers", build_encoder(small_model), settings, context)
    optimiser = config.Optimiser(name="adam", lr=1e-3, text_lr=1e-5, decoder_lr=1e-2)
    rates = {
        names[id(parameter)]: group["initial_lr"] if "initial_lr" in group else group["lr"]
        for names in [{id(parameter): name for name, parameter in objective.named_parameters()}]
        for group in optim.build(objective, optimiser, objective.lr_overrides(optimiser)).param_groups
        for parameter in group["params"]
    }
    by_part = {}
    for name, rate in rates.items():
        by_part.setdefault(name.split(".")[0], set()).add(rate)
    assert by_part["text"] == by_part["project"]
    assert len(by_part["text"]) == 1
    assert by_part["text"] != by_part["encoder"] != by_part["decoder"]
    tokens = torch.tensor([[101, 2053, 1041, 4246, 14499, 102, 0], [101, 2157, 102, 0, 0, 0, 0]])
    objective({"images": torch.rand(2, 3, 1, 32, 32), "tokens": tokens})["loss"].backward()
    lacking = [name for name, each in objective.text.named_parameters() if each.grad is None]
    assert lacking == []


@pytest.fixture(scope="session")
def folder_of(minilm, tmp_path_factory):
    """A copy of the real folder's small files beside links to its weights: folder_of(*names left out)."""

    def make(*left_out):
        folder = tmp_path_factory.mktemp("bert")
        for name in files_read(minilm):
            if name not in left_out:
                (folder / name).symlink_to(minilm / name)
        return folder

    return make


def rewrite(path, content):
    path.unlink(missing_ok=True)
    (path.write_bytes if isinstance(content, bytes) else path.write_text)(content)


@pytest.mark.parametrize("vocabulary", ["vocab.txt", "tokenizer.json"])
def test_one_file_of_the_tokenizer_is_enough(folder_of, vocabulary):
    others = {"vocab.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"} - {
        vocabulary
    }
    tokenizer = load_tokenizer(folder_of(*others))
    assert pieces(tokenizer, "The LEFT lung") == ["[CLS]", "the", "left", "lung", "[SEP]"]


def test_case_is_what_the_tokenizers_config_says(folder_of):
    folder = folder_of("tokenizer.json")
    rewrite(folder / "tokenizer_config.json", '{"do_lower_case": false, "tokenizer_class": "BertTokenizer"}')
    words = (folder / "vocab.txt").read_text().replace("\nzu\n", "\nLEFT\n")
    rewrite(folder / "vocab.txt", words)
    assert pieces(load_tokenizer(folder), "LEFT lung") == ["[CLS]", "LEFT", "lung", "[SEP]"]


def tokenized(folder, tmp_path, monkeypatch, max_length=100):
    """The tokens that the script writes of one report with the tokenizer of a folder."""
    pd.DataFrame({"study_id": ["s1"], "text": ["no effusion"]}).to_parquet(tmp_path / "reports.parquet")
    files = ["--reports", str(tmp_path / "reports.parquet"), "--out", str(tmp_path / "tokens.npz")]
    options = ["--text-encoder", str(folder), "--max-length", str(max_length)]
    monkeypatch.setattr(sys, "argv", ["tokenize_reports.py", *files, *options])
    tokenize_reports.main()
    return np.load(tmp_path / "tokens.npz")


def test_tokens_of_a_real_bert_are_written(minilm, tmp_path, monkeypatch):
    found = tokenized(minilm, tmp_path, monkeypatch)
    assert int(found["vocabulary"]) == 30522
    assert found["tokens"][0, 0] == 101


SPECIAL_ALONE = "".join(f"{entry}\n" for entry in SPECIAL)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda folder: (folder / "vocab.txt").unlink(), "no vocabulary"),
        (lambda folder: rewrite(folder / "vocab.txt", ""), "WordPiece vocabulary"),
        (lambda folder: rewrite(folder / "vocab.txt", SPECIAL_ALONE), "has no word"),
        (lambda folder: rewrite(folder / "tokenizer.json", '{"version": '), "not a BERT checkpoint"),
        (
            lambda folder: rewrite(folder / "vocab.txt", (folder / "vocab.txt").read_text() + "qqzz\n"),
            "30522 tokens, 30523 are needed",
        ),
        (lambda folder: (folder / "config.json").unlink(), "config.json"),
        (lambda folder: rewrite(folder / "config.json", '{"model_type": "roberta"}'), "of a roberta"),
    ],
)
def test_a_vocabulary_that_cannot_be_meant_stops_the_tokens(folder_of, tmp_path, monkeypatch, spoil, says):
    folder = folder_of("tokenizer.json")
    spoil(folder)
    with pytest.raises(UserError, match=says) as error:
        tokenized(folder, tmp_path, monkeypatch)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "tokens.npz").exists()


def test_reports_longer_than_the_positions_stop_before_any_training(minilm, tmp_path, monkeypatch):
    short = shutil.copytree(minilm, tmp_path / "short")
    resize(short, max_position_embeddings=256)
    with pytest.raises(UserError, match="256 positions, 257 are needed"):
        tokenized(short, tmp_path, monkeypatch, max_length=257)
    check_sizes(minilm, 30522, 512)


# ---- weights that are not the config's


@pytest.fixture
def bert(small_bert, tmp_path):
    """A copy of a small BERT's folder."""
    return shutil.copytree(small_bert, tmp_path / "bert")


def reweight(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def resize(folder, **sizes):
    path = folder / "config.json"
    rewrite(path, json.dumps(json.loads(path.read_text()) | sizes))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda bert: reweight(bert, lambda t: t["pooler.dense.bias"].fill_(torch.nan)), "pooler.dense.bias"),
        (lambda bert: reweight(bert, lambda t: t["pooler.dense.bias"].fill_(torch.inf)), "NaN or Inf"),
        (lambda bert: reweight(bert, lambda t: t.pop("pooler.dense.bias")), "1 tensors are missing"),
        (lambda bert: resize(bert, num_hidden_layers=0), "16 tensors have no place"),
        (lambda bert: resize(bert, num_hidden_layers=2), "16 tensors are missing"),
        (lambda bert: resize(bert, vocab_size=60), "1 tensors have other shapes"),
        (lambda bert: resize(bert, hidden_size=15), "not a BERT checkpoint"),
        (lambda bert: rewrite(bert / "model.safetensors", "version https://git-lfs.github.com/spec/v1\n"), "git-lfs"),
        (lambda bert: rewrite(bert / "model.safetensors", "<!doctype html>"), "HTML"),
        (lambda bert: rewrite(bert / "model.safetensors", b""), "an empty file"),
        (
            lambda bert: rewrite(bert / "model.safetensors", (bert / "model.safetensors").read_bytes()[:-9]),
            "not a checkpoint",
        ),
        (lambda bert: (bert / "model.safetensors").unlink(), "not found"),
        (lambda bert: (bert / "config.json").unlink(), "config.json"),
    ],
)  # fmt: skip
def test_damaged_weights_are_one_line(bert, spoil, says):
    spoil(bert)
    with pytest.raises(UserError, match=says) as error:
        TextEncoder(bert)
    assert "\n" not in str(error.value)


def test_torchs_file_old_names_half_precision_and_heads_are_read(bert, small_bert):
    tensors = load_file(bert / "model.safetensors")
    named = {
        "bert."
        + name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): tensor
        for name, tensor in tensors.items()
    }
    (bert / "model.safetensors").unlink()
    torch.save(named | {"cls.predictions.bias": torch.zeros(50)}, bert / "pytorch_model.bin")
    tokens = torch.tensor([[2, 7, 3, 0]])
    found, wanted = TextEncoder(bert).eval()(tokens), TextEncoder(small_bert).eval()(tokens)
    assert torch.equal(found, wanted)
    torch.save({name: tensor.half() for name, tensor in named.items()}, bert / "pytorch_model.bin")
    half = TextEncoder(bert)
    assert {parameter.dtype for parameter in half.parameters()} == {torch.float32}
    assert files_read(bert)[1] == "pytorch_model.bin"


def test_loading_moves_no_random_number(bert):
    torch.manual_seed(0)
    wanted = torch.rand(3)
    torch.manual_seed(0)
    TextEncoder(bert)
    assert torch.equal(torch.rand(3), wanted)
