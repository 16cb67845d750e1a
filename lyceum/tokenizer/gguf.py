"""The tokenizer inside a GGUF file, as the `tokenizers` library's definition (what tokenizer.json holds) and Settings.

Byte-level BPE only ("gpt2" in GGUF's words). How the text is cut before merging is known by a name, "pre"; the patterns
are those of the models' own tokenizer.json files. Their order and grouping by name: llama.cpp, src/llama-vocab.cpp.
"""

import re
from pathlib import Path
from typing import Any

from lyceum.core.errors import CheckpointError, suggestion
from lyceum.core.gguf_metadata import read_metadata
from lyceum.tokenizer.settings import Settings

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
DIGIT = r"\p{N}"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
QWEN35 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# What llama.cpp does with files that do not say.
UNNAMED = (r"[\p{P}\$\+<=>\^~\|]+", GPT2.removesuffix(r"|\s+"), r"\p{N}+", r"[0-9][0-9][0-9]")

PATTERNS: dict[str, tuple[str, ...]] = {
    "default": UNNAMED,
    **dict.fromkeys(("gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "granite-docling"), (GPT2,)),
    **dict.fromkeys(("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"), (DIGIT, GPT2)),
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3", "falcon3", "dbrx", "smaug-bpe"), (LLAMA3,)),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen", "stablelm2", "hunyuan"), (QWEN2,)),
    "qwen35": (QWEN35,),
}
# These look a whole word up in the vocabulary before they merge.
WHOLE_WORDS_FIRST = {"llama-bpe", "llama3", "llama-v3", "falcon3"}
COMPOSED = {"qwen2", "deepseek-r1-qwen", "command-r"}  # trained on text in Unicode's composed form, NFC

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
LOOKS_LIKE_CONTROL = re.compile(r"<[|｜].*[|｜]>", re.DOTALL)  # converters forget to say so, e.g. for Command-R


def read_gguf(path: Path) -> tuple[dict[str, Any], Settings]:
    """The definition and the settings. CheckpointError when the file is damaged or its tokenizer is of another kind."""
    metadata = read_metadata(path).metadata
    kind = metadata.get("tokenizer.ggml.model")
    if kind != "gpt2":
        raise CheckpointError(
            f"{path} has a tokenizer of kind {kind!r}; only byte-level BPE ('gpt2') can be read from a GGUF file,"
            " open the model's Hugging Face folder instead"
        )
    pre = metadata.get("tokenizer.ggml.pre", "default")
    if pre not in PATTERNS:
        near = suggestion(str(pre), PATTERNS) or f"; known are {', '.join(PATTERNS)}"
        raise CheckpointError(f"{path} cuts text by the unknown rule {pre!r}{near}")
    tokens, types, merges = _vocabulary(path, metadata)
    added = [
        {"id": index, "content": token, "special": _is_special(token, types[index])}
        | dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        for index, token in enumerate(tokens)
        if types[index] in (CONTROL, USER_DEFINED, UNKNOWN) and token
    ]
    settings = _settings(path, metadata, len(tokens))
    definition = _definition(tokens, merges, added=added, pre=pre)
    if settings.add_bos and settings.bos_id is not None:
        definition["post_processor"] = _with_bos(tokens[settings.bos_id], settings.bos_id)
    return definition, settings


def _vocabulary(path: Path, metadata: dict[str, Any]) -> tuple[list[str], list[int], list[list[str]]]:
    """Tokens, their types and merges, all found consistent: the library below trusts what it is given."""
    tokens: Any = metadata.get("tokenizer.ggml.tokens")
    merges: Any = metadata.get("tokenizer.ggml.merges")
    if not (_is_list_of(tokens, str) and _is_list_of(merges, str)):
        raise CheckpointError(f"{path} has no complete vocabulary and merges; download or convert it again")
    types: Any = metadata.get("tokenizer.ggml.token_type", [NORMAL] * len(tokens))
    if not _is_list_of(types, int):
        raise CheckpointError(f"{path} has token types that are not whole numbers; download or convert it again")
    if len(types) != len(tokens):
        raise CheckpointError(f"{path} has {len(tokens)} tokens and {len(types)} token types; it is damaged")
    known = set(tokens)
    if len(known) != len(tokens):
        raise CheckpointError(f"{path} names {len(tokens) - len(known)} tokens twice; it is damaged")
    pairs = [merge.split(" ") for merge in merges]
    for index, pair in enumerate(pairs):
        if len(pair) != 2 or pair[0] not in known or pair[1] not in known or pair[0] + pair[1] not in known:
            raise CheckpointError(f"{path} has merge {index}, {merges[index]!r}, of tokens it does not have")
    return tokens, types, pairs


def _is_list_of(value: Any, kind: type) -> bool:
    return isinstance(value, list) and all(type(item) is kind for item in value)


def _is_special(token: str, type_id: int) -> bool:
    return type_id in (CONTROL, UNKNOWN) or LOOKS_LIKE_CONTROL.fullmatch(token) is not None


def _settings(path: Path, metadata: dict[str, Any], num_tokens: int) -> Settings:
    def token_id(name: str) -> int | None:
        value = metadata.get(f"tokenizer.ggml.{name}_token_id")
        if value is not None and not (isinstance(value, int) and 0 <= value < num_tokens):
            raise CheckpointError(f"{path} has {name}_token_id {value!r}; it must be below {num_tokens}")
        return value

    template = metadata.get("tokenizer.chat_template")
    context = metadata.get(f"{metadata.get('general.architecture')}.context_length")
    ends = [token_id(name) for name in ("eos", "eot", "eom")]
    return Settings(
        bos_id=token_id("bos"),
        eos_ids=tuple(dict.fromkeys(end for end in ends if end is not None)),
        pad_id=token_id("padding"),
        unk_id=token_id("unknown"),
        add_bos=metadata.get("tokenizer.ggml.add_bos_token") is True,
        chat_template=template if isinstance(template, str) else None,
        context_tokens=context if isinstance(context, int) else None,
    )


def _definition(tokens: list[str], merges: list[list[str]], *, added: list[dict[str, Any]], pre: str) -> dict[str, Any]:
    cuts: list[dict[str, Any]] = [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
        for pattern in PATTERNS[pre]
    ]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "NFC"} if pre in COMPOSED else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*cuts, byte_level]},
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": pre in WHOLE_WORDS_FIRST,
            "vocab": {token: index for index, token in enumerate(tokens)},
            "merges": merges,
        },
    }


def _with_bos(token: str, index: int) -> dict[str, Any]:
    bos = {"SpecialToken": {"id": token, "type_id": 0}}
    text, more = {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}
    return {
        "type": "TemplateProcessing",
        "single": [bos, text],
        "pair": [bos, text, more],
        "special_tokens": {token: {"id": token, "ids": [index], "tokens": [token]}},
    }
