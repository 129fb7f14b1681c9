"""Encoders by their settings: every architecture that a method may pre-train or a classifier may start from."""

from pathlib import Path

from torch import Tensor, nn

from refers import config
from refers.checkpoint import load_strictly, read_encoder
from refers.errors import UserError
from refers.vit import Features, RadiographTransformer


class ResidualNetwork(nn.Module):
    """torchvision's ResNet on grey images (B, 1, S, S): tokens are the last map's cells, the feature is their mean."""

    def __init__(self, settings: config.ResNet) -> None:
        super().__init__()
        from torchvision.models import get_model  # slow to import, so only where it is needed

        self.settings = settings
        network = get_model(settings.architecture, weights=None)
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


class TimmNetwork(nn.Module):
    """A network of timm on grey images (B, 1, S, S): its last map's cells or its patch tokens, and its own pooled feature."""

    def __init__(self, settings: config.Timm) -> None:
        super().__init__()
        import timm

        if not timm.is_model(settings.name):
            near = ", ".join(timm.list_models(f"*{settings.name.split('_')[0]}*")[:4]) or "timm.list_models()"
            raise UserError(f"model.name: timm has no network {settings.name!r}; it has {near}")
        fixed = timm.get_pretrained_cfg(settings.name).fixed_input_size
        sizes = {"img_size": settings.image_size} if fixed else {}
        self.settings = settings
        self.network = timm.create_model(settings.name, pretrained=False, num_classes=0, in_chans=1, **sizes)
        self.token_width = self.width = self.network.num_features
        self.feature_width = self.network.head_hidden_size

    def forward(self, images: Tensor) -> Features:
        last = self.network.forward_features(images)
        pooled = self.network.forward_head(last, pre_logits=True)
        if last.ndim == 3:
            tokens = last[:, getattr(self.network, "num_prefix_tokens", 0) :]
        else:  # convolutions keep channels first, some transformers keep them last
            last = last if last.shape[1] == self.token_width else last.permute(0, 3, 1, 2)
            tokens = last.flatten(2).transpose(1, 2)
        return Features(tokens, pooled, pooled)


KINDS = {config.Transformer: RadiographTransformer, config.ResNet: ResidualNetwork, config.Timm: TimmNetwork}


def build_encoder(settings: config.Model) -> nn.Module:
    """A randomly initialised encoder: (B, 1, S, S) -> `refers.vit.Features`.

    It carries `settings`, `width`, `token_width` and `feature_width`.
    """
    return KINDS[type(settings)](settings)


def load_encoder(source: Path) -> tuple[nn.Module, dict]:
    """The encoder at `source`, rebuilt from the settings it carries, and what its file says about itself."""
    tensors, settings, about = read_encoder(source)
    encoder = build_encoder(config.load_model(settings, str(source)))
    load_strictly(encoder, tensors, str(source))
    return encoder, about
