"""What a way of attending cannot do, told before it is tried."""

from lyceum.core.errors import ConfigError
from lyceum.model.attend import AttendSpec, Direction, Keys, Queries


def check(
    kind: str, q: Queries, k: Keys, spec: AttendSpec, *,
    bias: bool = False, memory: bool = True, window: bool = True, cap: bool = True,
) -> None:  # fmt: skip
    """ConfigError when a layer asks for what this kind of attention has not: other than True, it has it not.

    No kind looks across to another sequence, and each needs the keys of all queries and of nothing else.
    """
    wrong = None
    if spec.direction is Direction.CROSS:
        wrong = "direction=cross, but it looks within one sequence"
    elif spec.bias is not None and not bias:
        wrong = "positions as a bias on the scores (Alibi, RelativeBias), but it knows Rope, Learned and Sinusoidal"
    elif spec.memory is not None and not memory:
        wrong = "memory tokens, but it has no place for them"
    elif spec.window is not None and not window:
        wrong = f"window={spec.window}, but it sees all that came before"
    elif spec.cap is not None and not cap:
        wrong = f"attention_cap={spec.cap}, but it makes no scores to cap"
    elif q.shape[2] != k.shape[2]:
        wrong = f"{q.shape[2]} queries and {k.shape[2]} keys, but it reads whole rows"
    if wrong:
        raise ConfigError(f"{kind} was asked for {wrong}; take attend=Full there")
