"""The one training loop: pre-training of every method and fine-tuning of every cell run through `fit`.

All randomness of step s is a function of (seed, s): data order, views, augmentation, dropout. A resumed run needs
no generator state and ends with the weights of an unbroken one, bit for bit on the CPU in fp32.
"""

import copy
import json
import math
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from refers.config import Training
from refers.errors import Preempted, UserError
from refers.files import write_json, write_text
from refers.provenance import run_record
from refers.training import distributed, optim
from refers.training.precision import Precision
from refers.training.resume import RESUME, load_state, save_state
from refers.training.runtime import Termination, enough_memory, out_of_memory, seed_torch, stream

Batch = dict[str, Tensor]
ORDER, DRAWS, TORCH = 0, 1, 2  # purposes of random streams


@dataclass(kw_only=True)
class Task:
    """What `fit` trains.

    module: everything with trainable parameters; keep: the part whose best weights are wanted.
    load(step): the step's batch on the host, called ahead in a thread. loss(batch): scalar tensors, one named
    "loss" that is minimised. validate(): numbers, one named "score", higher is better. rates: prefixes of parameter
    names with their own peak learning rate. after_step(): for instance a teacher's moving average. before_step(): comes
    before the first part of a batch, and again where the step is repeated because the batch did not fit into memory.
    items(step): what the step's batch was drawn from, as rows of the index, for the report of a loss that is no number.
    coupled: what of the loss an item shares with the others of its batch, so that a batch in parts is not quite the
    whole one.
    """

    module: nn.Module
    keep: nn.Module
    load: Callable[[int], Batch]
    loss: Callable[[Batch], dict[str, Tensor]]
    validate: Callable[[], dict[str, float]]
    epoch_steps: int
    rates: dict[str, float] = field(default_factory=dict)
    before_step: Callable[[], None] = lambda: None
    after_step: Callable[[], None] = lambda: None
    items: Callable[[int], list[int]] = lambda step: []
    coupled: str = ""


