import contextlib
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lyceum.core.errors import CheckpointError
from lyceum.core.gguf_metadata import read_metadata


def text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def small_file() -> bytes:
    """Six keys of every shape of value, two tensors, written from the specification alone."""
    keys = [
        text("general.architecture") + struct.pack("<I", 8) + text("llama"),
        text("count") + struct.pack("<Ii", 5, -7),
        text("flag") + struct.pack("<IB", 7, 1),
        text("rate") + struct.pack("<If", 6, 0.5),
        text("words") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("é"),
        text("nested") + struct.pack("<IIQ", 9, 9, 2) + 2 * struct.pack("<IQHH", 2, 2, 3, 4),
    ]
    tensors = [
        text("embed") + struct.pack("<IQQIQ", 2, 8, 3, 0, 0),
        text("norm") + struct.pack("<IQIQ", 1, 8, 0, 96),
    ]
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys)) + b"".join(keys + tensors)
    return head + bytes(-len(head) % 32) + struct.pack("<32f", *range(32))


def test_every_kind_of_value_is_read(tmp_path: Path) -> None:
    path = tmp_path / "small.gguf"
    path.write_bytes(small_file())
    header = read_metadata(path)
    assert header.metadata == {
        "general.architecture": "llama",
        "count": -7,
        "flag": True,
        "rate": 0.5,
        "words": ["a", "é"],
        "nested": [[3, 4], [3, 4]],
    }
    assert [(tensor.name, tensor.shape, tensor.offset) for tensor in header.tensors] == [
        ("embed", (3, 8), 0),
        ("norm", (8,), 96),
    ]
    assert path.read_bytes()[header.data_offset :] == struct.pack("<32f", *range(32))


def test_any_truncated_head_is_refused_in_one_line(tmp_path: Path) -> None:
    whole, path = small_file(), tmp_path / "cut.gguf"
    for size in range(len(whole) - 32 * 4):
        path.write_bytes(whole[:size])
        with pytest.raises(CheckpointError) as caught:
            read_metadata(path)
        assert "\n" not in str(caught.value) and "cut.gguf" in str(caught.value)


@given(position=st.integers(0, 400), value=st.binary(min_size=8, max_size=8))
def test_a_lying_head_gives_a_header_or_a_checkpoint_error(
    tmp_path_factory: pytest.TempPathFactory, position: int, value: bytes
) -> None:
    whole = bytearray(small_file())
    whole[position : position + 8] = value
    path = tmp_path_factory.getbasetemp() / "lying.gguf"
    path.write_bytes(whole)
    with contextlib.suppress(CheckpointError):  # anything else is a failure
        assert len(read_metadata(path).tensors) <= 2


@pytest.mark.parametrize("offset", [8, 16], ids=["tensors", "keys"])
def test_a_count_beyond_the_file_is_refused_before_the_loop(tmp_path: Path, offset: int) -> None:
    whole, path = bytearray(small_file()), tmp_path / "huge.gguf"
    whole[offset : offset + 8] = struct.pack("<Q", 2**63)
    path.write_bytes(whole)
    with pytest.raises(CheckpointError, match=r"claims 9223372036854775808 entries"):
        read_metadata(path)
