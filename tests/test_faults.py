"""What may go wrong in a training run: it is killed, preempted, out of memory, or its disk is full; no step is lost or changed."""

import builtins
import dataclasses
import errno
import io
import json
import os
import random
import re
import resource
import runpy
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import WORDS
from helpers import in_a_child
from refers import config
from refers.data import store, visual_words
from refers.errors import Preempted, UserError
from refers.files import atomic_path, write_json, write_parquet, write_text
from refers.model import encoder_file
from refers.model.encoders import build_encoder
from refers.provenance import run_record
from refers.training import finetuning, optim, resume, runtime, trainer
from refers.training.step import micro_batches
from refers.training.task import batch_rows
from test_finetuning import finetune_command, world  # noqa: F401
from test_objectives import OBJECTIVES, task_of
from test_trainer import CPU, settings, toy_task

pytestmark = pytest.mark.usefixtures("one_thread")
SCRIPTS = Path(__file__).parents[1] / "workflow/scripts"


def weights_of(task):
    return {name: tensor.clone() for name, tensor in task.keep.state_dict().items()}


def same(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


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
        trainer.fit(task, training, CPU, folder / name, "x")
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
@pytest.mark.parametrize(("call", "number"), [(2, signal.SIGTERM), (6, signal.SIGTERM), (6, signal.SIGINT)])
def test_a_signal_saves_every_step_done(tmp_path, moment, call, number):
    unbroken = toy_task()
    trainer.fit(unbroken, settings(validate_every=3), CPU, tmp_path / "unbroken", "x")

    stopped = toy_task()
    original, calls = getattr(stopped, moment), []

    def interrupted(*given):
        calls.append(1)
        if len(calls) == call:
            os.kill(os.getpid(), number)
        return original(*given)

    handlers = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
    with pytest.raises(Preempted, match=rf"{number.name} at step \d+ of 20; the state is saved") as caught:
        trainer.fit(
            dataclasses.replace(stopped, **{moment: interrupted}),
            settings(validate_every=3),
            CPU,
            tmp_path / "stopped",
            "x",
        )
    assert caught.value.code == 128 + number
    assert handlers == [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
    resumed = toy_task()
    outcome = trainer.fit(resumed, settings(validate_every=3), CPU, tmp_path / "stopped", "x")
    assert 0 <= outcome["resumed_at"] < 20
    assert same(weights_of(unbroken), weights_of(resumed))
    assert (tmp_path / "unbroken/metrics.jsonl").read_text() == (
        tmp_path / "stopped/metrics.jsonl"
    ).read_text()


@pytest.mark.parametrize(("items", "count"), [(8, 2), (7, 3), (5, 5)])
def test_micro_batches_add_up_to_the_gradient_of_the_batch(items, count):
    torch.manual_seed(0)
    batch = {"images": torch.randn(items * 3, 2), "labels": torch.randn(items, 1)}
    weight = torch.randn(2, 1, requires_grad=True)

    def loss(part):
        means = (part["images"] @ weight).unflatten(0, (-1, 3)).mean(1)
        return (means - part["labels"]).square().mean()

    (whole,) = torch.autograd.grad(loss(batch), weight)
    split = micro_batches(batch, count)
    assert sum(share for _, share in split) == pytest.approx(1)
    assert [len(part["images"]) for part, _ in split] == [3 * len(part["labels"]) for part, _ in split]
    (added,) = torch.autograd.grad(sum(share * loss(part) for part, share in split), weight)
    torch.testing.assert_close(added, whole)


SHORTAGE = torch.OutOfMemoryError("CUDA out of memory")


def short_of_memory(task, largest, error=SHORTAGE, after=False):
    """The task on a device that holds `largest` items, and finds that out before or after it has passed more of them."""

    def loss(batch):
        found = task.module(batch) if after else None
        if len(batch["x"]) > largest:
            raise error
        return found or task.module(batch)

    return dataclasses.replace(task, loss=loss)


@pytest.mark.parametrize(
    "error",
    [
        SHORTAGE,
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        torch.AcceleratorError("CUDA error: out of memory"),
    ],
    ids=["torch", "cuBLAS", "cuDNN", "driver"],
)
def test_a_batch_that_does_not_fit_is_halved_until_it_does(tmp_path, capsys, error):
    plain, short = toy_task(), toy_task()
    for task in (plain, short):
        task.module.body[2].p = 0.0  # dropout masks would differ between one pass and four
    trainer.fit(plain, settings(), CPU, tmp_path / "plain", "x")
    outcome = trainer.fit(short_of_memory(short, 2, error), settings(), CPU, tmp_path / "short", "x")
    assert outcome["micro_batches"] == 4
    assert "batches of 8 are split into 4 micro-batches" in capsys.readouterr().err
    for name, tensor in weights_of(plain).items():
        torch.testing.assert_close(short.module.state_dict()[name], tensor, msg=name)


def test_another_error_of_the_gpu_is_not_taken_for_out_of_memory(tmp_path):
    fault = RuntimeError("CUDA error: device-side assert triggered")
    with pytest.raises(RuntimeError, match="device-side assert"):
        trainer.fit(short_of_memory(toy_task(), 2, fault), settings(), CPU, tmp_path, "x")


def test_a_pass_repeated_in_micro_batches_counts_once_in_batch_normalisation(tmp_path):
    ends = []
    for after in (False, True):
        task = toy_task()
        task.module.body[1] = torch.nn.BatchNorm1d(8)
        outcome = trainer.fit(
            short_of_memory(task, 4, after=after), settings(), CPU, tmp_path / str(after), "x"
        )
        assert outcome["micro_batches"] == 2
        ends.append(weights_of(task))
    assert ends[0]["body.1.num_batches_tracked"] == 2 * outcome["best_step"]
    assert same(*ends)


def test_an_update_that_does_not_fit_is_not_repeated(tmp_path, monkeypatch):
    training = settings(optimiser=config.Optimiser(lr=0.05, clip_norm=0.5), select="last")
    unbroken = toy_task()
    trainer.fit(unbroken, training, CPU, tmp_path / "unbroken", "x")
    step, calls = torch.optim.SGD.step, []

    def breaks_off(self, *given, **named):
        calls.append(1)
        if len(calls) == 10:
            self.param_groups[0]["params"][0].data.add_(1)
            raise SHORTAGE
        return step(self, *given, **named)

    with monkeypatch.context() as patched:
        patched.setattr(torch.optim.SGD, "step", breaks_off)
        with pytest.raises(UserError, match="out of GPU memory outside forward and backward pass; make"):
            trainer.fit(toy_task(), training, CPU, tmp_path / "short", "x")
    assert len(calls) == 10
    resumed = toy_task()
    assert trainer.fit(resumed, training, CPU, tmp_path / "short", "x")["resumed_at"] == 7
    assert same(weights_of(unbroken), weights_of(resumed))


def test_a_validation_that_does_not_fit_is_one_line(tmp_path):
    def validate():
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(
        UserError, match="out of GPU memory in validation; lower batch_size or evaluation_batch"
    ):
        trainer.fit(toy_task(validate=validate), settings(), CPU, tmp_path, "x")


def test_one_item_that_does_not_fit_is_one_line(tmp_path):
    with pytest.raises(UserError, match="out of GPU memory with one item in a batch"):
        trainer.fit(short_of_memory(toy_task(), 0), settings(), CPU, tmp_path, "x")


@pytest.mark.parametrize(
    ("name", "how", "said"),
    [
        ("refers", "sharded", "update is that of the whole batch"),
        ("lsp", "not sharded", "the negatives"),
        ("lsp", "normalised", "batch normalisation"),
    ],
)
def test_the_record_names_terms_that_gradient_accumulation_changes(
    name, how, said, small_model, context, studies, tmp_path
):
    task = task_of(name, small_model, context, studies)
    if how == "not sharded":
        task = dataclasses.replace(task, sharded=False, batch_dependent="the negatives")
    elif how == "normalised":
        task.module.extra = torch.nn.BatchNorm1d(4)
    training = config.Training(steps=2, warmup_steps=1, batch_size=4, precision="fp32")
    assert "micro_batch_note" not in trainer.fit(task, training, CPU, tmp_path / "whole", "x")
    outcome = trainer.fit(task, training.replace(micro_batches=2), CPU, tmp_path, "x")
    assert outcome["micro_batches"] == 2
    assert "gradients accumulated over 2 micro-batches" in outcome["micro_batch_note"]
    assert said in outcome["micro_batch_note"]


@pytest.mark.parametrize("log_every", [5, 20])
def test_a_non_finite_loss_names_its_step_learning_rate_and_batch(tmp_path, log_every):
    def items(step):
        return batch_rows(step, 30, 8, 0).tolist()

    task = dataclasses.replace(toy_task(spoil_at=8), items=items)
    with pytest.raises(
        UserError, match=r"loss is nan at step 8 of 20, learning rate .*nonfinite.json"
    ) as caught:
        trainer.fit(task, settings(log_every=log_every), CPU, tmp_path, "x")
    assert "\n" not in str(caught.value)
    found = json.loads((tmp_path / "nonfinite.json").read_text())
    assert (found["step"], found["items"]) == (8, items(8))
    assert found["learning_rate"] == pytest.approx(3e-3 * optim.lr_factor(8, 4, 20))
    assert found["before"][-1] == {"step": 7, "items": items(7)}
    # the state of step 7 is from before the fault; none of later steps was written
    assert torch.load(tmp_path / "resume.pt", weights_only=True)["state"]["step"] == 7


@pytest.mark.parametrize(
    ("step", "moment"), [(13, None), (8, "loss"), (11, "validate")], ids=["due", "SIGTERM", "validation"]
)
def test_a_non_finite_gradient_is_written_to_no_state(tmp_path, step, moment):
    """The loss of that step is finite, as are those before it, and at its end a state is to be written."""
    task, seen = toy_task(), []

    def end(when):
        if when == moment and len(seen) == step + 1:
            os.kill(os.getpid(), signal.SIGTERM)

    def loss(batch):
        seen.append(1)
        end("loss")
        root = (next(task.module.parameters()).sum() * 0).sqrt()  # of zero, with an infinite slope
        losses = task.module(batch)
        return {"loss": losses["loss"] + root} if len(seen) == step + 1 else losses

    def validate():
        end("validate")
        return {"score": 0.0}

    spoilt = dataclasses.replace(task, loss=loss, validate=validate)
    with pytest.raises(UserError, match=rf"a weight is non-finite after the update at step {step} of 20"):
        trainer.fit(spoilt, settings(validate_every=12), CPU, tmp_path, "x")
    assert json.loads((tmp_path / "nonfinite.json").read_text())["step"] == step
    state = torch.load(tmp_path / "resume.pt", weights_only=True)["state"]
    assert state["step"] == 7
    assert all(tensor.isfinite().all() for tensor in state["module"].values())


def test_the_images_behind_a_non_finite_loss_can_be_looked_up(small_model, context, studies, mimic):
    index = pd.read_parquet(mimic[0])
    task = task_of("refers", small_model, context, studies)
    rows = task.items(0)
    assert len(set(index["study_id"].iloc[rows])) == len(rows) == 4
    assert set(index["split"].iloc[rows]) == {"train"}


# ---- what becomes of a resume state that does not fit


def stopped_at_7(folder, fingerprint="one"):
    """A run that ended by a fault after its state of step 7 was written."""
    with pytest.raises(UserError, match="loss is nan"):
        trainer.fit(toy_task(spoil_at=8), settings(), CPU, folder, fingerprint)


def test_states_of_other_configs_wait_until_their_config_comes_back(tmp_path, capsys):
    def refused(owner, then):
        said = f"resume.pt: refused, it belongs to another configuration; moved to resume.refused.{owner}.pt, {then}"
        assert capsys.readouterr().err.partition(f"{tmp_path}/")[2] == f"{said}\n"

    stopped_at_7(tmp_path, "one")
    for owner, name in (("one", "two"), ("two", "three")):
        with pytest.raises(UserError, match="loss is nan"):
            trainer.fit(toy_task(spoil_at=15), settings(), CPU, tmp_path, name)
        refused(owner, "starting over")
    for owner, name, step in (("three", "one", 7), ("one", "two", 14), ("two", "three", 14)):
        assert trainer.fit(toy_task(), settings(), CPU, tmp_path, name)["resumed_at"] == step
        refused(owner, "resuming from the one kept for this configuration")
    assert trainer.fit(toy_task(), settings(), CPU, tmp_path, "one")["resumed_at"] == 20
    assert len(list(tmp_path.glob("*.pt"))) == 3
    resume.clear_resume(tmp_path)
    assert not list(tmp_path.glob("*.pt"))


@pytest.mark.parametrize("size", [0, 100, 2000, -1])
def test_a_truncated_state_is_refused_in_one_line(tmp_path, capsys, size):
    stopped_at_7(tmp_path)
    sidecar = tmp_path / "resume.pt"
    sidecar.write_bytes(sidecar.read_bytes()[:size])
    assert trainer.fit(toy_task(), settings(), CPU, tmp_path, "one")["resumed_at"] == 0
    assert re.fullmatch(
        r"\S+resume.pt: refused, the file is damaged \(\w+\); moved to .*\n", capsys.readouterr().err
    )


@pytest.mark.parametrize(
    "read", [0, 1, 3, 8], ids=["first read", "second read", "fourth read", "a later read"]
)
@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EACCES, errno.ENOMEM])
def test_a_disk_that_fails_for_a_moment_costs_no_state(tmp_path, monkeypatch, capsys, number, read):
    class Failing(io.BufferedReader):
        reads = 0

        def _next(self):
            self.reads += 1
            if self.reads > read:
                raise OSError(number, os.strerror(number))

        def read(self, *given):
            self._next()
            return super().read(*given)

        def readinto(self, *given):
            self._next()
            return super().readinto(*given)

    def opened(path, *given, **named):
        if Path(path).name == "resume.pt":
            return Failing(io.FileIO(path))
        return original(path, *given, **named)

    stopped_at_7(tmp_path)
    original = builtins.open
    with monkeypatch.context() as patched:
        patched.setattr(builtins, "open", opened)
        with pytest.raises(
            UserError, match=rf"resume.pt: cannot be read now \({os.strerror(number)}\) .* run again"
        ):
            trainer.fit(toy_task(), settings(), CPU, tmp_path, "one")
    assert trainer.fit(toy_task(), settings(), CPU, tmp_path, "one")["resumed_at"] == 7
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")]
)
def test_too_little_memory_to_read_a_state_costs_no_state(tmp_path, monkeypatch, error):
    def fails(*_given, **_named):
        raise error

    stopped_at_7(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(torch, "load", fails)
        with pytest.raises(UserError, match=r"resume.pt: cannot be read now \(out of memory\)"):
            trainer.fit(toy_task(), settings(), CPU, tmp_path, "one")
    assert trainer.fit(toy_task(), settings(), CPU, tmp_path, "one")["resumed_at"] == 7


def test_a_state_of_a_later_version_stops_the_run_and_stays(tmp_path):
    stopped_at_7(tmp_path)
    sidecar = tmp_path / "resume.pt"
    saved = torch.load(sidecar, weights_only=True)
    torch.save(saved | {"version": resume.STATE_VERSION + 1, "fingerprint": "later"}, sidecar)
    later = sidecar.read_bytes()
    with pytest.raises(
        UserError, match=r"resume.pt: refused, a later version .* update the pipeline"
    ) as caught:
        trainer.fit(toy_task(), settings(), CPU, tmp_path, "one")
    assert "\n" not in str(caught.value)
    assert sidecar.read_bytes() == later
    torch.save(saved | {"version": resume.STATE_VERSION - 1}, sidecar)
    assert trainer.fit(toy_task(), settings(), CPU, tmp_path, "one")["resumed_at"] == 0


# ---- what a record says of a run that was stopped


def test_the_history_names_every_process_and_a_library_that_changed(tmp_path, monkeypatch, capsys):
    stopped_at_7(tmp_path, "x")
    with pytest.raises(UserError, match="loss is nan"):
        trainer.fit(toy_task(spoil_at=15), settings(), CPU, tmp_path, "x")
    assert "the library changed" not in capsys.readouterr().out
    before = run_record.library_digest()
    monkeypatch.setattr(run_record, "library_digest", lambda: "f" * 64)
    began = time.monotonic() - 100
    history = trainer.fit(toy_task(), settings(), CPU, tmp_path, "x", began)["history"]
    assert "the library changed since these steps" in capsys.readouterr().out
    assert [(part["steps"], part["library_sha256"]) for part in history] == [
        (7, before),
        (7, before),
        (6, "f" * 64),
    ]
    assert {(part["device"], part["processes"]) for part in history} == {("cpu", 1)}
    assert 100 <= history[-1]["seconds"] < 200


# ---- disks


def write_all(folder):
    """One file of every kind that a training job writes."""
    torch.manual_seed(0)
    encoder = build_encoder(
        config.Transformer(image_size=32, patch_size=8, width=64, heads=2, mlp_width=64, depth=2)
    )
    frame = pd.DataFrame({"score": np.random.default_rng(0).random(40_000)})
    return {
        "resume.pt": lambda: resume.save_state(folder / "resume.pt", "x", {"w": torch.ones(40_000)}),
        "encoder.safetensors": lambda: encoder_file.save_encoder(folder / "encoder.safetensors", encoder, {}),
        "predictions.parquet": lambda: write_parquet(folder / "predictions.parquet", frame),
        "run.json": lambda: write_json(folder / "run.json", list(range(40_000))),
    }


@pytest.mark.parametrize("name", ["resume.pt", "encoder.safetensors", "predictions.parquet", "run.json"])
def test_a_write_that_the_disk_breaks_off_is_one_line_and_leaves_the_old_file(tmp_path, name):
    (tmp_path / name).write_text("old")

    def full():
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))  # the system refuses the bytes beyond
        try:
            write_all(tmp_path)[name]()
        except UserError as error:
            (tmp_path / "said").write_text(str(error))

    assert in_a_child(full) == 0
    assert re.fullmatch(
        rf"\S+/{name}: write failed \(.*File too large.*\); free space or choose a writable folder",
        (tmp_path / "said").read_text(),
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "said"])
    assert (tmp_path / name).read_text() == "old"


