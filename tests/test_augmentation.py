"""Augmentations against plain loops and known distributions, and their errors."""

from __future__ import annotations

import math

import numpy as np
import pytest
from checks import assert_matches
from scipy import stats

import fastmlp as fm
from fastmlp._common.philox import normals
from fastmlp.training.augmentation import Augmentations


def augmentations(*several, width=12, outputs=3, dtype=np.float64, normalize=None, given=None):
    model = fm.MLP(width, [4], outputs, normalize=normalize, dtype=dtype, rng=0)
    return Augmentations(several if given is None else given, model, width, outputs, np.dtype(dtype))


def batch(rows=7, width=12, outputs=3):
    rng = np.random.default_rng(0)
    return rng.normal(size=(rows, width)), rng.integers(0, outputs, rows), rng.uniform(0.5, 2, rows)


# -------------------------------------------------------------------------------------------- flips


def turned(row, shape, axis):
    """One image, its numbers set one by one."""
    image, out = row.reshape(shape), np.empty(shape)
    for index in np.ndindex(shape):
        other = list(index)
        other[axis] = shape[axis] - 1 - index[axis]
        out[index] = image[tuple(other)]
    return out.ravel()


@pytest.mark.parametrize(
    ("shape", "axis"), [((12,), 0), ((3, 4), 1), ((3, 2, 2), 2), ((2, 3, 2), 1), ((3, 4), 0), ((12, 1), 1)]
)
def test_flips_turn_whole_rows(shape, axis):
    x, y, _ = batch(64)
    made = augmentations(fm.HorizontalFlip(shape, axis=axis))
    comp, same, weight = made.apply(x, y, None, 5, 3)
    assert same is y and weight is None
    ref = np.array([turned(row, shape, axis) for row in x])
    flipped = (comp == ref).all(axis=1)
    assert (flipped | (comp == x).all(axis=1)).all()
    if shape != (12, 1):
        assert 12 < flipped.sum() < 52
        assert not np.array_equal(made.apply(x, y, None, 5, 4)[0], comp)  # another step flips other rows
        assert not np.array_equal(made.apply(x, y, None, 6, 3)[0], comp)
    np.testing.assert_array_equal(made.apply(x, y, None, 5, 3)[0], comp)
    np.testing.assert_array_equal(made.apply(x[:9], y[:9], None, 5, 3)[0], comp[:9])


@pytest.mark.parametrize("p", [0, 0.25, 1])
def test_the_share_of_flips(p):
    x = np.tile(np.arange(2.0), (20_000, 1))
    comp = fm.HorizontalFlip((2,), p).apply(x, 1, 2)
    share = (comp[:, 0] == 1).mean()
    assert abs(share - p) <= 5 * math.sqrt(p * (1 - p) / len(x))


# ------------------------------------------------------------------------------------------ mixtures


@pytest.mark.parametrize("rows", [1, 2, 3, 7])
@pytest.mark.parametrize("targets", ["index", "rows"])
def test_mixtures_by_the_formula(rows, targets):
    x, y, weight = batch(rows)
    t = np.eye(3)[y] if targets == "index" else np.random.default_rng(1).normal(size=(rows, 3))
    mixup = fm.Mixup(0.4)
    comp = augmentations(mixup).apply(x, y if targets == "index" else t, weight, 9, 4)
    (share,), (shift,) = mixup.draw(9, np.array([4]), np.array([rows]))
    assert 0 <= share <= 1 and (1 <= shift < rows or rows == 1 and shift == 0)
    for part, ref in zip(comp, (x, t, weight), strict=True):
        mixed = np.array([share * ref[r] + (1 - share) * ref[(r + shift) % rows] for r in range(rows)])
        assert_matches(mixed, part, 1e-15 * (1 + np.abs(mixed)))
    assert augmentations(mixup).apply(x, y, None, 9, 4)[2] is None


@pytest.mark.parametrize("alpha", [0.01, 0.1, 0.2, 0.5, 1, 1.5, 4, 50, 1e4])
def test_shares_have_the_beta_distribution(alpha):
    u = np.concatenate([np.linspace(0, 1, 999)[1:-1], [1e-7, 1 - 1e-7, 2.0**-33]])
    comp = fm.Mixup(alpha)._quantiles(u)
    ref = stats.beta.ppf(u, alpha, alpha)
    np.testing.assert_allclose(comp, ref, atol=2e-4)
    inner = (u > 1e-3) & (u < 0.5)  # for small alphas, 1 - t rounds to 1
    np.testing.assert_allclose(stats.beta.cdf(comp, alpha, alpha)[inner], u[inner], atol=1e-4)
    shares, shifts = fm.Mixup(alpha).draw(3, np.arange(4000), np.full(4000, 8))
    if alpha >= 0.1:
        assert stats.kstest(shares, stats.beta(alpha, alpha).cdf).pvalue > 1e-3
    assert abs((shares > 0.5).mean() - 0.5) < 5 * 0.5 / np.sqrt(4000)
    assert stats.chisquare(np.bincount(shifts, minlength=8)[1:]).pvalue > 1e-3 and shifts.min() == 1


def test_a_tiny_alpha_means_one_row_or_the_other():
    shares, _ = fm.Mixup(1e-6).draw(1, np.arange(1000), np.full(1000, 5))
    assert ((shares < 1e-9) | (shares > 1 - 1e-9)).mean() > 0.99 and 400 < (shares > 0.5).sum() < 600


def test_a_huge_alpha_means_halves():
    assert (np.abs(fm.Mixup(1e300).draw(0, np.arange(10), np.full(10, 8))[0] - 0.5) < 1e-3).all()


