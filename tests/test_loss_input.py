"""Valid and invalid targets and weights of all losses."""

import numpy as np
import pytest

import fastmlp as fm


def test_targets_of_many_kinds(backend, rng):
    loss, x = fm.CrossEntropyLoss(), rng.normal(size=(4, 2))
    ref = loss.forward(x, [0, 1, 1, 0])
    for kind in (bool, np.uint8, np.int32, np.uint64, object):
        if kind is object:
            with pytest.raises(ValueError, match="CrossEntropyLoss: y has dtype object"):
                loss.forward(x, np.array([0, 1, 1, 0], object))
            continue
        assert loss.forward(x, np.array([0, 1, 1, 0], kind)) == ref
        assert loss.forward(x, np.eye(2)[[0, 1, 1, 0]].astype(kind)) == pytest.approx(ref, rel=1e-15)
    strided = np.repeat([0, 1, 1, 0], 2)[::2]
    strided.flags.writeable = False
    assert loss.forward(np.asfortranarray(x), strided) == ref


X3 = np.zeros((4, 3))
BAD = [
    (fm.CrossEntropyLoss, X3, [0, 1, 3, 0], r"class indices from 0 to 2 .C = 3., got 3 at row 2"),
    (fm.CrossEntropyLoss, X3, [0, -1, 7, 0], r"from 0 to 2 .C = 3., got -1 at row 1"),
    (fm.CrossEntropyLoss, X3, np.array([0, 1, 2, 2**64 - 1], np.uint64), "got 18446744073709551615 at row 3"),
    (
        fm.CrossEntropyLoss,
        X3,
        [0.0, 1.0, 2.0, 0.0],
        "expected integer class indices, got float64; pass one-hot",
    ),
    (
        fm.CrossEntropyLoss,
        X3,
        [0, 1, 2],
        r"shape \(4,\) or \(4, 3\) for outputs of shape \(4, 3\), got \(3,\)",
    ),
    (
        fm.CrossEntropyLoss,
        X3,
        np.zeros((4, 1), int),
        r"\(4,\) or \(4, 3\) for outputs of shape \(4, 3\), got \(4, 1\)",
    ),
    (fm.CrossEntropyLoss, X3, np.zeros((4, 2)), r"got \(4, 2\)"),
    (fm.CrossEntropyLoss, X3, 0, r"got \(\)"),
    (fm.CrossEntropyLoss, X3, np.full((4, 3), -0.5), "targets of at least 0, got -0.5 at row 0, column 0"),
    (
        fm.CrossEntropyLoss,
        X3,
        np.full((4, 3), np.nan),
        "finite targets of at least 0, got nan at row 0, column 0",
    ),
    (fm.CrossEntropyLoss, X3, ["a", "b", "c", "d"], "CrossEntropyLoss: y has dtype <U1"),
    (fm.MSELoss, X3, np.zeros(4), r"shape \(4, 3\) for outputs of shape \(4, 3\), got \(4,\)"),
    (fm.MSELoss, X3, np.zeros((1, 3)), r"got \(1, 3\)"),
    (fm.MSELoss, X3, np.zeros((4, 1)), r"got \(4, 1\)"),
    (
        fm.MSELoss,
        X3[:, :1],
        np.zeros(3),
        r"shape \(4,\) or \(4, 1\) for outputs of shape \(4, 1\), got \(3,\)",
    ),
    (fm.MSELoss, X3[:, :1], np.zeros((1, 4)), r"got \(1, 4\)"),
    (fm.L1Loss, X3, np.where(np.eye(4, 3), np.inf, 0), "finite targets, got inf at row 0, column 0"),
    (fm.HuberLoss, X3, np.full((4, 3), 1j), "y has dtype complex128"),
    (fm.BCEWithLogitsLoss, X3[:, :1], [0, 1, 2, 0], "targets from 0 to 1, got 2 at row 2, column 0"),
    (fm.BCEWithLogitsLoss, X3[:, :1], [0, 1, -1, 0], "targets from 0 to 1, got -1 at row 2, column 0"),
    (fm.MSELoss, np.zeros(4), np.zeros(4), r"MSELoss: x has shape \(4,\); expected \(N, features\)"),
    (fm.MSELoss, np.zeros((0, 1)), np.zeros((0, 1)), "MSELoss: x has no rows; expected at least one"),
    (fm.MSELoss, np.float32([[0]]), [1e300], "MSELoss: y is 1e[+]300 at row 0, column 0; expected numbers of float32"),
    (fm.CrossEntropyLoss, np.zeros((0, 3)), np.zeros(0, int), "CrossEntropyLoss: x has no rows"),
]


@pytest.mark.parametrize("make, x, y, text", BAD)
@pytest.mark.parametrize("method", ["forward", "backward", "forward_backward"])
@pytest.mark.sampled
def test_bad_targets(backend, make, x, y, text, method):
    with pytest.raises(ValueError, match=text):
        getattr(make(), method)(x, y)


@pytest.mark.parametrize(
    "weight, text",
    [
        ([1, 2, 3], r"sample_weight has shape \(3,\); expected \(4,\)"),
        (np.ones((4, 1)), r"sample_weight has shape \(4, 1\)"),
        (1.0, r"sample_weight has shape \(\)"),
        ([1, 2, -1, 0], "sample_weight is -1.0 at index 2; expected finite numbers of at least 0"),
        ([1, np.nan, 1, 1], "sample_weight is nan at index 1"),
        ([0, 0, 0, 0], "sample_weight sums to 0 over 4 rows; expected a finite sum above 0"),
        ([1e308] * 4, "sample_weight sums to inf over 4 rows"),
        (["a"] * 4, "sample_weight has dtype <U1"),
    ],
)
def test_bad_sample_weights(backend, weight, text):
    for loss, y in [(fm.CrossEntropyLoss(), [0, 1, 2, 0]), (fm.MSELoss(), X3)]:
        with pytest.raises(ValueError, match=text):
            loss.forward(X3, y, weight)


def test_bad_arguments():
    with fm.use_backend("numpy"):
        for make, text in [
            (lambda: fm.CrossEntropyLoss(label_smoothing=1.5), "label_smoothing is 1.5"),
            (lambda: fm.CrossEntropyLoss(class_weight=[1, -1]), "class_weight is -1.0 at index 1"),
            (lambda: fm.CrossEntropyLoss(class_weight=2), r"class_weight has shape \(\)"),
            (lambda: fm.CrossEntropyLoss(class_weight=[1, 2]).forward(X3, [0] * 4), "2 entries; expected 3"),
            (lambda: fm.HuberLoss(0), "delta is 0; expected a finite number above 0"),
            (lambda: fm.BCEWithLogitsLoss(pos_weight=[1, 2]).forward(X3, X3), "2 entries; expected 1 or 3"),
            (lambda: fm.BCEWithLogitsLoss(pos_weight=-1), "pos_weight is -1.0"),
            (
                lambda: fm.BCEWithLogitsLoss(pos_weight=[1, 1e300]).forward(np.float32([[0, 0]]), [[0, 1]]),
                "pos_weight is 1e[+]300 at index 1; expected numbers of float32",
            ),
            (
                lambda: fm.CrossEntropyLoss(class_weight=[1e39, 1]).forward(np.float32([[0, 0]]), [1]),
                "class_weight is 1e[+]39 at index 0; expected numbers of float32",
            ),
        ]:
            with pytest.raises(ValueError, match=text):
                make()
