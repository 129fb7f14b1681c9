"""Building blocks shared by encoders and decoders, and the input that every encoder is given."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from refers.config import InputStatistics

# The one normalisation of every image. Weights that were trained with another one are adapted to it on import.
MEAN, STD = 0.5, 0.5
# of the authors' code and of torchvision's weights
IMAGENET = InputStatistics(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


class InputChannels(nn.Module):
    """Grey images (B, 1, S, S) of mean and deviation 0.5 -> the channels (B, C, S, S) that weights were trained with.

    With v in [0, 1] and x = (v - MEAN) / STD, channel c is (v - mean_c) / std_c = scale_c * x + shift_c. Without statistics
    the image stays as it is. Nothing of this is in the state dict.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, input: InputStatistics | None) -> None:
        super().__init__()
        self.statistics = input
        pairs = zip(input.mean, input.std, strict=True) if input else [(MEAN, STD)]
        numbers = torch.tensor([(STD / std, (MEAN - mean) / std) for mean, std in pairs])
        self.count, self.identity = len(numbers), input is None
        self.register_buffer("scale", numbers[:, 0, None, None].clone(), persistent=False)
        self.register_buffer("shift", numbers[:, 1, None, None].clone(), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return images if self.identity else images * self.scale + self.shift

    def fold(self, kernel: Tensor, onto: "InputChannels | None" = None) -> tuple[Tensor, Tensor]:
        """A kernel (O, C, H, W) over these channels -> one over the channels of `onto`, and shifts (O,) of the bias.

        `onto` is the grey image, where the kernel becomes (O, 1, H, W), or as many other channels. Exact where the image is
        not padded, or where no channel is shifted.
        """
        onto = onto or InputChannels(None)
        exact, scale = kernel.detach().double(), self.scale.double() / onto.scale.double()
        shift = self.shift.double() - scale * onto.shift.double()
        weights = exact * scale
        weights = weights.sum(1, keepdim=True) if onto.count == 1 else weights
        return weights.to(kernel.dtype), (exact * shift).sum((1, 2, 3)).to(kernel.dtype)


class Dropout(nn.Module):
    """Inverted dropout. On the CPU its mask comes from random bytes.

    A Bernoulli mask costs 9 % of a pre-training step on the CPU; one random byte per element is ten times cheaper. The
    rate is then a multiple of 1/256 (0.1 becomes 26/256), and the scale uses that rate.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.p = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        if x.is_cuda:
            return F.dropout(x, self.p)
        threshold = round(self.p * 256)
        words = torch.empty((x.numel() + 7) // 8, dtype=torch.int64).random_(-(2**63), None)
        kept = words.view(torch.uint8)[: x.numel()].view(x.shape) >= threshold
        return x * (kept.to(x.dtype) * (256 / (256 - threshold)))


def attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, dropout: float = 0.0
) -> Tensor:
    """Scaled dot-product attention; (B, heads, Q, d), (B, heads, K, d), (B, heads, K, d) -> (B, heads, Q, d).

    `mask` is True where a query may attend, broadcastable to (B, heads, Q, K); `dropout` is the rate on the probabilities.
    """
    if query.is_cuda or (query.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")):
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
    # On the CPU the backward pass of the fused kernel in bfloat16 is several times slower than plain matrix products.
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return F.dropout(scores.softmax(-1).to(value.dtype), dropout) @ value


class SelfAttention(nn.Module):
    """Multi-head self-attention with one fused query-key-value projection; `dropout` is on the probabilities."""

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.dropout = heads, Dropout(dropout)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        batch, length, width = x.shape
        qkv = self.qkv(x).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        mixed = attention(query, key, value, mask, self.dropout.p if self.training else 0.0)
        return self.out(mixed.transpose(1, 2).reshape(batch, length, width))


class CrossAttention(nn.Module):
    """Multi-head attention of (B, Q, width) over a memory (B, K, width); `dropout` is on the probabilities."""

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.dropout = heads, Dropout(dropout)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        batch, length, width = x.shape
        query = self.query(x).view(batch, length, self.heads, -1).transpose(1, 2)
        both = self.key_value(memory).view(batch, memory.shape[1], 2, self.heads, -1)
        key, value = both.permute(2, 0, 3, 1, 4)
        mixed = attention(query, key, value, dropout=self.dropout.p if self.training else 0.0)
        return self.out(mixed.transpose(1, 2).reshape(batch, length, width))


class Perceptron(nn.Module):
    """Two-layer perceptron of a transformer block, with dropout after its activation (`inner`) and on its output (`outer`)."""

    def __init__(
        self, width: int, hidden: int, activation: str, inner: float = 0.0, outer: float = 0.0
    ) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)
        self.activation = {"relu": F.relu, "gelu": F.gelu}[activation]
        self.inner, self.outer = Dropout(inner), Dropout(outer)

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(self.fc2(self.inner(self.activation(self.fc1(x)))))
