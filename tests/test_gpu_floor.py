"""`bench/gpu_floor.py` against a calculation by hand for a GPU of round numbers."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from checks import assert_matches

from fastmlp.benchmark.cases import CASES, Case

pytest.importorskip("numba_cuda")


@pytest.fixture
def floors(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "bench")
    return importlib.import_module("gpu_floor")


def test_the_parts_of_a_floor(floors):
    gpu = floors.Gpu((9, 0), 100, 1e9, 1e12, 1 << 20)
    case = Case("one", (10, 20, 30), "relu", "cross entropy", "Adam", 1000, rows=2000)
    floor = floors.floor_of(case, gpu, "float32", 5)
    # 1000 rows times 3 * (200 + 600) - 200 FMAs, at 128 * 100 * 1e9 FMAs per second.
    assert_matches(1000 * 2200 / 12.8e12 * 1e6, floor.operations, 1e-12)
    assert floor.memory == 0 and floor.barriers == 5 * 0.9 and floor.us == floor.operations + floor.barriers
    assert_matches(6 / 16 * floor.operations, floors.floor_of(case, gpu, "bf16x6", 5).operations, 1e-12)
    # Reads: 1000 rows of 40 bytes. Reads and writes: 850 parameters with two arrays of the optimizer, and 50 outputs.
    small = gpu._replace(cache=1 << 17)
    floor = floors.floor_of(case, small, "float32", 0)
    assert_matches((1000 * 40 + 2 * 4 * (850 * 3 + 50 * 1000)) / 1e12 * 1e6, floor.memory, 1e-12)
    assert floor.us == floor.memory > floor.operations
    assert floors.floor_of(case, gpu._replace(capability=(8, 9)), "float32", 5) is None


@pytest.mark.parametrize("name", CASES)
def test_every_case_has_one(floors, name):
    gpu = floors.Gpu((8, 0), 108, 1.41e9, 1.555e12, 40 << 20)
    found = [floors.floor_of(CASES[name], gpu, precision, 3).us for precision in ("float32", "bf16x6", "tf32", "bf16")]
    assert found == sorted(found, reverse=True) and found[-1] > 3 * 0.9
