"""Batches of studies, images or crops for the objectives, and what the training loop needs to know (paper §4)."""

import numpy as np
import torch
from torch import Tensor, nn

from refers.config import Training
from refers.data.mimic_studies import MimicStudies
from refers.errors import UserError
from refers.training import augment, distributed
from refers.training.runtime import stream
from refers.training.task import DRAWS, Batch, Task, batch_rows


def items_of(data: MimicStudies, unit: str, split: str) -> dict[str, np.ndarray]:
    """What a batch of a split is drawn from: `study`, with `row` in the store for images, and `aim` and `word` for crops."""
    if unit == "crop":
        return data.crops[split]
    members = data.splits[split]
    return (
        {"study": members}
        if unit == "study"
        else dict(zip(("row", "study"), data.images_of(members), strict=True))
    )


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
    keys[np.arange(keys.shape[1]) >= count[:, None]] = 2.0
    order = keys.argsort(1)[:, :views]
    repeated = rng.integers(0, count)[:, None]
    return np.where(np.arange(views) < count[:, None], order, repeated)


def pretraining_task(
    data: MimicStudies, objective: nn.Module, training: Training, size: int, device: torch.device
) -> Task:
    """The task of `trainer.fit` for an objective: batches of its unit, validated on the held-out studies.

    Raises:
        UserError: the batch cannot be shared out evenly among the processes.
    """
    by_study = objective.unit == "study"
    stored = data.store.shape[1]
    views = objective.settings.views if by_study else 1
    crops = getattr(objective, "crops", 1)
    items = {split: items_of(data, objective.unit, split) for split in data.splits}

    def read(split: str, positions: np.ndarray, rng: np.random.Generator | None) -> Batch:
        chosen = {name: values[positions] for name, values in items[split].items()}
        owner = chosen.pop("study")
        if by_study:
            shown = choose_views(data.count[owner], views, objective.settings.view_sampling, rng)
            rows = data.rows[data.first[owner][:, None] + shown].ravel()
        else:
            rows = chosen.pop("row")
        length = int(data.lengths[owner].max())
        return {
            "images": torch.from_numpy(np.ascontiguousarray(data.store[rows])),
            "tokens": torch.from_numpy(data.tokens[owner, :length].astype(np.int64)),
            "swapped": torch.from_numpy(data.swapped[owner, :length].astype(np.int64)),
            "labels": torch.from_numpy(data.labels[owner]),
            **{name: torch.from_numpy(values) for name, values in chosen.items()},
        }

    def positions_of(step: int) -> np.ndarray:
        return batch_rows(step, len(items["train"]["study"]), training.batch_size, training.seed)

    def rows_of(step: int) -> list[int]:
        chosen = {name: values[positions_of(step)] for name, values in items["train"].items()}
        return chosen.get("row", data.rows[data.first[chosen["study"]]]).tolist()

    def load(step: int) -> Batch:
        return read("train", positions_of(step), stream(training.seed, DRAWS, step))

    def prepare(batch: Batch, drawn: augment.Draw) -> dict[str, Tensor]:
        images = augment.apply(drawn, batch["images"].repeat_interleave(crops, 0), size)
        tokens = torch.where(drawn.flip[:: views * crops, None], batch["swapped"], batch["tokens"])
        grouped = images.unflatten(0, (-1, views * crops)) if by_study or crops > 1 else images
        return batch | {"images": grouped, "tokens": tokens}

    def loss(batch: Batch) -> dict[str, Tensor]:
        drawn = augment.draw(training.augment, len(batch["images"]) * crops, stored, size, device)
        if by_study and objective.settings.flip == "study":
            drawn = augment.repeat_flip(drawn, views)
        if "aim" in batch:
            drawn = augment.aim(drawn, batch["aim"], objective.settings.zoom, objective.settings.shift)
        return objective(prepare(batch, drawn))

    def validate() -> dict[str, float]:
        total, seen = {}, 0
        count = len(items["val"]["study"])
        for start in range(0, count, training.batch_size):
            positions = np.arange(start, min(start + training.batch_size, count))
            batch = {name: tensor.to(device) for name, tensor in read("val", positions, None).items()}
            about = training.augment, len(batch["images"]) * crops, stored, size, device
            drawn = augment.still(*about)
            # several still ones would be one picture; the loop's seed makes the others the same every time
            if crops > 1:
                drawn = augment.keep_first(drawn, augment.draw(*about), crops)
            if "aim" in batch:
                drawn = augment.aim(drawn, batch["aim"])
            losses = objective(prepare(batch, drawn))
            for name, value in losses.items():
                total[name] = total.get(name, 0) + value * len(positions)
            seen += len(positions)
        means = {name: float(value) / seen for name, value in total.items()}
        return {**means, "score": -means["loss"]}

    train_items = len(items["train"]["study"])
    if min(training.batch_size, train_items) % distributed.processes():
        raise UserError(
            f"a batch of {min(training.batch_size, train_items)} has no equal shares for {distributed.processes()} processes;"
            " choose another number of GPUs"
        )
    return Task(
        module=objective,
        keep=objective.encoder,
        load=load,
        loss=loss,
        validate=validate,
        epoch_steps=train_items // min(training.batch_size, train_items),
        rates=objective.rates(training.optimiser) if hasattr(objective, "rates") else {},
        items=rows_of,
        coupled=getattr(objective, "coupled", ""),
        before_step=getattr(objective, "before_step", lambda: None),
        after_step=getattr(objective, "after_step", lambda: None),
    )
