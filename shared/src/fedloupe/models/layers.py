"""Small layers of the architectures. Every raw parameter sits in a leaf module, so per-patient gradients stay exact
and cheap under DP-SGD (`fedloupe_client.training.per_patient`); no layer mixes patients.
"""

from __future__ import annotations

import torch
from monai.networks.blocks.convolutions import Convolution
from torch import Tensor, nn
from torch.nn import functional as F


class GroupTokens(nn.Module):
    """One token a group: a linear map of its own for each group, or a learned token where the group is missing.

    (B, G, K + 1), values with presence as their last column, to (B, G, d): one tensor, because a
    patient's gradient is taken from a layer's first input alone.
    """

    def __init__(self, groups: int, size: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(groups, size, width) * size**-0.5)
        self.bias = nn.Parameter(torch.randn(groups, width) * 0.02)
        self.missing = nn.Parameter(torch.randn(groups, width) * 0.02)

    def forward(self, packed: Tensor) -> Tensor:
        """Tokens of a batch."""
        values, there = packed[..., :-1], packed[..., -1:]
        tokens = torch.einsum("bgk,gkd->bgd", values, self.weight) + self.bias
        return there * tokens + (1 - there) * self.missing


class Places(nn.Module):
    """Learned position of each image token, and a learned shift for each missing volume.

    (B, N, d + C), tokens with the C marks of absence (1 missing) behind, to (B, N, d); one tensor as in `GroupTokens`.
    """

    def __init__(self, tokens: int, volumes: int, width: int) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.randn(tokens, width) * 0.02)
        self.missing = nn.Parameter(torch.randn(volumes, width) * 0.02)

    def forward(self, packed: Tensor) -> Tensor:
        """Placed tokens."""
        width = self.place.shape[1]
        return packed[..., :width] + self.place + packed[..., width:] @ self.missing


class ImageTokens(nn.Module):
    """A convolutional stem: three strided 3-D convolutions with GroupNorm, then one token a place.

    (B, C, D, H, W) to (B, N, d); N = ceil(edge / 8) ** 3.
    """

    def __init__(self, volumes: int, edge: int, width: int) -> None:
        super().__init__()
        middle = max(8, width // 2 // 8 * 8)

        def block(inputs: int, outputs: int) -> nn.Module:
            norm = ("GROUP", {"num_groups": 4, "num_channels": outputs})
            layer: nn.Module = Convolution(3, inputs, outputs, strides=2, kernel_size=3, act="GELU", norm=norm)
            return layer

        self.stem = nn.Sequential(block(volumes, 8), block(8, middle), block(middle, middle))
        self.project = nn.Linear(middle, width)
        self.places = Places((-(-edge // 8)) ** 3, volumes, width)

    def forward(self, images: Tensor, present: Tensor) -> Tensor:
        """Tokens of a batch of images."""
        tokens = self.stem(images).flatten(2).transpose(1, 2)
        absent = (1 - present).unsqueeze(1).expand(-1, tokens.shape[1], -1)
        placed: Tensor = self.places(torch.cat([self.project(tokens), absent], dim=-1))
        return placed


class Attention(nn.Module):
    """Multi-head self-attention from plain linear layers (Vaswani 2017): (B, N, d) to (B, N, d)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Attended tokens."""
        batch, count, width = tokens.shape
        qkv = self.qkv(tokens).view(batch, count, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2])
        attended: Tensor = self.out(mixed.transpose(1, 2).reshape(batch, count, width))
        return attended


class Block(nn.Module):
    """Pre-norm Transformer block (Xiong 2020)."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.feed = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.drop = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens after attention and feed-forward."""
        tokens = tokens + self.drop(self.attention(self.norm1(tokens)))
        fed: Tensor = tokens + self.drop(self.feed(self.norm2(tokens)))
        return fed
