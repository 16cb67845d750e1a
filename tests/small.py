"""Small models and data that several tests share."""

import torch

from lyceum.model.config import Biases, FeedForwardKind, Learned, ModelConfig, Norm
from lyceum.model.transformer import Transformer

LLAMA = ModelConfig(
    vocab_size=97, dim=32, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=8, ffn_dim=64, context_tokens=64
)
GPT2 = ModelConfig(
    vocab_size=97, dim=32, num_layers=2, num_heads=4, num_kv_heads=4, head_dim=8, ffn_dim=64, context_tokens=64,
    positions=Learned(), norm=Norm.LAYER, feed_forward=FeedForwardKind.GELU_TANH, biases=Biases.ALL,
)  # fmt: skip


def small_model(config: ModelConfig = LLAMA, *, seed: int = 0) -> Transformer:
    """A model with fresh weights, larger than at the start of training so that mistakes show."""
    torch.manual_seed(seed)
    model = Transformer(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model
