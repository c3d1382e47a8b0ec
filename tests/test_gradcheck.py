import loss_zoo
import numpy as np
import pytest
from activations import EXAMPLES, KINKED

import fastmlp as fm

F64 = np.float64
MODULES = {
    "Linear": lambda: fm.Linear(5, 4, dtype=F64, rng=0),
    "no bias": lambda: fm.Linear(5, 4, bias=False, dtype=F64, rng=0),
    **EXAMPLES,
    "Softmax": fm.Softmax,
    "LayerNorm": lambda: fm.LayerNorm(5, dtype=F64),
    "plain LayerNorm": lambda: fm.LayerNorm(5, affine=False, dtype=F64),
    "Normalize": lambda: fm.Normalize(np.arange(5), np.arange(1, 6), dtype=F64),
    "Dropout": lambda: fm.Dropout(0.4, rng=0),
}


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.sampled
def test_modules(backend, rng, name):
    report = fm.check_gradients(MODULES[name](), x=rng.normal(size=(6, 5)))
    assert report.passed and report.max_error <= 1e-6 and report.unchecked == 0
    assert report.arrays[-2].checked == 30 and report.arrays[-1].checked == 8


@pytest.mark.parametrize("name", loss_zoo.NAMES)
@pytest.mark.parametrize("weighted", [False, True], ids=["", "sample_weight"])
@pytest.mark.sampled
def test_losses(backend, rng, name, weighted):
    weight = rng.uniform(0.1, 1, 6) if weighted else None
    x, targets = loss_zoo.outputs_of(name, rng, 6), loss_zoo.targets_of(name, rng, 6)
    report = fm.check_gradients(loss_zoo.make(name), x=x, targets=targets, sample_weight=weight)
    assert report.passed and report.arrays[0].checked == 30


@pytest.mark.parametrize("loss", [fm.PoissonLoss, fm.MSELoss])
def test_sums_over_the_elements_of_a_row(backend, rng, loss):
    report = fm.check_gradients(loss(reduction="rows"), x=rng.normal(size=(6, 4)), targets=rng.poisson(2.0, (6, 4)))
    assert report.passed and report.arrays[0].checked == 24


def test_probabilities(backend, rng):
    loss = fm.CrossEntropyLoss(from_logits=False)
    fm.check_gradients(loss, x=rng.uniform(0.1, 1, size=(6, 4)), targets=rng.integers(0, 4, 6))
    fm.check_gradients(fm.Softmax(), loss, rng.normal(size=(6, 4)), rng.integers(0, 4, 6))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_random_models_of_five_layers(backend, seed):
    rng = np.random.default_rng(seed)
    widths = rng.integers(1, 18, 6)
    modules = [fm.Normalize.fit(rng.normal(size=(20, widths[0])), dtype=F64)]
    names = fm.modules.activation_names()
    for layer in range(5):
        inner = fm.MLP(widths[layer], [], widths[layer + 1], dtype=F64, rng=rng)
        shape = fm.MLP(widths[layer + 1], [1], 1, str(rng.choice(names)), dtype=F64, rng=0)[1]
        extra = fm.LayerNorm(widths[layer + 1], dtype=F64) if rng.random() < 0.3 else fm.Dropout(0.2, rng=0)
        modules += [inner, extra] if layer == 4 else [inner, extra, type(shape).from_config(shape.config())]
    model = fm.Sequential(*modules)
    x, y = rng.normal(size=(9, widths[0])), rng.integers(0, widths[5], 9)
    report = fm.check_gradients(model, fm.CrossEntropyLoss(), x, y, rng=seed, entries=60)
    assert report.passed and [a.name for a in report.arrays][-2:] == ["x", "directions"]


def test_every_parameter_is_checked(backend, rng):
    model = fm.MLP(4, [6], 3, "tanh", dtype=F64, rng=0)
    before = model.state_dict()
    x = rng.normal(size=(5, 4))
    kept = x.copy()
    report = fm.check_gradients(model, fm.CrossEntropyLoss(), x, [0, 1, 2, 0, 1])
    assert [a.name for a in report.arrays] == ["0.weight", "0.bias", "2.weight", "2.bias", "x", "directions"]
    assert [a.checked for a in report.arrays] == [24, 6, 18, 3, 20, 8]
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
    np.testing.assert_array_equal(x, kept)
    assert "Gradients agree at tolerance 1e-06" in str(report)


def test_a_sample_of_a_large_array(rng, backend):
    report = fm.check_gradients(fm.Linear(30, 20, dtype=F64, rng=0), x=rng.normal(size=(3, 30)), entries=50)
    assert [(a.checked, a.size) for a in report.arrays[:3]] == [(50, 600), (20, 20), (50, 90)]


