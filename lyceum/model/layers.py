"""The sub-layers of a block: norm, attention, feed-forward, and the block that chains them.

Shapes: B rows, T time, D residual width, H query heads, G key heads, K head width.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lyceum.model.attend import Attend, AttendSpec
from lyceum.model.config import Biases, FeedForwardKind, ModelConfig, Norm
from lyceum.model.positions import rotate

Turn = tuple[Tensor, Tensor]


def make_norm(config: ModelConfig) -> nn.Module:
    """The norm a config asks for."""
    if config.norm is Norm.RMS:
        return nn.RMSNorm(config.dim, eps=config.norm_eps)
    return nn.LayerNorm(config.dim, eps=config.norm_eps)


class Attention(nn.Module):
    """Grouped-query self-attention. Projects, turns, lets `attend` mix, projects back."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer, self.head_dim = layer, config.head_dim
        bias = config.biases is Biases.ALL
        self.query = nn.Linear(config.dim, config.num_heads * config.head_dim, bias=bias)
        self.key = nn.Linear(config.dim, config.num_kv_heads * config.head_dim, bias=bias)
        self.value = nn.Linear(config.dim, config.num_kv_heads * config.head_dim, bias=bias)
        self.output = nn.Linear(config.num_heads * config.head_dim, config.dim, bias=bias)
        self.spec = AttendSpec(scale=config.head_dim**-0.5)

    def forward(self, x: Float[Tensor, "B T D"], turn: Turn | None, attend: Attend) -> Float[Tensor, "B T D"]:
        """The attended values, projected back to the residual width."""
        q, k, v = (self._heads(project(x)) for project in (self.query, self.key, self.value))  # (B, H or G, T, K)
        if turn is not None:
            q, k = rotate(q, turn), rotate(k, turn)
        mixed = attend(self.layer, q, k, v, self.spec)
        return self.output(mixed.transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)


class FeedForward(nn.Module):
    """Two matrices with an activation between, or three when it is gated."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        bias = config.biases is Biases.ALL
        self.kind = config.feed_forward
        self.gate = nn.Linear(config.dim, config.ffn_dim, bias=bias) if self.kind is FeedForwardKind.SWIGLU else None
        self.up = nn.Linear(config.dim, config.ffn_dim, bias=bias)
        self.down = nn.Linear(config.ffn_dim, config.dim, bias=bias)

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """The transformed residual."""
        if self.gate is not None:
            return self.down(F.silu(self.gate(x)) * self.up(x))
        return self.down(F.gelu(self.up(x), approximate="tanh" if self.kind is FeedForwardKind.GELU_TANH else "none"))


class Block(nn.Module):
    """One layer: x + attention(norm(x)), then x + feed_forward(norm(x)) (pre-norm)."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.attention_norm = make_norm(config)
        self.attention = Attention(config, layer)
        self.feed_forward_norm = make_norm(config)
        self.feed_forward = FeedForward(config)

    def forward(self, x: Float[Tensor, "B T D"], turn: Turn | None, attend: Attend) -> Float[Tensor, "B T D"]:
        """The residual stream after this layer."""
        x = x + self.attention(self.attention_norm(x), turn, attend)
        return x + self.feed_forward(self.feed_forward_norm(x))


def table(rows: int, width: int) -> nn.Embedding:
    """An embedding whose weights are still to be set."""
    return nn.Embedding.from_pretrained(torch.empty(rows, width), freeze=False)


def initialise(model: nn.Module, config: ModelConfig) -> None:
    """Fresh weights: normal with a small deviation, the projections back into the residual smaller by sqrt(2 layers).

    The embedding's deviation keeps the first logits near zero, so that the first loss is ln(vocab_size).
    Source: GPT-2 (Radford et al. 2019, section 2.3).
    """
    deviation = min(0.02, 0.4 * config.dim**-0.5)
    for name, parameter in model.named_parameters():
        if parameter.is_meta:
            continue  # it has no numbers, and drawing them there would import a second of torch
        if name.endswith(("output.weight", "down.weight")):
            nn.init.normal_(parameter, std=deviation * (2 * config.num_layers) ** -0.5)
        elif name.endswith("norm.weight"):
            nn.init.ones_(parameter)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)
        else:
            nn.init.normal_(parameter, std=deviation)