@pytest.mark.parametrize("name", ["resume.pt", "encoder.safetensors", "predictions.parquet", "run.json"])
def test_a_read_only_folder_is_one_line(tmp_path, monkeypatch, name):
    def refuse(*_given, **_named):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    writers = write_all(tmp_path)
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(
        UserError, match=rf"{name}: cannot be written \(Read-only file system\); free space or choose"
    ):
        writers[name]()


def test_a_disk_that_takes_no_state_stops_the_run_and_the_old_state_goes_on(tmp_path):
    def fills_up():
        task = toy_task()
        load = task.load

        def full(step):
            if step == 10:
                resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
            return load(step)

        try:
            trainer.fit(dataclasses.replace(task, load=full), settings(), CPU, tmp_path, "x")
        except UserError as error:
            os._exit(7 if "write failed" in str(error) else 8)

    assert in_a_child(fills_up) == 7
    assert [path.name for path in tmp_path.iterdir()] == ["resume.pt"]

    def goes_on():
        resumed, unbroken = toy_task(), toy_task()
        assert trainer.fit(resumed, settings(), CPU, tmp_path, "x")["resumed_at"] == 7
        trainer.fit(unbroken, settings(), CPU, tmp_path / "unbroken", "x")
        assert same(weights_of(resumed), weights_of(unbroken))

    assert in_a_child(goes_on) == 0


