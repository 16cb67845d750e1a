"""The Llama layout of the Hub (Llama, SmolLM2): RMS norm, rotary positions, SwiGLU, grouped-query attention."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from lyceum.core.errors import ConfigError
from lyceum.model.config import Biases, FeedForwardKind, ModelConfig, Norm, Rope
from lyceum.model.families.naming import Naming

MODEL_TYPE = "llama"

NAMES = Naming(
    outer={"embedding": "model.embed_tokens", "norm": "model.norm", "head": "lm_head"},
    blocks="model.layers",
    inner={
        "attention_norm": "input_layernorm",
        "attention.query": "self_attn.q_proj",
        "attention.key": "self_attn.k_proj",
        "attention.value": "self_attn.v_proj",
        "attention.output": "self_attn.o_proj",
        "feed_forward_norm": "post_attention_layernorm",
        "feed_forward.gate": "mlp.gate_proj",
        "feed_forward.up": "mlp.up_proj",
        "feed_forward.down": "mlp.down_proj",
    },
)


def config_from_hub(plain: Mapping[str, Any]) -> ModelConfig:
    """Read a Hub `config.json`. ConfigError for a feature this family does not have here."""
    rope = plain.get("rope_parameters") or plain.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        raise ConfigError(f"config.json asks for rope scaling {kind!r}; only plain rotary positions are supported yet")
    for key in ("attention_bias", "mlp_bias"):
        if plain.get(key):
            raise ConfigError(f"config.json has {key}=true; Llama weights without biases are supported")
    if plain.get("hidden_act", "silu") != "silu":
        raise ConfigError(f"config.json has hidden_act={plain['hidden_act']!r}; the Llama family uses 'silu'")
    heads = plain["num_attention_heads"]
    eos = plain.get("eos_token_id")
    return ModelConfig(
        vocab_size=plain["vocab_size"],
        dim=plain["hidden_size"],
        num_layers=plain["num_hidden_layers"],
        num_heads=heads,
        num_kv_heads=plain.get("num_key_value_heads") or heads,
        head_dim=plain.get("head_dim") or plain["hidden_size"] // heads,
        ffn_dim=plain["intermediate_size"],
        context_tokens=plain.get("max_position_embeddings", 2048),
        positions=Rope(theta=float(rope.get("rope_theta", plain.get("rope_theta", 10000.0)))),
        norm_eps=plain.get("rms_norm_eps", 1e-6),
        tie_embeddings=plain.get("tie_word_embeddings", False),
        bos_id=plain.get("bos_token_id"),
        eos_id=eos[0] if isinstance(eos, list) else eos,
    )


def config_to_hub(config: ModelConfig) -> dict[str, Any]:
    """Write a Hub `config.json` that transformers reads as LlamaForCausalLM."""
    assert isinstance(config.positions, Rope) and fits(config)
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": MODEL_TYPE,
        "vocab_size": config.vocab_size,
        "hidden_size": config.dim,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "intermediate_size": config.ffn_dim,
        "max_position_embeddings": config.context_tokens,
        "rope_theta": config.positions.theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.positions.theta},
        "rms_norm_eps": config.norm_eps,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": config.tie_embeddings,
        "bos_token_id": config.bos_id,
        "eos_token_id": config.eos_id,
        "torch_dtype": "float32",
    }


def fits(config: ModelConfig) -> bool:
    """Whether this layout can hold such a model."""
    return (
        isinstance(config.positions, Rope)
        and config.norm is Norm.RMS
        and config.feed_forward is FeedForwardKind.SWIGLU
        and config.biases is Biases.NONE
    )


def weights_from_hub(config: ModelConfig, theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors under our names."""
    return {NAMES.ours(name): tensor for name, tensor in theirs.items() if not name.endswith("rotary_emb.inv_freq")}


def weights_to_hub(config: ModelConfig, ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors under the Hub's names."""
    return {NAMES.theirs(name): tensor for name, tensor in ours.items()}
