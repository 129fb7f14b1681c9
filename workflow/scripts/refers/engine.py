"""The one training loop: pre-training of every method and fine-tuning of every cell run through `fit`.

All randomness of step s is a function of (seed, s): data order, views, augmentation, dropout. A resumed run needs
no generator state and ends with the weights of an unbroken one, bit for bit on the CPU in fp32.
"""

import copy
import json
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from refers import optim
from refers.checkpoint import load_state, save_state
from refers.config import Training
from refers.errors import UserError
from refers.files import write_text
from refers.precision import Precision
from refers.runtime import seed_torch, stream

Batch = dict[str, Tensor]
ORDER, DRAWS, TORCH = 0, 1, 2  # purposes of random streams


@dataclass(kw_only=True)
class Task:
    """What `fit` trains.

    module: everything with trainable parameters; keep: the part whose best weights are wanted.
    load(step): the step's batch on the host, called ahead in a thread. loss(batch): scalar tensors, one named
    "loss" that is minimised. validate(): numbers, one named "score", higher is better. rates: prefixes of parameter
    names with their own peak learning rate. after_step(): for instance a teacher's moving average.
    """

    module: nn.Module
    keep: nn.Module
    load: Callable[[int], Batch]
    loss: Callable[[Batch], dict[str, Tensor]]
    validate: Callable[[], dict[str, float]]
    epoch_steps: int
    rates: dict[str, float] = field(default_factory=dict)
    after_step: Callable[[], None] = lambda: None


def batch_rows(step: int, rows: int, batch_size: int, seed: int) -> Any:
    """Positions of a step's batch among `rows` items: each epoch a fresh permutation, its last incomplete batch dropped."""
    size = min(batch_size, rows)
    epoch, place = divmod(step, rows // size)
    return _epoch_order(rows, epoch, seed)[place * size : (place + 1) * size]


@lru_cache(maxsize=2)
def _epoch_order(rows: int, epoch: int, seed: int) -> Any:
    # kept for the epoch: with 377,000 images a permutation a step would cost milliseconds
    return stream(seed, ORDER, epoch).permutation(rows)


def train_step(
    task: Task, batch: Batch, precision: Precision, optimiser: torch.optim.Optimizer, clip_norm: float
) -> dict[str, Tensor]:
    """One update of the module; returns the step's losses, still on the device."""
    with precision.autocast():
        losses = task.loss(batch)
    precision.backward(losses["loss"], optimiser)
    precision.step(optimiser, clip_norm)
    task.after_step()
    return losses


def fit(task: Task, settings: Training, device: torch.device, folder: Path, fingerprint: str) -> dict:
    """Train `task` and leave the wanted weights in `task.keep`.

    `folder` receives metrics.jsonl and, while the run lasts, resume.pt, which a rerun with the same `fingerprint`
    continues from. Returns the best score, its step and the steps done before this process.

    Raises:
        UserError: the loss became non-finite.
    """
    task.module.to(device)
    precision = Precision(settings.precision, device)
    optimiser = optim.build(task.module, settings.optimiser, task.rates)
    module, optimiser = precision.prepare(task.module, optimiser)
    every = settings.optimiser.lookahead_every
    lookahead = optim.Lookahead(optimiser, every, settings.optimiser.lookahead_alpha) if every else None
    validate_every = settings.validate_every or task.epoch_steps
    sidecar, metrics = folder / "resume.pt", folder / "metrics.jsonl"

    start, best, records = 0, {"score": -math.inf, "step": 0, "weights": None}, []
    since, tally = 0, {}
    if (state := load_state(sidecar, fingerprint)) is not None:
        module.load_state_dict(state["module"])
        optimiser.load_state_dict(state["optimiser"])
        precision.load_state_dict(state["precision"])
        if lookahead:
            torch._foreach_copy_(lookahead.slow, [slow.to(device) for slow in state["slow"]])
        start, best, records = state["step"], state["best"], state["records"]
        since, tally = state["since"], {name: total.to(device) for name, total in state["tally"].items()}
        print(f"resumed at step {start} of {settings.steps}", flush=True)

    def validated(step: int) -> dict[str, float]:
        module.eval()
        with torch.no_grad(), precision.autocast():
            seed_torch(settings.seed, TORCH, 0)
            scores = task.validate()
        module.train()
        records.append({"step": step, "validation": scores})
        shown = "  ".join(f"{name} {value:.4f}" for name, value in scores.items())
        print(f"step {step}/{settings.steps}  validation {shown}", flush=True)
        return scores

    if start == 0:
        validated(0)  # where the curve begins; never a candidate for the wanted weights
    if settings.compile:
        task.loss = torch.compile(task.loss)
    began = time.monotonic()
    with ThreadPoolExecutor(1) as reader:
        ahead = reader.submit(task.load, start)
        module.train()
        for step in range(start, settings.steps):
            batch = {name: tensor.to(device, non_blocking=True) for name, tensor in ahead.result().items()}
            if step + 1 < settings.steps:
                ahead = reader.submit(task.load, step + 1)
            seed_torch(settings.seed, TORCH, step)
            factor = optim.multiplier(step, settings.warmup_steps, settings.steps)
            for group in optimiser.param_groups:
                group["lr"] = group["peak_lr"] * factor

            losses = train_step(task, batch, precision, optimiser, settings.optimiser.clip_norm)
            if lookahead:
                lookahead.after_step(step)
            for name, value in losses.items():
                tally[name] = tally.get(name, 0) + value.detach()

            done, last = step + 1, step + 1 == settings.steps
            if done % settings.log_every == 0 or last:
                # the only place where the host waits for the device
                means = {name: float(total) / (done - since) for name, total in tally.items()}
                if not math.isfinite(means["loss"]):
                    raise UserError(
                        f"loss is {means['loss']} between steps {since} and {done} at learning-rate factor {factor:.3g}; "
                        "lower the learning rate, clip the gradient norm or choose bf16 or fp32"
                    )
                records.append({"step": done, "factor": factor, "train": means})
                speed = (done - start) / (time.monotonic() - began)
                shown = "  ".join(f"{name} {value:.4f}" for name, value in means.items())
                print(f"step {done}/{settings.steps}  {shown}  {speed:.2f} steps/s", flush=True)
                tally, since = {}, done
            if done % validate_every == 0 or last:
                scores = validated(done)
                if scores["score"] > best["score"] or best["weights"] is None or settings.select == "last":
                    best = {"score": scores["score"], "step": done, "weights": _snapshot(task.keep)}
            if done % settings.checkpoint_every == 0 and not last:
                state = {
                    "step": done,
                    "module": module.state_dict(),
                    "optimiser": optimiser.state_dict(),
                    "precision": precision.state_dict(),
                    "slow": lookahead.slow if lookahead else [],
                    "best": best,
                    "records": records,
                    "since": since,
                    "tally": tally,
                }
                save_state(sidecar, fingerprint, state)

    task.keep.load_state_dict(best["weights"])
    module.eval()
    write_text(metrics, "".join(json.dumps(record) + "\n" for record in records))
    return {"best_step": best["step"], "best_score": best["score"], "resumed_at": start}


def _snapshot(module: nn.Module) -> dict[str, Tensor]:
    return {name: copy.deepcopy(tensor.detach().cpu()) for name, tensor in module.state_dict().items()}


def clear_resume(folder: Path) -> None:
    """Remove the resume state once the results it led to are safely on disk."""
    (folder / "resume.pt").unlink(missing_ok=True)
