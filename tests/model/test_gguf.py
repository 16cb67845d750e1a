import struct
from pathlib import Path

import gguf
import numpy as np
import pytest

from lyceum.core.errors import CheckpointError
from lyceum.core.gguf_metadata import read_metadata
from lyceum.model.gguf import GgufFile

FORMATS = ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"]
TOLERANCE = {"F32": 0, "F16": 1e-3, "BF16": 8e-3, "Q8_0": 0.01, "Q5_0": 0.08, "Q5_1": 0.06, "Q4_0": 0.16, "Q4_1": 0.12}


def write(path: Path, tensors: dict[str, tuple[np.ndarray, str]], **metadata: object) -> Path:
    """A GGUF file made by llama.cpp's own writer."""
    writer = gguf.GGUFWriter(path, "llama")
    for name, (numbers, kind) in tensors.items():
        format = gguf.GGMLQuantizationType[kind]
        writer.add_tensor(name, gguf.quants.quantize(numbers, format), raw_dtype=format)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("kind", FORMATS)
def test_each_format_comes_back_near_what_was_written(tmp_path: Path, kind: str) -> None:
    original = numbers(5, 64)
    file = GgufFile.open(write(tmp_path / "a.gguf", {"x": (original, kind), "last": (numbers(32), "F32")}))
    found = file.numbers("x")
    assert found.dtype == np.float32 and found.shape == (5, 64)
    worst = np.abs(found - original).max() / np.abs(original).max()
    assert worst <= TOLERANCE[kind]
    assert file.blocks("x").format == kind
    kept = found.copy()
    found.fill(0)  # a caller may write into it: the file is not touched
    assert np.array_equal(file.numbers("x"), kept)


def test_q4_1_and_q8_0_blocks_mean_what_the_specification_says(tmp_path: Path) -> None:
    """One block of each, decoded here number by number: scale, minimum, then low nibbles before high ones."""
    original = numbers(1, 32)
    file = GgufFile.open(write(tmp_path / "a.gguf", {"four": (original, "Q4_1"), "eight": (original, "Q8_0")}))
    raw = file.blocks("four").data.tobytes()
    scale, minimum = struct.unpack("<ee", raw[:4])
    codes = [byte & 15 for byte in raw[4:]] + [byte >> 4 for byte in raw[4:]]
    assert file.numbers("four")[0].tolist() == pytest.approx([scale * code + minimum for code in codes], rel=1e-6)
    raw = file.blocks("eight").data.tobytes()
    (scale,) = struct.unpack("<e", raw[:2])
    assert file.numbers("eight")[0].tolist() == pytest.approx(
        [scale * code for code in struct.unpack("<32b", raw[2:])], rel=1e-6
    )


def test_a_file_cut_anywhere_is_refused_when_opened(tmp_path: Path) -> None:
    whole = write(tmp_path / "a.gguf", {"x": (numbers(2, 32), "Q8_0"), "y": (numbers(2, 32), "F32")}).read_bytes()
    path = tmp_path / "cut.gguf"
    for size in range(0, len(whole), 7):
        path.write_bytes(whole[:size])
        with pytest.raises(CheckpointError) as caught:
            GgufFile.open(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [("type", 99, "unknown format 99"), ("columns", 33, "not a multiple of the 32"), ("rows", 2**40, "is truncated")],
)
def test_a_lying_tensor_entry_is_refused_when_opened(tmp_path: Path, field: str, value: int, told: str) -> None:
    path = write(tmp_path / "a.gguf", {"tensor": (numbers(2, 32), "Q8_0")})
    whole = bytearray(path.read_bytes())
    after_name = whole.index(b"tensor") + 6  # then: dims u32, columns u64, rows u64, type u32, offset u64
    place = after_name + {"columns": 4, "rows": 12, "type": 20}[field]
    width = 4 if field == "type" else 8
    whole[place : place + width] = value.to_bytes(width, "little")
    path.write_bytes(whole)
    assert read_metadata(path).tensors  # the head alone is well formed
    with pytest.raises(CheckpointError, match=told):
        GgufFile.open(path)


def test_a_wrong_name_is_told_with_the_nearest(tmp_path: Path) -> None:
    file = GgufFile.open(write(tmp_path / "a.gguf", {"token_embd.weight": (numbers(2, 32), "F32")}))
    with pytest.raises(CheckpointError, match=r"did you mean 'token_embd\.weight'"):
        file.numbers("token_embed.weight")
