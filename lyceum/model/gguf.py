"""GGUF weight files: any tensor of one as float32, or its packed blocks as they lie in the file. Needs no torch.

The block formats are turned into numbers by the `gguf` package, llama.cpp's own: 30 ms to import, 0.75 s for the
134.5 million weights of SmolLM2-135M on one core.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
from gguf import quants

from lyceum.core.errors import CheckpointError, suggestion
from lyceum.core.gguf_metadata import GgufHeader, TensorInfo, read_metadata


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """A tensor as it lies in the file: `format` is GGML's name (Q4_1, F32, …), one row of bytes a row of weights."""

    format: str
    shape: tuple[int, ...]  # of the weights, outermost first
    data: npt.NDArray[np.uint8]  # (*shape[:-1], bytes a row), read-only, mapped from the file


class GgufFile:
    """An open GGUF file. Nothing is read before it is asked for."""

    def __init__(self, path: Path, header: GgufHeader, data: npt.NDArray[np.uint8]) -> None:
        self.path = path
        self.metadata: dict[str, Any] = header.metadata
        self.tensors: dict[str, TensorInfo] = {tensor.name: tensor for tensor in header.tensors}
        self._data = data  # everything after the head

    @classmethod
    def open(cls, path: Path) -> "GgufFile":
        """Read the head and check that every tensor lies within the file. CheckpointError when one does not."""
        header = read_metadata(path)
        size = path.stat().st_size
        for tensor in header.tensors:
            rows, row_bytes = _layout(path, tensor)
            end = header.data_offset + tensor.offset + rows * row_bytes
            if end > size:
                raise CheckpointError(
                    f"{path} is truncated: {tensor.name} ends at byte {end} of {size}; download or convert it again"
                )
        mapped = np.memmap(path, dtype=np.uint8, mode="r")[header.data_offset :]
        return cls(path, header, mapped)

    def blocks(self, name: str) -> Blocks:
        """The packed bytes of a tensor, for an engine that computes with them directly."""
        if name not in self.tensors:
            hint = suggestion(name, self.tensors) or f"; it holds {len(self.tensors)} others"
            raise CheckpointError(f"{self.path} holds no tensor {name!r}{hint}")
        tensor = self.tensors[name]
        rows, row_bytes = _layout(self.path, tensor)
        data = self._data[tensor.offset : tensor.offset + rows * row_bytes].reshape(*tensor.shape[:-1], row_bytes)
        return Blocks(format=gguf.GGMLQuantizationType(tensor.type_id).name, shape=tensor.shape, data=data)

    def numbers(self, name: str) -> npt.NDArray[np.float32]:
        """A tensor's weights in float32. CheckpointError for a format that only llama.cpp itself can unpack."""
        blocks = self.blocks(name)
        try:
            with np.errstate(all="ignore"):  # a damaged scale gives inf or nan there, not a warning here
                numbers = quants.dequantize(blocks.data, gguf.GGMLQuantizationType[blocks.format])
        except NotImplementedError as error:
            raise CheckpointError(
                f"{self.path}: {name} has the format {blocks.format}, which cannot be unpacked; "
                "convert the file to F16 or Q8_0 with llama.cpp's tools"
            ) from error
        return (numbers if numbers.flags.writeable else numbers.copy()).reshape(blocks.shape)

    def size_bytes(self) -> int:
        """The bytes of all tensors, without the head."""
        return sum(rows * row_bytes for rows, row_bytes in (_layout(self.path, t) for t in self.tensors.values()))


def _layout(path: Path, tensor: TensorInfo) -> tuple[int, int]:
    """How many rows a tensor has and how many bytes each takes."""
    try:
        block_weights, block_bytes = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(tensor.type_id)]
    except (ValueError, KeyError) as error:
        raise CheckpointError(
            f"{path}: {tensor.name} has the unknown format {tensor.type_id}; the file is damaged or newer than the"
            f" installed gguf package: try `pip install --upgrade gguf`"
        ) from error
    columns = tensor.shape[-1] if tensor.shape else 1
    if columns % block_weights:
        raise CheckpointError(
            f"{path} is damaged: {tensor.name} has rows of {columns}, not a multiple of the {block_weights}"
            " weights in a block; download or convert it again"
        )
    return math.prod(tensor.shape[:-1]), columns // block_weights * block_bytes
