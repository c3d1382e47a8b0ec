"""The compiler pipeline that is faster than Numba's: the same machine code, and Numba as it was afterwards."""

from __future__ import annotations

import gc
import re

import numpy as np
import pytest

numba = pytest.importorskip("numba")
if numba.config.DISABLE_JIT:
    pytest.skip("nothing is compiled", allow_module_level=True)

from numba.core import compiler, ir  # noqa: E402

from fastmlp._kernels.cpu import jit  # noqa: E402


@jit.inline
def clipped(x, limit):
    if x > limit:
        x = limit
    return x


@jit.inline
def total(x, limit):
    sum = 0.0
    for i in range(x.size):
        value = clipped(x[i], limit)
        for _ in range(2):
            value = clipped(value + sum, limit)
        sum += value
    return sum


def twice(x, y):
    sum = total(x, 1.0)
    for i in range(y.size):
        y[i] = total(y, sum) - clipped(sum, y[i])
    return sum


def machine_code(pipeline):
    compiled = numba.njit(pipeline_class=pipeline, **jit._OPTIONS)(twice)
    vector = numba.float64[::1]
    compiled.compile((vector, vector))
    x, y = np.linspace(-2, 2, 7), np.linspace(0, 1, 5)
    results = compiled(x, y), *y
    lines = compiled.inspect_asm(compiled.signatures[0]).splitlines()
    code = [line for line in lines if re.match(r"\t[a-z]", line)]
    # Names and labels have numbers that count what was compiled before.
    return [re.sub(r"_ZN\S+|\.L\w+|\.?numba\S+", "", line) for line in code], results


def test_same_code_as_by_numbas_own_pipeline():
    ref, ref_results = machine_code(compiler.Compiler)
    comp, results = machine_code(jit._Compiler)
    assert len(ref) > 100
    assert comp == ref and results == ref_results
    sums = twice(np.linspace(-2, 2, 7), y := np.linspace(0, 1, 5)), *y  # as Python
    np.testing.assert_allclose(results, sums, rtol=1e-14)


def wrong(x):
    return total(x, "limit")


@pytest.mark.parametrize("collecting", [True, False])
def test_numba_and_the_collector_are_left_as_they_were(collecting):
    before = gc.isenabled()
    try:
        gc.enable() if collecting else gc.disable()
        assert jit.shared(twice)(np.ones(3), np.ones(3)) == twice(np.ones(3), np.ones(3))
        with pytest.raises(numba.TypingError):
            jit.shared(wrong)(np.ones(3))
        assert gc.isenabled() == collecting
        assert "__deepcopy__" not in vars(ir.Scope)
    finally:
        gc.enable() if before else gc.disable()
