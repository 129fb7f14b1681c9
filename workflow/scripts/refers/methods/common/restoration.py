"""Restoration: one decoder and one loss for every method that repairs distorted radiographs.

Model Genesis, Context Restoration and TransVW differ in how they distort; what they share is here, so that their
comparison is about the distortion alone. The decoder reads the fused tokens: with plain patch tokens the aggregation
output, which the classifier uses, would get no gradient from the last block.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from refers.errors import UserError
from refers.model.vit import Features
from refers.training import distributed
from refers.training.augment import MEAN, STD


class RestorationDecoder(nn.Module):
    """Fused tokens (B, N, D) -> grey image in [0, 1] (B, 1, S, S).

    A 1 x 1 convolution to `width`, then a 2 x 2 transposed convolution and a 3 x 3 convolution for each doubling up to
    the patch size, halving the channels (rounded down to a multiple of four, at least eight); what a patch size is more
    than a power of two, the last stage enlarges by. No skip connections: they would let copying bypass the last blocks.
    Width 0 is the lightest decoder: one linear map from a token to its pixels.
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


class Restoration(nn.Module):
    """Encoder, decoder and mean squared error over all pixels between the restored and the clean image.

    A subclass's file gives `distort`, (B, 1, S, S) in [0, 1] -> the same shape, which leaves its input as it was. The
    error on the changed pixels alone is logged beside the loss, since most pixels are mere copies.

    Raises:
        UserError: the encoder's tokens are no square grid of equal cells of the image.
    """

    unit = "image"

    def __init__(self, encoder: nn.Module, width: int, distort: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.encoder, self.distort = encoder, distort
        size, grid = encoder.settings.image_size, encoder.grid
        if not grid or size % grid:
            cells = f"{grid} x {grid} tokens" if grid else "tokens that are no square grid"
            raise UserError(
                f"model: {size} pixels a side and {cells} do not divide; restoration needs another image_size or encoder"
            )
        self.decoder = RestorationDecoder(encoder.token_width, grid, size // grid, width)

    def restoration(self, images: Tensor) -> tuple[dict[str, Tensor], Features]:
        """Losses of normalised images (B, 1, S, S), and the features of what became of this process's share of them."""
        clean = images * STD + MEAN
        with torch.no_grad():
            distorted = self.distort(clean)
            changed = distorted != clean
        clean, distorted, changed = distributed.share(clean, distorted, changed)
        features = self.encoder((distorted - MEAN) / STD)
        error = (self.decoder(features.tokens).float() - clean).square()
        count = changed.sum()
        changes = distributed.balance((error * changed).sum() / count.clamp(min=1), count)
        return {"loss": error.mean(), "changed": changes}, features

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return self.restoration(batch["images"])[0]
