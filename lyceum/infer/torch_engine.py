"""The best engine over a torch model: the CPU kernels with a packed copy of its weights, or the plain runner."""

import torch

from lyceum.catalog import sources
from lyceum.infer.engine import Engine
from lyceum.infer.kernels.program import why_not
from lyceum.infer.kernels.runner import KernelRunner
from lyceum.infer.runner import default_pages
from lyceum.infer.torch_runner import plain_engine
from lyceum.infer.torch_weights import from_model
from lyceum.model.transformer import Transformer
from lyceum.tokenizer.tokenizer import Tokenizer


def best_engine(model: Transformer, tokenizer: Tokenizer, *, exact: bool = False) -> Engine:
    """An engine over the model as it is now; `exact` computes in float32 throughout."""
    weight = model.embedding.weight
    if weight.device.type != "cpu" or why_not(model.config):
        return plain_engine(model, tokenizer)
    runner = KernelRunner(
        model.config,
        from_model(model, exact=exact),
        cache=sources.cache_dir() / "kernels",
        num_pages=default_pages(model.config, torch.float32.itemsize if exact else torch.float16.itemsize),
        known_tokens=tokenizer.vocab_size,
        exact=exact,
    )
    return Engine(runner, tokenizer)
