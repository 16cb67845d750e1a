"""The best engine over a torch model: the CPU kernels with a packed copy of its weights, or the plain runner."""

from lyceum.infer.engine import Engine
from lyceum.infer.kernel_engine import kernel_engine
from lyceum.infer.kernels.program import why_not
from lyceum.infer.torch_runner import plain_engine
from lyceum.infer.torch_weights import from_model
from lyceum.model.transformer import Transformer
from lyceum.tokenizer.tokenizer import Tokenizer


def best_engine(model: Transformer, tokenizer: Tokenizer, *, exact: bool = False) -> Engine:
    """An engine over the model as it is now; `exact` computes in float32 throughout."""
    weight = model.embedding.weight
    if weight.device.type != "cpu" or why_not(model.config):
        return plain_engine(model, tokenizer)
    return kernel_engine(model.config, from_model(model, exact=exact), tokenizer, exact=exact)
