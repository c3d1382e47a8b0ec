"""Calibration error beside a loop over the bins, and temperatures beside a search over a grid."""

import numpy as np
import pytest
from checks import assert_matches

import fastmlp as fm
from fastmlp.training.calibration import fit_temperature, reliability, scale_by_temperature


def draw(rng, rows, classes, sharpness=3.0):
    """Labels and probabilities that are too sure of themselves by a factor of ``sharpness``."""
    logits = rng.normal(size=(rows, classes))
    true = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.array([rng.choice(classes, p=row) for row in true])
    return labels, scale_by_temperature(true, 1 / sharpness)


def test_reliability():
    probabilities = np.array([[0.95, 0.05], [0.91, 0.09], [0.2, 0.8], [1.0, 0.0]])
    found = reliability(np.array([0, 1, 1, 0]), probabilities, bins=10)
    np.testing.assert_allclose(found.confidence, [0.8, (0.95 + 0.91 + 1.0) / 3])
    np.testing.assert_allclose(found.accuracy, [1, 2 / 3])
    assert found.rows.tolist() == [1, 3]
    assert found.error == pytest.approx(0.25 * 0.2 + 0.75 * (2.86 / 3 - 2 / 3))


@pytest.mark.parametrize("bins", [1, 7, 15])
def test_error_is_that_of_a_loop(bins, rng):
    labels, probabilities = draw(rng, 300, 3)
    ref, confidence = 0.0, probabilities.max(axis=1)
    for b in range(bins):
        rows = (confidence >= b / bins) & ((confidence < (b + 1) / bins) | (b == bins - 1))
        if rows.any():
            right = (probabilities[rows].argmax(axis=1) == labels[rows]).mean()
            ref += rows.mean() * abs(right - confidence[rows].mean())
    assert_matches(ref, fm.calibration_error(labels, probabilities, n_bins=bins), 1e-12)
    names = np.array(["b", "a", "c"])
    assert fm.calibration_error(names[labels], probabilities, classes=names, n_bins=bins) == pytest.approx(ref)


def test_error_of_two_classes():
    assert fm.calibration_error([1, 0, 1], [0.75, 0.25, 0.75]) == pytest.approx(0.25)
    assert fm.calibration_error([1, 0], [[0, 1], [1, 0]]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0, 1], [[1, 0]]), "y has 2 labels and probabilities the shape"),
        (([], np.zeros((0, 2))), "y has 0 labels"),
        (([0], [[1.5, -0.5]]), "outside of 0 to 1"),
        (([0], [[np.nan, 1]]), "outside of 0 to 1"),
        (([2], [[1, 0]]), "y has the label 2; expected one of"),
        (([0], [[1, 0]], ["a"]), "one label for each of 2 columns"),
        (([0], [[1, 0]], None, 0), "n_bins is 0"),
    ],
)
def test_errors(arguments, message):
    y, probabilities, *rest = arguments
    options = dict(zip(("classes", "n_bins"), rest, strict=False))
    with pytest.raises(ValueError, match=message):
        fm.calibration_error(y, probabilities, **options)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_temperature_has_the_least_loss(weighted, sharpness, rng):
    labels, probabilities = draw(rng, 400, 4, sharpness)
    weight = rng.uniform(0, 2, 400) if weighted else None

    def loss(temperature):
        scaled = scale_by_temperature(probabilities, temperature)
        return np.average(-np.log(scaled[np.arange(400), labels]), weights=weight)

    comp = fit_temperature(labels, probabilities, weight)
    assert loss(comp) <= min(loss(temperature) for temperature in np.geomspace(1 / 8, 8, 200)) + 1e-9
    assert comp == pytest.approx(sharpness, rel=0.4)


def test_temperatures_are_bounded():
    right = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert fit_temperature(np.array([0, 1]), right) == pytest.approx(1 / 8, rel=1e-3)
    assert fit_temperature(np.array([1, 0]), right) == pytest.approx(8, rel=1e-3)
    assert scale_by_temperature(right, 1.0) is right
    scaled = scale_by_temperature(right, 2.0)
    assert np.isfinite(scaled).all() and np.array_equal(scaled.argmax(axis=1), [0, 1])
