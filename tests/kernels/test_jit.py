"""The compiler pass that inlines: the same machine code as by Numba's own."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest

numba = pytest.importorskip("numba")
if numba.config.DISABLE_JIT:
    pytest.skip("nothing is compiled", allow_module_level=True)

from numba.core import compiler  # noqa: E402
from numba.core.errors import NumbaError  # noqa: E402

from fastmlp._kernels.cpu import inline_pass, numba_jit  # noqa: E402


@numba_jit.compile_inline
def clipped(x, limit):
    if x > limit:
        return limit
    return x


@numba_jit.compile_inline
def scaled(x, factor=2.0, shift=None):
    if shift is not None:
        x += shift
    return x * factor


@numba_jit.compile_inline
def each(function, x, limit):
    for i in range(x.size):
        x[i] = function(x[i], limit)


@numba_jit.compile_inline
def nothing(x):
    pass


@numba_jit.compile_inline
def total(x, limit):
    sum = 0.0
    for i in range(x.size):
        if x[i] < -9.0:
            continue
        value = clipped(x[i], limit)
        for _ in range(2):
            value = clipped(value + sum, limit)
        sum += value
        if sum > 100.0:
            break
    else:
        sum = scaled(sum, shift=limit)
    return sum


def with_captured(power):
    @numba_jit.compile_inline
    def raised(x, limit):
        return clipped(x**power, limit)

    return raised


raised = with_captured(3)


def twice(x, y):
    sum = total(x, 1.0)
    for i in range(min(y.size, 9)):
        y[i] = total(y, sum) - clipped(sum, y[i]) + scaled(y[i]) + scaled(shift=y[i], x=sum, factor=0.5)
    each(raised, y, sum)
    each(clipped, y, 1.5)
    nothing(y)
    return sum


def machine_code(pipeline):
    compiled = numba.njit(pipeline_class=pipeline, **numba_jit.OPTIONS)(twice)
    vector = numba.float64[::1]
    compiled.compile((vector, vector))
    x, y = np.linspace(-2, 2, 7), np.linspace(0, 1, 5)
    results = compiled(x, y), *y
    lines = compiled.inspect_asm(compiled.signatures[0]).splitlines()
    code = [line for line in lines if re.match(r"\t[a-z]", line)]
    # Names and labels contain a counter of earlier compilations.
    return [re.sub(r"_ZN\S+|\.L\w+|\.?numba\S+", "", line) for line in code], results


@pytest.mark.slow
def test_same_code_as_by_numbas_own_pipeline():
    ref, ref_results = machine_code(compiler.Compiler)
    comp, results = machine_code(numba_jit.KernelCompiler)
    assert len(ref) > 200
    assert comp == ref and results == ref_results
    sums = twice(np.linspace(-2, 2, 7), y := np.linspace(0, 1, 5)), *y  # runs as Python, not compiled
    np.testing.assert_allclose(results, sums, rtol=1e-14)


def wrong(x):
    return total(x, "limit")


def test_inlined_functions_are_analyzed_once(monkeypatch):
    @numba_jit.compile_inline
    def added(x, y):
        return x + y

    def four(x):
        return added(added(x, 1), added(x, added(2.0, x)))

    made = []
    run = inline_pass._Worker.run_untyped_passes
    monkeypatch.setattr(inline_pass._Worker, "run_untyped_passes", lambda self, f: made.append(f) or run(self, f))
    assert numba_jit.compile_once(four)(1) == numba_jit.compile_once(four)(1.0) == 6 and made == [added.py_func]


def test_without_the_pass_numba_inlines(monkeypatch):
    monkeypatch.setitem(sys.modules, inline_pass.__name__, None)  # as if an import in it failed
    ref = twice(np.linspace(-2, 2, 7), np.linspace(0, 1, 5))
    comp = numba_jit.compile_once(twice)(np.linspace(-2, 2, 7), np.linspace(0, 1, 5))
    np.testing.assert_allclose(comp, ref, rtol=1e-14)


@pytest.mark.parametrize("arguments", ["x, 1, 2", "", "x, other=1", "*(x, x)"])
def test_a_call_that_does_not_fit(arguments):
    scope = {"clipped": clipped}
    exec(f"def calls(x):\n    return clipped({arguments})", scope)
    with pytest.raises((NumbaError, TypeError), match="argument"):
        numba_jit.compile_once(scope["calls"])(1.0)
