"""Lets transformers compute in float64 throughout: it rounds norms and softmaxes to float32 in any format."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class NoRounding(TorchFunctionMode):
    """Within it no float64 tensor becomes float32."""

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        is_wide = bool(args) and isinstance(args[0], torch.Tensor) and args[0].dtype == torch.float64
        if is_wide and func is torch.Tensor.float:
            return args[0]
        if is_wide and func is torch.Tensor.to and torch.float32 in args[1:]:
            return args[0]
        if is_wide and kwargs.get("dtype") is torch.float32:
            kwargs["dtype"] = torch.float64
        return func(*args, **kwargs)
