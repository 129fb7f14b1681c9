"""Learning-rate pilots: candidates, choice, resumption, table, and the pre-training that takes the chosen rate."""

import csv
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from refers import config
from refers.config.read import read_files
from refers.errors import Preempted, UserError
from refers.methods.common import pilot
from refers.reporting import figures, pilots
from refers.study.check import check
from refers.training.task import Task
from torch import nn

pytestmark = pytest.mark.usefixtures("one_thread")
ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")
SGD, ADAM = ({"name": name, "lr": 0.1} for name in ("sgd", "adam"))


def settings_of(**training):
    """20 steps in all, SGD 0.1."""
    training = {
        "steps": 60,
        "warmup_steps": 6,
        "batch_size": 4,
        "precision": "fp32",
        "log_every": 1,
    } | training
    return config.load(config.Pretrain, {"rate": "pilot", "training": training | {"optimiser": SGD}})


def grid(*candidates, budget=1.0):
    return config.Pilots(budget=budget, grid=[config.Candidate(name=name, lr=lr) for name, lr in candidates])


class Quadratic(nn.Module):
    """The sum of w^4 from w = 1: SGD diverges at a high rate."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.ones(3))

    def forward(self, batch):
        return {"loss": self.w.pow(4).sum() * batch["x"].mean()}


def task(_settings=None):
    module = Quadratic()

    def validate():
        loss = float(module.w.square().sum())
        return {"loss": loss, "trivial": 2.0, "score": -loss}

    batch = {"x": torch.ones(4, 1)}
    return Task(
        module=module, keep=module, load=lambda _: batch, loss=module, validate=validate, epoch_steps=3
    )


def test_a_grid_holds_the_configured_setting_once_and_first():
    optimiser = config.Optimiser(name="adam", lr=1e-3)
    found = grid(("sgd", 0.1), ("adam", 1e-3)).candidates(optimiser)
    assert [(each.name, each.lr) for each in found] == [("adam", 1e-3), ("sgd", 0.1)]


def test_a_candidate_has_its_part_of_the_budget_and_a_warm_up_of_the_same_share():
    training = config.Training(optimiser=config.Optimiser(name="sgd", lr=1.0))
    short = grid(("sgd", 0.1), ("adam", 1e-3), budget=0.02).shortened(training)
    assert (short.steps, short.warmup_steps, short.validate_every) == (2000, 67, 2000)
    assert short.batch_size == training.batch_size
    with pytest.raises(ValueError, match=r"0\.01 of 60 steps gives none to each of 1"):
        grid(budget=0.01).shortened(settings_of().training)


def test_the_other_rates_keep_their_ratio():
    found = config.Optimiser(lr=3e-3, text_lr=3e-4, decoder_lr=6e-3).at("adam", 1e-3)
    assert (found.name, found.lr) == ("adam", 1e-3)
    assert (found.text_lr, found.decoder_lr, found.head_lr) == (pytest.approx(1e-4), pytest.approx(2e-3), 0)
    assert config.Optimiser(lr=1e-6, text_lr=3e-4).at("sgd", 0.3).text_lr == 10, "the largest that is allowed"


def test_what_diverges_is_listed_and_the_lowest_held_out_loss_is_chosen(tmp_path):
    made = []

    def build(settings):
        made.append(
            (settings.training.optimiser.name, settings.training.optimiser.lr, settings.training.steps)
        )
        return task()

    tried = pilot.try_candidates(settings_of(), grid(("sgd", 9.0), ("adam", 0.1)), build, CPU, tmp_path, "x")
    assert made == [("sgd", 0.1, 20), ("sgd", 9.0, 20), ("adam", 0.1, 20)]
    assert [each["loss"] is None for each in tried] == [False, True, False]
    assert tried[1]["diverged"] is not None
    assert tried[0]["trivial"] == 2.0
    found = pilot.choose(tried)
    losses = {each["name"]: each["loss"] for each in tried if each["loss"] is not None}
    assert found["chosen"]["name"] == min(losses, key=losses.get)


def test_a_killed_pilot_keeps_the_finished_candidates(tmp_path, monkeypatch):
    made, fit = [], pilot.fit

    def build(settings):
        made.append(settings.training.optimiser.name)
        return task()

    def stopped(trained, training, *others):
        if training.optimiser.name == "adam":
            raise Preempted
        return fit(trained, training, *others)

    whole = pilot.try_candidates(settings_of(), grid(("adam", 0.1)), task, CPU, tmp_path / "whole", "x")
    monkeypatch.setattr(pilot, "fit", stopped)
    arguments = (settings_of(), grid(("adam", 0.1)), build, CPU, tmp_path / "broken", "x")
    with pytest.raises(Preempted):
        pilot.try_candidates(*arguments)
    monkeypatch.setattr(pilot, "fit", fit)
    found = pilot.try_candidates(*arguments)
    assert made == ["sgd", "adam", "adam"]
    assert [each.pop("earlier") for each in found] == [True, False]
    assert found == [{key: each[key] for key in each if key != "earlier"} for each in whole]
    pilot.try_candidates(*arguments[:-1], "other inputs")
    assert made[3:] == ["sgd", "adam"]
    # A benchmark file knows the last process alone, so that a resumed candidate is no measurement either.
    monkeypatch.setattr(pilot, "fit", lambda *given: fit(*given) | {"resumed_at": 2})
    found = pilot.try_candidates(*arguments[:-1], "third inputs")
    assert [each["earlier"] for each in found] == [True, True]


def tried_of(*rows):
    return [
        {"name": name, "lr": lr, "loss": loss, "diverged": None if loss is not None else 7}
        for name, lr, loss in rows
    ]


def test_a_tie_goes_to_the_first_and_the_edge_of_the_grid_is_said():
    tried = tried_of(("sgd", 0.1, 1.0005), ("sgd", 0.01, 1.5), ("sgd", 1.0, 1.0), ("adam", 1e-3, 1.2))
    found = pilot.choose(tried)
    assert found["chosen"] == {"name": "sgd", "lr": 0.1}
    assert found["ties"] == [{"name": "sgd", "lr": 1.0}]
    assert not found["edge"]
    assert pilot.choose(tried[:2])["edge"]
    with pytest.raises(UserError, match=r"every candidate diverged; .*pilots\.grid"):
        pilot.choose(tried_of(("sgd", 1.0, None)))


def record_of(method, *rows, trivial=None):
    tried = tried_of(*rows)
    about = {"method": method, "steps": 20, "batch_size": 96, "trivial": trivial, "candidates": tried}
    return about | pilot.choose(tried) | {"settings": {}, "inputs": {}}


def test_the_table_says_what_a_reader_of_a_choice_must_know(call, tmp_path):
    records = [
        record_of("c2l", ("sgd", 0.03, 4.7), ("sgd", 0.3, None), ("adam", 1e-3, 4.6), trivial=4.55),
        record_of("transvw", ("adam", 1e-3, 0.02), ("adam", 1e-4, 0.03), ("adam", 1e-2, 0.04), trivial=0.05),
    ]
    files = []
    for record in records:
        files.append(tmp_path / f"{record['method']}.json")
        files[-1].write_text(json.dumps(record))
    spec = {
        "titles": {"c2l": "C2L", "transvw": "TransVW", "lsp": "LSP"},
        "status": {"lsp": "not run: no BERT"},
        "note": "A note.",
    }
    done = call("pilots", "--spec", json.dumps(spec), "--pilots", *files, "--out", tmp_path / "pilots.csv")
    assert done.returncode == 0, done.stderr
    rows = {line.split("|")[1].strip(): line for line in done.stdout.splitlines() if line.startswith("|")}
    for fact in (
        "Adam 0.001",
        "SGD 0.03",
        "SGD 0.3 diverged at step 7",
        "at the edge",
        "not below the trivial",
    ):
        assert fact in rows["C2L"]
    assert "edge" not in rows["TransVW"]
    assert "not run: no BERT" in rows["LSP"]
    assert "no test data" in done.stdout
    with open(tmp_path / "pilots.csv", newline="") as opened:
        lines = list(csv.DictReader(opened))
    assert len(lines) == 6
    assert [line["loss"] for line in lines if line["diverged"]] == [""]
    assert [(line["optimiser"], line["lr"]) for line in lines if line["chosen"] == "1"] == [
        ("adam", "0.001"),
        ("adam", "0.001"),
    ]
    assert [line["configured"] for line in lines] == ["1", "0", "0", "1", "0", "0"]
    assert (tmp_path / "pilots.md").read_text().strip() in done.stdout
    assert (tmp_path / "pilots.html").read_text().count("<tr>") == 4
    for form in ("pdf", "png"):
        assert (tmp_path / f"pilots.{form}").stat().st_size > 5000


def test_the_figure_has_a_panel_per_method_and_marks_the_choice():
    record = record_of("c2l", ("sgd", 0.03, 4.7), ("sgd", 0.3, None), ("adam", 1e-3, 4.6), trivial=4.55)
    drawn = figures.pilots_figure({"titles": {"c2l": "C2L"}}, [record])
    panel = drawn.axes[0]
    assert panel.get_xscale() == "log"
    lines = {line.get_label(): line for line in panel.lines if len(line.get_xdata())}
    assert lines.keys() == {"SGD", "Adam", "diverged", "chosen", "trivial predictor"}
    assert list(lines["chosen"].get_xdata()) == [1e-3]
    assert list(lines["diverged"].get_xdata()) == [0.3]
    figures.plt.close(drawn)


def test_a_study_without_pilots_says_so():
    assert "No method" in pilots.to_markdown({"titles": {}, "status": {}, "note": ""}, [])


def test_the_published_study_pilots_what_the_paper_gives_no_rate_for():
    study = check(read_files([ROOT / "config/config.yaml"]))
    piloted = {method for method in study.methods if study.uses_pilot(method)}
    assert {method for method in study.methods if method.startswith(("refers", "imagenet", "random"))} == {
        *study.methods
    } - piloted
    configured = {method: study.pretrain_settings(method).training.optimiser for method in piloted}
    assert {method: (each.name, each.lr) for method, each in configured.items()} == {
        "model_genesis": ("sgd", 1.0),
        "c2l": ("sgd", 0.03),
        "context_restoration": ("sgd", 3e-3),
        "transvw": ("adam", 1e-3),
        "lsp_transformer": ("sgd", 3e-3),
        **dict.fromkeys(("lsp_resnet18", "lsp_resnet50", "lsp_resnet101"), ("adam", 1e-4)),
    }
    for method in piloted:
        short = study.pilot_training(method)
        count = len(study.config.pilots.candidates(configured[method]))
        assert 5900 < short.steps * count <= 6000
    code = check(read_files([ROOT / f"config/{name}.yaml" for name in ("config", "code")]))
    assert not any(code.uses_pilot(method) for method in code.methods)


def test_a_budget_without_a_step_is_one_line():
    values = read_files([ROOT / "config/config.yaml"])
    values["pilots"]["budget"] = 1e-6
    with pytest.raises(UserError, match=r"^config\.pilots\.budget, for model_genesis: .*raise it"):
        check(values)


def test_a_rate_of_zero_is_no_candidate():
    values = read_files([ROOT / "config/config.yaml"])
    values["methods"]["c2l"]["pretrain"]["training"]["optimiser"]["lr"] = 0.0
    with pytest.raises(
        UserError, match=r"^config\.methods\.c2l\.pretrain\.training\.optimiser\.lr: 0 is no .*[^\n]$"
    ):
        check(values)


def test_pretraining_takes_and_records_the_rate_of_its_pilot(small_model, small_bert, mimic, tmp_path):
    (tmp_path / "images.json").write_text('{"quarantined": []}')
    settings = config.to_dict(
        settings_of().replace(objective="lsp", model=small_model, settings={}, rate="pilot")
    )
    index, store, tokens = mimic
    shared = ["--method", "lsp", "--config", json.dumps(settings), "--device", "cpu", "--index", index]
    shared += ["--store", store, "--tokens", tokens, "--text-encoder", small_bert]
    shared += ["--manifest", tmp_path / "images.json"]

    def run(script, *more):
        command = [sys.executable, ROOT / f"workflow/scripts/{script}.py", *shared, *more]
        return subprocess.run(list(map(str, command)), capture_output=True, text=True)

    out = tmp_path / "pilots/lsp.json"
    grid = json.dumps({"budget": 0.2, "grid": [{"name": "adam", "lr": 1e-3}, {"name": "sgd", "lr": 1e-4}]})
    done = run("pilot", "--pilots", grid, "--out", out)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert [path.name for path in out.parent.iterdir()] == ["lsp.json"], "the states are gone"
    assert (found["steps"], len(found["candidates"])) == (4, 3)
    assert found["trivial"] > 0
    chosen = min(found["candidates"], key=lambda each: each["loss"])
    assert found["chosen"] == {name: chosen[name] for name in ("name", "lr")}
    done = run("pretrain", "--out", tmp_path / "a/encoder.safetensors")
    assert done.returncode == 1
    assert "rate is pilot, but no --pilot" in done.stderr
    for spoil in ({"method": "c2l"}, {"settings": {"pretrain": {}}}, {"inputs": {"tokens": "0" * 64}}):
        other = tmp_path / "other.json"
        other.write_text(json.dumps(found | spoil))
        done = run("pretrain", "--pilot", other, "--out", tmp_path / "b/encoder.safetensors")
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert f"{other}: " in done.stderr
    assert not (tmp_path / "b").exists()
    done = run("pretrain", "--pilot", out, "--out", tmp_path / "b/encoder.safetensors")
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "b/run.json").read_text())
    optimiser = record["settings"]["training"]["optimiser"]
    assert {name: optimiser[name] for name in ("name", "lr")} == found["chosen"]
    assert {"pilot", "tokens"} <= record["inputs"].keys()


def test_a_candidate_whose_held_out_loss_overflows_has_diverged(tmp_path):
    def build(settings):
        found = task()
        if settings.training.optimiser.lr == 0.05:
            found.validate = lambda: {"loss": math.inf, "trivial": 2.0, "score": -math.inf}
        return found

    tried = pilot.try_candidates(settings_of(), grid(("sgd", 0.05)), build, CPU, tmp_path, "x")
    assert [(each["loss"] is None, each["diverged"]) for each in tried] == [(False, None), (True, 30)]
