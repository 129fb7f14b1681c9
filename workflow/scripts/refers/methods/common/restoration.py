"""Restoration: the objective of every method that restores distorted radiographs.

Model Genesis, Context Restoration and TransVW differ in how they distort and share all else, so that their comparison
is about the distortion alone. The decoder reads the fused tokens: with plain patch tokens the aggregation output, which
the classifier uses, would get no gradient from the last block.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from refers.errors import UserError
from refers.model.vit import Encoder, Features
from refers.training import distributed
from refers.training.augment import MEAN, STD
from refers.training.task import Batch, PretrainingObjective


class RestorationDecoder(nn.Module):
    """Fused tokens (B, N, D) -> grey image in [0, 1] (B, 1, S, S).

    A 1 x 1 convolution to `width`, then a 2 x 2 transposed convolution and a 3 x 3 convolution for each doubling up to
    the patch size, halving the channels (rounded down to a multiple of four, at least eight); the last stage enlarges by
    the patch size's odd factor. No skip connections: they would let copying bypass the last blocks. Width 0 is the
    lightest decoder: one linear map from a token to its pixels.
    """

    def __init__(self, token_width: int, grid: int, scale: int, width: int = 768) -> None:
        super().__init__()
        self.grid = grid
        if not width:
            self.stages = nn.Sequential(nn.Conv2d(token_width, scale**2, 1), nn.PixelShuffle(scale))
            return
        stages: list[nn.Module] = [nn.Conv2d(token_width, width, 1)]
        while scale > 1:
            half, factor = max(width // 8 * 4, 8), 2 if scale % 2 == 0 else scale
            stages += [nn.ConvTranspose2d(width, half, factor, stride=factor)]
            stages += [nn.Conv2d(half, half, 3, padding=1), nn.GroupNorm(4, half), nn.ReLU(inplace=True)]
            scale //= factor
            width = half
        self.stages = nn.Sequential(*stages, nn.Conv2d(width, 1, 1))

    def forward(self, tokens: Tensor) -> Tensor:
        cells = tokens.transpose(1, 2).unflatten(2, (self.grid, self.grid))
        return self.stages(cells).sigmoid()


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
            distorted = distributed.once(lambda: self.distort(clean))
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
