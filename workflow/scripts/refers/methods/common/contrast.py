"""Contrasts between feature vectors, in fp32 whatever precision the networks around them run in.

A cosine of 1 over a temperature of 0.07 is a logit of 14, which bf16 rounds to sixteenths.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def similarity(rows: Tensor, columns: Tensor) -> Tensor:
    """Inner products of every row with every column's vector, (N, D) and (M, D) -> (N, M), fp32 inside autocast too."""
    with torch.autocast(rows.device.type, enabled=False):
        return rows.float() @ columns.float().T


def contrastive_loss(queries: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """Equation 2 of the paper, averaged over the batch: each query's own key against all keys, by cosine over temperature.

    queries and keys (B, D): matching rows are pairs, and the other keys of the batch are the negatives.
    """
    logits = similarity(F.normalize(queries.float(), dim=1), F.normalize(keys.float(), dim=1)) / temperature
    return F.cross_entropy(logits, torch.arange(len(queries), device=queries.device))
