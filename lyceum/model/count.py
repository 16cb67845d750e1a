"""How many parameters a ModelConfig gives, part by part, without making a tensor."""

from dataclasses import dataclass

from lyceum.model.config import Biases, FeedForwardKind, Learned, ModelConfig, Norm


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Parameters by part. A tied head is the embedding and counts once, there."""

    embedding: int
    positions: int
    attention: int  # weights of the four projections
    attention_biases: int
    feed_forward: int  # weights of its two or three matrices
    feed_forward_biases: int
    norms: int
    head: int

    @property
    def total(self) -> int:
        """Every parameter of the model."""
        return sum(self.parts().values())

    @property
    def blocks(self) -> int:
        """Matrix weights inside the blocks: the N of scaling laws without embeddings."""
        return self.attention + self.feed_forward

    def parts(self) -> dict[str, int]:
        """Name -> parameters, in the order a reader expects."""
        return {
            "embedding": self.embedding,
            "positions": self.positions,
            "attention": self.attention,
            "attention_biases": self.attention_biases,
            "feed_forward": self.feed_forward,
            "feed_forward_biases": self.feed_forward_biases,
            "norms": self.norms,
            "head": self.head,
        }


def count(config: ModelConfig) -> Counts:
    """Count the parameters of the Transformer this config makes."""
    weights = {"attention": 0, "feed_forward": 0}
    biases = dict(weights)
    for name, (rows, columns) in linear_shapes(config).items():
        part = name.partition(".")[0]
        weights[part] += config.num_layers * rows * columns
        biases[part] += config.num_layers * rows if config.biases is Biases.ALL else 0
    norm = config.dim if config.norm is Norm.RMS else 2 * config.dim
    return Counts(
        embedding=config.vocab_size * config.dim,
        positions=config.context_tokens * config.dim if isinstance(config.positions, Learned) else 0,
        attention=weights["attention"],
        attention_biases=biases["attention"],
        feed_forward=weights["feed_forward"],
        feed_forward_biases=biases["feed_forward"],
        norms=(2 * config.num_layers + 1) * norm,
        head=0 if config.tie_embeddings else config.vocab_size * config.dim,
    )


def linear_shapes(config: ModelConfig) -> dict[str, tuple[int, int]]:
    """(outputs, inputs) of every matrix of one block, by module path within the block."""
    queries, keys = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    shapes = {
        "attention.query": (queries, config.dim),
        "attention.key": (keys, config.dim),
        "attention.value": (keys, config.dim),
        "attention.output": (config.dim, queries),
        "feed_forward.up": (config.ffn_dim, config.dim),
        "feed_forward.down": (config.dim, config.ffn_dim),
    }
    if config.feed_forward is FeedForwardKind.SWIGLU:
        shapes["feed_forward.gate"] = (config.ffn_dim, config.dim)
    return shapes
