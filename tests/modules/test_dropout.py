import numpy as np
import pytest

import fastmlp as fm
from fastmlp._kernels import get_backend


def test_training_masks_and_scales(backend, dtype):
    module = fm.Dropout(0.25, rng=3)
    x = np.ones((200, 37), dtype)
    y = np.asarray(module.forward(x))
    kept = y != 0
    np.testing.assert_array_equal(y[kept], np.float64(1 / 0.75).astype(dtype))
    # 7400 draws: the share kept has a standard deviation of 0.005.
    assert abs(kept.mean() - 0.75) < 0.03
    np.testing.assert_array_equal(module.backward(x), y)


def test_the_mask_is_the_contract_s(backend, dtype):
    module = fm.Dropout(0.4, rng=2**63 + 5)
    module.layer = 2
    module.set_position(step=11)
    x = np.ones((5, 9), dtype)
    expected = np.empty_like(x)
    get_backend("numpy").dropout(x, 0.4, 2**63 + 5, 2, 11, expected)
    np.testing.assert_array_equal(module.forward(x), expected)


def test_the_step_moves_on(backend):
    module = fm.Dropout(rng=0)
    x = np.ones((8, 8), np.float32)
    first, second = np.asarray(module.forward(x)), np.asarray(module.forward(x))
    assert module.step == 2 and (first != second).any()
    module.set_position(seed=0, step=0)
    np.testing.assert_array_equal(module.forward(x), first)
    with module.freeze():
        np.testing.assert_array_equal(module.forward(x), second)
        np.testing.assert_array_equal(module.forward(x), second)
    assert module.step == 1


def test_eval_and_infer_are_the_identity(backend):
    module = fm.Dropout(rng=0)
    x = np.ones((8, 8), np.float32)
    for y in (module.infer(x), module.eval().forward(x), module.backward(x)):
        np.testing.assert_array_equal(y, x)
        assert not np.shares_memory(y, x)
    assert module.step == 0


@pytest.mark.parametrize("p, kept", [(0, 1.0), (1, 0.0)])
def test_the_ends(backend, p, kept):
    y = np.asarray(fm.Dropout(p, rng=0).forward(np.ones((3, 5))))
    assert (y == kept).all()


def test_sequential_numbers_them(backend):
    inner = fm.Sequential(fm.Dropout(rng=0), fm.Linear(8, 8, rng=0), fm.Dropout(rng=0))
    assert [m.layer for m in inner.modules() if isinstance(m, fm.Dropout)] == [0, 1]
    outer = fm.Sequential(fm.Dropout(rng=0), inner)
    assert [m.layer for m in outer.modules() if isinstance(m, fm.Dropout)] == [0, 1, 2]


def test_bad_arguments():
    with fm.use_backend("numpy"):
        with pytest.raises(ValueError, match=r"p is 1.5; expected a finite number of at least 0 and at most 1"):
            fm.Dropout(1.5)
        with pytest.raises(ValueError, match="rng is -1; expected an integer from 0"):
            fm.Dropout(rng=-1)
        with pytest.raises(ValueError, match="step is -1"):
            fm.Dropout().set_position(step=-1)
