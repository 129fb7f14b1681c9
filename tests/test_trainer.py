"""The training loop: schedule, parameter groups, resume, selection, stops."""

import dataclasses
import json
import math
import threading

import numpy as np
import pytest
import torch
from refers import config
from refers.errors import UserError
from refers.training import optim, resume, trainer
from refers.training.precision import Precision
from refers.training.task import Task, batch_rows, pinned
from torch import nn

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")


class Toy(nn.Module):
    """Regression with dropout and a norm, so that randomness and parameter groups matter."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(3, 8), nn.LayerNorm(8), nn.Dropout(0.3), nn.Linear(8, 1))

    def forward(self, batch):
        return {"loss": (self.body(batch["x"]) - batch["y"]).square().mean()}


def toy_task(validate=None, spoil_at=None):
    module = Toy()
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32))

    def load(step):
        rows = batch_rows(step, 30, 8, 0)
        factor = float("nan") if step == spoil_at else 1.0
        return {"x": x[rows], "y": x[rows].sum(1, keepdim=True) * factor}

    def held_out():
        return {"score": -float(module({"x": x, "y": x.sum(1, keepdim=True)})["loss"])}

    return Task(
        module=module, keep=module, load=load, loss=module, validate=validate or held_out, epoch_steps=3
    )


def settings(**values):
    defaults = {
        "steps": 20,
        "warmup_steps": 4,
        "batch_size": 8,
        "precision": "fp32",
        "checkpoint_every": 7,
        "log_every": 5,
    }
    return config.Training(**{**defaults, **values})


def test_schedule_at_its_corners():
    assert optim.lr_factor(0, 10, 110) == pytest.approx(0.1)
    assert optim.lr_factor(9, 10, 110) == 1
    assert optim.lr_factor(10, 10, 110) == 1
    assert optim.lr_factor(60, 10, 110) == pytest.approx(0.5)
    assert optim.lr_factor(109, 10, 110) == pytest.approx(0.5 * (1 + math.cos(math.pi * 0.99)))
    assert optim.lr_factor(110, 10, 110) == 0


def test_norms_and_biases_have_no_weight_decay_and_lr_overrides_follow_prefixes():
    module = nn.ModuleDict(
        {
            "encoder": nn.Linear(2, 2),
            "text": nn.ModuleDict({"LayerNorm": nn.LayerNorm(2)}),
            "norm": nn.LayerNorm(2),
        }
    )
    names = {id(parameter): name for name, parameter in module.named_parameters()}

    def groups(**values):
        found = optim.parameter_groups(module, config.Optimiser(**values), {"text.": 3e-4})
        return {
            names[id(p)]: (group["lr"], group["weight_decay"]) for group in found for p in group["params"]
        }

    assert groups() == {
        "encoder.weight": (3e-3, 1e-4),
        "encoder.bias": (3e-3, 0),
        "norm.weight": (3e-3, 0),
        "norm.bias": (3e-3, 0),
        "text.LayerNorm.weight": (3e-4, 0),
        "text.LayerNorm.bias": (3e-4, 0),
    }
    assert groups(decay_norms=True)["text.LayerNorm.weight"] == (3e-4, 1e-4)
    assert groups(decay_norms=True)["norm.weight"] == (3e-3, 0)


def test_an_epoch_shows_every_item_once_and_epochs_differ():
    seen = np.concatenate([batch_rows(step, 24, 8, 0) for step in range(3)])
    assert sorted(seen) == list(range(24))
    again = np.concatenate([batch_rows(step, 24, 8, 0) for step in range(3, 6)])
    assert sorted(again) == list(range(24))
    assert (seen != again).any()
    assert sorted(batch_rows(5, 3, 8, 0)) == [0, 1, 2]


@pytest.mark.parametrize("optimiser", [{}, {"name": "adam"}, {"lookahead_every": 3, "clip_norm": 0.5}])
def test_a_resumed_run_equals_an_unbroken_one_bit_for_bit(tmp_path, optimiser):
    values = settings(optimiser=config.Optimiser(lr=0.05, **optimiser))
    unbroken = toy_task()
    trainer.fit(unbroken, values, CPU, tmp_path / "a", "same")

    class Killed(Exception):
        pass

    killed = toy_task()
    load = killed.load

    def dies(step):
        if step == 17:
            raise Killed
        return load(step)

    killed.load = dies
    with pytest.raises(Killed):
        trainer.fit(killed, values, CPU, tmp_path / "b", "same")
    resumed = toy_task()
    outcome = trainer.fit(resumed, values, CPU, tmp_path / "b", "same")
    assert outcome["resumed_at"] == 14
    for name, tensor in unbroken.keep.state_dict().items():
        assert torch.equal(tensor, resumed.keep.state_dict()[name]), name
    assert (tmp_path / "a/metrics.jsonl").read_text() == (tmp_path / "b/metrics.jsonl").read_text()


def test_the_best_validation_selects_the_weights(tmp_path):
    kept = {}
    for select in ("best", "last"):
        scores = iter([1.0, 0.2, 0.9, 0.4, 0.1, 0.1, 0.1, 0.1])  # the first one is the untrained module's
        task = toy_task(validate=lambda scores=scores: {"score": next(scores)})
        kept[select] = trainer.fit(task, settings(select=select), CPU, tmp_path / select, "x")["best_step"]
    assert kept == {"best": 6, "last": 20}


def test_the_first_and_the_last_step_are_always_validated(tmp_path):
    task = toy_task(validate=lambda: {"score": 0.0})
    trainer.fit(task, settings(steps=5, warmup_steps=1, validate_every=4), CPU, tmp_path, "x")
    lines = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert [line["step"] for line in lines if "validation" in line] == [0, 4, 5]


def test_precision_backends(tmp_path):
    with pytest.raises(
        UserError, match=r"apex-o2 needs NVIDIA Apex .*not installed; choose bf16, fp16 or fp32"
    ):
        Precision("apex-o2", CPU)
    with pytest.raises(UserError, match="fp16 needs a GPU"):
        Precision("fp16", CPU)
    task = toy_task()
    trainer.fit(task, settings(precision="bf16", optimiser=config.Optimiser(lr=0.05)), CPU, tmp_path, "x")
    assert all(tensor.dtype == torch.float32 for tensor in task.keep.state_dict().values())


def test_steps_that_loss_scaling_skips_leave_no_trace():
    def trained(build):
        torch.manual_seed(0)
        layer, scaler = nn.Linear(8, 8), torch.amp.GradScaler("cpu")
        optimiser = build(layer)
        for step in range(6):
            scaler.scale(layer(torch.randn(4, 8)).square().mean()).backward()
            if step in (0, 3):
                layer.weight.grad[0, 0] = math.inf
            # what an allocator hands out again is not zero
            junk = [torch.full((8, 8), math.nan) for _ in range(64)]
            del junk
            scaler.step(optimiser)
            scaler.update()
            optimiser.zero_grad()
        return layer.weight.detach()

    own = config.Optimiser(name="sgd", lr=0.1, weight_decay=0.0)

    def prepared(layer):
        _, optimiser = Precision("fp16", torch.device("cuda")).prepare(layer, optim.build(layer, own, {}))
        return optimiser

    plain = trained(
        lambda layer: torch.optim.SGD(layer.parameters(), lr=0.1, momentum=own.momentum, fused=False)
    )
    assert torch.equal(trained(prepared), plain)


def test_lookahead_moves_slow_weights_every_k_steps():
    weight = nn.Parameter(torch.zeros(2))
    lookahead = optim.Lookahead(torch.optim.SGD([weight], lr=1.0), every=2, alpha=0.5)
    for step in range(4):
        with torch.no_grad():
            weight += 1
        lookahead.after_step(step)
    # 0 -> 2, slow 1; 1 -> 3, slow 2
    assert weight.tolist() == [2, 2]


def test_every_batch_of_every_task_is_pinned_for_a_gpu(monkeypatch, tmp_path):
    """From other memory a copy makes the host wait for the GPU at each step."""
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor + 1)
    batch = {"x": torch.zeros(2)}
    assert pinned(batch, CPU) is batch
    assert pinned(batch, torch.device("cuda"))["x"].tolist() == [1, 1]
    seen = []
    monkeypatch.setattr(trainer, "pinned", lambda batch, device: seen.append(device) or pinned(batch, device))
    trainer.fit(toy_task(), settings(), CPU, tmp_path, "x")
    assert seen == [CPU] * 20


@pytest.mark.parametrize(
    ("steps", "every", "most"), [(1200, 1, 20), (2000, 50, 20), (30000, 610, 20), (12, 1, 5)]
)
def test_a_limited_number_of_validations_is_denser_at_the_beginning(steps, every, most):
    training = config.Training(steps=steps, warmup_steps=1, validations=most)
    chosen = training.validation_steps(every)
    due = training.replace(validations=0).validation_steps(every)
    assert due == training.replace(validate_every=every, validations=0).validation_steps(9)
    assert len(chosen) == len({*chosen}) == most < len(due)
    assert {*chosen} <= {*due}
    assert chosen[0] < steps / most
    assert chosen[-1] == steps
    assert chosen == sorted(chosen)
    assert chosen[(most - 1) // 2] < steps / 2


def test_as_many_validations_as_are_due_stay_where_they_are():
    training = config.Training(steps=100, warmup_steps=1, validate_every=30, validations=4)
    assert training.validation_steps(7) == [30, 60, 90, 100]


def test_the_loop_validates_at_the_steps_of_the_settings(tmp_path):
    training = settings(validate_every=1, validations=4)
    trainer.fit(toy_task(), training, CPU, tmp_path, "x")
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    validated = [record["step"] for record in records if "validation" in record]
    assert validated == [0, *training.validation_steps(1)]
    assert len(validated) == 5


def test_the_loop_goes_on_while_a_state_is_written(tmp_path, monkeypatch):
    """The state is the one of its step, however long it takes to reach the disk."""
    unbroken, later, kept = toy_task(), threading.Event(), []
    write = resume.save_state

    def slowly(target, fingerprint, state):
        if not kept:
            assert later.wait(60)
            kept.append(tmp_path / "kept" / target.name)
            kept[0].parent.mkdir()
            write(kept[0], fingerprint, state)
        write(target, fingerprint, state)

    def load(step):
        if step == 8:  # the state of step 5 is still being written
            later.set()
        return unbroken.load(step)

    monkeypatch.setattr(resume, "save_state", slowly)
    task = dataclasses.replace(unbroken, load=load)
    training = settings(checkpoint_every=5, validate_every=5)
    trainer.fit(task, training, CPU, tmp_path, "x")
    resumed = toy_task()
    assert trainer.fit(resumed, training, CPU, kept[0].parent, "x")["resumed_at"] == 5
    for name, tensor in unbroken.module.state_dict().items():
        assert torch.equal(resumed.module.state_dict()[name], tensor), name


def test_a_state_that_cannot_be_written_ends_the_run_in_one_line(tmp_path, monkeypatch):
    def full(*_):
        raise UserError("resume.pt: No space left on device")

    monkeypatch.setattr(resume, "save_state", full)
    with pytest.raises(UserError, match="No space left"):
        trainer.fit(toy_task(), settings(checkpoint_every=5), CPU, tmp_path, "x")
    assert not (tmp_path / "metrics.jsonl").exists()


def test_tied_weights_are_one_tensor_in_the_state(tmp_path):
    tied = torch.zeros(1000)
    with resume.StateWriter(tmp_path / "resume.pt", "x") as writer:
        for value in (1.0, 2.0):
            tied.fill_(value)
            writer.write({"module": {"one": tied, "two": tied, "other": torch.ones(3)}}, {"step": int(value)})
    state = resume.load_state(tmp_path / "resume.pt", "x")
    assert state["step"] == 2
    assert torch.equal(state["module"]["one"], tied)
    assert state["module"]["one"].data_ptr() == state["module"]["two"].data_ptr()
