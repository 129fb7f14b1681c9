"""The checks of `snakemake gpu_check`, each a function that a process of its own calls: facts in a dict, or an error.

They are real steps of the trainer on random data (`refers.planning.stand_in`). On a CPU those that need no GPU run too.
"""

import contextlib
import json
import multiprocessing
import signal
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from refers import config, devices
from refers.config.study import Reports
from refers.errors import UserError
from refers.methods.common.restoration import Restoration
from refers.planning import stand_in
from refers.planning.step_costs import context_of
from refers.planning.step_times import NEVER, Timed, time_steps
from refers.training.runtime import choose_device
from refers.training.task import Batch, Task
from refers.training.trainer import fit

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
SIDES = {
    "cuda": (4096, 8192, 16384),
    "cpu": (512,),
}  # of the square matrices whose product's rate is measured
PRODUCTS = 0.3  # seconds for the products of one size
REPEATS = 5  # distortions of a batch
# Share of what a step takes beside weights and states that is left to it, so that its batch does not fit: half of it does.
SCARCE = 0.7
RESUME_STEPS, SAVED, BROKEN = 6, 3, 4  # of a run, when its state is saved, and at which step it breaks off
GENTLE = 3e-3  # rate at which no method diverges in so few steps; a pilot may start from a far higher one
# Largest relative difference of a resumed run that counts as none. A GPU adds in an order that varies, and bf16 carries that
# on: where a run differs by more, it is held against how far two unbroken ones are apart.
SAME, SPREAD, TELLING = 1e-2, 3, 0.3


@dataclass(frozen=True)
class Place:
    """Where a check runs: the study's `device`, its text settings, the folder of a random BERT, the side of its stored
    images, and a folder for its files."""

    device: str
    text: Reports
    bert: Path
    stored: int
    folder: Path


def write_bert(place: Place) -> dict[str, Any]:
    """Write the random BERT that the other checks read."""
    context_of(place.bert, place.text)
    return {}


def kind_of_products(precision: str) -> str:
    """The precision whose matrix products a training's precision computes with."""
    return "fp16" if precision.startswith("apex") else precision


def matrix_rates(place: Place, precisions: list[str]) -> dict[str, Any]:
    """Name and memory of the device, and its FLOP/s of square matrix products, the best of a few sizes, by precision."""
    device = choose_device(place.device)
    found: dict[str, Any] = {"kind": device.type, "torch": torch.__version__, "cuda": torch.version.cuda}
    found |= {"threads": torch.get_num_threads(), "device": "CPU"}
    if device.type == "cuda":
        about = torch.cuda.get_device_properties(device)
        found |= {"device": about.name, "memory_bytes": about.total_memory}
        found["capability"] = f"{about.major}.{about.minor}"
    rates = {}
    for name in precisions:
        rates[name] = max(_product_rate(device, DTYPES[name], side) for side in SIDES[device.type])
    return found | {"rates": rates}


def _product_rate(device: torch.device, dtype: torch.dtype, side: int) -> float:
    """FLOP/s of a product of two square matrices, the best of three rounds."""
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))

    def products(count: int) -> float:
        started = _now(device)
        for _ in range(count):
            left @ right
        return (_now(device) - started) / count

    products(2)
    count = max(2, round(PRODUCTS / 3 / products(2)))
    return 2 * side**3 / min(products(count) for _ in range(3))


