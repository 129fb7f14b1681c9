"""What the trainer trains: a task with its batches, and the order of its items."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from refers.config import Augment, Optimiser
from refers.model.vit import Encoder
from refers.training.runtime import numpy_rng

Batch = dict[str, Tensor]
# Purposes of random streams: the order of items, what is drawn on the host, torch's generators.
ORDER, DRAWS, TORCH = 0, 1, 2


class PretrainingObjective(nn.Module):
    """Base of the `Objective` in each file of refers/methods/, built by `__init__(encoder, settings, context)`.

    `forward(batch)` returns a dict of scalar losses, of which the one named "loss" is minimised.

    Attributes:
        unit: what a batch item is: "study" (its views and its report; `Settings` extends `StudySettings`), "image" or
            "crop" (a visual word, for methods with `pretrain.words`; `Settings` extends `CropSettings`).
        encoder: what is saved; `__init__` keeps it. `build_objective` puts the settings beside it.
        crops: augmentations of an image in a step; in validation the first is the image as it is.
        sharded: whether `forward` takes its `distributed.local_shard` of a batch and gathers what it compares across rows.
            Then several processes share its work, and a batch in micro-batches has the gradients of the whole one.
        batch_dependent: where it does not, terms of the loss that relate the items of a batch, such as negatives: `run.json`
            names them as computed per micro-batch.
    """

    unit: str
    encoder: Encoder
    settings: Any
    crops: int = 1
    sharded: bool = False
    batch_dependent: str = ""

    def lr_overrides(self, optimiser: Optimiser) -> dict[str, float]:
        """Prefix of parameter names -> peak learning rate of its own."""
        return {}

    def augment(self, shared: Augment) -> Augment:
        """The augmentation that this objective trains with, from the one that all methods share."""
        return shared

    def trivial_loss(self, batches: Iterable[Batch]) -> float | None:
        """Mean loss over held-out batches of the best predictor that ignores its input; None where none is stated.

        An encoder whose held-out loss is not below it has learnt nothing of the task.
        """
        return None

    def after_step(self) -> None:
        """Called after the update."""


@dataclass(kw_only=True)
class Task:
    """A module with its data, losses and validation.

    Attributes:
        module: everything with trainable parameters.
        keep: the part of it whose best weights are kept.
        load: step -> its batch on the host; called ahead in a thread.
        loss: batch on the device -> scalar tensors, of which "loss" is minimised.
        validate: numbers, of which "score" selects the weights, higher is better, and of equal scores the lower "loss".
        epoch_steps: steps of an epoch, which is how often validation happens unless the settings say so.
        lr_overrides: prefix of parameter names -> peak learning rate of its own.
        after_step: called after the update, for instance for a teacher's moving average.
        items: step -> rows of the index behind its batch, for the report on a non-finite loss.
        sharded: the loss takes its `distributed.local_shard` of the batch.
        batch_dependent: where it does not, terms that gradient accumulation changes, since they relate the items of a batch.
    """

    module: nn.Module
    keep: nn.Module
    load: Callable[[int], Batch]
    loss: Callable[[Batch], dict[str, Tensor]]
    validate: Callable[[], dict[str, float]]
    epoch_steps: int
    lr_overrides: dict[str, float] = field(default_factory=dict)
    after_step: Callable[[], None] = lambda: None
    items: Callable[[int], list[int]] = lambda step: []
    sharded: bool = False
    batch_dependent: str = ""


def epoch_steps(rows: int, batch_size: int, last_batch: str = "drop") -> int:
    """Steps of an epoch of `rows` items, with or without the incomplete batch at its end; at least one."""
    size = min(batch_size, rows)
    return -(-rows // size) if last_batch == "keep" else rows // size


def batch_rows(step: int, rows: int, batch_size: int, seed: int, last_batch: str = "drop") -> np.ndarray:
    """Positions of a step's batch among `rows` items: a new permutation per epoch, its last incomplete batch as `last_batch` says."""
    size = min(batch_size, rows)
    epoch, place = divmod(step, epoch_steps(rows, batch_size, last_batch))
    return _epoch_order(rows, epoch, seed)[place * size : (place + 1) * size]


@lru_cache(maxsize=2)
def _epoch_order(rows: int, epoch: int, seed: int) -> np.ndarray:
    # Kept for the epoch: with 377,000 images one permutation per step would cost milliseconds.
    return numpy_rng(seed, ORDER, epoch).permutation(rows)


def pinned(batch: Batch, device: torch.device) -> Batch:
    """A batch in pinned memory, from which a GPU copies while the host goes on; unchanged for the CPU."""
    return {name: tensor.pin_memory() for name, tensor in batch.items()} if device.type == "cuda" else batch
