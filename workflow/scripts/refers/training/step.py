"""One update of the weights, with gradients accumulated over micro-batches where a batch does not fit into memory.

A task whose loss is `sharded` is exact in any number of micro-batches: they take turns as ranks do
(`distributed.Turns`). That of another one is the mean of the micro-batches' losses.
"""

import sys
from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn

from refers.errors import UserError
from refers.training import distributed
from refers.training.precision import Precision
from refers.training.runtime import out_of_memory
from refers.training.task import Batch, Task


class TooLarge(torch.OutOfMemoryError):
    """A batch or micro-batch does not fit into memory."""


def micro_batches(batch: Batch, count: int) -> list[tuple[Batch, float]]:
    """A batch in `count` slices along its items, each with its share of them. A tensor may hold several rows per item."""
    items = item_count(batch)
    rows = {name: len(tensor) // items for name, tensor in batch.items()}
    edges = [items * number // count for number in range(count + 1)]
    return [
        ({name: batch[name][n * low : n * high] for name, n in rows.items()}, (high - low) / items)
        for low, high in pairwise(edges)
    ]


def item_count(batch: Batch) -> int:
    """Number of items in a batch."""
    return min(len(tensor) for tensor in batch.values())


def train_step(
    task: Task,
    batch: Batch,
    precision: Precision,
    optimiser: torch.optim.Optimizer,
    clip_norm: float,
    count: int = 1,
) -> dict[str, Tensor]:
    """One update of the module from a batch in `count` micro-batches; the mean losses of all ranks, on the device.

    Raises:
        TooLarge: the forward or backward pass does not fit into memory. The module is as before and the step can be
            repeated. An update that does not fit raises torch's own error, since part of the weights may have it.
    """
    totals: dict[str, Tensor] = {}
    # A forward pass changes buffers, such as the statistics of batch normalisation; a repeated one must not do so twice.
    before = [buffer.clone() for buffer in task.module.buffers()]
    try:
        for losses, share in _losses(task, batch, precision, before, count):
            precision.backward(losses["loss"] * share, optimiser)
            for name, value in losses.items():
                totals[name] = totals.get(name, 0) + value.detach() * share
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        optimiser.zero_grad()
        _restore(task.module, before)
        raise TooLarge(str(error)) from None
    precision.step(optimiser, clip_norm)
    task.after_step()
    return distributed.average(totals)


def _losses(
    task: Task, batch: Batch, precision: Precision, before: list[Tensor], count: int
) -> Iterator[tuple[dict[str, Tensor], float]]:
    """The losses of each micro-batch and its share of the batch's; the gradients are to be added up in between."""
    if count == 1:
        with precision.autocast():
            losses = task.loss(batch)
        yield losses, 1.0
    elif task.sharded:
        turns = distributed.Turns(count)
        for number in range(count):
            with turns.turn(number, noting=True), precision.autocast(), torch.no_grad():
                task.loss(batch)
        _restore(task.module, before)
        for number in range(count):
            with turns.turn(number, noting=False), precision.autocast():
                losses = task.loss(batch)
            yield losses, 1 / count
    else:
        for micro_batch, share in micro_batches(batch, count):
            with precision.autocast():
                losses = task.loss(micro_batch)
            yield losses, share


@torch.no_grad()
def _restore(module: nn.Module, buffers: list[Tensor]) -> None:
    for buffer, content in zip(module.buffers(), buffers, strict=True):
        buffer.copy_(content)


def more_micro_batches(count: int, batch: Batch, step: int) -> int:
    """Twice as many micro-batches, at most one per item.

    Raises:
        UserError: there is one per item already, or several ranks share the batch.
    """
    items = item_count(batch)
    # The other ranks are in the middle of the same step and cannot be asked to repeat it.
    if distributed.world_size() > 1:
        raise UserError("out of GPU memory with several processes; use more GPUs, or a smaller batch")
    if count >= items:
        raise UserError("out of GPU memory with one item in a batch; make the model or the image smaller")
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    count = min(2 * count, items)
    line = (
        f"step {step}: out of GPU memory; batches of {items} are split into {count} micro-batches from now on"
    )
    print(line, file=sys.stderr, flush=True)
    return count


def micro_batch_note(count: int, task: Task) -> str:
    """What run.json says about gradient accumulation: which terms saw a micro-batch instead of the batch."""
    changed = [task.batch_dependent] if task.batch_dependent and not task.sharded else []
    if any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in task.module.modules()):
        changed.append("the statistics of batch normalisation")
    fact = f"gradients accumulated over {count} micro-batches"
    if not changed:
        return f"{fact}; the update is that of the whole batch"
    return f"{fact}; computed per micro-batch: {'; '.join(changed)}"
