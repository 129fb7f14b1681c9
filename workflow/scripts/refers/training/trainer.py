"""The one training loop: pre-training of every method and fine-tuning of every cell run through `fit`.

All randomness of step s is a function of (seed, s): data order, views, augmentation, dropout. A resumed run needs no
generator state and ends with the weights of an uninterrupted one, bit for bit on the CPU in fp32.
"""

import json
import math
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from refers.config import Training
from refers.errors import Diverged, Preempted, UserError
from refers.files import write_json, write_text
from refers.provenance import run_record
from refers.training import distributed, optim
from refers.training.precision import Precision
from refers.training.resume import RESUME, StateWriter, load_state
from refers.training.runtime import Termination, oom_as_user_error, seed_torch
from refers.training.step import TooLarge, item_count, micro_batch_note, more_micro_batches, train_step
from refers.training.task import TORCH, Batch, Task, pinned


@oom_as_user_error("outside forward and backward pass", "make the model, the image or batch_size smaller")
def fit(
    task: Task,
    settings: Training,
    device: torch.device,
    folder: Path,
    fingerprint: str,
    started: float = run_record.STARTED,
) -> dict:
    """Train `task` and leave the selected weights in `task.keep`; of several processes in the main one alone.

    `folder` receives metrics.jsonl, and resume.pt, from which a rerun with the same `fingerprint` (a digest of settings and
    inputs) continues, in any number of processes; the caller ends with `resume.clear_resume`. A batch that does not fit
    into the device's memory is split into micro-batches with accumulated gradients (`refers.training.step`). `started`, by
    `time.monotonic`, is when this process began with the run.

    Returns the facts for run.json: the best score and its step, the steps done before this process, the history of the run
    by process, the number of micro-batches, and where these are several a note on what they change.

    Raises:
        Diverged: the loss or a weight became non-finite; nonfinite.json says where.
        UserError: a single item does not fit into memory, or a state cannot be read or written; or `micro_batches` is set for
            several processes.
        Preempted: SIGTERM or SIGINT arrived; resume.pt holds every step done.
    """
    return Trainer(task, settings, device, folder, fingerprint, started).fit()


@dataclass
class Progress:
    """How far a run has come: the resume state but for module, optimiser and precision. The field names are its keys."""

    step: int = 0
    best: dict[str, Any] = field(default_factory=lambda: {"score": -math.inf, "step": 0, "weights": None})
    # lines of metrics.jsonl
    records: list[dict] = field(default_factory=list)
    # sums of the losses after step `since`, on the device
    since: int = 0
    tally: dict[str, Tensor] = field(default_factory=dict)
    # micro-batches of a batch
    parts: int = 1
    # one entry per earlier process of the run
    history: list[dict] = field(default_factory=list)

    def validated(self, step: int) -> bool:
        """Whether `records` holds the validation of a step."""
        return any("validation" in record and record["step"] == step for record in self.records)


