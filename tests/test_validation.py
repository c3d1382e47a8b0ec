"""Validation functions that no public function covers."""

import numpy as np
import pytest

from fastmlp._common.validation import as_float, require_finite

F32, F64 = np.dtype(np.float32), np.dtype(np.float64)


def test_as_float_copies_nothing_that_fits():
    x = np.ones(3, np.float32)
    assert as_float(x, F32, "x") is x


@pytest.mark.parametrize("size", [1, 3, 17, 1000])
def test_as_float_finds_each_place(size):
    """Wherever it stands: the vector loops of a cast and their tails note an overflow alike."""
    for place in {0, size // 2, size - 1}:
        for stride in (1, 2):
            x = np.zeros(stride * size)[::stride]
            x[place] = -1e300
            with pytest.raises(ValueError, match=rf"^x is -1e[+]300 at index {place}; .* float32, at most 3.403e[+]38"):
                as_float(x, F32, "x")


def test_as_float_at_the_limit():
    largest = float(np.finfo(np.float32).max)
    special = np.array([largest, -largest, np.inf, -np.inf, np.nan, 1e-300])
    np.testing.assert_array_equal(as_float(special, F32, "x"), [largest, -largest, np.inf, -np.inf, np.nan, 0])
    with pytest.raises(ValueError, match="^x is 1e[+]39; expected"):
        as_float(np.array(1e39), F32, "x")
    with pytest.raises(ValueError, match="at index 0, 1, 0; expected"):
        as_float(np.array([[[0.0], [1e39]]]), F32, "x")
    if np.finfo(np.longdouble).max > np.finfo(np.float64).max:
        with pytest.raises(ValueError, match="^x is 1e[+]4000 at index 0; expected numbers of float64, at most 1.798e"):
            as_float(np.array([np.longdouble("1e4000")]), F64, "x")


def test_require_finite_for_a_dtype():
    X = np.zeros((30, 5))
    X[21, 4] = 1e300
    require_finite(X, "X")
    require_finite(X, "X", F64)
    require_finite(np.zeros((2, 2), np.uint8), "X", F32)
    with pytest.raises(ValueError, match="^X is 1e[+]300 at row 21, column 4; expected numbers of float32"):
        require_finite(X, "X", F32)
    X[3, 1] = np.nan
    with pytest.raises(ValueError, match="^X is nan at row 3, column 1; expected finite numbers"):
        require_finite(X, "X", F32)
