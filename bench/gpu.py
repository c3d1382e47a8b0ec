"""Run the tests that need an NVIDIA GPU, then time training steps of fastmlp, PyTorch and JAX.

    python bench/gpu.py --out bench/results/gpu-2026-01-01.json

All contenders have the data set on the device and compute in the same precision: float32 without TF32; float32
accuracy by six bf16 products (PyTorch uses float32 here); TF32; bf16 with float32 sums (PyTorch uses autocast). Each
must first agree with the steps of the float64 reference. Timings are interleaved and include the work on the device.

Kernels of fastmlp are compiled first, in several processes, and cached on disk for the timed processes. The tests and
the cases run in separate processes, as an error on a GPU makes it unusable for the process: the remaining cases then
run in a new process. Processes that exceed their time limit are stopped and listed. The JSON file is rewritten after
each case.

``--device cpu`` runs the script in the CUDA simulator (set NUMBA_ENABLE_CUDASIM=1), with a network of suitable size.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gpu_floor import floor_of, this_gpu

from fastmlp._kernels import PRECISIONS, use_backend
from fastmlp._kernels.cuda.runtime import SIMULATED
from fastmlp.benchmark import report
from fastmlp.benchmark.cases import CASES, Case, batches, first_weights, make_data
from fastmlp.benchmark.machine import describe
from fastmlp.benchmark.ours import Ours
from fastmlp.benchmark.timing import alternate
from fastmlp.benchmark.validate import disagreement, reference
from fastmlp.benchmark.with_jax import Jax
from fastmlp.benchmark.with_torch import Compiled, Eager
from fastmlp.engine.gpu import GpuEngine

ROOT = Path(__file__).parents[1]
TINY = Case("tiny", (3, 4, 2), "relu", "cross entropy", "Adam", 4, rows=8)
TESTS = ["tests/test_cuda.py", "tests/kernels/test_contract.py", "tests/kernels/test_rows.py", "tests/modules"]
JAX = {"float32": "highest", "bf16x6": "BF16_BF16_F32_X6", "tf32": "TF32_TF32_F32", "bf16": "BF16_BF16_F32"}
CONTENDERS = ("fastmlp", "torch", "torch.compile", "graph", "jax")
RESULT = "result: "  # prefix of the lines that a worker sends to this process


class OnGpu(Ours):
    """Contender fastmlp on the CUDA backend."""

    def __init__(self, *arguments: Any) -> None:
        with use_backend("cuda"):
            super().__init__(*arguments)
        self.notes: dict[str, Any] = {}

    def losses(self, order: Any) -> list[float]:
        """Run the first steps; record their duration and the resources of the compiled kernels in ``notes``."""
        start = time.perf_counter()
        found = super().losses(order)
        self.notes["first_steps_seconds"] = round(time.perf_counter() - start, 1)
        if SIMULATED:  # the simulator has no engine
            return found
        session = self._trainer._session
        if session is None or not isinstance(session.engine, GpuEngine):
            raise RuntimeError("the steps ran module by module; expected the engine")
        self.notes["stages"] = len(session.engine.plan.stages)
        self.notes["kernels"] = [
            {
                name: getattr(compiled, name, None)
                for name in ("regs_per_thread", "local_mem_per_thread", "shared_mem_per_block")
            }
            for kernel in session.engine.machine.launched.values()
            for compiled in getattr(kernel, "overloads", {}).values()
        ]
        return found


class Graph(Eager):
    """Contender PyTorch: a whole step, captured in a CUDA graph."""

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
        with torch.no_grad():  # undo the warm-up steps
            for param, first in zip(self._params, before, strict=True):
                param.copy_(first)
            for state in self._optimizer.state.values():
                for value in state.values():
                    if value is not None:
                        value.zero_()

        def step(batch: Any) -> Any:
            rows.copy_(batch)
            graph.replay()
            return loss

        self._step = step


def nets() -> list[Case]:
    """Return cases with four hidden layers of width 64 and 128, and batches of 2^12 to 2^18 rows."""
    return [
        Case(f"width {width}, batch 2^{log}", (width, *[width] * 4, 16), "relu", "cross entropy", "Adam", 1 << log,
             lr=1e-4, eps=1e-5, rows=max(1 << log, 1 << 16))
        for width in (64, 128) for log in (12, 14, 16, 18)
    ]  # fmt: skip


def contenders(device: str, case: Case, precision: str) -> dict[str, Any]:
    """Return {name: class} of the contenders that are installed."""
    found: dict[str, Any] = {"fastmlp": type("OnGpu", (OnGpu,), {"precision": precision})}
    if importlib.util.find_spec("torch"):
        kinds: dict[str, Any] = {"torch": Eager}
        if device != "cpu":
            kinds |= {"torch.compile": Compiled, "graph": Graph}
        if case.name not in CASES:
            kinds.pop("torch.compile", None)  # its compilation takes longest, and the CUDA graph is faster
        found |= {
            name: type(kind.__name__, (kind,), {"device": device, "precision": precision})
            for name, kind in kinds.items()
        }
    if importlib.util.find_spec("jax"):
        found["jax"] = type("Jax", (Jax,), {"platform": None, "precision": precision})
    return found


def time_case(case: Case, kinds: dict[str, Any], precision: str, rounds: int, seconds: float) -> dict[str, Any]:
    """Check and time a case."""
    data = make_data(case)
    weights = first_weights(case, data)
    expected = reference(case, data, weights, batches(case, 2))
    ready: dict[str, Any] = {}
    results: dict[str, Any] = {}
    for name, kind in kinds.items():
        start, contender = time.perf_counter(), None
        try:
            contender = kind(case, data, weights, 1)
            wrong = disagreement(contender, expected, precision)
        except Exception as error:  # a failing contender is reported and must not end the run
            wrong = f"{type(error).__name__}: {str(error)[:300]}"
        results[name] = {"status": "ok" if wrong is None else wrong}
        results[name] |= {
            "checked_in_seconds": round(time.perf_counter() - start, 1),
            **getattr(contender, "notes", {}),
        }
        if wrong is None:
            ready[name] = contender
    try:
        for name, numbers in alternate(ready, lambda steps: batches(case, steps), rounds, seconds).items():
            results[name] |= numbers
    except Exception as error:
        for name in ready:
            results[name]["status"] = f"not timed, {type(error).__name__}: {str(error)[:300]}"
    return {
        "name": case.name, "net": case.net, "batch": case.batch, "precision": precision, "contenders": results,
    }  # fmt: skip


def compile_ahead(case: Case, precision: str) -> None:
    """Run one step, which compiles the kernel and caches it on disk."""
    data = make_data(case)
    model: Any = type("OnGpu", (OnGpu,), {"precision": precision})(case, data, first_weights(case, data), 1)
    model.losses(batches(case, 1))


def measure(cases: list[Case], options: argparse.Namespace) -> None:
    """Time the cases in a worker process; print a line of JSON for each."""
    precision = options.precisions[0]
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    os.environ["JAX_DEFAULT_MATMUL_PRECISION"] = JAX[precision]
    about = {}
    if options.device == "cuda":
        import torch

        torch.set_float32_matmul_precision("highest" if precision in ("float32", "bf16x6") else "high")
        about["gpu"] = torch.cuda.get_device_name()
    print(RESULT + json.dumps(about), flush=True)
    for case in cases:
        if options.compile_only:
            compile_ahead(case, precision)
            continue
        kinds = contenders(options.device, case, precision)
        if options.contenders:
            kinds = {name: kind for name, kind in kinds.items() if name in options.contenders}
        found = time_case(case, kinds, precision, options.rounds, options.seconds)
        ours = found["contenders"].get("fastmlp", {})
        if "us" in ours and not SIMULATED:
            floor = floor_of(case, this_gpu(), precision, ours["stages"])
            if floor is not None:
                found["floor"] = {"us": floor.us, **floor._asdict()}
        print(RESULT + json.dumps({"case": found}), flush=True)


def worker(options: argparse.Namespace, precision: str, cases: list[Case], *more: str) -> list[str]:
    """Return the command of a worker process."""
    command = [sys.executable, str(Path(__file__).resolve()), "--worker", "--device", options.device, *more]
    command += ["--precisions", precision, "--rounds", str(options.rounds), "--seconds", str(options.seconds)]
    command += ["--contenders", *options.contenders] if options.contenders else []
    return [*command, "--cases", *(case.name for case in cases)]


def compile_all(options: argparse.Namespace, cases: list[Case], seconds: float) -> dict[str, Any]:
    """Compile the kernels of all cases in parallel processes; return the duration and the failures."""
    began, failed = time.monotonic(), []
    # One process per distinct kernel, as cases may share one.
    kinds = {(precision, kernel_of(case)): (precision, case) for case in cases for precision in options.precisions}
    waiting, running = list(kinds.values()), {}
    while waiting or running:
        while waiting and len(running) < min(8, os.cpu_count() or 1):
            precision, case = waiting.pop(0)
            command, said = worker(options, precision, [case], "--compile-only"), tempfile.TemporaryFile("w+")
            process = subprocess.Popen(command, cwd=ROOT, stdout=said, stderr=subprocess.STDOUT)
            running[f"{case.name}, {precision}"] = process, said
        late = time.monotonic() - began > seconds
        for name, (process, said) in list(running.items()):
            if late:
                process.kill()
            if late or process.poll() is not None:
                if process.wait():
                    said.seek(0)
                    failed.append({"kernel": name, "ended": process.returncode, "tail": said.read()[-2000:]})
                said.close()
                del running[name]
        if late:
            failed += [{"kernel": f"{case.name}, {precision}", "ended": "not begun"} for precision, case in waiting]
            break
        time.sleep(0.05)
    return {"seconds": round(time.monotonic() - began, 1), "kernels": len(kinds), "failed": failed}


def kernel_of(case: Case) -> tuple[Any, ...]:
    """Return the properties of a case that its kernel is compiled for; the sizes decide on wide tiles."""
    widest = max(case.sizes)
    return case.activation, case.loss, case.optimizer, case.uint8, widest, case.batch * widest > 1 << 19


def attend(command: list[str], seconds: Callable[[], float], seen: Callable[[str], object]) -> str | None:
    """Run a process and pass its output lines to ``seen``.

    ``seconds()`` is the time limit until the next line of results. Return None, or the reason why the process ended.
    """
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    late = threading.Event()

    def stop() -> None:
        late.set()
        process.kill()

    timer = threading.Timer(seconds(), stop)
    timer.start()
    for line in process.stdout:
        seen(line)
        if line.startswith(RESULT):
            timer.cancel()
            timer = threading.Timer(seconds(), stop)
            timer.start()
    code = process.wait()
    timer.cancel()
    return "time limit exceeded" if late.is_set() else f"exit code {code}" if code else None


def main() -> int:
    """Run the tests and the cases, and write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=str(ROOT / f"bench/results/gpu-{datetime.date.today()}.json"))
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--cases", nargs="*", help="names (default: all)")
    parser.add_argument("--precisions", nargs="*", choices=PRECISIONS, help="(default: all that the device supports)")
    parser.add_argument("--contenders", nargs="*", choices=CONTENDERS, help="(default: all)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.2, help="duration of one timing")
    parser.add_argument("--minutes", type=float, default=8.0, help="time limit of the whole run, including the tests")
    parser.add_argument("--case-seconds", type=float, default=150.0, help="time limit of one case")
    parser.add_argument("--no-tests", action="store_true")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--compile-only", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.precisions = options.precisions or PRECISIONS[: 1 if options.device == "cpu" else None]
    cases = [TINY] if options.device == "cpu" else [*CASES.values(), *nets()]
    if options.cases is not None:
        unknown = set(options.cases) - {case.name for case in cases}
        if unknown:
            parser.error(
                f"unknown case {sorted(unknown)[0]!r}; expected one of {', '.join(case.name for case in cases)}"
            )
        cases = [case for case in cases if case.name in options.cases]
    if options.worker:
        measure(cases, options)
        return 0
    end = time.monotonic() + 60 * options.minutes
    document: dict[str, Any] = {"date": datetime.datetime.now().isoformat(timespec="seconds"), **describe()}
    document |= {"cases": [], "failures": [], "not reached": []}
    tail: list[str] = []

    def show(line: str) -> None:
        tail.append(line)
        del tail[:-40]
        if not line.startswith(RESULT):
            print(line, end="", flush=True)
            return
        result = json.loads(line[len(RESULT) :])
        if "case" not in result:
            document.update(result)
            return
        document["cases"].append(result["case"])
        report.write(document, options.out)
        for name, numbers in result["case"]["contenders"].items():
            shown = f"{numbers['us']:.1f} us" if "us" in numbers else numbers["status"]
            if name == "fastmlp" and "floor" in result["case"]:
                shown += f", {result['case']['floor']['us'] / numbers['us']:.0%} of the estimated limit of the GPU"
            print(f"{result['case']['name']}, {result['case']['precision']}: {name} {shown}", flush=True)

    if not options.no_tests:
        # Neither a warning nor a kernel that never ends may stop the run, as the timings follow.
        tests = ["-q", "-W", "default", "--maxfail=20", "-o", "timeout=60", "-o", "timeout_method=thread"]
        command = [sys.executable, "-m", "pytest", *tests, "-k", "cuda or gpu", *TESTS]
        ended = attend(command, lambda: min(0.5 * (end - time.monotonic()), 240), show)
        document["tests"] = {"passed": ended is None, "ended": ended, "tail": "".join(tail)}
        report.write(document, options.out)
    if not SIMULATED:
        document["compiled"] = compile_all(options, cases, 0.4 * (end - time.monotonic()))
        report.write(document, options.out)
        print(f"{document['compiled']['kernels']} kernels compiled in {document['compiled']['seconds']} s", flush=True)
    for precision in options.precisions:
        left = list(cases)
        while left and time.monotonic() < end:
            tail.clear()
            command = worker(options, precision, left)
            ended = attend(command, lambda: max(1.0, min(end - time.monotonic(), options.case_seconds)), show)
            done = {case["name"] for case in document["cases"] if case["precision"] == precision}
            left = [case for case in left if case.name not in done]
            if left and time.monotonic() < end:
                failure = {"case": left.pop(0).name, "precision": precision, "ended": ended, "tail": "".join(tail)}
                document["failures"].append(failure)
                print(f"{failure['case']}, {precision}: {ended}", flush=True)
        document["not reached"] += [f"{case.name}, {precision}" for case in left]
    if document["not reached"]:
        print("not reached: " + "; ".join(document["not reached"]))
    report.write(document, options.out)
    return 1 if document["not reached"] or document["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
