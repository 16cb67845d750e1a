"""A quantized model as a Hugging Face folder that transformers, vLLM and this package read."""

from pathlib import Path

from lyceum.core.errors import ConfigError
from lyceum.model.quantized import QuantizedLinear, Scheme, write_scheme
from lyceum.model.transformer import Transformer
from lyceum.model.weights import save_folder


def save(model: Transformer, folder: Path) -> None:
    """Write `config.json` with its `quantization_config`, and `model.safetensors`; `weights.load_folder` reads them."""
    save_folder(model, folder, quantization=write_scheme(scheme_of(model)))


def scheme_of(model: Transformer) -> Scheme:
    """The scheme of a quantized model; ConfigError when it is not quantized."""
    for module in model.modules():
        if isinstance(module, QuantizedLinear):
            return module.scheme
    raise ConfigError("the model is not quantized; quantize it first, or save it with model.weights.save_folder")