def _now(device: torch.device) -> float:
    """The host's clock once the device's queue is drained."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def pretraining_step(place: Place, settings: config.Pretrain, steps: int, seconds: float) -> dict[str, Any]:
    """A pre-training step of a method at its batch: see `_facts`, and seconds that its distortions take of it."""
    device = choose_device(place.device)
    task = stand_in.pretraining(settings, place.text, place.bert, place.stored, place.folder, device)
    timed = time_steps(task, settings.training, device, place.folder / "run", steps, seconds)
    batch = settings.training.batch_size
    found = _facts(timed, batch, batch * stand_in.views_of(settings))
    if isinstance(task.module, Restoration):
        size = settings.model.image_size
        found["distortion_seconds"] = _distorting(task.module.distort, batch, size, device)
    return found


def finetuning_step(
    place: Place,
    model: config.Model,
    settings: config.Finetune,
    classes: list[str],
    steps: int,
    seconds: float,
) -> dict[str, Any]:
    """A fine-tuning step at its batch: see `_facts`."""
    device = choose_device(place.device)
    task = stand_in.finetuning(model, settings, classes, place.stored, place.folder, device)
    timed = time_steps(task, settings.training, device, place.folder / "run", steps, seconds)
    return _facts(timed, settings.training.batch_size, settings.training.batch_size)


def _facts(timed: Timed, batch: int, images: int) -> dict[str, Any]:
    return {
        "batch": batch,
        "steps": len(timed.seconds),
        "seconds_per_step": timed.median,
        "images_per_second": images / timed.median,
        "micro_batches": timed.micro_batches,
        "peak_bytes": timed.peak_bytes,
        "waits": timed.waits,
    }


@torch.no_grad()
def _distorting(distort: Callable[[Tensor], Tensor], batch: int, size: int, device: torch.device) -> float:
    """Seconds in which a batch is distorted."""
    images = torch.rand(batch, 1, size, size, device=device)
    distort(images)
    taken = []
    for _ in range(REPEATS):
        started = _now(device)
        distort(images)
        taken.append(_now(device) - started)
    return statistics.median(taken)


# ---- what a run must survive


Run = tuple[
    list[float], list[Tensor], list[Tensor]
]  # losses of every step; the encoder's weights before and after


class Interrupted(Exception):
    """Stands for whatever ends a run."""


def resume(place: Place, settings: config.Pretrain) -> dict[str, Any]:
    """Two runs of a few steps, one of them broken off and resumed: largest relative difference of losses and of updates.

    Where they are not the same, a third run, unbroken, shows how far apart such runs are on this device (`spread`); up to
    `SPREAD` times that is no difference of the resumed one.

    Raises:
        UserError: they differ, or unbroken runs differ by so much (`TELLING`) that nothing can be told.
    """
    device, every = choose_device(place.device), {"log_every": 1, "checkpoint_every": SAVED}
    optimiser = settings.training.optimiser
    training = settings.training.replace(
        optimiser=optimiser.at(optimiser.name, min(optimiser.lr, GENTLE)),
        **every,
        steps=RESUME_STEPS,
        warmup_steps=1,
        validate_every=NEVER,
        select="last",
        compile=False,
    )

    def run(name: str, breaks: bool = False) -> Run:
        """Losses of every step, and the encoder's weights before and after."""
        task = stand_in.pretraining(
            settings.replace(training=training), place.text, place.bert, place.stored, place.folder, device
        )
        start = _weights(task)
        changed = replace(
            task, validate=lambda: {"score": 0.0}, load=_broken(task.load) if breaks else task.load
        )
        fit(changed, training, device, place.folder / name, "check")
        lines = (place.folder / name / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        records = [record["train"]["loss"] for record in map(json.loads, lines) if "train" in record]
        return records, start, _weights(task)

    whole = run("whole")
    with contextlib.suppress(Interrupted):
        run("resumed", breaks=True)
    by_loss, by_update = _differences(whole, run("resumed"))
    found = {"steps": RESUME_STEPS, "loss_difference": by_loss, "update_difference": by_update}
    if max(by_loss, by_update) < SAME:
        return found
    spread = max(_differences(whole, run("again")))
    differs = f"a resumed run differs: losses by {by_loss:.1e}, updates by {by_update:.1e} of themselves, where unbroken runs differ by {spread:.1e}"
    if spread > TELLING:
        raise UserError(f"{differs}, too much to judge; check in fp32")
    if not max(by_loss, by_update) <= SPREAD * spread:
        raise UserError(f"{differs}; do not train here")
    return found | {"spread": spread}


def _differences(one: Run, two: Run) -> tuple[float, float]:
    """Largest relative difference of two runs' losses, and that of their updates."""
    (losses, start, end), (again, _, other) = one, two
    by_loss = max(abs(a - b) / abs(a) for a, b in zip(losses, again, strict=True))
    return by_loss, _distance(end, other) / max(_distance(end, start), 1e-30)


def _broken(load: Callable[[int], Batch]) -> Callable[[int], Batch]:
    def breaks(step: int) -> Batch:
        if step == BROKEN:
            raise Interrupted
        return load(step)

    return breaks


def _weights(task: Task) -> list[Tensor]:
    """A copy of what a task keeps, on the host; what is not a float stays out."""
    found = [tensor.detach().cpu().clone() for tensor in task.keep.state_dict().values()]
    return [tensor for tensor in found if tensor.is_floating_point()]


def _distance(one: list[Tensor], two: list[Tensor]) -> float:
    return float(torch.stack([(a - b).norm() for a, b in zip(one, two, strict=True)]).norm())


def out_of_memory(place: Place, settings: config.Pretrain) -> dict[str, Any]:
    """A step whose batch does not fit into the memory that is left: the trainer must split it and go on.

    A GPU's allocator is limited; on a CPU the whole batch is refused by hand.

    Raises:
        UserError: the batch was not split.
    """
    device = choose_device(place.device)
    task = stand_in.pretraining(settings, place.text, place.bert, place.stored, place.folder, device)
    limit = None
    if device.type == "cuda":
        peak = time_steps(task, settings.training, device, place.folder / "run", 2, 0).peak_bytes or 0
        torch.cuda.empty_cache()
        # weights; their gradients are freed after a step, the optimiser's states with the trainer
        copies = 3 if settings.training.optimiser.name == "adam" else 2
        fixed = copies * sum(tensor.nbytes for tensor in task.module.parameters())
        limit = fixed + SCARCE * (peak - fixed)
        torch.cuda.set_per_process_memory_fraction(
            limit / torch.cuda.get_device_properties(device).total_memory, device
        )
    else:
        task.keep.register_forward_hook(_refuse_once())
    split = time_steps(task, settings.training, device, place.folder / "scarce", 2, 0)
    if split.micro_batches < 2:
        raise UserError(f"a batch in {limit or 0:.0f} bytes was not split into micro-batches; report this")
    return {"micro_batches": split.micro_batches, "limit_bytes": limit, "seconds_per_step": split.median}


def _refuse_once() -> Callable[..., None]:
    """A hook of a network that refuses its first training batch."""
    refused: list[bool] = []

    def hook(network: nn.Module, *_given: Any) -> None:
        if network.training and not refused:
            refused.append(True)
            raise torch.OutOfMemoryError("out of memory, by hand")

    return hook


# ---- the lock of a GPU


def lock(place: Place, name: str) -> dict[str, Any]:
    """The lock that is held keeps this process out, and one that a killed process held is free again.

    Raises:
        UserError: two jobs could take one GPU, or a GPU stays taken.
    """
    if devices.is_free(name):
        raise UserError("another process can take the GPU that is held; jobs would share it")
    # of a name that no job asks for
    other, context = f"{name}-check", multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    holder = context.Process(target=_hold, args=(other, sender))
    holder.start()
    receiver.recv()
    taken = not devices.is_free(other)
    holder.kill()
    holder.join()
    if not taken or not devices.is_free(other):
        raise UserError("the lock of a GPU " + ("stays after its process" if taken else "cannot be taken"))
    return {"held": name}


def _hold(name: str, sender: Connection) -> None:
    devices.claim([name])
    sender.send(True)
    signal.pause()
