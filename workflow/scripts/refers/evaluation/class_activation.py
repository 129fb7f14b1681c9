"""Class activation maps of a fine-tuned classifier (paper, Figure 3; Zhou et al., CVPR 2016).

The image's feature is the mean of its tokens and the classifier is linear, so the score of a class is the mean over the
tokens of w . token + b: the map of these is exact, not an approximation.
"""

from pathlib import Path

import torch
from torch import Tensor

from refers import config
from refers.errors import UserError
from refers.model.classifier import Classifier, label_logits
from refers.model.encoder_file import load_strictly, read_encoder
from refers.model.encoders import build_encoder


def load_classifier(source: Path) -> Classifier:
    """The classifier at `source`, rebuilt from the settings it carries.

    Raises:
        UserError: no such file, no classifier of this pipeline, or a classifier that does not read the mean of its tokens.
    """
    tensors, settings, about = read_encoder(source)
    if type(about.get("classes")) is not int:
        raise UserError(f"{source}: an encoder, not a classifier; delete it and rerun finetune.py --keep")
    encoder = build_encoder(config.load_model(settings, str(source)))
    if getattr(encoder.settings, "classifier", "mean") != "mean":
        raise UserError(
            f"{source}: this classifier reads the aggregation output alone and has no class activation map; set classifier: mean"
        )
    logits = len(tensors["head.bias"]) if "head.bias" in tensors else 2
    model = Classifier(encoder, about["classes"], 0.0, logits)
    load_strictly(model, tensors, str(source))
    return model.eval()


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
