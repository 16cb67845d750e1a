"""Rotary position embedding.

Shapes: B batch, T time, H heads, K head width.
Source: Su et al. 2021, arXiv:2104.09864, section 3.2.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lyceum.model.config import Rope


def angles(positions: Int[Tensor, "B T"], rope: Rope, head_dim: int) -> Float[Tensor, "B T K2"]:
    """The angle of each channel pair at each position, in float32; K2 = head_dim // 2."""
    channel = torch.arange(0, head_dim, 2, dtype=torch.float32, device=positions.device)
    frequencies = 1.0 / rope.theta ** (channel / head_dim)
    return positions[:, :, None].float() * frequencies


def rotate(
    x: Float[Tensor, "B H T K"], turn: tuple[Float[Tensor, "B T K2"], Float[Tensor, "B T K2"]]
) -> Float[Tensor, "B H T K"]:
    """Turn each pair of channels (i, i + K//2) by the angle whose cosine and sine are given; keeps x's dtype.

    The halves convention of the Hub's Llama weights; GGUF files and Meta's originals interleave (see model/gguf.py).
    """
    cos, sin = (part[:, None].to(x.dtype) for part in turn)  # (B, 1, T, K//2)
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)
