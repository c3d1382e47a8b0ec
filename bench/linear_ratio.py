"""Compare Linear of the Numba backend with NumPy's BLAS on one thread: ``python bench/linear_ratio.py``.

The ratio is NumPy / Numba of median times, printed after a check that both results agree.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from interleave import interleaved
from threadpoolctl import threadpool_limits

from fastmlp._kernels import get_backend

SHAPES = [(200, 3072, 100), (200, 100, 10), (32, 64, 64), (100, 3072, 50), (128, 784, 512), (1, 64, 64)]


def contenders(n: int, inputs: int, outputs: int) -> tuple[dict, dict]:
    """Return {backend: call} of forward and of backward on the same data, after checking that the results agree."""
    rng = np.random.default_rng(0)
    x, dy = (rng.normal(size=(n, width)).astype(np.float32) for width in (inputs, outputs))
    weight, bias = rng.normal(size=(outputs, inputs)).astype(np.float32), rng.normal(size=outputs).astype(np.float32)
    forward, backward, results = {}, {}, []
    for name in ("numpy", "numba"):
        ops = get_backend(name)
        y, gradients = np.empty_like(dy), (np.empty_like(x), np.empty_like(weight), np.empty_like(bias))
        forward[name] = partial(ops.linear_forward, x, weight, bias, y)
        backward[name] = partial(ops.linear_backward, dy, x, weight, *gradients)
        forward[name]()
        backward[name]()
        results.append((y, *gradients))
    for ref, comp in zip(*results):
        np.testing.assert_allclose(comp, ref, rtol=1e-3, atol=1e-3 * np.sqrt(max(n, inputs)))
    return forward, backward


def main() -> None:
    """Print the table of times and ratios."""
    print(f"{'N':>5} {'I':>5} {'O':>5}  {'forward us':>10} {'ratio':>6}  {'backward us':>11} {'ratio':>6}  {'both':>5}")
    for shape in SHAPES:
        with threadpool_limits(1):
            forward, backward = (interleaved(calls) for calls in contenders(*shape))
        cells = [
            f"{t['numba'] * 1e6:>{w}.1f} {t['numpy'] / t['numba']:>6.2f}" for t, w in ((forward, 10), (backward, 11))
        ]
        both = (forward["numpy"] + backward["numpy"]) / (forward["numba"] + backward["numba"])
        print("{:>5} {:>5} {:>5}".format(*shape), *cells, f"{both:5.2f}", sep="  ", flush=True)


if __name__ == "__main__":
    main()
