"""Focal losses: equal to formulas in PyTorch, relation to cross-entropy, and behavior at extreme logits."""

import numpy as np
import pytest
from checks import assert_matches, eps

import fastmlp as fm

torch = pytest.importorskip("torch")


def of_classes(x, t, gamma, alpha):
    log_p = torch.log_softmax(x, 1)
    return -(torch.tensor(alpha) * t * (1 - log_p.exp()) ** gamma * log_p).sum() / len(x)


def binary(x, t, gamma, alpha):
    """torchvision.ops.sigmoid_focal_loss."""
    p, entropy = torch.sigmoid(x), torch.nn.functional.binary_cross_entropy_with_logits(x, t, reduction="none")
    weight = alpha * t + (1 - alpha) * (1 - t)
    return (weight * entropy * (1 - (p * t + (1 - p) * (1 - t))) ** gamma).mean()


FORMULAS = [(fm.FocalLoss, of_classes, [0.5, 1.0, 2.0, 1.5]), (fm.BinaryFocalLoss, binary, 0.25)]


@pytest.mark.parametrize("loss, formula, alpha", FORMULAS)
@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
def test_beside_pytorch(backend, rng, dtype, loss, formula, alpha, gamma):
    x, t = rng.normal(size=(9, 4)).astype(dtype), rng.uniform(size=(9, 4)).astype(dtype)
    X = torch.tensor(x.astype(float), requires_grad=True)
    ref = formula(X, torch.tensor(t.astype(float)), gamma, alpha)
    ref.backward()
    for theirs, ours in zip((ref.detach(), X.grad), loss(gamma, alpha).forward_backward(x, t)):
        assert_matches(theirs, ours, 10 * eps(dtype) * (1 + theirs.abs()))


@pytest.mark.parametrize("gamma", [0.0, 0.01, 0.5, 2.0])
def test_sure_predictions(backend, dtype, gamma):
    x = np.array([[1e4, 0, -1e4], [90, -90, 0], [20, 0, -20], [1, 1, 1]], dtype)
    for loss, plain in (fm.FocalLoss, fm.CrossEntropyLoss()), (fm.BinaryFocalLoss, fm.BCEWithLogitsLoss()):
        for right in (0, 1, 2):
            t = np.eye(3)[[right] * 4]
            value, dx = loss(gamma).forward_backward(x, t)
            ref, slopes = plain.forward_backward(x, t)
            assert 0 <= value <= ref * (1 + 9 * eps(dtype)) and np.isfinite(dx).all()
            if gamma == 0:
                assert_matches(ref, value, 9 * eps(dtype) * ref)
                assert_matches(slopes, dx, 2 * eps(dtype))


def test_bad_arguments():
    for loss, alpha in (fm.FocalLoss, [1, -0.5]), (fm.BinaryFocalLoss, 1.5):
        for arguments, text in ((-1,), "gamma is -1; expected a finite number of at least 0"), ((2, alpha), "alpha is"):
            with pytest.raises(ValueError, match=text):
                loss(*arguments)