def test_what_killed_writers_left_is_removed_by_the_next(tmp_path):
    def dies():
        with atomic_path(tmp_path / "resume.pt"):
            os.kill(os.getpid(), signal.SIGKILL)

    for _ in range(3):
        assert in_a_child(dies) == -signal.SIGKILL
    (tmp_path / ".other.pt.0.part").touch()
    assert len(list(tmp_path.glob(".resume.pt.*"))) == 1
    write_text(tmp_path / "resume.pt", "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other.pt.0.part", "resume.pt"]


# ---- SIGTERM and SIGINT, wherever a script is


def asked_to_end(argv, patch):
    """Run a script in a child in which `patch` makes a signal come at some moment; exit code, and seconds until the end."""
    began = time.monotonic()

    def work():
        patch()
        sys.argv = argv
        sys.path.insert(0, str(SCRIPTS))
        try:
            runpy.run_path(argv[0], run_name="__main__")
        except SystemExit as end:
            os._exit(end.code or 0)

    return in_a_child(work), time.monotonic() - began


def signal_in(module, name, call=1, number=signal.SIGTERM):
    """Let a call of a function get a signal and then hang, as a long computation would."""

    def patch():
        original, calls = getattr(module, name), []

        def interrupted(*given, **named):
            calls.append(1)
            if len(calls) == call:
                os.kill(os.getpid(), number)
                time.sleep(60)
            return original(*given, **named)

        setattr(module, name, interrupted)

    return patch


