"""A classifier on top of an encoder, its loss and its scores (paper §4, training and testing methodologies)."""

import numpy as np
from torch import Tensor, nn
from torch.nn import functional as F

from refers.model.layers import Dropout
from refers.model.vit import Encoder


class Classifier(nn.Module):
    """Encoder and one linear layer: (B, 1, S, S) -> logits (B, C) of C labels, or (B, 2) of a single one."""

    def __init__(self, encoder: Encoder, classes: int, dropout: float) -> None:
        super().__init__()
        self.encoder, self.settings = encoder, encoder.settings
        self.dropout = Dropout(dropout)
        self.head = nn.Linear(encoder.feature_width, 2 if classes == 1 else classes)
        nn.init.zeros_(self.head.bias)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.dropout(self.encoder(images).pooled))


def classification_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy over two classes for one label, mean binary cross-entropy for several; labels (B, C) of 0 and 1."""
    if labels.shape[1] == 1:
        return F.cross_entropy(logits.float(), labels[:, 0].long())
    return F.binary_cross_entropy_with_logits(logits.float(), labels)


def probabilities(logits: Tensor, classes: int) -> np.ndarray:
    """Scores (B, classes) in [0, 1] from logits; in float64, so that confident ones keep their order."""
    logits = logits.detach().cpu().double()
    if classes == 1:
        return (logits[:, 1:] - logits[:, :1]).sigmoid().numpy()
    return logits.sigmoid().numpy()
