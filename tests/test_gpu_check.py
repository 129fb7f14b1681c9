"""The GPU check, on a CPU and with tiny models: a crash is a row, the time is kept, rows are true, and the plan reads them."""

import contextlib
import csv
import json
import os
import time
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from refers import config, devices
from refers.config.read import read_files
from refers.errors import Diverged, UserError
from refers.planning import gpu_check, gpu_checks, gpu_report, step_times
from refers.planning.costs import START, CostModel
from refers.planning.gpu_report import FINETUNING, LOCK, MEMORY, NO_GPU, NO_TIME, OK, PRODUCTS, RESUME, STEP
from refers.planning.isolation import Failed, OutOfTime, call
from refers.planning.jobs import jobs_of, pretrain_key
from refers.planning.step_times import LEAST, WARM_UP, time_steps
from refers.study.check import check
from test_trainer import CPU, settings, toy_task

ROOT = Path(__file__).parents[1]
TRAINING = {"batch_size": 4, "precision": "fp32"}
TINY = {
    "images": {"size": 40},
    "text": {"max_length": 12, "build": {"vocabulary": 100, "width": 16, "depth": 1, "max_length": 12}},
    "pretrain": {
        "model": {"image_size": 32, "patch_size": 8, "width": 16, "depth": 1, "heads": 2, "mlp_width": 16},
        "training": TRAINING,
    },
    "methods": {
        "refers": {"pretrain": {"settings": {"views": 3, "fusion_hidden": 8, "decoder": {"width": 16, "mlp_width": 16}}}},
        "transvw": {"pretrain": {"rate": "fixed", "words": {"count": 3}, "training": TRAINING, "settings": {"hidden": 8, "decoder_width": 8}}},
        "c2l": {"pretrain": {"rate": "fixed", "training": TRAINING, "settings": {"queue": 8, "width": 8}}},
    },
    "finetune": {"defaults": {"training": TRAINING}, "datasets": {"nih": {"training": TRAINING}}, "cells": {"nih/1": {"training": TRAINING}}},
    "study": {"methods": ["refers", "transvw", "c2l", "imagenet", "shuffled_labels"]},
}  # fmt: skip
COST = {"flops": 4e6, "forward_flops": 1e6, "batch": 4, "gpu_bytes": 3 * 2**30, "unit": "study"}


def study_of(seconds, *changes):
    """The demo's study with a tiny model."""
    files = [ROOT / f"config/{name}.yaml" for name in ("config", "demo")]
    return check(config.merge(read_files(files), TINY, {"gpu_check": {"seconds": seconds}}, *changes))


# ---- a process of its own


@pytest.mark.parametrize(
    ("function", "arguments", "line"),
    [
        (os._exit, (3,), "exit code 3"),
        (os.abort, (), "SIGABRT"),
        (int, ("x\ny",), "ValueError: invalid literal"),
    ],
)
def test_whatever_ends_a_process_is_one_line(function, arguments, line):
    with pytest.raises(Failed, match=line) as caught:
        call(function, *arguments, seconds=120)
    assert "\n" not in str(caught.value)


def test_a_process_that_takes_too_long_is_ended():
    assert call(dict, seconds=120) == {}
    with pytest.raises(OutOfTime):
        call(time.sleep, 600, seconds=0.2)


