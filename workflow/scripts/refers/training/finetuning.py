"""Fine-tuning an encoder on labelled radiographs, and its predictions (paper §4, training and testing methodologies)."""

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from refers.columns import LABEL, SCORE
from refers.config import Finetune
from refers.evaluation.metrics import auc
from refers.model.classifier import Classifier, classification_loss, probabilities
from refers.training import augment
from refers.training.task import Batch, Task, batch_rows


class LabelledImages:
    """Rows of a split, with their images in memory-mapped form and labels (N, C)."""

    def __init__(self, store: np.ndarray, frame: pd.DataFrame, classes: list[str]) -> None:
        self.store, self.frame, self.classes = store, frame.reset_index(drop=True), classes
        self.rows = self.frame["row"].to_numpy()
        self.labels = self.frame[[LABEL + name for name in classes]].to_numpy(np.float32)

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, positions: np.ndarray) -> Batch:
        return {
            "images": torch.from_numpy(np.ascontiguousarray(self.store[self.rows[positions]])),
            "labels": torch.from_numpy(self.labels[positions]),
        }


@torch.no_grad()
def predict(
    model: Classifier, data: LabelledImages, settings: Finetune, size: int, device: torch.device
) -> Tensor:
    """Logits of every image of `data`, without augmentation, on the host in fp32."""
    model.eval()
    found = []
    for start in range(0, len(data), settings.evaluation_batch):
        positions = np.arange(start, min(start + settings.evaluation_batch, len(data)))
        images = data.read(positions)["images"].to(device)
        drawn = augment.still(settings.training.augment, len(images), images.shape[1], size, device)
        found.append(model(augment.apply(drawn, images, size)).float().cpu())
    return torch.cat(found)


def finetuning_task(
    model: Classifier,
    train: LabelledImages,
    val: LabelledImages,
    settings: Finetune,
    size: int,
    device: torch.device,
) -> Task:
    """The task of `trainer.fit`: the best mean AUC on the validation set picks the weights (paper §4).

    Where no validation class has both labels the validation loss picks instead, and `auc` is reported as -1.
    """
    training = settings.training
    stored = train.store.shape[1]

    def positions_of(step: int) -> np.ndarray:
        return batch_rows(step, len(train), training.batch_size, training.seed)

    def load(step: int) -> Batch:
        return train.read(positions_of(step))

    def loss(batch: Batch) -> dict[str, Tensor]:
        drawn = augment.draw(training.augment, len(batch["images"]), stored, size, device)
        return {
            "loss": classification_loss(model(augment.apply(drawn, batch["images"], size)), batch["labels"])
        }

    def validate() -> dict[str, float]:
        logits = predict(model, val, settings, size, device)
        value = float(classification_loss(logits, torch.from_numpy(val.labels)))
        each = auc(val.labels, probabilities(logits, len(val.classes)))
        mean = float(np.nanmean(each)) if not np.isnan(each).all() else None
        return {
            "loss": value,
            "auc": -1.0 if mean is None else mean,
            "score": -value if mean is None else mean,
        }

    return Task(
        module=model,
        keep=model,
        load=load,
        loss=loss,
        validate=validate,
        epoch_steps=len(train) // min(training.batch_size, len(train)),
        items=lambda step: train.rows[positions_of(step)].tolist(),
        rates={"head.": training.optimiser.head_lr or training.optimiser.lr},
    )


def prediction_frame(data: LabelledImages, logits: Tensor, split: str) -> pd.DataFrame:
    """Rows of predictions.parquet: split, image_id, patient_id, labels as 0/1, scores in [0, 1]."""
    columns = {"split": split, "image_id": data.frame["image_id"], "patient_id": data.frame["patient_id"]}
    columns |= {
        LABEL + name: data.labels[:, place].astype(np.int8) for place, name in enumerate(data.classes)
    }
    scores = probabilities(logits, len(data.classes))
    columns |= {SCORE + name: scores[:, place] for place, name in enumerate(data.classes)}
    return pd.DataFrame(columns)
