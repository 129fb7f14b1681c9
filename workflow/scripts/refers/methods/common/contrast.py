"""Contrasts between feature vectors, in fp32 whatever the precision of the networks.

A cosine of 1 over a temperature of 0.07 is a logit of 14, which bf16 rounds to sixteenths.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def similarity(rows: Tensor, columns: Tensor) -> Tensor:
    """Inner products of all pairs of rows, (N, D) and (M, D) -> (N, M), in fp32 inside autocast too."""
    with torch.autocast(rows.device.type, enabled=False):
        return rows.float() @ columns.float().T


def contrastive_loss(queries: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """Equation 2 of the paper, averaged over the batch: InfoNCE of cosines over the temperature.

    queries and keys (B, D): matching rows are pairs, the other keys of the batch are the negatives.
    """
    logits = similarity(F.normalize(queries.float(), dim=1), F.normalize(keys.float(), dim=1)) / temperature
    return F.cross_entropy(logits, torch.arange(len(queries), device=queries.device))


def chance_loss(sizes: Sequence[int]) -> float:
    """Equation 2 with equal logits, log(batch), averaged over the items of batches of these sizes."""
    return sum(size * math.log(size) for size in sizes) / sum(sizes)
