import math

import numpy as np
import pytest
import torch

from lyceum.infer.arrays import highest, narrow, onto

BOTH = pytest.mark.parametrize("library", [np.asarray, torch.from_numpy], ids=["numpy", "torch"])


@BOTH
def test_the_highest_come_best_first(library):
    scores = np.random.default_rng(0).normal(size=(3, 50)).astype(np.float32)
    for count in (1, 7, 50):
        expected = np.sort(scores, axis=-1)[:, ::-1][:, :count]
        assert highest(library(scores), count).tolist() == expected.tolist()


@BOTH
def test_narrow_keeps_columns_in_order_and_fills_shorter_rows_and_never_keeps_minus_infinity(library):
    scores = library(np.array([[3.0, -math.inf, 1.0, 2.0], [0.0, 5.0, 0.0, 0.0], [-math.inf] * 4]))
    columns, narrowed = narrow(scores, library(np.array([[2.0], [1.0], [-math.inf]])), fill=-1.0)
    assert columns.tolist() == [[0, 3], [1, 0], [0, 0]]
    assert narrowed.tolist() == [[3.0, 2.0], [5.0, -1.0], [-1.0, -1.0]]


@BOTH
def test_numbers_become_arrays_of_the_others_library_and_type(library):
    like = library(np.zeros(1, dtype=np.float32))
    made = onto([[1, 2]], like, like.dtype)
    assert type(made) is type(like) and made.dtype == like.dtype and made.tolist() == [[1.0, 2.0]]