def test_draws_do_not_depend_on_how_many_there_are():
    mixup, rows = fm.Mixup(), np.array([5, 3, 1, 5, 2])
    steps = 2**32 - 2 + np.arange(5)
    shares, shifts = mixup.draw(8, steps, rows)
    for i in range(5):
        one = mixup.draw(8, steps[i : i + 1], rows[i : i + 1])
        assert one[0][0] == shares[i] and one[1][0] == shifts[i]


# --------------------------------------------------------------------------------------------- noise


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_noise_in_the_scale_of_the_scaled_features(dtype):
    x, y, _ = batch(300)
    scale = np.linspace(1, 50, 12)
    made = augmentations(fm.GaussianNoise(0.5), dtype=dtype, normalize=fm.Normalize(np.ones(12), -scale, dtype))
    comp = made.apply(x.astype(np.float32), y, None, 2, 6)[0]
    assert comp.dtype == dtype
    ref = x.astype(np.float32) + 0.5 * scale * normals(2, 6, 300, 12)
    assert_matches(ref, comp, 4 * np.finfo(dtype).eps * (np.abs(x) + 3 * scale))
    plain = augmentations(fm.GaussianNoise(0.5)).apply(x, y, None, 2, 6)[0]
    assert_matches(x + 0.5 * normals(2, 6, 300, 12), plain, 1e-15 * (1 + np.abs(plain)))


def test_bytes_become_numbers():
    x = np.arange(24, dtype=np.uint8).reshape(2, 12)
    comp = augmentations(fm.HorizontalFlip((12,), 1), dtype="float32").apply(x, np.zeros(2, int), None, 0, 0)[0]
    assert comp.dtype == np.float32 and (comp == x[:, ::-1]).all()


def test_the_order_in_the_list_does_not_matter():
    x, y, _ = batch()
    given = [fm.GaussianNoise(0.1), fm.Mixup(), fm.HorizontalFlip((3, 4))]
    ref, comp = augmentations(*given), augmentations(*given[::-1])
    np.testing.assert_array_equal(ref.apply(x, y, None, 1, 2)[0], comp.apply(x, y, None, 1, 2)[0])
    assert ref.config() == comp.config() and [one["type"] for one in ref.config()] == [
        "HorizontalFlip", "Mixup", "GaussianNoise",
    ]  # fmt: skip
    assert ref and not augmentations()


# ------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fm.HorizontalFlip(9), r"shape is 9; expected that of an image"),
        (lambda: fm.HorizontalFlip("abc"), r"shape is 'abc'; expected that of an image"),
        (lambda: fm.HorizontalFlip((3, 0)), r"shape is 0; expected an integer of at least 1"),
        (lambda: fm.HorizontalFlip((3, 4), 1.5), r"p is 1.5; expected a finite number of at least 0 and at most 1"),
        (lambda: fm.HorizontalFlip((3, 4), axis=2), r"axis is 2; expected a dimension of the image \(3, 4\)"),
        (lambda: fm.Mixup(0), r"alpha is 0; expected a finite number of at least 1e-06"),
        (lambda: fm.GaussianNoise(-1), r"std is -1; expected a finite number of at least 0"),
        (
            lambda: augmentations(fm.HorizontalFlip((3, 5))),
            r"HorizontalFlip is for images of shape \(3, 5\), 15 numbers; expected a shape of 12 numbers",
        ),
        (
            lambda: augmentations(fm.Mixup(), fm.Mixup(0.3)),
            r"augment holds Mixup\(alpha=0.3\); expected .* one of each",
        ),
        (lambda: augmentations("flip"), r"augment holds 'flip'; expected HorizontalFlip, Mixup and GaussianNoise"),
        (lambda: augmentations(fm.Mixup), r"augment holds <class"),
        (lambda: augmentations(given=fm.Mixup), r"augment is <class .*; expected a list of HorizontalFlip, Mixup and"),
        (lambda: augmentations(given=5), r"augment is 5; expected a list"),
        (lambda: augmentations(given="flip"), r"augment is 'flip'; expected a list"),
        (lambda: augmentations(given=np.ones(2)), r"augment holds .*1.0.*; expected HorizontalFlip"),
        (lambda: augmentations(fm.GaussianNoise(1e38), dtype=np.float32), r"std is 1e\+38; expected noise .* float32"),
        (lambda: augmentations(fm.GaussianNoise(1e300), dtype=np.float32), r"std is 1e\+300; expected noise"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_fit_refuses_before_it_trains():
    x, y, _ = batch()
    trainer = fm.Trainer(fm.MLP(12, [4], 3, rng=0), fm.CrossEntropyLoss(), fm.SGD())
    with pytest.raises(ValueError, match="expected a shape of 12 numbers"):
        trainer.fit(x, y, augment=[fm.HorizontalFlip((2, 5))])
    assert trainer.steps == 0
    trainer.fit(x, y, augment=fm.Mixup(), epochs=1)  # a single augmentation without a list
    assert trainer.steps == 1
    trainer.fit(x, y, augment=None, epochs=1)
    assert trainer.steps == 2


def test_training_with_noise_shrinks_the_weights():
    """For a linear model noise of deviation s acts like a penalty of s^2 |w|^2 (Bishop, 1995)."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 3))
    y = x @ [1.0, -2.0, 0.5]
    model = fm.Linear(3, 1, bias=False, dtype=np.float64, rng=0)
    trainer = fm.Trainer(model, fm.MSELoss(), fm.SGD(fm.Cosine(0.1, 6000)))
    trainer.fit(x, y, batch_size=100, max_steps=6000, rng=0, augment=[fm.GaussianNoise(0.7)])
    ref = np.linalg.solve(x.T @ x / 500 + 0.49 * np.eye(3), x.T @ y / 500)
    np.testing.assert_allclose(model.params["weight"][0], ref, atol=0.02)
