"""Encoders by their settings: every architecture that a method may pre-train or a classifier may start from."""

from pathlib import Path

from torch import nn

from refers import config
from refers.checkpoint import load_strictly, read_encoder
from refers.vit import RadiographTransformer


def build_encoder(settings: config.Transformer) -> nn.Module:
    """A randomly initialised encoder: (B, 1, S, S) -> `refers.vit.Features`.

    It carries `settings`, `width`, `token_width` and `feature_width`.
    """
    return RadiographTransformer(settings)


def load_encoder(source: Path) -> tuple[nn.Module, dict]:
    """The encoder at `source`, rebuilt from the settings it carries, and what its file says about itself."""
    tensors, settings, about = read_encoder(source)
    encoder = build_encoder(config.load(config.Transformer, settings, str(source)))
    load_strictly(encoder, tensors, str(source))
    return encoder, about
