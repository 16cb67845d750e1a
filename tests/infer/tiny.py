"""A tiny random model and a tokenizer of bytes, in which one token ends an answer."""

import json

import torch

from lyceum.model.config import Learned, ModelConfig, Norm, Rope
from lyceum.model.transformer import Transformer
from lyceum.tokenizer.settings import Settings
from lyceum.tokenizer.tokenizer import Tokenizer

END = 256
VOCAB_SIZE = 257


def byte_tokenizer(*, eos_ids: tuple[int, ...] = (END,)) -> Tokenizer:
    """Each byte is the token of its own number; <end> is token 256."""
    definition = {
        "version": "1.0",
        "added_tokens": [
            {
                "id": END,
                "content": "<end>",
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
        "model": {"type": "BPE", "vocab": _vocabulary(), "merges": []},
    }
    return Tokenizer(json.dumps(definition), Settings(eos_ids=eos_ids))


def tiny_model(
    seed: int = 0, *, context_tokens: int = 96, sharpness: float = 8.0, positions: Rope | Learned | None = None
) -> Transformer:
    """Two layers over bytes. `sharpness` scales the head, so that the next token is neither sure nor uniform."""
    torch.manual_seed(seed)
    config = ModelConfig(
        vocab_size=VOCAB_SIZE,
        dim=32,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        head_dim=8,
        ffn_dim=64,
        context_tokens=context_tokens,
        positions=positions or Rope(),
        norm=Norm.RMS,
        tie_embeddings=False,
    )
    model = Transformer(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=parameter.shape[-1] ** -0.5)
        model.head.weight.mul_(sharpness / 4)
    return model


def _vocabulary() -> dict[str, int]:
    """GPT-2's printable stand-ins for the 256 bytes."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}
    return {letters[byte]: byte for byte in range(256)}