@pytest.mark.parametrize(
    ("module", "name", "call", "number", "step"),
    [
        (store, "open_store", 1, signal.SIGTERM, None),  # reading data
        (finetuning, "auc", 2, signal.SIGTERM, 10),  # a validation in the middle
        (finetuning, "auc", 2, signal.SIGINT, 10),
        (finetuning, "prediction_frame", 1, signal.SIGTERM, 40),  # predicting, all steps done
        (finetuning, "prediction_frame", 4, signal.SIGINT, 40),  # the same of the second seed
    ],
)
def test_a_fine_tune_ends_at_once_wherever_it_is(world, module, name, call, number, step):  # noqa: F811
    argv = finetune_command(world, world / "run")[1:]
    code, seconds = asked_to_end(argv, signal_in(module, name, call, number))
    assert code == (128 + number if name == "auc" else -number)
    assert seconds < 10
    seed = 2 if call > 3 else 1
    sidecar = world / f"run/seed{seed}/resume.pt"
    assert sidecar.exists() == (step is not None)
    if step:
        assert torch.load(sidecar, weights_only=True)["state"]["step"] == step
    for folder in ("run", "unbroken"):
        assert asked_to_end(finetune_command(world, world / folder)[1:], lambda: None)[0] == 0
    for seed in (1, 2):
        for file in ("predictions.parquet", "metrics.jsonl"):
            one, other = (world / folder / f"seed{seed}/{file}" for folder in ("run", "unbroken"))
            assert one.read_bytes() == other.read_bytes()


def test_a_background_job_that_ignores_ctrl_c_still_does(tmp_path):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with runtime.Termination() as termination:
            os.kill(os.getpid(), signal.SIGINT)
        assert termination.received == 0
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_search_for_words_ends_at_once_and_leaves_nothing(mimic, tmp_path, number):
    (tmp_path / "images.json").write_text('{"quarantined": []}')
    argv = [str(SCRIPTS / "discover_words.py"), "--config", WORDS.model_dump_json()]
    for name, path in zip(("index", "store", "tokens"), mimic, strict=True):
        argv += [f"--{name}", str(path)]
    argv += ["--manifest", str(tmp_path / "images.json"), "--out", str(tmp_path / "out/words.csv")]
    code, seconds = asked_to_end(argv, signal_in(visual_words, "principal_components", number=number))
    assert (code, list(tmp_path.iterdir())) == (-number, [tmp_path / "images.json"])
    assert seconds < 10
    assert asked_to_end(argv, lambda: None)[0] == 0
    assert (tmp_path / "out/words.csv").exists()
