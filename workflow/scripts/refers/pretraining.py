"""MIMIC-CXR-JPG as pre-training sees it: studies of several views, their report tokens and labels (paper §4)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from refers import augment, engine
from refers.config import Training
from refers.errors import UserError
from refers.schema import LABEL
from refers.store import open_store


class Studies:
    """Studies with at least one image and a kept report, split into `train` and `val` (official validate + test).

    Attributes:
        store: images (N, S, S) uint8, memory-mapped; label_names: columns of `labels`;
        first, count: for each study its rows in `rows`, which point into the store;
        tokens, swapped: (studies, T) report tokens and those with left and right swapped; lengths: longer of both.
        labels: (studies, C) float32 with 1, 0, -1 and NaN.

    Args:
        quarantined: rows of the store that take no part, for their image could not be read.
    """

    def __init__(self, index: Path, store: Path, tokens: Path, quarantined: Sequence[int] = ()) -> None:
        self.store = open_store(store)
        frame = pd.read_parquet(index)
        if len(frame) != len(self.store):
            raise UserError(
                f"{store}: holds {len(self.store)} images, {index} lists {len(frame)}; remake the store"
            )
        saved = np.load(tokens)
        place = pd.Series(np.arange(len(saved["study_id"])), index=saved["study_id"])
        frame["row"] = np.arange(len(frame))
        frame["study"] = place.reindex(frame["study_id"]).to_numpy()
        frame = frame[frame["study"].notna() & ~frame["row"].isin(quarantined)].sort_values(
            ["study", "row"], kind="stable"
        )
        self.rows = frame["row"].to_numpy()
        study, self.first, self.count = np.unique(
            frame["study"].to_numpy(np.int64), return_index=True, return_counts=True
        )
        self.tokens, self.swapped, self.lengths = (
            saved[name][study] for name in ("tokens", "swapped", "lengths")
        )
        self.vocabulary, self.max_length = int(saved["vocabulary"]), self.tokens.shape[1]
        names = [column for column in frame.columns if column.startswith(LABEL)]
        heads = frame.iloc[self.first]
        self.label_names = tuple(name.removeprefix(LABEL) for name in names)
        self.labels = heads[names].to_numpy(np.float32)
        held_out = heads["split"].isin(["val", "test"]).to_numpy()
        self.splits = {"train": np.flatnonzero(~held_out), "val": np.flatnonzero(held_out)}
        for name, members in self.splits.items():
            if not len(members):
                raise UserError(
                    f"{index}: no {name} study has an image and a report; check the split file and the reports"
                )

    def images_of(self, studies: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Store rows of all images of `studies`, and for each the study it belongs to."""
        counts = self.count[studies]
        owner = np.repeat(studies, counts)
        offsets = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts)
        return self.rows[self.first[owner] + offsets], owner


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
    data: Studies, objective: nn.Module, training: Training, size: int, device: torch.device
) -> engine.Task:
    """The task of `engine.fit` for an objective: batches of studies or of single images, validated on the held-out ones."""
    by_study = objective.unit == "study"
    stored = data.store.shape[1]
    views = objective.settings.views if by_study else 1
    crops = getattr(objective, "crops", 1)
    items = {
        name: (members, members) if by_study else data.images_of(members)
        for name, members in data.splits.items()
    }

    def read(split: str, positions: np.ndarray, rng: np.random.Generator | None) -> engine.Batch:
        first, owner = items[split][0][positions], items[split][1][positions]
        if by_study:
            chosen = choose_views(data.count[owner], views, objective.settings.view_sampling, rng)
            rows = data.rows[data.first[owner][:, None] + chosen].ravel()
        else:
            rows = first
        length = int(data.lengths[owner].max())
        batch = {
            "images": torch.from_numpy(np.ascontiguousarray(data.store[rows])),
            "tokens": torch.from_numpy(data.tokens[owner, :length].astype(np.int64)),
            "swapped": torch.from_numpy(data.swapped[owner, :length].astype(np.int64)),
            "labels": torch.from_numpy(data.labels[owner]),
        }
        return (
            {name: tensor.pin_memory() for name, tensor in batch.items()} if device.type == "cuda" else batch
        )

    def load(step: int) -> engine.Batch:
        positions = engine.batch_rows(step, len(items["train"][0]), training.batch_size, training.seed)
        return read("train", positions, engine.stream(training.seed, engine.DRAWS, step))

    def prepare(batch: engine.Batch, drawn: augment.Draw) -> dict[str, Tensor]:
        images = augment.apply(drawn, batch["images"].repeat_interleave(crops, 0), size)
        tokens = torch.where(drawn.flip[:: views * crops, None], batch["swapped"], batch["tokens"])
        grouped = images.unflatten(0, (-1, views * crops)) if by_study or crops > 1 else images
        return {"images": grouped, "tokens": tokens, "labels": batch["labels"]}

    def loss(batch: engine.Batch) -> dict[str, Tensor]:
        drawn = augment.draw(training.augment, len(batch["images"]) * crops, stored, size, device)
        if by_study and objective.settings.flip == "study":
            drawn = augment.repeat_flip(drawn, views)
        return objective(prepare(batch, drawn))

    def validate() -> dict[str, float]:
        total, seen = {}, 0
        count = len(items["val"][0])
        for start in range(0, count, training.batch_size):
            positions = np.arange(start, min(start + training.batch_size, count))
            batch = {name: tensor.to(device) for name, tensor in read("val", positions, None).items()}
            drawn = augment.still(training.augment, len(batch["images"]) * crops, stored, size, device)
            losses = objective(prepare(batch, drawn))
            for name, value in losses.items():
                total[name] = total.get(name, 0) + value * len(positions)
            seen += len(positions)
        means = {name: float(value) / seen for name, value in total.items()}
        return {**means, "score": -means["loss"]}

    train_items = len(items["train"][0])
    return engine.Task(
        module=objective,
        keep=objective.encoder,
        load=load,
        loss=loss,
        validate=validate,
        epoch_steps=train_items // min(training.batch_size, train_items),
        rates=objective.rates(training.optimiser) if hasattr(objective, "rates") else {},
        after_step=getattr(objective, "after_step", lambda: None),
    )
