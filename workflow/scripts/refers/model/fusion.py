"""View fusion: one feature for a study out of the features of its three views (paper §4.2, Figure 1c)."""

from typing import NamedTuple

import torch
from torch import Tensor, nn


class FusedViews(NamedTuple):
    """Studies out of their views: features (B, 1, V * F), v^k of the paper; memory (B, M, D), the decoder's; weights of views.

    Without fusion there are V features of a study, (B, V, F), and as many memories, (B * V, N, D).
    """

    feature: Tensor
    memory: Tensor
    weights: Tensor


class ViewFusion(nn.Module):
    """Attention over views as the paper describes it.

    The views' features are concatenated, a two-layer perceptron gives one logit per view, a softmax over views turns
    them into weights, and the weighted features, concatenated, are v^k. The same weights scale each view's tokens,
    which together are the decoder's memory.
    """

    def __init__(self, views: int, feature_width: int, hidden: int) -> None:
        super().__init__()
        self.score = nn.Sequential(
            nn.Linear(views * feature_width, hidden), nn.ReLU(), nn.Linear(hidden, views)
        )

    def forward(self, features: Tensor, tokens: Tensor) -> FusedViews:
        """features (B, V, F), tokens (B, V, N, D) -> `FusedViews` with weights (B, V) and memory (B, V * N, D)."""
        weights = self.score(features.flatten(1)).softmax(-1).to(features.dtype)
        feature = (weights.unsqueeze(-1) * features).flatten(1)
        memory = (weights[..., None, None] * tokens).flatten(1, 2)
        return FusedViews(feature.unsqueeze(1), memory, weights)


class PatchFusion(nn.Module):
    """Attention over views as the released code has it.

    For each patch position the views' tokens are concatenated, and each view has its own linear layer and sigmoid: no
    softmax, no hidden layer. The study's feature is the plain concatenation of the views' features.
    """

    def __init__(self, views: int, token_width: int) -> None:
        super().__init__()
        self.score = nn.Linear(views * token_width, views)

    def forward(self, features: Tensor, tokens: Tensor) -> FusedViews:
        """features (B, V, F), tokens (B, V, N, D) -> `FusedViews` with weights (B, V, N) and memory (B, V * N, D)."""
        together = tokens.permute(0, 2, 1, 3).flatten(2)
        weights = self.score(together).sigmoid().transpose(1, 2).to(tokens.dtype)
        memory = (weights.unsqueeze(-1) * tokens).flatten(1, 2)
        return FusedViews(features.flatten(1).unsqueeze(1), memory, weights)


class NoFusion(nn.Module):
    """Ablation row 3: every view by itself; features and tokens pass through."""

    def forward(self, features: Tensor, tokens: Tensor) -> FusedViews:
        """features (B, V, F), tokens (B, V, N, D) -> `FusedViews` with unit weights."""
        return FusedViews(features, tokens.flatten(0, 1), torch.ones_like(features[..., 0]))
