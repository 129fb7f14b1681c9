"""What may go wrong in a training run: it is killed, preempted, out of memory, or its disk is full; no step is lost or changed."""

import dataclasses
import json
import os
import random
import signal
import sys
import threading

import pytest
import torch
from refers import config, engine
from refers.errors import Preempted, UserError
from test_engine import CPU, settings, toy_task
from test_objectives import OBJECTIVES, task_of


def weights_of(task):
    return {name: tensor.clone() for name, tensor in task.keep.state_dict().items()}


def same(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def in_a_child(work):
    """Run `work` in a forked process; its exit status, negative for a signal."""
    child = os.fork()
    if not child:
        try:
            torch.set_num_threads(1)  # OpenMP's threads do not survive a fork
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def count_calls(limit=None):
    """Count Python calls in this process, and kill it without warning at the call number `limit`."""
    calls = [0]

    def profile(_frame, event, _argument):
        if event == "call":
            calls[0] += 1
            if calls[0] == limit:
                os.kill(os.getpid(), signal.SIGKILL)

    threading.setprofile(profile)
    sys.setprofile(profile)
    return calls


def survive(make_task, training, folder, kills):
    """Weights of an unbroken run and of one that is killed `kills` times at random Python calls, and the metrics of both."""

    def run(name, limit=None):
        calls = count_calls(limit)
        task = make_task()
        engine.fit(task, training, CPU, folder / name, "x")
        sys.setprofile(None)
        (folder / f"{name}.calls").write_text(str(calls[0]))
        torch.save(task.keep.state_dict(), folder / f"{name}.pt")

    folder.mkdir()
    assert in_a_child(lambda: run("unbroken")) == 0
    total = int((folder / "unbroken.calls").read_text())
    moments = random.Random(0)
    for _ in range(kills):
        limit = moments.randrange(1, total // 2)
        assert in_a_child(lambda limit=limit: run("killed", limit)) in (-signal.SIGKILL, 0)
    assert in_a_child(lambda: run("killed")) == 0
    found = [torch.load(folder / f"{name}.pt", weights_only=True) for name in ("unbroken", "killed")]
    curves = [(folder / name / "metrics.jsonl").read_text() for name in ("unbroken", "killed")]
    return found, curves


@pytest.mark.parametrize(
    "kills", [3, pytest.param(20, marks=pytest.mark.full)], ids=["three kills", "twenty kills"]
)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_killed_pretraining_ends_with_the_weights_of_an_unbroken_one(
    name, small_model, context, studies, tmp_path, kills
):
    training = config.Training(
        steps=9,
        warmup_steps=1,
        batch_size=4,
        precision="fp32",
        checkpoint_every=2,
        validate_every=4,
        log_every=3,
        optimiser=config.Optimiser(lr=0.05),
    )
    (unbroken, killed), (curve, other) = survive(
        lambda: task_of(name, small_model, context, studies), training, tmp_path / name, kills
    )
    assert same(unbroken, killed)
    assert curve == other


@pytest.mark.parametrize("moment", ["load", "loss", "validate"])
@pytest.mark.parametrize("number", [2, 6])
def test_sigterm_saves_every_step_done(tmp_path, moment, number):
    unbroken = toy_task()
    engine.fit(unbroken, settings(validate_every=3), CPU, tmp_path / "unbroken", "x")

    stopped = toy_task()
    original, calls = getattr(stopped, moment), []

    def interrupted(*given):
        calls.append(1)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(*given)

    with pytest.raises(Preempted, match=r"SIGTERM at step \d+ of 20; the state is saved") as caught:
        engine.fit(
            dataclasses.replace(stopped, **{moment: interrupted}),
            settings(validate_every=3),
            CPU,
            tmp_path / "stopped",
            "x",
        )
    assert caught.value.code == 143
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    resumed = toy_task()
    outcome = engine.fit(resumed, settings(validate_every=3), CPU, tmp_path / "stopped", "x")
    assert 0 <= outcome["resumed_at"] < 20
    assert same(weights_of(unbroken), weights_of(resumed))
    assert (tmp_path / "unbroken/metrics.jsonl").read_text() == (
        tmp_path / "stopped/metrics.jsonl"
    ).read_text()


@pytest.mark.parametrize(("items", "parts"), [(8, 2), (7, 3), (5, 5)])
def test_parts_of_a_batch_add_up_to_its_gradient(items, parts):
    torch.manual_seed(0)
    batch = {"images": torch.randn(items * 3, 2), "labels": torch.randn(items, 1)}
    weight = torch.randn(2, 1, requires_grad=True)

    def loss(part):
        means = (part["images"] @ weight).unflatten(0, (-1, 3)).mean(1)
        return (means - part["labels"]).square().mean()

    (whole,) = torch.autograd.grad(loss(batch), weight)
    pieces = engine.micro_batches(batch, parts)
    assert sum(share for _, share in pieces) == pytest.approx(1)
    assert [len(part["images"]) for part, _ in pieces] == [3 * len(part["labels"]) for part, _ in pieces]
    (added,) = torch.autograd.grad(sum(share * loss(part) for part, share in pieces), weight)
    torch.testing.assert_close(added, whole)


def short_of_memory(task, largest):
    """The task on a device that holds `largest` items."""

    def loss(batch):
        if len(batch["x"]) > largest:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return task.module(batch)

    return dataclasses.replace(task, loss=loss)


def test_a_batch_that_does_not_fit_is_halved_until_it_does(tmp_path, capsys):
    plain, short = toy_task(), toy_task()
    for task in (plain, short):
        task.module.body[2].p = 0.0  # dropout masks would differ between one pass and four
    engine.fit(plain, settings(), CPU, tmp_path / "plain", "x")
    outcome = engine.fit(short_of_memory(short, 2), settings(), CPU, tmp_path / "short", "x")
    assert outcome["micro_batches"] == 4
    assert "batches of 8 now pass in 4 parts" in capsys.readouterr().err
    for name, tensor in weights_of(plain).items():
        torch.testing.assert_close(short.module.state_dict()[name], tensor, msg=name)


def test_one_item_that_does_not_fit_is_one_line(tmp_path):
    with pytest.raises(UserError, match="out of GPU memory with one item in a batch"):
        engine.fit(short_of_memory(toy_task(), 0), settings(), CPU, tmp_path, "x")


def test_a_loss_that_is_no_number_leaves_the_batches_behind_it(tmp_path):
    task = dataclasses.replace(
        toy_task(spoil_at=8), items=lambda step: engine.batch_rows(step, 30, 8, 0).tolist()
    )
    with pytest.raises(UserError, match=r"loss is nan between steps 5 and 10 .*nonfinite.json"):
        engine.fit(task, settings(), CPU, tmp_path, "x")
    found = json.loads((tmp_path / "nonfinite.json").read_text())
    assert [entry["step"] for entry in found["steps"]] == [5, 6, 7, 8, 9]
    assert found["steps"][3]["items"] == engine.batch_rows(8, 30, 8, 0).tolist()
    assert found["learning_rate"] == pytest.approx(3e-3 * found["learning_rate_factor"])


@pytest.mark.parametrize("reason", ["No space left on device", "Read-only file system"])
def test_a_disk_that_takes_no_state_leaves_the_old_one_loadable(tmp_path, monkeypatch, reason):
    task = toy_task()
    saves = []

    def save(state, path):
        saves.append(1)
        if len(saves) == 2:
            with open(path, "wb") as opened:
                opened.write(b"half")
            raise OSError(28, reason)
        return original(state, path)

    original = torch.save
    monkeypatch.setattr(torch, "save", save)
    with pytest.raises((UserError, OSError), match=reason):
        engine.fit(task, settings(), CPU, tmp_path, "x")
    monkeypatch.setattr(torch, "save", original)
    assert [path.name for path in tmp_path.iterdir()] == ["resume.pt"]
    resumed, unbroken = toy_task(), toy_task()
    assert engine.fit(resumed, settings(), CPU, tmp_path, "x")["resumed_at"] == 7
    engine.fit(unbroken, settings(), CPU, tmp_path / "unbroken", "x")
    assert same(weights_of(resumed), weights_of(unbroken))
