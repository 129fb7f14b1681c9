"""The radiograph transformer: a vision transformer with recurrent concatenation (paper §4.1)."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from refers import config
from refers.model.layers import IMAGENET, Dropout, InputChannels, Perceptron, SelfAttention


class Features(NamedTuple):
    """An encoder's output for a batch of B images.

    tokens: (B, N, token_width), one per patch in row-major order; pooled: (B, feature_width), the image's feature;
    aggregation: (B, width), the aggregation embedding's output g, or the pooled feature where there is none.
    """

    tokens: Tensor
    pooled: Tensor
    aggregation: Tensor


class Encoder(nn.Module):
    """Base of encoders: grey images (B, 1, S, S) of mean and deviation 0.5 -> `Features`.

    Attributes:
        settings: the `config.Model` from which `refers.model.encoders.build_encoder` builds it again.
        channels: the channels of the image that it computes with.
        width, token_width, feature_width: of the aggregation output, of a token and of the pooled feature.
        grid: tokens along a side; 0: they are not a square.
    """

    settings: Any
    channels: InputChannels
    width: int
    token_width: int
    feature_width: int
    grid: int


class Block(nn.Module):
    """Pre-norm self-attention block."""

    def __init__(self, settings: config.Transformer) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(settings.width, eps=1e-6)
        self.attention = SelfAttention(settings.width, settings.heads)
        self.norm2 = nn.LayerNorm(settings.width, eps=1e-6)
        sizes, dropout = (settings.width, settings.mlp_width), settings.dropout
        self.mlp = Perceptron(*sizes, settings.activation, inner=dropout, outer=dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class RadiographTransformer(Encoder):
    """Grey images (B, 1, S, S) -> `Features`.

    Patches are embedded linearly, combined with their position feature (concatenated and projected back, or added) and
    passed through the pre-norm blocks together with the aggregation embedding. After the last block every patch output p
    is fused with the aggregation output g: [g; p] (`concat`), p + g (`add`) or p (`none`).

    Patches are not padded, so a patch kernel over three normalised channels of a grey image folds into one over the grey
    image with the same embedding, which is how three-channel checkpoints are imported; the sum of a class token and its
    position is the aggregation embedding. With `channels: 3` and `class_position` they stay apart: the same functions, whose
    sums then move three times and twice as far in a step, and whose gradients count one by one where norms are clipped.
    """

    def __init__(self, settings: config.Transformer) -> None:
        super().__init__()
        self.settings = settings
        width, patch = settings.width, settings.patch_size
        self.grid = settings.image_size // patch
        self.channels = InputChannels(IMAGENET if settings.channels == 3 else None)
        self.patch = nn.Linear(settings.channels * patch * patch, width)
        self.position = nn.Parameter(torch.empty(self.grid**2, width))
        self.mix = nn.Linear(2 * width, width) if settings.position == "concat" else nn.Identity()
        self.aggregation = nn.Parameter(torch.zeros(width))
        self.aggregation_position = nn.Parameter(torch.empty(width)) if settings.class_position else None
        self.dropout = Dropout(settings.dropout)
        self.blocks = nn.ModuleList(Block(settings) for _ in range(settings.depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.token_width = 2 * width if settings.aggregation == "concat" else width
        self.feature_width = self.token_width if settings.classifier == "mean" else width
        self.width = width
        self.reset()

    def reset(self) -> None:
        """Initialise: aggregation embedding zero and positions random (paper §4.2), Xavier-uniform weights (code)."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.position, std=0.02)
        if self.aggregation_position is not None:
            nn.init.normal_(self.aggregation_position, std=0.02)

    def embed(self, images: Tensor) -> Tensor:
        """Patch tokens with their positions, the input of the blocks: (B, 1, S, S) -> (B, N, width)."""
        batch, _, size, _ = images.shape
        patch = self.settings.patch_size
        if size != self.settings.image_size:
            raise ValueError(f"the transformer takes {self.settings.image_size} pixels a side, found {size}")
        cells = self.channels(images).view(batch, -1, self.grid, patch, self.grid, patch)
        tokens = self.patch(cells.permute(0, 2, 4, 1, 3, 5).reshape(batch, self.grid**2, -1))
        if isinstance(self.mix, nn.Identity):
            return tokens + self.position
        # A linear map of [x; e] is W_x x + W_e e: the position half is the same for every image, so it is computed once.
        weight_x, weight_e = self.mix.weight.split(self.width, dim=1)
        position = nn.functional.linear(self.position, weight_e)
        return nn.functional.linear(tokens, weight_x, self.mix.bias) + position

    def forward(self, images: Tensor) -> Features:
        patches = self.embed(images)
        aggregation = self.aggregation
        if self.aggregation_position is not None:
            aggregation = aggregation + self.aggregation_position
        aggregation = aggregation.to(patches.dtype).expand(len(patches), 1, -1)
        x = self.dropout(torch.cat([aggregation, patches], dim=1))
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        g, p = x[:, 0], x[:, 1:]
        if self.settings.aggregation == "concat":
            tokens = torch.cat([g.unsqueeze(1).expand_as(p), p], dim=2)
        elif self.settings.aggregation == "add":
            tokens = p + g.unsqueeze(1)
        else:
            tokens = p
        pooled = tokens.mean(1) if self.settings.classifier == "mean" else g
        return Features(tokens, pooled, g)
