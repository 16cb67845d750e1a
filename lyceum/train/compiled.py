"""Blocks as compiled code: torch.compile once for all layers of a kind, with shapes that do not change."""

import os
import shutil
from enum import StrEnum

import torch
from torch import nn

PAYS_S = 180.0  # a training that takes less is over before compiling (20 s the first time) has paid


class Compile(StrEnum):
    """Whether to compile the model's blocks."""

    AUTO = "auto"  # when training takes minutes and a C++ compiler is there
    ALWAYS = "always"
    NEVER = "never"

    def applies(self, expected_s: float, device_kind: str) -> bool:
        """Whether to compile for a training that is expected to take so long."""
        if self is Compile.AUTO:
            return expected_s >= PAYS_S and (device_kind == "cuda" or _has_compiler())
        return self is Compile.ALWAYS


def compile_blocks(model: nn.Module) -> None:
    """Compile every block of every stack, and whatever makes scores into losses (`compiled_code`).

    A layer's number would otherwise be a constant of its code, and each layer compiled for itself.
    """


    torch._dynamo.config.allow_unspec_int_on_nn_module = True
    for name, module in model.named_modules():
        if name.rpartition(".")[0].endswith("blocks"):
            module.compile(dynamic=False)


def num_compiled() -> int:
    """How many graphs were compiled in this process so far."""
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


def _has_compiler() -> bool:
    return any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "g++", "clang++"))