def batch_rows(step: int, rows: int, batch_size: int, seed: int) -> Any:
    """Positions of a step's batch among `rows` items: each epoch a fresh permutation, its last incomplete batch dropped."""
    size = min(batch_size, rows)
    epoch, place = divmod(step, rows // size)
    return _epoch_order(rows, epoch, seed)[place * size : (place + 1) * size]


@lru_cache(maxsize=2)
def _epoch_order(rows: int, epoch: int, seed: int) -> Any:
    # kept for the epoch: with 377,000 images a permutation a step would cost milliseconds
    return stream(seed, ORDER, epoch).permutation(rows)


def pinned(batch: Batch, device: torch.device) -> Batch:
    """A batch in memory that a GPU copies from while the host goes on; for the CPU as it is."""
    return {name: tensor.pin_memory() for name, tensor in batch.items()} if device.type == "cuda" else batch


def micro_batches(batch: Batch, parts: int) -> list[tuple[Batch, float]]:
    """`parts` slices of a batch along its items, and each one's share of them. A tensor may hold several rows an item."""
    items = min(len(tensor) for tensor in batch.values())
    edges = [items * part // parts for part in range(parts + 1)]
    return [
        (
            {
                name: tensor[len(tensor) // items * low : len(tensor) // items * high]
                for name, tensor in batch.items()
            },
            (high - low) / items,
        )
        for low, high in pairwise(edges)
    ]


class TooLarge(torch.OutOfMemoryError):
    """A batch, or a part of one, does not fit into memory."""


def train_step(
    task: Task,
    batch: Batch,
    precision: Precision,
    optimiser: torch.optim.Optimizer,
    clip_norm: float,
    parts: int = 1,
) -> dict[str, Tensor]:
    """One update of the module from a batch in `parts`; the step's losses over all processes, still on the device.

    Raises:
        TooLarge: forward or backward pass do not fit into memory; the module is as before, and the step can be repeated.
            An update that does not fit is left as it broke off: part of the module has it.
    """
    totals: dict[str, Tensor] = {}
    task.before_step()
    # a pass changes some, such as the statistics of batch normalisation
    before = [buffer.clone() for buffer in task.module.buffers()]
    try:
        for part, share in micro_batches(batch, parts) if parts > 1 else [(batch, 1.0)]:
            with precision.autocast():
                losses = task.loss(part)
            precision.backward(losses["loss"] * share, optimiser)
            for name, value in losses.items():
                totals[name] = totals.get(name, 0) + value.detach() * share
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        optimiser.zero_grad()
        with torch.no_grad():
            for buffer, content in zip(task.module.buffers(), before, strict=True):
                buffer.copy_(content)
        raise TooLarge(str(error)) from None
    precision.step(optimiser, clip_norm)
    task.after_step()
    return distributed.average(totals)


@enough_memory("outside forward and backward pass", "make the model, the image or batch_size smaller")
def fit(
    task: Task,
    settings: Training,
    device: torch.device,
    folder: Path,
    fingerprint: str,
    started: float = run_record.STARTED,
) -> dict:
    """Train `task` and leave the wanted weights in `task.keep`.

    `folder` receives metrics.jsonl and resume.pt, which a rerun with the same `fingerprint` continues from, in any
    number of processes (`refers.training.distributed`); the leading one alone ends with the weights. The last state, after all
    steps, holds the wanted weights alone. The caller ends with `resume.clear_resume`. A batch that does not fit into the
    device's memory is halved until it does, its gradients accumulated: the step stays the same but for what
    `task.coupled` names, which then spans a part only. `started`, by `time.monotonic`, is when this process began with
    the run, for the history.

    Returns the best score, its step, the steps done before this process, the history of the run by process, the parts of
    a batch, and where these are several a note that says what they change.

    Raises:
        UserError: the loss or a weight became non-finite (nonfinite.json says where), one item alone does not fit into
            memory, or a state cannot be read or written.
        Preempted: SIGTERM came; resume.pt holds every step done.
    """
    task.module.to(device)
    precision = Precision(settings.precision, device)
    optimiser = optim.build(task.module, settings.optimiser, task.rates)
    module, optimiser = precision.prepare(task.module, optimiser)
    every = settings.optimiser.lookahead_every
    lookahead = optim.Lookahead(optimiser, every, settings.optimiser.lookahead_alpha) if every else None
    validate_every = settings.validate_every or task.epoch_steps
    sidecar, metrics = folder / RESUME, folder / "metrics.jsonl"

    start, best, records, history = 0, {"score": -math.inf, "step": 0, "weights": None}, [], []
    since, tally, parts, recent = 0, {}, 1, []
    if (state := distributed.leader_first(lambda: load_state(sidecar, fingerprint))) is not None:
        if "module" in state:
            module.load_state_dict(state["module"])
            optimiser.load_state_dict(state["optimiser"])
            precision.load_state_dict(state["precision"])
            if lookahead:
                torch._foreach_copy_(lookahead.slow, [slow.to(device) for slow in state["slow"]])
        start, best, records = state["step"], state["best"], state["records"]
        since, tally = state["since"], {name: total.to(device) for name, total in state["tally"].items()}
        parts = state["parts"] if distributed.processes() == 1 else 1
        history = state["history"]
        print(f"resumed at step {start} of {settings.steps}", flush=True)
    here = run_record.piece(device, started)  # of the code that runs, whatever is edited from now on
    if history and history[-1]["library_sha256"] != here["library_sha256"]:
        print("the library changed since these steps; run.json says which one made which", flush=True)

    def pieces(done: int) -> list[dict]:
        work = {"steps": done - start, "processes": distributed.processes()}
        return [*history, work | run_record.piece(device, started)]

    def save(done: int) -> None:
        if not distributed.leads():
            return
        going_on = {
            "module": module.state_dict(),
            "optimiser": optimiser.state_dict(),
            "precision": precision.state_dict(),
            "slow": lookahead.slow if lookahead else [],
        }
        state = {
            **({} if validated(settings.steps) else going_on),
            "step": done,
            "best": best,
            "records": records,
            "since": since,
            "tally": tally,
            "parts": parts,
            "history": pieces(done),
        }
        save_state(sidecar, fingerprint, state)

    def validated(step: int) -> bool:
        return any("validation" in line and line["step"] == step for line in records)

    def validate(done: int) -> None:
        nonlocal best
        module.eval()
        memory = enough_memory("in validation", "lower batch_size or evaluation_batch")
        with distributed.leading(), torch.no_grad(), precision.autocast(), ending.at_once(), memory:
            seed_torch(settings.seed, TORCH, 0)
            scores = task.validate() if distributed.leads() else {}
        module.train()
        if not scores:
            return
        records.append({"step": done, "validation": scores})
        shown = "  ".join(f"{name} {value:.4f}" for name, value in scores.items())
        print(f"step {done}/{settings.steps}  validation {shown}", flush=True)
        better = scores["score"] > best["score"] or best["weights"] is None or settings.select == "last"
        if done and better:  # the untrained module's only shows where the curve begins
            best = {"score": scores["score"], "step": done, "weights": _snapshot(task.keep)}

    def load(step: int) -> Batch:
        return pinned(task.load(step), device)

    def due(done: int) -> bool:
        return done % validate_every == 0 or done == settings.steps

    @torch.no_grad()
    def check(done: int) -> None:
        weights = torch.stack(torch._foreach_norm([*module.parameters()], 2, torch.float32)).sum()
        if not math.isfinite(float(tally["loss"] + weights)):
            raise distributed.once(_non_finite(task, folder, settings, done, recent))

    if settings.compile:
        task.loss = torch.compile(task.loss)
    task.loss = distributed.parallel(task.module, task.loss)
    began, done = time.monotonic(), start
    with ThreadPoolExecutor(1) as reader, Termination() as ending:
        try:
            ahead = reader.submit(load, start)
            module.train()
            if due(start) and not validated(start):
                validate(start)  # the first one, or one that was broken off
            for step in range(start, settings.steps):
                batch = {
                    name: tensor.to(device, non_blocking=True) for name, tensor in ahead.result().items()
                }
                if step + 1 < settings.steps:
                    ahead = reader.submit(load, step + 1)
                factor = optim.multiplier(step, settings.warmup_steps, settings.steps)
                for group in optimiser.param_groups:
                    group["lr"] = group["peak_lr"] * factor

                while True:
                    seed_torch(settings.seed, TORCH, step)
                    try:
                        losses = train_step(
                            task, batch, precision, optimiser, settings.optimiser.clip_norm, parts
                        )
                        break
                    except TooLarge:
                        pass  # its traceback still holds the step's tensors; they go when this block ends
                    parts = _smaller(parts, batch, step)
                if lookahead and lookahead.after_step(step):
                    precision.publish()
                for name, value in losses.items():
                    tally[name] = tally.get(name, 0) + value
                recent.append(losses["loss"])

                done = step + 1
                saving = done % settings.checkpoint_every == 0 or done == settings.steps
                asked = distributed.any_of(ending.asked)
                logging = done % settings.log_every == 0 or done == settings.steps
                if logging or saving or asked or due(done):
                    # nowhere else the host waits for the device, but for task 1 of REFERS, which counts a batch's tokens;
                    # what is no number gets into no state
                    check(done)
                if logging:
                    means = {name: float(total) / (done - since) for name, total in tally.items()}
                    records.append({"step": done, "factor": factor, "train": means})
                    speed = (done - start) / (time.monotonic() - began)
                    shown = "  ".join(f"{name} {value:.4f}" for name, value in means.items())
                    print(f"step {done}/{settings.steps}  {shown}  {speed:.2f} steps/s", flush=True)
                    tally, since, recent = {}, done, []
                if asked:
                    raise Preempted
                if due(done):
                    validate(done)
                if saving:
                    save(done)
        except Preempted:
            save(done)
            ended = Preempted(
                f"SIGTERM at step {done} of {settings.steps}; the state is saved, the same command goes on from there"
            )
            raise distributed.once(ended) from None

    if distributed.leads():
        task.keep.load_state_dict(best["weights"])
        write_text(metrics, "".join(json.dumps(record) + "\n" for record in records))
    module.eval()
    return {
        "best_step": best["step"],
        "best_score": best["score"],
        "resumed_at": start,
        "history": pieces(settings.steps),
        "micro_batches": parts,
        **({"micro_batch_note": _note(parts, task)} if parts > 1 else {}),
    }


def _note(parts: int, task: Task) -> str:
    """What run.json says of a run whose batches did not fit into memory."""
    norms = any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in task.module.modules())
    shared = [*filter(None, [task.coupled, "the statistics of batch normalisation" if norms else ""])]
    kept = f"a batch did not fit into GPU memory and passed in {parts} parts, its gradients accumulated"
    return f"{kept}; of one part only: {'; '.join(shared)}" if shared else f"{kept}; the step is the batch's"


def _smaller(parts: int, batch: Batch, step: int) -> int:
    """Twice as many parts, if the batch has items for them."""
    items = min(len(tensor) for tensor in batch.values())
    if distributed.processes() > 1:  # the others are in the middle of the same step
        raise UserError("out of GPU memory with several processes; take more GPUs, or a smaller batch")
    if parts >= items:
        raise UserError("out of GPU memory with one item in a batch; make the model or the image smaller")
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    parts = min(2 * parts, items)
    print(
        f"step {step}: out of GPU memory; batches of {items} now pass in {parts} parts",
        file=sys.stderr,
        flush=True,
    )
    return parts


def _non_finite(task: Task, folder: Path, settings: Training, done: int, recent: list[Tensor]) -> UserError:
    """The error of a run whose loss or weights are no numbers; nonfinite.json keeps its step, learning rate and batch.

    `recent` are the losses of the last steps before `done`. Where all are finite the last step's gradient was not. The
    batches before the one in question are kept as well, since an update may have been what broke.
    """
    first, losses = done - len(recent), [float(loss) for loss in recent]
    spoilt = [place for place, loss in enumerate(losses) if not math.isfinite(loss)]
    step = first + spoilt[0] if spoilt else done - 1
    fault = f"loss is {losses[spoilt[0]]}" if spoilt else "a weight is no number after the update"
    rate = settings.optimiser.lr * optim.multiplier(step, settings.warmup_steps, settings.steps)
    about = {
        "step": step,
        "learning_rate": rate,
        "items": task.items(step),
        "before": [{"step": earlier, "items": task.items(earlier)} for earlier in range(first, step)],
    }
    if distributed.leads():
        write_json(folder / "nonfinite.json", about)
    return UserError(
        f"{fault} at step {step} of {settings.steps}, learning rate {rate:.3g} "
        f"({folder / 'nonfinite.json'} names the images); "
        "lower the learning rate, clip the gradient norm or choose bf16 or fp32"
    )


def _snapshot(module: nn.Module) -> dict[str, Tensor]:
    return {name: copy.deepcopy(tensor.detach().cpu()) for name, tensor in module.state_dict().items()}
