"""Scores of a report beside scikit-learn's, and by hand."""

import math

import numpy as np
import pytest

from fastmlp.reports.scores import class_scores, confusion_matrix


@pytest.mark.parametrize("rows", [2, 7, 300])
@pytest.mark.parametrize("classes", [2, 5])
def test_confusion_matrix_and_scores(rows, classes, rng):
    metrics = pytest.importorskip("sklearn.metrics")
    targets, labels = rng.integers(0, classes, (2, rows))
    comp = confusion_matrix(targets, labels, classes)
    assert np.array_equal(metrics.confusion_matrix(targets, labels, labels=range(classes)), comp)
    ref = metrics.precision_recall_fscore_support(targets, labels, labels=range(classes), zero_division=np.nan)
    for (precision, recall, f1, number), found in zip(np.transpose(ref), class_scores(comp), strict=True):
        assert found.rows == number
        np.testing.assert_allclose(found[:3], [precision, recall, f1], rtol=1e-15)


def test_scores_of_a_class_without_rows():
    precision, recall, f1, rows = class_scores(np.array([[4, 0], [0, 0]]))[1]
    assert math.isnan(precision) and math.isnan(recall) and math.isnan(f1) and rows == 0
