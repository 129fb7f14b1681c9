"""Encoders by their settings: every architecture that a method can pre-train or a classifier can start from."""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from refers import config
from refers.errors import UserError, first_line
from refers.model.encoder_file import load_strictly, read_encoder
from refers.model.vit import Encoder, Features, RadiographTransformer


class ResidualNetwork(Encoder):
    """torchvision's ResNet on grey images (B, 1, S, S): tokens are the cells of the last map, the feature is their mean."""

    def __init__(self, settings: config.ResNet) -> None:
        super().__init__()
        # slow to import, so only where it is needed
        from torchvision.models import get_model

        self.settings = settings
        network: Any = get_model(settings.architecture, weights=None)
        self.grid = math.ceil(settings.image_size / 32)
        self.token_width = self.feature_width = self.width = network.fc.in_features
        network.conv1 = nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
        network.fc = nn.Identity()
        self.network = network

    def forward(self, images: Tensor) -> Features:
        network = self.network
        x = network.maxpool(network.relu(network.bn1(network.conv1(images))))
        for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
            x = stage(x)
        tokens = x.flatten(2).transpose(1, 2)
        pooled = tokens.mean(1)
        return Features(tokens, pooled, pooled)


class TimmNetwork(Encoder):
    """A network of timm on grey images (B, 1, S, S): cells of its last map, or patch tokens, and its own pooled feature.

    Raises:
        UserError: timm has no such network, or it does not turn such images into one map or one sequence of tokens.
    """

    def __init__(self, settings: config.Timm) -> None:
        super().__init__()
        import timm

        if not timm.is_model(settings.name):
            near = ", ".join(timm.list_models(f"*{settings.name.split('_')[0]}*")[:4]) or "timm.list_models()"
            raise UserError(f"model.name: timm has no network {settings.name!r}; it has {near}")
        fixed = getattr(timm.get_pretrained_cfg(settings.name), "fixed_input_size", False)
        sizes: dict[str, Any] = {"img_size": settings.image_size} if fixed else {}
        self.settings = settings
        try:
            network: Any = timm.create_model(settings.name, num_classes=0, in_chans=1, **sizes)
            self.network = network
            self.token_width, self.feature_width = network.num_features, network.head_hidden_size
            self.width = self.token_width
            tokens, pooled = self._shapes()
        except Exception as error:
            # timm's networks each raise errors of their own.
            raise UserError(
                f"model.name: {settings.name} does not take grey images of {settings.image_size} pixels"
                f" ({first_line(error)}); choose another image_size or network"
            ) from None
        if len(tokens) != 3 or (tokens[2], pooled) != (self.token_width, (1, self.feature_width)):
            wrong = "gives neither one map nor one sequence of tokens"
            raise UserError(f"model.name: {settings.name} {wrong}; choose another network")
        side = math.isqrt(tokens[1])
        self.grid = side if side**2 == tokens[1] else 0

    @torch.no_grad()
    def _shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Shapes of the tokens and of the pooled feature of one blank image; weights and statistics stay as they are."""
        size = self.settings.image_size
        found = self.eval()(torch.zeros(1, 1, size, size))
        self.train()
        return tuple(found.tokens.shape), tuple(found.pooled.shape)

    def forward(self, images: Tensor) -> Features:
        last = self.network.forward_features(images)
        pooled = self.network.forward_head(last, pre_logits=True)
        if last.ndim == 3:
            tokens = last[:, getattr(self.network, "num_prefix_tokens", 0) :]
        else:
            # Convolutional networks keep channels first, some transformers keep them last.
            last = last if last.shape[1] == self.token_width else last.permute(0, 3, 1, 2)
            tokens = last.flatten(2).transpose(1, 2)
        return Features(tokens, pooled, pooled)


def build_encoder(settings: config.Model) -> Encoder:
    """A randomly initialised encoder of these settings."""
    if isinstance(settings, config.ResNet):
        return ResidualNetwork(settings)
    return TimmNetwork(settings) if isinstance(settings, config.Timm) else RadiographTransformer(settings)


def load_encoder(source: Path) -> tuple[Encoder, dict]:
    """The encoder at `source`, rebuilt from the settings in its metadata, and `about`, its origin."""
    tensors, settings, about = read_encoder(source)
    encoder = build_encoder(config.load_model(settings, str(source)))
    load_strictly(encoder, tensors, str(source))
    return encoder, about
