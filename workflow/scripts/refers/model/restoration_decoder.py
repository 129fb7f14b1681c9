"""The decoder that every restoration method shares: an encoder's tokens back to an image."""

from torch import Tensor, nn


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
