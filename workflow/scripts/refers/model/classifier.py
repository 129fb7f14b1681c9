"""A classifier on top of an encoder, its loss and its scores (paper §4, training and testing methodologies)."""

from pathlib import Path

import numpy as np
from torch import Tensor, nn
from torch.nn import functional as F

from refers import config
from refers.errors import UserError
from refers.model.encoder_file import load_strictly, read_encoder
from refers.model.encoders import build_encoder
from refers.model.layers import Dropout
from refers.model.vit import Encoder


class Classifier(nn.Module):
    """Encoder and one linear layer: (B, 1, S, S) -> logits (B, C) of C labels, or (B, `binary_logits`) of a single one."""

    def __init__(self, encoder: Encoder, classes: int, dropout: float, binary_logits: int = 2) -> None:
        super().__init__()
        self.encoder, self.settings, self.classes = encoder, encoder.settings, classes
        self.dropout = Dropout(dropout)
        self.head = nn.Linear(encoder.feature_width, binary_logits if classes == 1 else classes)
        nn.init.zeros_(self.head.bias)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.dropout(self.encoder(images).pooled))


def load_classifier(source: Path) -> Classifier:
    """The classifier at `source`, rebuilt from the settings it carries, for evaluation.

    Raises:
        UserError: no such file, or no classifier of this pipeline.
    """
    tensors, settings, about = read_encoder(source)
    if type(about.get("classes")) is not int:
        raise UserError(f"{source}: an encoder, not a classifier; delete it and rerun finetune.py --keep")
    encoder = build_encoder(config.load_model(settings, str(source)))
    logits = len(tensors["head.bias"]) if "head.bias" in tensors else 2
    model = Classifier(encoder, about["classes"], 0.0, logits)
    load_strictly(model, tensors, str(source))
    return model.eval()


def classification_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean binary cross-entropy of as many logits (B, C) as labels of 0 and 1; cross-entropy of two logits for one label."""
    if logits.shape[1] == 2 > labels.shape[1]:
        return F.cross_entropy(logits.float(), labels[:, 0].long())
    return F.binary_cross_entropy_with_logits(logits.float(), labels)


def probabilities(logits: Tensor, classes: int) -> np.ndarray:
    """Scores (B, classes) in [0, 1] from logits; in float64, so that confident ones keep their order."""
    return label_logits(logits.detach().cpu().double(), classes).sigmoid().numpy()


def label_logits(logits: Tensor, classes: int) -> Tensor:
    """A logit per label (B, classes, ...) from a classifier's: of two for a single label, their difference."""
    return logits[:, 1:] - logits[:, :1] if logits.shape[1] > classes else logits
