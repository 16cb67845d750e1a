"""One code for numpy arrays and torch tensors: the names of the array API standard, and the two things it lacks.

Neither library is imported for the other's sake: numbers on the CPU are chosen from without torch.

Shapes: B rows, V columns, C columns kept.
"""

from typing import Any

import numpy as np
from array_api_compat import array_namespace
from jaxtyping import Float, Int

from lyceum.infer.runner import Array


def namespace(array: Array) -> Any:
    """The functions of the array's library, under the names of the array API standard (2024.12).

    numpy has them itself, from 2.1 on; to go through array_api_compat would import all of numpy, f2py too: 0.08 s.
    """
    return np if isinstance(array, np.ndarray) else array_namespace(array)


def onto(numbers: Any, array: Array, dtype: Any) -> Array:
    """Numbers (a list, a numpy array) as an array of the other's library and device."""
    return namespace(array).asarray(numbers, dtype=dtype, device=array.device)


def highest(scores: Float[Array, "B V"], count: int) -> Float[Array, "B C"]:
    """The `count` highest scores of each row, best first. `count` is 1 to V."""
    if isinstance(scores, np.ndarray):
        best = np.partition(scores, scores.shape[-1] - count, axis=-1)[:, -count:]
        return np.sort(best, axis=-1)[:, ::-1]
    return scores.topk(count, dim=-1).values


def narrow(
    scores: Float[Array, "B V"], least: Float[Array, "B 1"], *, fill: float
) -> tuple[Int[Array, "B C"], Float[Array, "B C"]]:
    """The columns of each row's scores that are at least `least` and above -inf, in their order, and these scores.

    C is the longest row's number of them; the others end in column 0 with the score `fill`.
    """
    xp = namespace(scores)
    num_rows, width = scores.shape
    is_kept = (scores >= least) & (scores > -xp.inf)
    kept = xp.nonzero(xp.reshape(is_kept, (-1,)))[0]  # flat: numpy looks through one dimension five times as fast
    rows, columns = kept // width, kept % width
    sizes = xp.sum(is_kept, axis=-1)
    slots = xp.arange(len(kept), device=scores.device) - (xp.cumulative_sum(sizes, axis=0) - sizes)[rows]
    shape = (num_rows, max(1, int(xp.max(sizes))))
    places = xp.zeros(shape, dtype=xp.int64, device=scores.device)
    narrowed = xp.full(shape, fill, dtype=scores.dtype, device=scores.device)
    places[rows, slots] = columns
    narrowed[rows, slots] = scores[rows, columns]
    return places, narrowed
