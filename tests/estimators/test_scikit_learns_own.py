"""scikit-learn's own tests of its MLP classes, run with the estimators of fastmlp."""

import importlib.util

import pytest
import sklearn.neural_network
from sklearn.utils.estimator_checks import parametrize_with_checks

import fastmlp as fm

# "default": they are written for warnings that do not stop them.
pytestmark = pytest.mark.filterwarnings("default")

CANNOT_HOLD = {
    "test_gradient": "it calls the private _loss_grad_lbfgs; tests/estimators/test_lbfgs.py checks our gradient so",
}


def their_tests():
    """The test functions of sklearn/neural_network/tests/test_mlp.py, imported while its classes' names are ours."""
    spec = importlib.util.find_spec("sklearn.neural_network.tests.test_mlp")
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLPClassifier", "MLPRegressor"):
            patch.setattr(sklearn.neural_network, name, getattr(fm, name))
        spec.loader.exec_module(module)
    assert module.MLPClassifier is fm.MLPClassifier
    return {name: value for name, value in vars(module).items() if name.startswith("test_")}


THEIRS = their_tests()
globals().update({name: test for name, test in THEIRS.items() if name not in CANNOT_HOLD})


def test_the_list_names_tests_that_there_are():
    assert set(CANNOT_HOLD) < set(THEIRS) and len(THEIRS) > 40


@pytest.fixture
def global_random_seed():
    return 42


@parametrize_with_checks([fm.MLPClassifier(max_iter=100), fm.MLPRegressor(max_iter=100)])
def test_estimator_checks(estimator, check):
    check(estimator)
