"""The fast compiler pipeline: the same machine code as Numba's, and Numba is unchanged afterwards."""

from __future__ import annotations

import gc
import re
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

numba = pytest.importorskip("numba")
if numba.config.DISABLE_JIT:
    pytest.skip("nothing is compiled", allow_module_level=True)

from numba.core import compiler  # noqa: E402
from numba.core.errors import NumbaError  # noqa: E402
from numba.core.types.functions import BaseFunction  # noqa: E402

from fastmlp._kernels.cpu import numba_jit, pasting  # noqa: E402
from fastmlp._kernels.quick import quickly  # noqa: E402


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


def changed(core="numba.core"):
    """What is another one while kernels are compiled."""
    postproc, ssa = (pytest.importorskip(f"{core}.{name}") for name in ("postproc", "ssa"))
    functions = postproc.PostProcessor.run, ssa._run_ssa, ssa._run_block_rewrite, BaseFunction.get_call_type
    return *functions, gc.isenabled()


@pytest.mark.slow
@pytest.mark.parametrize("core", ["numba.core", "numba.cuda.core"])
@pytest.mark.parametrize("collecting", [True, False])
def test_numba_and_the_collector_are_left_as_they_were(collecting, core):
    before = gc.isenabled()
    try:
        gc.enable() if collecting else gc.disable()
        ref = changed(core)
        with quickly(core):
            inside = changed(core)
            assert not any(one is other for one, other in zip(inside[:-1], ref[:-1], strict=True)) and not inside[-1]
            with quickly(core):  # nested, as for the compilation of a callee
                assert changed(core) == inside
            assert changed(core) == inside
        assert changed(core) == ref
        assert numba_jit.compile_once(twice)(np.ones(3), np.ones(3)) == twice(np.ones(3), np.ones(3))
        with pytest.raises(numba.TypingError):
            numba_jit.compile_once(wrong)(np.ones(3))
        assert changed(core) == ref
    finally:
        gc.enable() if before else gc.disable()


@pytest.mark.slow
def test_a_compiler_that_has_not_what_is_replaced():
    with quickly("numba.no_such_core"):
        assert numba_jit.compile_once(twice)(np.ones(3), np.ones(3)) == twice(np.ones(3), np.ones(3))


def test_threads_take_turns():
    ref, inside, most = changed(), [], []

    def enter(number):
        with quickly():
            inside.append(number)
            most.append(len(inside))
            time.sleep(0.01)
            inside.remove(number)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(enter, range(8)))
    assert most == [1] * 8 and changed() == ref


def test_what_is_pasted_is_compiled_once(monkeypatch):
    @numba_jit.compile_inline
    def added(x, y):
        return x + y

    def four(x):
        return added(added(x, 1), added(x, added(2.0, x)))

    made = []
    run = pasting._Worker.run_untyped_passes
    monkeypatch.setattr(pasting._Worker, "run_untyped_passes", lambda self, f: made.append(f) or run(self, f))
    assert numba_jit.compile_once(four)(1) == numba_jit.compile_once(four)(1.0) == 6 and made == [added.py_func]


@pytest.mark.slow
def test_calls_are_resolved_for_each_of_their_types():
    def mixed(x, n):
        a, b = x * n, n * n
        return a + x, b + n, max(a, x), max(b, n), a / b, n // b, n**2, x**2

    x, n = np.float32(1.5), 3
    comp, ref = numba_jit.compile_once(mixed)(x, n), numba.njit(**numba_jit.OPTIONS)(mixed)(x, n)
    assert comp == ref and [type(one) for one in comp] == [type(one) for one in ref]


@pytest.mark.parametrize("arguments", ["x, 1, 2", "", "x, other=1", "*(x, x)"])
def test_a_call_that_does_not_fit(arguments):
    scope = {"clipped": clipped}
    exec(f"def calls(x):\n    return clipped({arguments})", scope)
    with pytest.raises((NumbaError, TypeError), match="argument"):
        numba_jit.compile_once(scope["calls"])(1.0)
