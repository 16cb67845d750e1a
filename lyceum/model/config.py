"""ModelConfig: every shape and choice of a Transformer. The parameter count follows from it alone (model/count.py)."""

from dataclasses import dataclass
from enum import StrEnum

from lyceum.core.errors import ConfigError


class Norm(StrEnum):
    """How activations are normalised before each sub-layer."""

    RMS = "rms"  # Zhang & Sennrich 2019, arXiv:1910.07467
    LAYER = "layer"  # Ba et al. 2016, arXiv:1607.06450


class FeedForwardKind(StrEnum):
    """The feed-forward's activation; the gated one has a third matrix (Shazeer 2020, arXiv:2002.05202)."""

    SWIGLU = "swiglu"
    GELU = "gelu"
    GELU_TANH = "gelu_tanh"


class Biases(StrEnum):
    """Which Linear layers of a block add a bias."""

    NONE = "none"
    ALL = "all"


@dataclass(frozen=True, kw_only=True)
class Rope:
    """Rotary positions: query and key channels turn by an angle that grows with the position."""

    theta: float = 10000.0  # the longest wavelength is 2 pi theta tokens


@dataclass(frozen=True, kw_only=True)
class Learned:
    """A learned vector for each position up to `context_tokens`, added to the embedding."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A decoder-only Transformer. The defaults are the Llama family's choices."""

    vocab_size: int
    dim: int  # of the residual stream
    num_layers: int
    num_heads: int
    num_kv_heads: (
        int  # key heads; each serves num_heads / num_kv_heads query heads (Ainslie et al. 2023, arXiv:2305.13245)
    )
    head_dim: int
    ffn_dim: int
    context_tokens: int
    positions: Rope | Learned = Rope()
    norm: Norm = Norm.RMS
    norm_eps: float = 1e-5
    feed_forward: FeedForwardKind = FeedForwardKind.SWIGLU
    biases: Biases = Biases.NONE
    tie_embeddings: bool = True
    bos_id: int | None = None
    eos_id: int | None = None

    def __post_init__(self) -> None:
        for name in (
            "vocab_size",
            "dim",
            "num_layers",
            "num_heads",
            "num_kv_heads",
            "head_dim",
            "ffn_dim",
            "context_tokens",
        ):
            if getattr(self, name) < 1:
                raise ConfigError(f"ModelConfig.{name} is {getattr(self, name)}; it must be at least 1")
        if self.num_heads % self.num_kv_heads:
            raise ConfigError(
                f"ModelConfig.num_heads={self.num_heads} is not a multiple of num_kv_heads={self.num_kv_heads}; "
                f"make them divide"
            )
        if isinstance(self.positions, Rope) and self.head_dim % 2:
            raise ConfigError(f"ModelConfig.head_dim is {self.head_dim}; rotary positions need an even one")
