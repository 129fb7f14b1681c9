"""Batches of studies, images or crops for the objectives, and the task that trains on them (paper §4)."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from refers.config import Training
from refers.data.mimic_studies import MimicStudies
from refers.data.store import read_images
from refers.errors import UserError
from refers.training import augment, distributed
from refers.training.runtime import numpy_rng
from refers.training.task import DRAWS, Batch, PretrainingObjective, Task, batch_rows, epoch_steps


def items_of(data: MimicStudies, unit: str, split: str) -> dict[str, np.ndarray]:
    """Arrays that describe the items of a split: `study`, with `row` in the store for images, `place` and `word` for crops."""
    if unit == "crop":
        return data.crops[split]
    members = data.splits[split]
    if unit == "study":
        return {"study": members}
    return dict(zip(("row", "study"), data.images_of(members), strict=True))


def choose_views(count: np.ndarray, views: int, sampling: str, rng: np.random.Generator | None) -> np.ndarray:
    """Which of its `count` images each study shows: (B,) -> (B, views) positions below the study's count.

    `distinct`: without replacement; a study with fewer images shows all of them and repeats one drawn at random
    (paper §4.2). `replacement`: independent draws. Without a generator the choice is fixed: the first ones, in a cycle.
    """
    if rng is None:
        return np.arange(views) % count[:, None]
    if sampling == "replacement":
        return rng.integers(0, count[:, None], (len(count), views))
    keys = rng.random((len(count), max(views, count.max())))
    # keys are below 1, so the positions of images that a study does not have are sorted to the end
    keys[np.arange(keys.shape[1]) >= count[:, None]] = 2.0
    order = keys.argsort(1)[:, :views]
    repeated = rng.integers(0, count)[:, None]
    return np.where(np.arange(views) < count[:, None], order, repeated)


class Batches:
    """The batches of an objective's unit: read from the store on the host, augmented on the device."""

    def __init__(
        self,
        data: MimicStudies,
        objective: PretrainingObjective,
        training: Training,
        size: int,
        device: torch.device,
    ) -> None:
        self.data, self.objective, self.training = data, objective, training
        self.size, self.device, self.stored = size, device, data.store.shape[1]
        self.by_study = objective.unit == "study"
        self.views = objective.settings.views if self.by_study else 1
        self.crops = objective.crops
        self.augment = objective.augment(training.augment)
        self.trivial: float | None = None
        self.items = {split: items_of(data, objective.unit, split) for split in data.splits}

    def count(self, split: str) -> int:
        """Number of items in a split."""
        return len(self.items[split]["study"])

    def read(self, split: str, positions: np.ndarray, rng: np.random.Generator | None) -> Batch:
        """The items at these positions of a split, on the host; without a generator the views are fixed."""
        data = self.data
        chosen = {name: values[positions] for name, values in self.items[split].items()}
        owner = chosen.pop("study")
        if self.by_study:
            shown = choose_views(data.count[owner], self.views, self.objective.settings.view_sampling, rng)
            rows = data.rows[data.first[owner][:, None] + shown].ravel()
        else:
            rows = chosen.pop("row")
        length = int(data.lengths[owner].max())
        shapes = {} if data.aspects is None else {"aspect": torch.from_numpy(data.aspects[rows])}
        return {
            "images": torch.from_numpy(read_images(data.store, rows)),
            "tokens": torch.from_numpy(data.tokens[owner, :length].astype(np.int64)),
            "swapped": torch.from_numpy(data.swapped[owner, :length].astype(np.int64)),
            "labels": torch.from_numpy(data.labels[owner]),
            **shapes,
            **{name: torch.from_numpy(values) for name, values in chosen.items()},
        }

    def positions(self, step: int) -> np.ndarray:
        training = self.training
        return batch_rows(step, self.count("train"), training.batch_size, training.seed, training.last_batch)

    def rows(self, step: int) -> list[int]:
        """Rows of the index behind a step's batch; of a study its first image's."""
        chosen = {name: values[self.positions(step)] for name, values in self.items["train"].items()}
        return chosen.get("row", self.data.rows[self.data.first[chosen["study"]]]).tolist()

    def load(self, step: int) -> Batch:
        return self.read("train", self.positions(step), numpy_rng(self.training.seed, DRAWS, step))

    def params(self, batch: Batch, sampler: Callable[..., augment.AugmentParams]) -> augment.AugmentParams:
        """Augmentation parameters of every crop of a batch, from `augment.sample_params` or `identity_params`."""
        count, aspect = len(batch["images"]) * self.crops, batch.get("aspect")
        aspect = aspect if aspect is None else aspect.repeat_interleave(self.crops, 0)
        return sampler(self.augment, count, self.stored, self.size, self.device, aspect)

    def augmented(self, batch: Batch, params: augment.AugmentParams) -> Batch:
        """The batch as objectives see it (`refers.methods`)."""
        views, crops = self.views, self.crops
        images = augment.apply(params, batch["images"].repeat_interleave(crops, 0), self.size)
        tokens = torch.where(params.flip[:: views * crops, None], batch["swapped"], batch["tokens"])
        grouped = images.unflatten(0, (-1, views * crops)) if self.by_study or crops > 1 else images
        return batch | {"images": grouped, "tokens": tokens}

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Losses of a training batch."""
        return self.objective(distributed.once(lambda: self.for_training(batch)))

    def for_training(self, batch: Batch) -> Batch:
        """A training batch with the augmentation that is drawn for it."""
        params, settings = self.params(batch, augment.sample_params), self.objective.settings
        if self.by_study and settings.flip == "study":
            params = augment.repeat_flip(params, self.views)
        if "place" in batch:
            params = augment.crop_at(params, batch["place"], settings.zoom, settings.shift)
        return self.augmented(batch, params)

    def held_out(self) -> Iterator[Batch]:
        """Batches of the held-out items, without augmentation; of several crops the first one is without."""
        count, size = self.count("val"), self.training.batch_size
        for start in range(0, count, size):
            host = self.read("val", np.arange(start, min(start + size, count)), None)
            batch = {name: host[name].to(self.device) for name in host}
            params = self.params(batch, augment.identity_params)
            if self.crops > 1:
                # All crops without augmentation would be one and the same image. The trainer's seed makes those of the
                # others the same in every validation.
                sampled = self.params(batch, augment.sample_params)
                params = augment.keep_identity_first(params, sampled, self.crops)
            if "place" in batch:
                params = augment.crop_at(params, batch["place"])
            yield self.augmented(batch, params)

    def validate(self) -> dict[str, float]:
        """Mean losses over the held-out items; the score is minus the loss, `trivial` the objective's `trivial_loss`."""
        total, count = {}, self.count("val")
        for batch in self.held_out():
            for name, value in self.objective(batch).items():
                total[name] = total.get(name, 0) + value * len(batch["images"])
        means = {name: float(value) / count for name, value in total.items()}
        # It does not depend on the weights. It comes last, so that no draw of the losses above depends on it.
        self.trivial = self.objective.trivial_loss(self.held_out()) if self.trivial is None else self.trivial
        trivial = {} if self.trivial is None else {"trivial": self.trivial}
        return {**means, **trivial, "score": -means["loss"]}


