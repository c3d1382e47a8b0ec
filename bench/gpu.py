"""Everything that needs an NVIDIA GPU, in one go: the tests on it, then training steps beside PyTorch and JAX.

    python bench/gpu.py --out bench/results/gpu-2026-01-01.json

All contenders have the data set on the device, compute in float32 (no TF32), have to show first that they make the
steps of the float64 reference, and are timed in turns, up to the end of their work on the device.
``--device cpu`` tries the script where there is no GPU, with NUMBA_ENABLE_CUDASIM=1 and a net of the simulator's size.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from fastmlp._kernels import use_backend
from fastmlp.benchmark import report
from fastmlp.benchmark.cases import CASES, Case, batches, first_weights, make_data
from fastmlp.benchmark.machine import describe
from fastmlp.benchmark.ours import Ours
from fastmlp.benchmark.timing import alternate
from fastmlp.benchmark.validate import disagreement, reference
from fastmlp.benchmark.with_jax import Jax
from fastmlp.benchmark.with_torch import Compiled, Eager

ROOT = Path(__file__).parents[1]
TINY = Case("tiny", (3, 4, 2), "relu", "cross entropy", "Adam", 4, rows=8)
TESTS = ["tests/test_cuda.py", "tests/kernels/test_contract.py", "tests/kernels/test_rows.py", "tests/modules"]


class OnGpu(Ours):
    """fastmlp's CUDA backend."""

    def __init__(self, *arguments: Any) -> None:
        with use_backend("cuda"):
            super().__init__(*arguments)


class Graph(Eager):
    """PyTorch: a whole step, captured in a CUDA graph."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        torch, eager = self._torch, self._step
        before = [param.detach().clone() for param in self._params]
        rows = torch.zeros(self.case.batch, dtype=torch.int64, device=self.device)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                eager(rows)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            loss = eager(rows)
        with torch.no_grad():  # as if no step had been made
            for param, first in zip(self._params, before, strict=True):
                param.copy_(first)
            for state in self._optimizer.state.values():
                for value in state.values():
                    if value is not None:
                        value.zero_()

        def step(some: Any) -> Any:
            rows.copy_(some)
            graph.replay()
            return loss

        self._step = step


def nets() -> list[Case]:
    """Four hidden layers of 64 and 128, at batches 2^12 to 2^18."""
    return [
        Case(f"width {width}, batch 2^{log}", (width, *[width] * 4, 16), "relu", "cross entropy", "Adam", 1 << log,
             rows=max(1 << log, 1 << 16))
        for width in (64, 128) for log in (12, 14, 16, 18)
    ]  # fmt: skip


def contenders(device: str) -> dict[str, Any]:
    """Name and class of each that can take part."""
    found: dict[str, Any] = {"fastmlp": OnGpu}
    if importlib.util.find_spec("torch"):
        kinds = {"torch": Eager} if device == "cpu" else {"torch": Eager, "torch.compile": Compiled, "graph": Graph}
        found |= {name: type(kind.__name__, (kind,), {"device": device}) for name, kind in kinds.items()}
    if importlib.util.find_spec("jax"):
        found["jax"] = type("Jax", (Jax,), {"platform": None})
    return found


def time_case(case: Case, kinds: dict[str, Any], rounds: int, seconds: float) -> dict[str, Any]:
    """Check and time a case."""
    data = make_data(case)
    weights = first_weights(case, data)
    expected = reference(case, data, weights, batches(case, 2))
    ready, results = {}, {}
    for name, kind in kinds.items():
        try:
            contender = kind(case, data, weights, 1)
            wrong = disagreement(contender, expected)
        except Exception as error:  # one that fails is reported, and the others go on
            wrong = f"{type(error).__name__}: {str(error)[:300]}"
        results[name] = {"status": "ok" if wrong is None else wrong}
        if wrong is None:
            ready[name] = contender
    for name, numbers in alternate(ready, lambda steps: batches(case, steps), rounds, seconds).items():
        results[name] |= numbers
    return {"name": case.name, "net": case.net, "batch": case.batch, "contenders": results}


def main() -> int:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=str(ROOT / f"bench/results/gpu-{datetime.date.today()}.json"))
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--cases", nargs="*", help="names (default: all)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.2, help="of one timing")
    parser.add_argument("--no-tests", action="store_true")
    options = parser.parse_args()
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    os.environ.setdefault("JAX_DEFAULT_MATMUL_PRECISION", "highest")
    document: dict[str, Any] = {"date": datetime.datetime.now().isoformat(timespec="seconds"), **describe()}
    document |= {"precision": "float32", "cases": []}
    if options.device == "cuda":
        import torch

        torch.set_float32_matmul_precision("highest")
        document["gpu"] = torch.cuda.get_device_name()
    if not options.no_tests:
        command = [sys.executable, "-m", "pytest", "-q", "-k", "cuda or gpu", *TESTS]
        ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        document["tests"] = {"rc": ran.returncode, "tail": ran.stdout[-3000:]}
        print(ran.stdout[-3000:], flush=True)
    for case in [TINY] if options.device == "cpu" else [*CASES.values(), *nets()]:
        if options.cases and case.name not in options.cases:
            continue
        result = time_case(case, contenders(options.device), options.rounds, options.seconds)
        document["cases"].append(result)
        for name, numbers in result["contenders"].items():
            shown = f"{numbers['us']:.1f} us" if "us" in numbers else numbers["status"]
            print(f"{case.name}: {name} {shown}", flush=True)
        report.write(document, options.out)  # after each: a run that is cut off leaves what it has
    return 0


if __name__ == "__main__":
    sys.exit(main())
