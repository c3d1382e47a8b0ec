"""Everything that needs an NVIDIA GPU, in one go: the tests on it, then training steps beside PyTorch and JAX.

    python bench/gpu.py --out bench/results/gpu-2026-01-01.json

All contenders have the data set on the device, compute in the same precision (float32, not TF32; then float32's error
by six products of bf16, PyTorch having float32 alone for that; then TF32; then bf16 with sums in float32, PyTorch by
autocast), have to show first that they make the steps of the float64 reference, and
are timed in turns, up to the end of their work on the device.
Kernels of fastmlp are compiled first, by some processes at a time, and kept on disk for those that measure.
The tests and the cases run in processes of their own, since an error on a GPU leaves its process without it: the cases
after one that broke its process go on in another one. What takes longer than it may is stopped and listed, and the JSON
holds at any time what was measured so far.
``--device cpu`` tries the script where there is no GPU, with NUMBA_ENABLE_CUDASIM=1 and a net of the simulator's size.
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
RESULT = "result: "  # begins the lines of a cases' process that are for this one


class OnGpu(Ours):
    """fastmlp's CUDA backend."""

    def __init__(self, *arguments: Any) -> None:
        with use_backend("cuda"):
            super().__init__(*arguments)
        self.notes: dict[str, Any] = {}

    def losses(self, order: Any) -> list[float]:
        """As of all; what a user waits for at first, and what the compiler made of the kernel."""
        start = time.perf_counter()
        found = super().losses(order)
        self.notes["first_steps_seconds"] = round(time.perf_counter() - start, 1)
        if SIMULATED:  # it has no engine
            return found
        session = self._trainer._session
        if session is None or not isinstance(session.engine, GpuEngine):
            raise RuntimeError("the steps were made module by module, not by the engine")
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
             lr=1e-4, eps=1e-5, rows=max(1 << log, 1 << 16))
        for width in (64, 128) for log in (12, 14, 16, 18)
    ]  # fmt: skip


def contenders(device: str, case: Case, precision: str) -> dict[str, Any]:
    """Name and class of each that can take part."""
    found: dict[str, Any] = {"fastmlp": type("OnGpu", (OnGpu,), {"precision": precision})}
    if importlib.util.find_spec("torch"):
        kinds: dict[str, Any] = {"torch": Eager}
        if device != "cpu":
            kinds |= {"torch.compile": Compiled, "graph": Graph}
        if case.name not in CASES:
            kinds.pop("torch.compile", None)  # takes most of the time there, and the graph is what to compare with
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
        except Exception as error:  # one that fails is reported, and the others go on
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
    """A step, whose kernel then lies on disk."""
    data = make_data(case)
    model: Any = type("OnGpu", (OnGpu,), {"precision": precision})(case, data, first_weights(case, data), 1)
    model.losses(batches(case, 1))


def measure(cases: list[Case], options: argparse.Namespace) -> None:
    """What a cases' process does: a line for each case."""
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
    """The command of a cases' process."""
    command = [sys.executable, str(Path(__file__).resolve()), "--worker", "--device", options.device, *more]
    command += ["--precisions", precision, "--rounds", str(options.rounds), "--seconds", str(options.seconds)]
    command += ["--contenders", *options.contenders] if options.contenders else []
    return [*command, "--cases", *(case.name for case in cases)]


def compile_all(options: argparse.Namespace, cases: list[Case], seconds: float) -> dict[str, Any]:
    """Compile the kernels of all cases, as many processes at a time as there are cores; what failed, and how long."""
    began, failed = time.monotonic(), []
    # A process for each kernel: the cases of nets of one kind that come after their first have it already.
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
    """What a kernel is compiled for, of what differs between cases, and the sizes that decide on wide tiles."""
    widest = max(case.sizes)
    return case.activation, case.loss, case.optimizer, case.uint8, widest, case.batch * widest > 1 << 19


def attend(command: list[str], seconds: Callable[[], float], seen: Callable[[str], object]) -> str | None:
    """Run a process and look at its lines.

    ``seconds()`` is how long it may take from now on until the next line of results; what it was ended for, or None.
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
    return "it took too long" if late.is_set() else f"its process ended with {code}" if code else None


def main() -> int:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=str(ROOT / f"bench/results/gpu-{datetime.date.today()}.json"))
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--cases", nargs="*", help="names (default: all)")
    parser.add_argument("--precisions", nargs="*", choices=PRECISIONS, help="(default: all that the device has)")
    parser.add_argument("--contenders", nargs="*", choices=CONTENDERS, help="(default: all)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.2, help="of one timing")
    parser.add_argument("--minutes", type=float, default=8.0, help="for all, the tests with it")
    parser.add_argument("--case-seconds", type=float, default=150.0, help="for one case")
    parser.add_argument("--no-tests", action="store_true")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--compile-only", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.precisions = options.precisions or PRECISIONS[: 1 if options.device == "cpu" else None]
    cases = [TINY] if options.device == "cpu" else [*CASES.values(), *nets()]
    if options.cases is not None:
        unknown = set(options.cases) - {case.name for case in cases}
        if unknown:
            parser.error(f"there is no case {sorted(unknown)[0]!r}")
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
                shown += f", {result['case']['floor']['us'] / numbers['us']:.0%} of what the GPU could do"
            print(f"{result['case']['name']}, {result['case']['precision']}: {name} {shown}", flush=True)

    if not options.no_tests:
        # Not ended by a warning, and not by a kernel that waits for ever: what follows tells more than what is missing.
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
