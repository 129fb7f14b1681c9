"""Fine-tuning an encoder on labelled radiographs, and its predictions (paper §4, training and testing methodologies)."""

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from refers.columns import LABEL
from refers.config import Augment, Finetune
from refers.data.index import aspects
from refers.data.splits import shuffle_labels
from refers.data.store import read_images
from refers.evaluation.metrics import auc
from refers.evaluation.predictions import frame_of
from refers.model.classifier import Classifier, classification_loss, probabilities
from refers.training import augment
from refers.training.task import Batch, Task, batch_rows, epoch_steps


class LabelledImages:
    """Images of a split, memory-mapped, with their labels (N, C) and rows in the store (N,)."""

    def __init__(self, store: np.ndarray, frame: pd.DataFrame, classes: list[str]) -> None:
        self.store, self.frame, self.classes = store, frame.reset_index(drop=True), classes
        self.rows = self.frame["row"].to_numpy()
        self.labels = self.frame[[LABEL + name for name in classes]].to_numpy(np.float32)
        self.aspects = aspects(self.frame)

    def __len__(self) -> int:
        return len(self.rows)

    def with_shuffled_labels(self, seed: int) -> "LabelledImages":
        """The same images with their labels permuted, for `labels: shuffled`."""
        return LabelledImages(self.store, shuffle_labels(self.frame, seed), self.classes)

    def read(self, positions: np.ndarray) -> Batch:
        shapes = {} if self.aspects is None else {"aspect": torch.from_numpy(self.aspects[positions])}
        return {
            "images": torch.from_numpy(read_images(self.store, self.rows[positions])),
            "labels": torch.from_numpy(self.labels[positions]),
            **shapes,
        }


@torch.no_grad()
def evaluate(
    model: nn.Module, data: LabelledImages, how: Augment, batch: int, size: int, device: torch.device
) -> Tensor:
    """Outputs (N, ...) of a model for all images, without augmentation, on the host in fp32."""
    model.eval()
    found = []
    for start in range(0, len(data), batch):
        positions = np.arange(start, min(start + batch, len(data)))
        host = data.read(positions)
        images, *aspect = (host[name].to(device) for name in ("images", "aspect") if name in host)
        stored = images.shape[1]
        params = augment.identity_params(how, len(images), stored, size, device, *aspect)
        found.append(model(augment.apply(params, images, size)).float().cpu())
    return torch.cat(found)


def predict(
    model: Classifier, data: LabelledImages, settings: Finetune, size: int, device: torch.device
) -> Tensor:
    """Logits (N, C) of all images, without augmentation, on the host in fp32."""
    return evaluate(model, data, settings.training.augment, settings.evaluation_batch, size, device)


def finetuning_task(
    model: Classifier,
    train: LabelledImages,
    val: LabelledImages,
    settings: Finetune,
    size: int,
    device: torch.device,
) -> Task:
    """The task of `trainer.fit`: the best mean AUC on the validation set selects the weights (paper §4).

    A small validation set has many equal AUCs, such as 1; among these the lowest loss of the same validation selects, then
    the earliest step. Where no class has both labels in the validation set, its loss selects instead and `auc` is reported as -1.
    """
    training = settings.training
    stored = train.store.shape[1]

    def positions_of(step: int) -> np.ndarray:
        return batch_rows(step, len(train), training.batch_size, training.seed, training.last_batch)

    def load(step: int) -> Batch:
        return train.read(positions_of(step))

    def loss(batch: Batch) -> dict[str, Tensor]:
        count, aspect = len(batch["images"]), batch.get("aspect")
        params = augment.sample_params(training.augment, count, stored, size, device, aspect)
        logits = model(augment.apply(params, batch["images"], size))
        return {"loss": classification_loss(logits, batch["labels"])}

    def validate() -> dict[str, float]:
        logits = predict(model, val, settings, size, device)
        value = float(classification_loss(logits, torch.from_numpy(val.labels)))
        each = auc(val.labels, probabilities(logits, len(val.classes)))
        if np.isnan(each).all():
            return {"loss": value, "auc": -1.0, "score": -value}
        mean = float(np.nanmean(each))
        return {"loss": value, "auc": mean, "score": mean}

    return Task(
        module=model,
        keep=model,
        load=load,
        loss=loss,
        validate=validate,
        epoch_steps=epoch_steps(len(train), training.batch_size, training.last_batch),
        items=lambda step: train.rows[positions_of(step)].tolist(),
        lr_overrides={"head.": training.optimiser.head_lr or training.optimiser.lr},
    )


def prediction_frame(data: LabelledImages, logits: Tensor, split: str) -> pd.DataFrame:
    """Rows of predictions.parquet from logits; see `refers.evaluation.predictions.frame_of`."""
    return frame_of(data.frame, data.classes, probabilities(logits, len(data.classes)), split)
