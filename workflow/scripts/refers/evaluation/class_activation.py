"""Class activation maps of a fine-tuned classifier (paper, Figure 3; Zhou et al., CVPR 2016).

The image's feature is the mean of its tokens and the classifier is linear, so the score of a class is the mean over the
tokens of w . token + b: the map of these is exact, not an approximation.
"""

from pathlib import Path

import torch
from torch import Tensor

from refers.errors import UserError
from refers.model import classifier
from refers.model.classifier import Classifier, label_logits


def load_classifier(source: Path) -> Classifier:
    """The classifier at `source`, as `refers.model.classifier.load_classifier` reads it.

    Raises:
        UserError: as that; or a classifier that does not read the mean of its tokens.
    """
    model = classifier.load_classifier(source)
    if getattr(model.settings, "classifier", "mean") != "mean":
        raise UserError(
            f"{source}: this classifier reads the aggregation output alone and has no class activation map; set classifier: mean"
        )
    return model


@torch.no_grad()
def class_activation(model: Classifier, images: Tensor) -> Tensor:
    """Evidence of every class at every token: images (B, 1, S, S) -> (B, C, n, n), whose mean over n x n is the logit.

    Where a binary classifier has two logits, its single map is their difference.

    Raises:
        UserError: the feature is not the mean of the tokens, as in networks of timm that normalise it or read a token.
    """
    tokens, pooled, _ = model.encoder(images)
    mean = tokens.mean(1)
    if mean.shape != pooled.shape or (mean - pooled).norm() > 1e-3 * pooled.norm():
        raise UserError(
            "this encoder's feature is not the mean of its tokens, so there is no class activation map; name another method"
        )
    evidence = model.head(tokens).transpose(1, 2)
    evidence = label_logits(evidence, model.classes)
    side = round(evidence.shape[2] ** 0.5)
    return evidence.unflatten(2, (side, side)).float()
