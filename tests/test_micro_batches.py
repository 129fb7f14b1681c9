"""A batch in micro-batches: losses, gradients, draws and queue of the whole batch, for every objective."""

import dataclasses
import json
import math

import pytest
import torch
from refers import config
from refers.errors import UserError
from refers.training import augment, distributed, trainer
from refers.training.precision import Precision
from refers.training.runtime import seed_torch
from refers.training.step import train_step
from refers.training.task import TORCH
from test_distributed import VARIANTS, make_task  # noqa: F401 - a fixture
from test_trainer import CPU


class Recorder:
    """An optimiser that keeps the gradients and updates nothing."""

    def __init__(self, module):
        self.param_groups = [{"params": [*module.parameters()]}]
        self.module = module

    def zero_grad(self):
        self.module.zero_grad()

    def step(self):
        self.gradients = {
            name: parameter.grad.clone()
            for name, parameter in self.module.named_parameters()
            if parameter.grad is not None
        }


def step_of(task, count):
    """Losses, gradients and buffers of the first step in so many micro-batches."""
    optimiser = Recorder(task.module.train())
    seed_torch(0, TORCH, 0)
    losses = train_step(task, task.load(0), Precision("fp32", CPU), optimiser, 0.0, count)
    buffers = {name: buffer.clone() for name, buffer in task.module.named_buffers()}
    return losses, optimiser.gradients, buffers


def distance(found, expected):
    """Norm of the difference of two sets of tensors over the norm of the second."""
    assert found.keys() == expected.keys()
    difference = sum(float((found[name] - expected[name]).double().square().sum()) for name in expected)
    return (difference / sum(float(value.double().square().sum()) for value in expected.values())) ** 0.5


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("name", VARIANTS)
def test_the_step_is_that_of_the_whole_batch(name, count, make_task):  # noqa: F811
    losses, gradients, buffers = step_of(make_task(name), 1)
    losses_in_parts, gradients_in_parts, buffers_in_parts = step_of(make_task(name), count)
    assert losses_in_parts == pytest.approx({k: float(v) for k, v in losses.items()}, rel=1e-5)
    assert distance(gradients_in_parts, gradients) < 1e-6
    for key, value in buffers.items():
        torch.testing.assert_close(buffers_in_parts[key], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("asked", "parts"), [(2, 2), (3, 3), ("auto", 4)])
def test_no_part_is_larger_than_asked_or_than_the_memory(asked, parts, make_task, tmp_path):  # noqa: F811
    task, seen = make_task("refers"), []

    def watch(_module, given, _output):
        if torch.is_grad_enabled():
            seen.append(len(given[0]) // 3)  # three views a study
        if asked == "auto" and len(given[0]) > 3 and task.module.training:
            raise torch.OutOfMemoryError("CUDA out of memory")

    task.module.encoder.register_forward_hook(watch)
    training = config.Training(
        steps=1, warmup_steps=0, batch_size=4, precision="fp32", micro_batches=asked, validate_every=1
    )
    outcome = trainer.fit(task, training, CPU, tmp_path, "x")
    assert outcome["micro_batches"] == parts
    assert max(seen[-parts:]) == -(-4 // parts)


@pytest.mark.parametrize("name", ["refers", "model_genesis", "c2l"])
def test_the_batch_is_augmented_and_distorted_once(name, make_task, monkeypatch):  # noqa: F811
    task, seen = make_task(name), []
    apply = augment.apply
    monkeypatch.setattr(augment, "apply", lambda *given: (seen.append("augmented"), apply(*given))[1])
    if name == "model_genesis":
        distort = task.module.distort
        task.module.distort = lambda images: (seen.append("distorted"), distort(images))[1]
    step_of(task, 3)
    assert seen == ["augmented", "distorted"][: len({*seen})]


@pytest.mark.parametrize("sharded", [True, False])
def test_a_batch_of_fewer_items_than_parts_has_one_part_an_item(sharded, make_task, tmp_path):  # noqa: F811
    task = dataclasses.replace(make_task("lsp"), sharded=sharded)
    training = config.Training(
        steps=2, warmup_steps=0, batch_size=4, precision="fp32", micro_batches=9, log_every=1
    )
    trainer.fit(task, training, CPU, tmp_path, "x")
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert all(math.isfinite(record["train"]["loss"]) for record in records if "train" in record)


def test_dropout_draws_the_same_masks_in_both_passes_of_a_part_and_others_in_the_next(tmp_path):
    turns, drawn = distributed.Turns(2), {}
    for noting in (True, False):
        for number in range(2):
            with turns.turn(number, noting):
                whole = torch.rand(3)
                distributed.local_shard(torch.zeros(4))
                drawn[noting, number] = (whole.tolist(), torch.rand(3).tolist())
    assert drawn[True, 0] == drawn[False, 0]
    assert drawn[True, 1] == drawn[False, 1]
    assert drawn[True, 0][0] == drawn[True, 1][0]
    assert drawn[True, 0][1] != drawn[True, 1][1]


def test_parts_and_processes_are_not_combined(make_task, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(distributed, "_size", 2)
    with pytest.raises(UserError, match="micro_batches is for one process"):
        trainer.fit(make_task("lsp"), config.Training(micro_batches=2, precision="fp32"), CPU, tmp_path, "x")