# ---- the checks


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What the checks find in all the time that they want."""
    study = study_of(3000)
    costs = {pretrain_key(study, "refers"): COST}
    return study, gpu_check.run(study, costs, tmp_path_factory.mktemp("checked"))


def rows_of(found, name):
    return [row for row in found["rows"] if row["check"] == name]


def test_every_pretrained_method_is_stepped_once_at_its_batch(found):
    study, content = found
    steps = [row for row in rows_of(content, STEP) if row["status"] == OK]
    # shuffled_labels trains nothing that REFERS does not, and ImageNet's encoder is imported
    assert [row["method"] for row in steps] == ["refers", "transvw", "c2l"]
    for row in steps:
        assert (row["batch"], row["precision"], row["micro_batches"]) == (4, "fp32", 1)
        views = 3 if row["method"] == "refers" else 1
        assert row["images_per_second"] * row["seconds_per_step"] == pytest.approx(4 * views)
        assert row["key"] == pretrain_key(study, row["method"])
    refers, transvw, c2l = steps
    assert transvw["distortion_seconds"] > 0
    assert "distortion_seconds" not in c2l
    rate = content["rates"]["fp32"]
    assert refers["share"] == pytest.approx(4e6 / refers["seconds_per_step"] / rate)
    assert refers["estimated_bytes"] == 3 * 2**30


def test_what_needs_a_gpu_says_so(found):
    _, content = found
    assert content["kind"] == "cpu"
    others = [row for row in rows_of(content, STEP) if row["precision"] != "fp32" or row["compile"]]
    assert {row["status"] for row in others} == {NO_GPU}
    assert {row["precision"] for row in others} == {"fp32", "bf16", "fp16", "apex-o1", "apex-o2"}
    _, heads, lines = gpu_report.tables(content)[0]
    shown = dict(zip(heads, lines[0], strict=True))
    assert shown["Peak memory"] == shown["Waits per step"] == NO_GPU


def test_a_run_survives(found):
    _, content = found
    [resume], [memory], [lock] = (rows_of(content, name) for name in (RESUME, MEMORY, LOCK))
    assert (resume["status"], resume["loss_difference"], resume["update_difference"]) == (OK, 0, 0)
    assert (memory["status"], memory["micro_batches"]) == (OK, 2)
    assert lock["status"] == OK
    assert not devices.is_free(lock["held"]), "the GPU is held until this process ends"
    [tuning] = rows_of(content, FINETUNING)
    assert (tuning["status"], tuning["batch"]) == (OK, 4)
    assert rows_of(content, PRODUCTS)[0]["status"] == OK
    assert gpu_report.failures(content) == []


def test_the_tables_hold_every_row(found):
    _, content = found
    lines = list(csv.DictReader(gpu_report.to_csv(content).splitlines()))
    assert [line["status"] for line in lines] == [row["status"] for row in content["rows"]]
    html, markdown = gpu_report.to_html(content), gpu_report.to_markdown(content)
    assert html.count("<table>") == html.count("</table>") == 2
    for name in ("refers", "transvw", "c2l", RESUME, MEMORY, LOCK):
        assert name in html
        assert name in markdown


def test_what_the_time_does_not_reach_is_not_tried(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_check, "call", lambda *given, seconds: time.sleep(seconds) or {})
    content = gpu_check.run(study_of(5), {}, tmp_path)
    states = [row["status"] for row in content["rows"] if row["status"] != NO_GPU]
    assert states[0] == OK
    assert NO_TIME in states
    assert states[states.index(NO_TIME) :] == [NO_TIME] * states.count(NO_TIME)


def test_the_configured_steps_come_first_and_compiled_ones_last():
    listed = list(gpu_check.checks_of(study_of(60), True))
    assert [each.method for each in listed[:3]] == ["refers", "transvw", "c2l"]
    assert [each.name for each in listed[3:6]] == [FINETUNING, RESUME, MEMORY]
    assert [each.method for each in listed if each.compile] == ["refers", "transvw", "c2l"]
    assert all(each.compile for each in listed[-3:])
    pairs = [(each.method, each.precision, each.compile) for each in listed if each.name == STEP]
    assert len(pairs) == len(set(pairs))


def test_a_compiled_step_is_compiled_and_timed_once_it_is(tmp_path, monkeypatch):
    compiled, steps = [], []
    monkeypatch.setattr(torch, "compile", lambda loss: compiled.append(loss) or loss)
    task = toy_task()
    own = replace(task, after_step=lambda: steps.append(1))
    for compile in (False, True):
        steps.clear()
        timed = time_steps(own, settings(compile=compile), CPU, tmp_path, 5, 100)
        assert len(compiled) == compile
        assert (len(timed.seconds), len(steps)) == (5, 5 + WARM_UP + compile)
    assert (timed.peak_bytes, timed.waits, timed.micro_batches) == (None, None, 1)
    assert len(time_steps(own, settings(), CPU, tmp_path, 5, 0).seconds) == LEAST


class Event:
    """An event of a GPU on which every step takes half a second."""

    made = 0

    def __init__(self, enable_timing):
        assert enable_timing
        Event.made += 1
        self.place = Event.made

    def record(self):
        pass

    def elapsed_time(self, later):
        return 500.0 * (later.place - self.place)


def test_a_gpus_own_clock_and_torchs_warnings_are_read_after_the_warm_up(monkeypatch):
    """Stand-ins for what torch does on a GPU: its events, and its warning where the host waits."""
    modes = []
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: modes.append("drained"))
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)
    device = torch.device("cuda", 0)
    clock = step_times.Clock(device, steps=3, seconds=100)
    with step_times._counted_waits(device) as waits, contextlib.suppress(step_times.Enough):
        while True:
            if modes:
                warnings.warn("called a synchronizing CUDA operation (Triggered internally)", stacklevel=1)
                warnings.warn("of something else", stacklevel=1)
            clock.mark()
    assert clock.taken() == [0.5, 0.5, 0.5]
    assert len(waits) == 3
    assert modes == ["warn", "default", "drained"]


def test_a_step_that_breaks_the_weights_is_no_step(tmp_path):
    with pytest.raises(Diverged):
        time_steps(toy_task(spoil_at=1), settings(), CPU, tmp_path, 5, 100)


def test_an_absent_gpu_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "visible", list)
    monkeypatch.setattr(Path, "exists", lambda path: False)
    with pytest.raises(UserError, match="no GPU is visible"):
        gpu_check.run(study_of(60, {"device": "cuda"}), {}, tmp_path)


@pytest.mark.parametrize(
    ("resumed", "again", "line"),
    [
        (0.02, 0.01, None),
        (0.02, 0.003, "do not train here"),
        (0.02, 0.0, "do not train here"),
        (0.4, 0.4, "too much to judge"),
    ],
)
def test_a_resumed_run_is_held_against_two_unbroken_ones(tmp_path, monkeypatch, resumed, again, line):
    """Losses of later runs are larger by a share, and so are the updates of plain SGD."""
    made, shares = gpu_checks.stand_in.pretraining, iter([0.0, resumed, resumed, again])

    def larger(*arguments):
        task, share = made(*arguments), next(shares)
        return replace(
            task, loss=lambda batch: {name: (1 + share) * loss for name, loss in task.loss(batch).items()}
        )

    monkeypatch.setattr(gpu_checks.stand_in, "pretraining", larger)
    study = study_of(60)
    place = gpu_checks.Place("cpu", study.config.text, tmp_path / "bert", study.config.images.size, tmp_path)
    settings = study.pretrain_settings("refers")
    optimiser = config.Optimiser(name="sgd", lr=1e-3, text_lr=1e-3, decoder_lr=1e-3)
    settings = settings.replace(training=settings.training.replace(optimiser=optimiser))
    if line:
        with pytest.raises(UserError, match=line):
            gpu_checks.resume(place, settings)
        return
    found = gpu_checks.resume(place, settings)
    assert found["update_difference"] == pytest.approx(resumed, rel=0.1)
    assert found["spread"] == pytest.approx(again, rel=0.1)


# ---- the target


def test_a_failed_check_is_a_row_the_others_go_on_and_the_target_fails(snakemake, tmp_path):
    """fp16 fails on a CPU."""
    folders = {name: f"{tmp_path}/{name}" for name in ("results", "store", "interim", "logs", "benchmarks")}
    changes = {"pathvars": folders, "data_root": f"{tmp_path}/nothing", "plan": {"steps": 0}}
    changes["study"] = {"methods": ["c2l", "refers"]}
    changes["methods"] = {"c2l": {"pretrain": {"training": {"precision": "fp16"}}}}
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(yaml.safe_dump(config.merge(TINY, changes)))
    options = ["--workflow-profile", "profiles/demo", "--configfile", "config/demo.yaml", overlay]
    done = snakemake("gpu_check", *options, "--config", "gpu_check={seconds: 600}")
    assert done.code == 1, done.output
    content = json.loads((tmp_path / "results/gpu_check.json").read_text())
    assert content["budget_seconds"] == 600
    states = {row["method"]: row["status"] for row in rows_of(content, STEP) if row["status"] != NO_GPU}
    assert states["refers"] == OK
    assert "fp16 needs a GPU" in states["c2l"]
    assert rows_of(content, FINETUNING)[0]["status"] == OK
    failed = gpu_report.failures(content)
    assert len(failed) == 3, "the step, the resume and the lack of memory of the first method"
    assert f"3 of {len(content['rows'])} checks failed" in done.output
    for form in ("csv", "md"):
        assert "c2l" in (tmp_path / f"results/gpu_check.{form}").read_text()
    again = snakemake("-n", "plan", *options)
    assert "check_gpu" not in again.jobs, "a plan needs no GPU"


# ---- the plan


def planned(content, wanted="cpu", **speed):
    """The model of costs where gpu_check found `content`, and the pre-training jobs by method."""
    study = study_of(60, {"device": wanted})
    steps = dict.fromkeys(
        (pretrain_key(study, "refers"), pretrain_key(study, "c2l")),
        COST | {"parameters": 1e6, "encoder_parameters": 1e6},
    )
    measured = {"steps": steps, "speeds": {"x": speed} if speed else {}, "gpu_check": content}
    jobs = jobs_of(study, ["refers", "c2l"], ["nih/1"]).values()
    job = {each.wildcards["method"]: each for each in jobs if each.rule == "pretrain"}
    return CostModel(study, measured, {}), job


def checked(kind="cpu", device="CPU", **row):
    study = study_of(60)
    found = {"key": pretrain_key(study, "refers"), "compile": False, "flops_per_second": 1e9}
    return {"kind": kind, "device": device, "rows": [found | row]}


def test_the_plan_takes_a_timed_step_as_measured():
    model, job = planned(checked(peak_bytes=7 * 2**30))
    found = model.estimate(job["refers"])
    assert found.source == "measured"
    assert found.seconds == pytest.approx(START + found.flops / 1e9)
    assert found.gpu_mib == 7 * 1024
    other = model.estimate(job["c2l"])
    assert (other.source, other.gpu_mib) == ("assumed", 3 * 1024)


@pytest.mark.parametrize(
    "content",
    [
        checked(compile=True),
        checked(key="of other settings"),
        checked(flops_per_second=None),
        checked(kind="cuda", device="some GPU"),
    ],
    ids=["compiled", "other settings", "failed", "GPU"],
)
def test_a_step_that_is_not_the_planned_one_does_not_count(content):
    model, job = planned(content)
    assert model.estimate(job["refers"]).source == "assumed"


@pytest.mark.parametrize(("timed", "source"), [("this GPU", "measured"), ("another GPU", "assumed")])
def test_the_check_of_another_gpu_does_not_count(timed, source):
    content = checked("cuda", "this GPU", key=pretrain_key(study_of(60, {"device": "cuda"}), "refers"))
    model, job = planned(content, "cuda", kind="cuda", device=timed)
    assert model.estimate(job["refers"]).source == source
    model, job = planned(content, "cuda")
    assert model.estimate(job["refers"]).source == "measured", "where no GPU was timed"
