"""Encoders by their settings: every architecture that a method can pre-train or a classifier can start from."""

import difflib
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from refers import config
from refers.errors import UserError, first_line
from refers.model.encoder_file import load_strictly, read_encoder
from refers.model.layers import InputChannels
from refers.model.vit import Encoder, Features, RadiographTransformer


class ResidualNetwork(Encoder):
    """torchvision's ResNet on grey images (B, 1, S, S): tokens are the cells of the last map, the feature is their mean.

    With `settings.input` it takes that input's channels of the image.
    """

    def __init__(self, settings: config.ResNet) -> None:
        super().__init__()
        # slow to import, so only where it is needed
        from torchvision.models import get_model

        self.settings, self.channels = settings, InputChannels(settings.input)
        network: Any = get_model(settings.architecture, weights=None)
        self.grid = math.ceil(settings.image_size / 32)
        self.token_width = self.feature_width = self.width = network.fc.in_features
        network.conv1 = nn.Conv2d(self.channels.count, 64, kernel_size=7, stride=2, padding=3, bias=False)
        network.fc = nn.Identity()
        self.network = network

    def forward(self, images: Tensor) -> Features:
        network = self.network
        x = network.maxpool(network.relu(network.bn1(network.conv1(self.channels(images)))))
        for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
            x = stage(x)
        tokens = x.flatten(2).transpose(1, 2)
        pooled = tokens.mean(1)
        return Features(tokens, pooled, pooled)


class TimmNetwork(Encoder):
    """A network of timm on grey images (B, 1, S, S): cells of its last map, or patch tokens, and its own pooled feature.

    With `settings.input` it takes that input's channels of the image.

    Raises:
        UserError: timm has no such network, or it does not turn such images into one map or one sequence of tokens.
    """

    def __init__(self, settings: config.Timm) -> None:
        super().__init__()
        import timm

        self.settings, self.channels = settings, InputChannels(settings.input)
        options = timm_options(settings)
        try:
            network: Any = timm.create_model(
                settings.name, num_classes=0, in_chans=self.channels.count, **options
            )
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
        last = self.network.forward_features(self.channels(images))
        pooled = self.network.forward_head(last, pre_logits=True)
        if last.ndim == 3:
            tokens = last[:, getattr(self.network, "num_prefix_tokens", 0) :]
        else:
            # Convolutional networks keep channels first, some transformers keep them last.
            last = last if last.shape[1] == self.token_width else last.permute(0, 3, 1, 2)
            tokens = last.flatten(2).transpose(1, 2)
        return Features(tokens, pooled, pooled)


def pretrained_cfg(name: str) -> dict[str, Any]:
    """What timm says about the weights of a network: input size, mean, deviation.

    Raises:
        UserError: timm has no such network, or the network no weights of the tag behind its name.
    """
    import timm

    if not timm.is_model(name):
        near = ", ".join(difflib.get_close_matches(name, timm.list_models(), n=4)) or "timm.list_models()"
        raise UserError(f"model.name: timm has no network {name!r}; it has {near}")
    try:
        found = timm.get_pretrained_cfg(name)
        return found.to_dict() if found else {}
    except RuntimeError as error:
        raise UserError(f"model.name: {name}: {first_line(error)}") from None


def size_option(name: str, size: int) -> dict[str, Any]:
    """The option by which a network of timm is made for images of `size` pixels; nothing where it takes any size."""
    return {"img_size": size} if pretrained_cfg(name).get("fixed_input_size") else {}


def timm_options(settings: config.Timm) -> dict[str, Any]:
    """The options with which timm makes a network: those of the settings, and the size of its images where it has one."""
    return settings.options | size_option(settings.name, settings.image_size)


def build_encoder(settings: config.Model) -> Encoder:
    """A randomly initialised encoder of these settings."""
    if isinstance(settings, config.ResNet):
        return ResidualNetwork(settings)
    return TimmNetwork(settings) if isinstance(settings, config.Timm) else RadiographTransformer(settings)


def load_encoder(source: str | Path) -> tuple[Encoder, dict]:
    """The encoder at `source`, rebuilt from the settings in its metadata, and `about`, its origin."""
    tensors, settings, about = read_encoder(source)
    encoder = build_encoder(config.load_model(settings, str(source)))
    load_strictly(encoder, tensors, str(source))
    return encoder, about
