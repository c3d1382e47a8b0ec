"""An activation, a loss, an optimizer and a layer of your own.

A part needs its formula and its derivative. Registered parts are saved and loaded by name, and a gradient check tells
whether the derivative is right.

    python examples/own_parts.py
"""

import warnings

import numpy as np

import fastmlp as fm
from fastmlp.losses import ElementwiseLoss

# A model with parts that have no compiled formula trains module by module, which is slower than the engine; fastmlp
# says so once.
warnings.simplefilter("ignore", fm.PerformanceWarning)

# ## Activation
#
# h(x) = sin(x) (Sitzmann et al., arXiv:2006.09661). `_compute` keeps x for the gradient dx = dy cos(x).


@fm.register_activation
class Sine(fm.Activation):
    kind = "sine"

    def _compute(self, x, keep):
        if keep:
            self._saved = (x,)
        return np.sin(x)

    def _gradient(self, dy, need_dx):
        return dy * np.cos(self._saved[0])


# ## Layer
#
# A gate for each column, y_ij = x_ij g_j with g = 1 / (1 + exp(-a)) and the parameter a. Gradients: dx_ij = dy_ij g_j,
# and da_j = g_j (1 - g_j) sum_i dy_ij x_ij. `config` describes the layer in saved files.


@fm.register_module
class Gate(fm.Module):
    def __init__(self, width, *, dtype="float32"):
        super().__init__(np.dtype(dtype), width, width)
        self.width = width
        self.set_arrays({"a": np.zeros(width, self.dtype)}, {})

    def _compute(self, x, keep):
        if keep:
            self._saved = (x,)
        return x / (1 + np.exp(-self.params["a"]))

    def _gradient(self, dy, need_dx):
        (x,) = self._saved
        gate = 1 / (1 + np.exp(-self.params["a"]))
        self.grads["a"][...] = gate * (1 - gate) * (dy * x).sum(axis=0)
        self.has_gradients = True
        return dy * gate

    def config(self):
        return {"type": "Gate", "width": self.width, "dtype": str(self.dtype)}


# ## Loss
#
# The mean of |x - t|^3 over all elements. `row_scale` has the weight of each row, which includes the mean.


@fm.register_loss
class CubicLoss(ElementwiseLoss):
    def _call(self, x, target, row_scale, losses, dx):
        d = x - target
        if losses is not None:
            losses[...] = row_scale * (np.abs(d) ** 3).sum(axis=1)
        if dx is not None:
            dx[...] = row_scale[:, None] * 3 * d * np.abs(d)


# ## Optimizer
#
# An optimizer that only changes settings derives from the nearest one.


@fm.register_optimizer
class CautiousAdam(fm.Adam):
    def __init__(self, lr=1e-3):
        super().__init__(lr, betas=(0.8, 0.99), clip_norm=1.0)


# ## Check, train, save, load


def make(dtype):
    layers = [fm.Linear(4, 16, rng=0, dtype=dtype), Sine(), Gate(16, dtype=dtype), fm.Linear(16, 1, rng=1, dtype=dtype)]
    return fm.Sequential(*layers)


rng = np.random.default_rng(0)
X = rng.normal(size=(500, 4))
y = np.sin(X[:, :1]) * X[:, 1:2]
report = fm.check_gradients(make("float64"), CubicLoss(), X[:5], y[:5])
print(f"gradients: largest relative error {report.max_error:.1e}, passed: {report.passed}")

trainer = fm.Trainer(make("float32"), CubicLoss(), CautiousAdam())
history = trainer.fit(X, y, epochs=30, batch_size=25, rng=0)
print(f"loss {history[0]['train_loss']:.4f} after one epoch, {history[-1]['train_loss']:.4f} after {len(history)}")

fm.save(trainer.model, "own.safetensors")
loaded = fm.load_model("own.safetensors")
print("the loaded model predicts the same:", bool((loaded.infer(X[:9]) == trainer.model.infer(X[:9])).all()))

# ## With the speed of the engine
#
# A formula that is written in the vocabulary of `fastmlp._kernels.number` compiles for the CPU's vectors and for GPUs;
# a class that names it then trains in native code. CONTRIBUTING.md shows that for each kind of part.
