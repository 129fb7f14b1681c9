"""Restoration: the objective of every method that restores distorted radiographs.

Model Genesis, Context Restoration and TransVW differ in how they distort and share all else, so that their comparison
is about the distortion alone. The decoder reads the fused tokens: with plain patch tokens the aggregation output, which
the classifier uses, would get no gradient from the last block.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from refers.errors import UserError
from refers.model.restoration_decoder import RestorationDecoder
from refers.model.vit import Encoder, Features
from refers.training import distributed
from refers.training.augment import MEAN, STD
from refers.training.task import Batch, PretrainingObjective


class Restoration(PretrainingObjective):
    """Encoder, decoder and mean squared error over all pixels between the restored and the clean image.

    `distort` maps images (B, 1, S, S) in [0, 1] to the same shape and does not change its input. The error on the changed
    pixels alone is logged beside the loss, since most pixels are mere copies.

    Raises:
        UserError: the encoder's tokens are not a square grid of equal cells of the image.
    """

    unit = "image"
    sharded = True

    def __init__(self, encoder: Encoder, width: int, distort: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.encoder, self.distort = encoder, distort
        size, grid = encoder.settings.image_size, encoder.grid
        if not grid or size % grid:
            wrong = f"{size} pixels are not a multiple of the {grid} x {grid} tokens"
            wrong = wrong if grid else "its tokens are not a square grid"
            raise UserError(f"model: {wrong}; restoration needs another image_size or encoder")
        self.decoder = RestorationDecoder(encoder.token_width, grid, size // grid, width)

    def restoration(self, images: Tensor) -> tuple[dict[str, Tensor], Features]:
        """Losses of normalised images (B, 1, S, S), and the encoder's features of this rank's distorted ones."""
        clean = images * STD + MEAN
        with torch.no_grad():
            distorted = self.distort(clean)
            changed = distorted != clean
        clean, distorted, changed = distributed.local_shard(clean, distorted, changed)
        features = self.encoder((distorted - MEAN) / STD)
        error = (self.decoder(features.tokens).float() - clean).square()
        count = changed.sum()
        changes = distributed.weighted_mean((error * changed).sum() / count.clamp(min=1), count)
        return {"loss": distributed.weighted_mean(error.mean(), len(error)), "changed": changes}, features

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return self.restoration(batch["images"])[0]

    def trivial_loss(self, batches: Iterable[Batch]) -> float:
        """Error of the best constant grey image: the variance of all pixels."""
        count = total = squares = 0.0
        for batch in batches:
            clean = batch["images"].double() * STD + MEAN
            count += clean.numel()
            total, squares = total + clean.sum(), squares + clean.square().sum()
        return float(squares / count - (total / count) ** 2)
