import gguf
import numpy as np
import pytest
from gguf import quants

from lyceum.infer.kernels.blocks import numbers_of
from lyceum.infer.kernels.ggml import FORMATS, from_gguf
from lyceum.infer.kernels.matrix import Codes

ROWS, COLUMNS = 5, 512


def random_rows(form: str) -> np.ndarray:
    """Any bits at all, but numbers where the format has float16 or float numbers."""
    source = np.random.default_rng(sum(form.encode()))
    kind = gguf.GGMLQuantizationType[form]
    weights, size = gguf.GGML_QUANT_SIZES[kind]
    if form in ("F32", "F16", "BF16"):
        numbers = source.standard_normal((ROWS, COLUMNS)).astype(np.float32)
        return quants.quantize(numbers, kind).view(np.uint8).reshape(ROWS, -1)
    data = source.integers(0, 256, (ROWS, COLUMNS // weights, size), dtype=np.uint8)
    places = {"Q4_0": [0], "Q8_0": [0], "Q5_0": [0]}.get(form, [0, 2])
    for place in places:
        halves = source.uniform(0.01, 1.0, (ROWS, COLUMNS // weights, 1)).astype(np.float16)
        data[:, :, place : place + 2] = halves.view(np.uint8)
    return data.reshape(ROWS, -1)


@pytest.mark.parametrize("form", list(FORMATS))
def test_codes_mean_what_the_formats_own_library_says(form):
    data = random_rows(form)
    coded = from_gguf(form, data, COLUMNS)
    expected = quants.dequantize(data, gguf.GGMLQuantizationType[form]).reshape(ROWS, COLUMNS)
    assert coded.codes.shape == (ROWS, COLUMNS)
    np.testing.assert_allclose(numbers_of(coded), expected, rtol=1e-6, atol=1e-6)
    if coded.form.codes is Codes.INT4:
        assert coded.codes.max() <= 15


def test_another_bit_is_another_number():
    data = random_rows("Q5_K")
    before = numbers_of(from_gguf("Q5_K", data, COLUMNS))
    data[2, 30] ^= 1 << 3  # one bit of the fifth bits
    after = numbers_of(from_gguf("Q5_K", data, COLUMNS))
    assert (before != after).sum() == 1 and (before[2] != after[2]).sum() == 1


def test_formats_without_a_scale_for_32_weights_are_left_to_others():
    assert from_gguf("Q6_K", np.zeros((1, 210), np.uint8), 256) is None
