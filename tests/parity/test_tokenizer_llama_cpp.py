"""Tokenizers read from GGUF files give the ids that llama.cpp's repository lists for them.

The lists were made with the models' own Hugging Face tokenizers.
"""

from pathlib import Path

import pytest

from lyceum.tokenizer.tokenizer import Tokenizer

pytestmark = [pytest.mark.reference, pytest.mark.slow]

VOCABULARIES = ["gpt-2", "llama-bpe", "qwen2", "qwen35", "mpt", "refact", "starcoder", "command-r"]


@pytest.mark.parametrize("name", VOCABULARIES)
def test_every_listed_text_has_the_listed_tokens_and_comes_back(llama_cpp_models: Path, name: str) -> None:
    vocabulary = llama_cpp_models / f"ggml-vocab-{name}.gguf"
    tokenizer = Tokenizer.from_gguf(vocabulary)
    texts = Path(f"{vocabulary}.inp").read_bytes().decode().split("\n__ggml_vocab_test__\n")
    lines = Path(f"{vocabulary}.out").read_text().splitlines()
    listed = [[int(token) for token in line.split()] for line in lines]
    assert len(texts) in (len(listed), len(listed) + 1) and len(listed) > 40  # a separator ends some lists
    for text, tokens in zip(texts, listed, strict=False):
        assert tokenizer.encode(text) == tokens, repr(text)
        assert tokenizer.decode(tokens) == text