class Wrong(fm.Linear):
    """Its weight's gradient is off by ``factor``, its bias's lacks what ``drop`` says."""

    factor, drop = 1.0, False

    def _gradient(self, dy, need_dx):
        dx = super()._gradient(dy, need_dx)
        self.grads["weight"][1, 2] *= self.factor
        if self.drop:
            self.grads["bias"][...] = 0
        return dx


def test_a_wrong_gradient_is_named(backend, rng):
    layer = Wrong(5, 4, dtype=F64, rng=0)
    layer.factor = 1 + 1e-5
    x = rng.normal(size=(6, 5))
    with pytest.raises(fm.GradientCheckError, match=r"weight\[1, 2\]: analytic \S+, numerical \S+, error 1e-05"):
        fm.check_gradients(layer, x=x)
    report = fm.check_gradients(layer, x=x, raise_on_failure=False)
    assert not report.passed and "DISAGREE" in str(report)
    assert report.failures[0].name == "weight"
    assert fm.check_gradients(layer, x=x, tolerance=1e-3).passed


def test_a_float32_model_is_checked_as_a_float64_copy(backend, rng):
    scaling = fm.Normalize(np.arange(4), np.arange(1, 5))
    model = fm.MLP(4, [6, 5], 3, "gelu", layer_norm=True, dropout=0.2, normalize=scaling, rng=0)
    before, step = model.state_dict(), model[4].step
    report = fm.check_gradients(model, fm.CrossEntropyLoss(), rng.normal(size=(5, 4)), [0, 1, 2, 0, 1])
    assert report.passed and report.max_error <= 1e-6
    assert model.dtype == np.float32 and model[4].step == step and not any(m.has_gradients for m in model.modules())
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
    wrong = Wrong(5, 4, rng=0)
    wrong.factor = 1 + 1e-5  # 100 times below the resolution of finite differences in float32
    with pytest.raises(fm.GradientCheckError, match=r"weight\[1, 2\]: analytic \S+, numerical \S+, error 1e-05"):
        fm.check_gradients(wrong, x=rng.normal(size=(6, 5)))


def test_a_missing_gradient_fails(backend, rng):
    layer = Wrong(5, 4, dtype=F64, rng=0)
    layer.drop = True
    report = fm.check_gradients(layer, x=rng.normal(size=(6, 5)), raise_on_failure=False)
    assert [a.name for a in report.failures] == ["bias", "directions"]


def test_a_gradient_that_is_not_finite_fails(backend, rng):
    layer = Wrong(5, 4, dtype=F64, rng=0)
    layer.factor = np.nan
    report = fm.check_gradients(layer, x=rng.normal(size=(6, 5)), raise_on_failure=False)
    assert not report.passed and report.failures[0].index == (1, 2)


@pytest.mark.parametrize("name", KINKED)
def test_kinks_are_counted(backend, rng, name):
    for kink in EXAMPLES[name]().kinks:
        x = rng.uniform(0.1, 0.9, size=(4, 3)) * rng.choice([-1, 1], size=(4, 3)) + kink
        x[1, 2], x[2, 0] = kink, kink + 1e-7 * max(1, abs(kink))
        report = fm.check_gradients(EXAMPLES[name](), x=x)
        entries = report.arrays[0]
        # The first entry is on the kink for every step size, the second only until the step has been reduced twice.
        assert entries.unchecked == 1 and entries.checked == 11 and entries.kinks == 3 + 2
        # Entries that cannot be checked are replaced by other random entries.
        assert fm.check_gradients(EXAMPLES[name](), x=x, entries=11).arrays[0].checked == 11


def test_nothing_passes_in_silence(backend):
    with pytest.raises(fm.GradientCheckError, match="x: all entries on a kink"):
        fm.check_gradients(fm.ReLU(), x=np.zeros((2, 2)))


def test_dropout_stands_still_and_goes_on(backend, rng):
    model = fm.Sequential(fm.Linear(4, 4, dtype=F64, rng=0), fm.Dropout(rng=0))
    model[1].set_position(step=5)
    assert fm.check_gradients(model, x=rng.normal(size=(3, 4))).passed
    assert model[1].step == 5


def test_bad_arguments(backend, rng):
    x = rng.normal(size=(3, 4))
    with pytest.raises(ValueError, match="targets but no loss"):
        fm.check_gradients(fm.ReLU(), x=x, targets=[1])
    with pytest.raises(ValueError, match="two losses"):
        fm.check_gradients(fm.MSELoss(), fm.MSELoss(), x, x)
    with pytest.raises(ValueError, match="tolerance is 0"):
        fm.check_gradients(fm.ReLU(), x=x, tolerance=0)
    with pytest.raises(ValueError, match=r"check_gradients: x has dtype object"):
        fm.check_gradients(fm.ReLU())
