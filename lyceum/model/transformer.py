"""Transformer: the one model class. It trains and serves; it holds no cache, no mask and no mode.

Shapes: B rows, T time, D residual width, V vocabulary.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lyceum.core.errors import DataError
from lyceum.model.attend import Attend, Causal
from lyceum.model.config import Learned, ModelConfig, Rope
from lyceum.model.layers import Block, initialise, make_norm, table
from lyceum.model.positions import angles


class Transformer(nn.Module):
    """A decoder-only Transformer with fresh weights (seed torch before making one; fill it with model/weights.py)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = table(config.vocab_size, config.dim)
        is_learned = isinstance(config.positions, Learned)
        self.position_embedding = table(config.context_tokens, config.dim) if is_learned else None
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.num_layers))
        self.norm = make_norm(config)
        self.head = nn.Linear(config.dim, config.vocab_size, bias=False)
        if config.tie_embeddings:
            self.head.weight = self.embedding.weight
        initialise(self, config)

    def forward(
        self,
        tokens: Int[Tensor, "B T"],
        *,
        positions: Int[Tensor, "B T"] | None = None,
        attend: Attend | None = None,
    ) -> Float[Tensor, "B T D"]:
        """The last hidden states, after the last norm. If not given, positions count from 0 and attention is causal."""
        if positions is None:
            positions = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
        if tokens.shape[1] > self.config.context_tokens:
            raise DataError(
                f"a row has {tokens.shape[1]} tokens; this model reads at most {self.config.context_tokens}; shorten it"
            )
        x = self.embedding(tokens)
        if self.position_embedding is not None:
            x = x + self.position_embedding(positions)
        turn = None
        if isinstance(self.config.positions, Rope):
            angle = angles(positions, self.config.positions, self.config.head_dim)
            turn = (angle.cos(), angle.sin())
        attend = attend or Causal()
        for block in self.blocks:
            x = block(x, turn, attend)
        return self.norm(x)

    def logits(self, hidden: Float[Tensor, "*N D"]) -> Float[Tensor, "*N V"]:
        """Scores of every next token. Apply it only where they are needed: it is a fifth of a small model's work."""
        return self.head(hidden)