def check_batch_size(batch_size: int, processes: int) -> None:
    """Raise a UserError unless each process gets an equal share of a batch."""
    if batch_size % processes:
        wrong = f"batch size {batch_size} is not a multiple of the {processes} processes"
        raise UserError(f"{wrong}; choose another number of GPUs")


def pretraining_task(
    data: MimicStudies, objective: PretrainingObjective, training: Training, size: int, device: torch.device
) -> Task:
    """The task of `trainer.fit` for an objective: batches of its unit, validated on the held-out studies.

    Raises:
        UserError: the batch cannot be divided evenly among the processes.
    """
    batches = Batches(data, objective, training, size, device)
    count = batches.count("train")
    batch_size = min(training.batch_size, count)
    check_batch_size(batch_size, distributed.world_size())
    if training.last_batch == "keep" and (count % batch_size) % distributed.world_size():
        raise UserError("last_batch: keep leaves a batch that the processes cannot share; set drop")
    return Task(
        module=objective,
        keep=objective.encoder,
        load=batches.load,
        loss=batches.loss,
        validate=batches.validate,
        epoch_steps=epoch_steps(count, training.batch_size, training.last_batch),
        lr_overrides=objective.lr_overrides(training.optimiser),
        items=batches.rows,
        sharded=objective.sharded,
        batch_dependent=objective.batch_dependent,
        after_step=objective.after_step,
    )
