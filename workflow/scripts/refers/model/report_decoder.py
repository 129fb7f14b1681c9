"""The report transformer: a causal transformer decoder over the study's tokens (paper §4.2, task 1)."""

import math

import torch
from torch import Tensor, nn

from refers.config import ReportTransformer
from refers.model.layers import CrossAttention, Dropout, Perceptron, SelfAttention


class DecoderLayer(nn.Module):
    """Post-norm decoder layer: causal self-attention, attention over the memory, perceptron."""

    def __init__(self, settings: ReportTransformer) -> None:
        super().__init__()
        width = settings.width
        self.self_attention = SelfAttention(width, settings.heads, settings.inner_dropout)
        self.cross_attention = CrossAttention(width, settings.heads, settings.inner_dropout)
        self.mlp = Perceptron(width, settings.mlp_width, settings.activation, inner=settings.inner_dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.dropout = Dropout(settings.dropout)

    def forward(self, x: Tensor, memory: Tensor, causal: Tensor) -> Tensor:
        x = self.norms[0](x + self.dropout(self.self_attention(x, causal)))
        x = self.norms[1](x + self.dropout(self.cross_attention(x, memory)))
        return self.norms[2](x + self.dropout(self.mlp(x)))


class ReportDecoder(nn.Module):
    """Previous tokens (B, T) and a memory (B, M, D) -> logits of the next token (B, T, vocabulary).

    Learned positions; input and output embeddings are tied. Padding (token 0) needs no mask: it is at the end, where the
    causal mask hides it from every real token.
    """

    norm: nn.LayerNorm | None

    def __init__(
        self, settings: ReportTransformer, vocabulary: int, max_length: int, memory_width: int
    ) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, settings.width)
        self.positions = nn.Parameter(torch.empty(max_length, settings.width))
        self.memory = nn.Linear(memory_width, settings.width)
        self.dropout = Dropout(settings.dropout)
        self.layers = nn.ModuleList(DecoderLayer(settings) for _ in range(settings.depth))
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        self.scale = math.sqrt(settings.width)
        self.norm = nn.LayerNorm(settings.width, eps=1e-8) if settings.embedding == "layer_norm" else None
        self.reset(settings.start)

    def reset(self, start: str) -> None:
        """Initialise as `decoder.start` says."""
        linears = [module for module in self.modules() if isinstance(module, nn.Linear)]
        if start == "xavier":
            for linear in linears:
                nn.init.xavier_uniform_(linear.weight)
                nn.init.zeros_(linear.bias)
            nn.init.normal_(self.words.weight, std=self.words.embedding_dim**-0.5)
            nn.init.normal_(self.positions, std=0.02)
            return
        for tensor in (self.words.weight, self.positions, *(linear.weight for linear in linears)):
            nn.init.normal_(tensor, std=0.02)
        nn.init.zeros_(self.words.weight[:1])
        # Outside attention biases keep torch's start; the output's is that of a linear map of these inputs.
        nn.init.uniform_(self.bias, -1 / self.scale, 1 / self.scale)
        attentions = [part for part in self.modules() if isinstance(part, SelfAttention | CrossAttention)]
        for linear in (part for each in attentions for part in each.modules()):
            if isinstance(linear, nn.Linear):
                nn.init.zeros_(linear.bias)

    def embed(self, tokens: Tensor) -> Tensor:
        """What the layers read: tokens (B, T) -> (B, T, width), before dropout."""
        words, positions = self.words(tokens), self.positions[: tokens.shape[1]]
        if self.norm is None:
            return words * self.scale + positions
        return self.norm(words + positions) * (tokens != 0).unsqueeze(-1)

    def hidden(self, tokens: Tensor, memory: Tensor) -> Tensor:
        """The last layer's states (B, T, width); position t attends to tokens 0 to t and to the whole memory."""
        length = tokens.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool, device=tokens.device).tril()
        memory = self.memory(memory)
        x = self.dropout(self.embed(tokens))
        for layer in self.layers:
            x = layer(x, memory, causal)
        return x

    def logits(self, hidden: Tensor) -> Tensor:
        """Vocabulary logits of states (..., width)."""
        return nn.functional.linear(hidden, self.words.weight, self.bias)

    def forward(self, tokens: Tensor, memory: Tensor) -> Tensor:
        return self.logits(self.hidden(tokens, memory))