@dataclass
class Trainer:
    """One run of a task: `fit` is the loop, every other method one thing that happens in it."""

    task: Task
    settings: Training
    device: torch.device
    folder: Path
    fingerprint: str
    started: float

    def __post_init__(self) -> None:
        task, settings, device = self.task, self.settings, self.device
        self.precision = Precision(settings.precision, device)
        optimiser = optim.build(task.module.to(device), settings.optimiser, task.lr_overrides)
        self.module, self.optimiser = self.precision.prepare(task.module, optimiser)
        every, alpha = settings.optimiser.lookahead_every, settings.optimiser.lookahead_alpha
        self.lookahead = optim.Lookahead(self.optimiser, every, alpha) if every else None
        self.validation_steps = {0, *settings.validation_steps(task.epoch_steps)}
        self.progress = Progress(parts=1 if settings.micro_batches == "auto" else settings.micro_batches)
        if self.progress.parts > 1 and distributed.world_size() > 1:
            raise UserError("training.micro_batches is for one process; set it to auto, or gpu to 1")
        # losses of the steps since the last log line, to find the first non-finite one
        self.recent: list[Tensor] = []
        self.states = StateWriter(self.folder / RESUME, self.fingerprint)
        self.restore()
        self.start = self.progress.step
        # The digest is taken now and cached: files that are edited while the run lasts are not the code that runs.
        library = run_record.process_record(device, self.started)["library_sha256"]
        history = self.progress.history
        if history and history[-1]["library_sha256"] != library:
            print("the library changed since these steps; run.json says which one made which", flush=True)
        loss = torch.compile(task.loss) if settings.compile else task.loss
        self.uncompiled = task
        self.task = replace(task, loss=distributed.parallel(task.module, loss))

    def fit(self) -> dict:
        """Train to the last step; what the function `fit` returns and raises."""
        settings, progress = self.settings, self.progress
        began = time.monotonic()
        with Termination() as termination, ThreadPoolExecutor(1) as reader, self.states:
            try:
                ahead = reader.submit(self.load, self.start)
                self.module.train()
                # of the untrained module, or one that was interrupted
                if self.start in self.validation_steps and not progress.validated(self.start):
                    self.validate(termination)
                for step in range(self.start, settings.steps):
                    host = ahead.result()
                    batch = {name: host[name].to(self.device, non_blocking=True) for name in host}
                    if step + 1 < settings.steps:
                        ahead = reader.submit(self.load, step + 1)
                    factor = self.set_learning_rates(step)
                    self.update(batch, step)

                    logging, saving = self.due(settings.log_every), self.due(settings.checkpoint_every)
                    validating = progress.step in self.validation_steps
                    stopping = distributed.any_rank(termination.received > 0)
                    if logging or saving or validating or stopping:
                        # The host waits for the device in these steps alone (and where task 1 of REFERS counts a
                        # batch's tokens). They are also those after which a state may be written: none may be broken.
                        self.check_finite()
                    if logging:
                        self.log(factor, (progress.step - self.start) / (time.monotonic() - began))
                    if stopping:
                        raise Preempted
                    if validating:
                        self.validate(termination)
                    if saving:
                        self.save()
            except Preempted:
                # whatever became of the state that was being written, this one is tried
                with suppress(UserError):
                    self.states.wait()
                self.save()
                self.states.wait()
                where = f"at step {progress.step} of {settings.steps}"
                after = "the state is saved, rerun the same command to resume"
                distributed.raise_on_all_ranks(termination.preempted(f"{where}; {after}"))
        return self.finish()

    def load(self, step: int) -> Batch:
        return pinned(self.task.load(step), self.device)

    def due(self, every: int) -> bool:
        """Whether something that happens every so many steps, and after the last one, happens now."""
        return self.progress.step % every == 0 or self.progress.step == self.settings.steps

    def set_learning_rates(self, step: int) -> float:
        """Set the learning rates of a step; their factor on the peaks."""
        factor = optim.lr_factor_of(self.settings, step)
        for group in self.optimiser.param_groups:
            group["lr"] = group["peak_lr"] * factor
        return factor

    def update(self, batch: Batch, step: int) -> None:
        """One step, repeated with more micro-batches until it fits into memory; its losses are added to the tally."""
        progress, clip = self.progress, self.settings.optimiser.clip_norm
        while True:
            seed_torch(self.settings.seed, TORCH, step)
            # Micro-batches that take turns do so in Python, which a compiled loss does not see.
            task = self.task if progress.parts == 1 or not self.task.sharded else self.uncompiled
            try:
                # The last batch of an epoch may have fewer items than the others have parts.
                parts = min(progress.parts, item_count(batch))
                losses = train_step(task, batch, self.precision, self.optimiser, clip, parts)
                break
            except TooLarge:
                # The traceback still holds the step's tensors: memory is free only after this block.
                pass
            progress.parts = more_micro_batches(progress.parts, batch, step)
        if self.lookahead and self.lookahead.after_step(step):
            self.precision.publish()
        for name, value in losses.items():
            progress.tally[name] = progress.tally.get(name, 0) + value
        self.recent.append(losses["loss"])
        progress.step = step + 1

    def log(self, factor: float, speed: float) -> None:
        """Mean losses since the last line, into the records and onto stdout."""
        progress, done = self.progress, self.progress.step
        means = {name: float(total) / (done - progress.since) for name, total in progress.tally.items()}
        progress.records.append({"step": done, "factor": factor, "train": means})
        self.print_step(_named(means), f"{speed:.2f} steps/s")
        progress.tally, progress.since, self.recent = {}, done, []

    def print_step(self, *texts: str) -> None:
        print(f"step {self.progress.step}/{self.settings.steps}", *texts, sep="  ", flush=True)

    def validate(self, termination: Termination) -> None:
        """Validate in the main process, which keeps the weights where they are the best ones so far."""
        progress = self.progress
        self.module.eval()
        memory = oom_as_user_error("in validation", "lower batch_size or evaluation_batch")
        alone = distributed.main_process_only()
        # A validation changes nothing, so a signal may interrupt it anywhere; the resumed run repeats it. `autocast` must
        # be called without gradients.
        with alone, torch.no_grad(), self.precision.autocast(), termination.interruptible(), memory:
            seed_torch(self.settings.seed, TORCH, 0)
            scores = self.task.validate() if distributed.is_main_process() else {}
        self.module.train()
        if not scores:
            return
        progress.records.append({"step": progress.step, "validation": scores})
        self.print_step(f"validation {_named(scores)}")
        score, best = scores["score"], progress.best
        better = self.is_better(scores) or best["weights"] is None or self.settings.select == "last"
        # The untrained module is never selected; its validation only shows where the curve begins.
        if progress.step and better:
            keep = self.task.keep.state_dict()
            weights = {name: keep[name].detach().to("cpu", copy=True) for name in keep}
            progress.best = {"score": score, "step": progress.step, "weights": weights}

    def is_better(self, scores: dict[str, float]) -> bool:
        """Whether a validation beats the best one: by its score; of equal scores, by its loss; else the earlier step stays."""
        best = self.progress.best
        if scores["score"] != best["score"]:
            return scores["score"] > best["score"]
        earlier = (record for record in self.progress.records if record["step"] == best["step"])
        losses = [record["validation"].get("loss", -math.inf) for record in earlier if "validation" in record]
        return scores.get("loss", math.inf) < min(losses, default=-math.inf)

    @torch.no_grad()
    def check_finite(self) -> None:
        """Raise `Diverged` where the loss or a weight is NaN or Inf; nonfinite.json says in which step."""
        # One sum over losses and norms is one wait for the device.
        weights = torch.stack(torch._foreach_norm([*self.module.parameters()], 2, torch.float32)).sum()
        if math.isfinite(float(self.progress.tally["loss"] + weights)):
            return
        settings, task = self.settings, self.task
        first, losses = self.progress.step - len(self.recent), [float(loss) for loss in self.recent]
        broken = [place for place, loss in enumerate(losses) if not math.isfinite(loss)]
        # Where all losses are finite, the gradient of the last step was not.
        step = first + broken[0] if broken else self.progress.step - 1
        fault = f"loss is {losses[broken[0]]}" if broken else "a weight is non-finite after the update"
        rate = settings.optimiser.lr * optim.lr_factor_of(settings, step)
        about = {
            "step": step,
            "learning_rate": rate,
            "items": task.items(step),
            # an update with one of these may be what broke the weights
            "before": [{"step": earlier, "items": task.items(earlier)} for earlier in range(first, step)],
        }
        path = self.folder / "nonfinite.json"
        if distributed.is_main_process():
            write_json(path, about)
        text = (
            f"{fault} at step {step} of {settings.steps}, learning rate {rate:.3g} ({path} names the images); "
            "lower the learning rate, clip the gradient norm or choose bf16 or fp32"
        )
        distributed.raise_on_all_ranks(Diverged(text, step))

    def restore(self) -> None:
        """Continue from the resume state, where there is one."""
        path = self.folder / RESUME
        state = distributed.main_process_first(lambda: load_state(path, self.fingerprint))
        self.check_shared(path, state["step"] if state else None)
        if state is None:
            return
        # The state after the last step has none of these: nothing is left to train.
        if "module" in state:
            self.module.load_state_dict(state["module"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.precision.load_state_dict(state["precision"])
            if self.lookahead:
                slow = [slow.to(self.device) for slow in state["slow"]]
                torch._foreach_copy_(self.lookahead.slow, slow)
        self.progress = Progress(**{each.name: state[each.name] for each in fields(Progress)})
        self.progress.tally = {name: total.to(self.device) for name, total in state["tally"].items()}
        if distributed.world_size() > 1:
            self.progress.parts = 1
        print(f"resumed at step {self.progress.step} of {self.settings.steps}", flush=True)

    def check_shared(self, path: Path, step: int | None) -> None:
        """Raise a UserError unless all ranks have the same inputs and the same resume state, as on a shared filesystem."""
        where = "all nodes need the same files; use a filesystem that they share"
        if not distributed.same_in_all_ranks(self.fingerprint):
            wrong = "settings or inputs are not the same in all processes"
        elif not distributed.same_in_all_ranks(step):
            wrong = f"{path}: not the same in all processes"
        else:
            return
        distributed.raise_on_all_ranks(UserError(f"{wrong}; {where}"))

    def save(self) -> None:
        """Begin to write the resume state; in the main process alone."""
        if not distributed.is_main_process():
            return
        tensors = {
            "module": self.module.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "precision": self.precision.state_dict(),
            "slow": self.lookahead.slow if self.lookahead else [],
        }
        # After the last validation only the selected weights are of use.
        if self.progress.validated(self.settings.steps):
            tensors = {}
        tensors["tally"] = self.progress.tally
        rest = {
            each.name: getattr(self.progress, each.name) for each in fields(Progress) if each.name != "tally"
        }
        # The loop appends to the records, but replaces the best weights as a whole.
        rest |= {"records": [*self.progress.records], "history": self.history()}
        self.states.write(tensors, rest)

    def history(self) -> list[dict]:
        """The processes of the run, this one last."""
        work = {"steps": self.progress.step - self.start, "processes": distributed.world_size()}
        work["nodes"] = distributed.nodes()
        return [*self.progress.history, work | run_record.process_record(self.device, self.started)]

    def finish(self) -> dict:
        """Leave the selected weights in `task.keep` and the curve in metrics.jsonl; the facts for run.json."""
        progress = self.progress
        if distributed.is_main_process():
            self.task.keep.load_state_dict(progress.best["weights"])
            lines = (json.dumps(record) + "\n" for record in progress.records)
            write_text(self.folder / "metrics.jsonl", "".join(lines))
        self.module.eval()
        outcome = {
            "best_step": progress.best["step"],
            "best_score": progress.best["score"],
            "resumed_at": self.start,
            "history": self.history(),
            "micro_batches": progress.parts,
        }
        if progress.parts > 1:
            outcome["micro_batch_note"] = micro_batch_note(progress.parts, self.task)
        return outcome


def _named(values: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in values.items())
