"""Our module paths against a family's: our `blocks.3.attention.query` is Llama's `model.layers.3.self_attn.q_proj`."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Naming:
    """How a family calls our modules; whatever follows a module's path (`.weight`, `.lora_A.weight`) stays as it is."""

    outer: Mapping[str, str]  # modules outside the blocks, ours -> theirs
    blocks: str  # their path of our `blocks`
    inner: Mapping[str, str]  # modules inside a block, ours -> theirs

    def theirs(self, name: str) -> str:
        """Their name of one of ours; a KeyError says the family has no such module."""
        if name.startswith("blocks."):
            _, layer, rest = name.split(".", 2)
            return f"{self.blocks}.{layer}.{_swap(rest, self.inner)}"
        return _swap(name, self.outer)

    def ours(self, name: str) -> str:
        """Our name of one of theirs; a KeyError says we have no such module."""
        if name.startswith(f"{self.blocks}."):
            layer, rest = name[len(self.blocks) + 1 :].split(".", 1)
            return f"blocks.{layer}.{_swap(rest, {theirs: ours for ours, theirs in self.inner.items()})}"
        return _swap(name, {theirs: ours for ours, theirs in self.outer.items()})


def _swap(name: str, names: Mapping[str, str]) -> str:
    """`_swap("attention.query.weight", {"attention.query": "self_attn.q_proj"}) -> "self_attn.q_proj.weight"`."""
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        module = ".".join(parts[:cut])
        if module in names:
            return ".".join([names[module], *parts[cut:]])
    raise KeyError(name)
