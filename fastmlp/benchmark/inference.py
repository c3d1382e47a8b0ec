"""``fastmlp bench --inference``: predictions of one row and of many rows, compared with other libraries."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from .._common.installed import is_installed
from .._common.validation import Array
from .._kernels import use_backend
from ..inference.predictor import Predictor
from ..modules import MLP
from .contender import OURS
from .machine import describe, usable_cores
from .startup import installed_sizes, start_times
from .timing import PAUSE, summary

__all__ = ["CASES", "FORMAT", "PEERS", "InferenceCase", "run", "table"]

FORMAT = "inference-1"
_SEED = 20261124
# Pause before each timing with several threads: OpenBLAS's threads poll for work for 107 ms after a call (measured by
# processor time during a sleep) and would take a processor from the next contender.
_QUIET = 0.15


@dataclass(frozen=True)
class InferenceCase:
    """A ReLU network and the number of rows of a call.

    Attributes
    ----------
    sizes : tuple of int
        Layer widths, from the inputs to the outputs.
    rows : int
        Rows of a call.
    threads : int or None
        Threads of each contender; None stands for all usable cores.
    """

    sizes: tuple[int, ...]
    rows: int
    threads: int | None

    @property
    def net(self) -> str:
        """Layer widths, for example ``64-64-64-4``."""
        return "-".join(map(str, self.sizes))


_SMALL, _NARROW, _WIDE = (64, 64, 64, 4), (30, 64, 64, 2), (784, 512, 512, 10)
CASES = (
    InferenceCase(_SMALL, 1, 1),
    InferenceCase(_NARROW, 1, 1),
    InferenceCase(_WIDE, 1, 1),
    InferenceCase(_WIDE, 1, 2),
    InferenceCase(_SMALL, 10_000, None),
    InferenceCase(_NARROW, 10_000, None),
    InferenceCase(_WIDE, 10_000, None),
)

Call = Callable[[], Any]


def _ours(model: MLP, x: Array, threads: int) -> Call:
    predictor = Predictor(model, threads=threads)
    return lambda: predictor(x)


def _onnx_runtime(model: MLP, x: Array, threads: int) -> Call:
    runtime = importlib.import_module("onnxruntime")
    export_onnx = importlib.import_module("fastmlp.exchange.onnx").export_onnx
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    with TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        export_onnx(model, path)
        session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    feed = {"x": x}
    return lambda: session.run(None, feed)[0]


def _torch(model: MLP, x: Array, threads: int) -> Call:
    torch, net, inputs = _torch_net(model, x, threads)

    def call() -> Any:
        with torch.inference_mode():
            return net(inputs)

    return call


def _torchscript(model: MLP, x: Array, threads: int) -> Call:
    import warnings

    torch, net, inputs = _torch_net(model, x, threads)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript is deprecated
        script = torch.jit.freeze(torch.jit.trace(net, inputs))

    def call() -> Any:
        with torch.inference_mode():
            return script(inputs)

    for _ in range(5):  # TorchScript optimizes during the first calls
        call()
    return call


def _torch_net(model: MLP, x: Array, threads: int) -> tuple[Any, Any, Any]:
    torch = importlib.import_module("torch")
    torch.set_num_threads(threads)
    return torch, importlib.import_module("fastmlp.exchange.pytorch").to_torch(model), torch.from_numpy(x)


def _scikit_learn(model: MLP, x: Array, threads: int) -> Call:
    neural = importlib.import_module("sklearn.neural_network")
    sizes = [m.out_features for m in model if hasattr(m, "out_features")]
    # A regressor's predict returns the raw outputs. One step allocates the arrays, which are then overwritten.
    net = neural.MLPRegressor(hidden_layer_sizes=sizes[:-1], shuffle=False, batch_size=2, solver="sgd")
    net.partial_fit(x[:1].repeat(2, axis=0), np.zeros((2, sizes[-1]), np.float32))
    for number, (weight, bias) in enumerate(_layers(model)):
        net.coefs_[number], net.intercepts_[number] = np.ascontiguousarray(weight.T), bias
    return lambda: net.predict(x)


def _numpy(model: MLP, x: Array, threads: int) -> Call:
    layers = [(np.ascontiguousarray(weight.T), bias) for weight, bias in _layers(model)]

    def call() -> Array:
        y = x
        for weight, bias in layers[:-1]:
            y = np.maximum(y @ weight + bias, 0)
        return np.asarray(y @ layers[-1][0] + layers[-1][1])

    return call


def _layers(model: MLP) -> list[tuple[Array, Array]]:
    state = model.state_dict()
    return [(state[n], state[n.replace("weight", "bias")]) for n in state if n.endswith("weight")]


# name: (required package, function that prepares the call)
PEERS: dict[str, tuple[str, Callable[[MLP, Array, int], Call]]] = {
    "onnxruntime": ("onnxruntime", _onnx_runtime),
    "torch": ("torch", _torch),
    "torchscript": ("torch", _torchscript),
    "scikit-learn": ("sklearn", _scikit_learn),
    "numpy": ("numpy", _numpy),
}


def run(
    peers: Sequence[str] = tuple(PEERS),
    rounds: int = 15,
    seconds: float = 0.05,
    cases: Sequence[InferenceCase] = CASES,
    log: Callable[[str], object] = lambda line: None,
) -> dict[str, Any]:
    """Check and time all contenders in alternation; also measure start times and installed sizes.

    Parameters
    ----------
    peers : sequence of str
        Names of `PEERS`; peers that are not installed are skipped.
    rounds : int
        Timings of each contender.
    seconds : float
        Approximate duration of one timing.
    cases : sequence of InferenceCase
        Networks and numbers of rows.
    log : callable
        Called with a line of text after each case.

    Returns
    -------
    dict
        Results as JSON types; `table` formats them.
    """
    document: dict[str, Any] = {
        "format": FORMAT, "date": time.strftime("%Y-%m-%dT%H:%M:%S"), **describe(), "rounds": rounds, "cases": [],
    }  # fmt: skip
    installed = [name for name in peers if is_installed(PEERS[name][0])]
    for case in cases:
        result = _time_case(case, installed, rounds, seconds)
        document["cases"].append(result)
        log(f"{case.net}, {case.rows} rows: " + ", ".join(f"{n} {_cell(c)}" for n, c in result["contenders"].items()))
    document["start"] = start_times(rounds)
    document["sizes"] = installed_sizes()
    return document


def _time_case(case: InferenceCase, peers: Sequence[str], rounds: int, seconds: float) -> dict[str, Any]:
    threads = case.threads or usable_cores()
    rng = np.random.default_rng(_SEED)
    with use_backend("numpy"):
        model = MLP(case.sizes[0], case.sizes[1:-1], case.sizes[-1], rng=_SEED).eval()
    x = rng.normal(size=(case.rows, case.sizes[0])).astype(np.float32)
    exact = x.astype(np.float64)
    for number, (weight, bias) in enumerate(_layers(model)):
        exact = exact @ weight.T.astype(np.float64) + bias
        exact = np.maximum(exact, 0) if number < len(case.sizes) - 2 else exact
    results: dict[str, dict[str, Any]] = {}
    calls: dict[str, tuple[Call, int]] = {}
    limits: Any = importlib.import_module("threadpoolctl").threadpool_limits if "numpy" in peers else _Unlimited
    for name, make in {OURS: _ours, **{name: PEERS[name][1] for name in peers}}.items():
        try:
            with limits(threads):
                call = make(model, x, threads)
                y = np.asarray(call(), np.float64).reshape(exact.shape)
        except Exception as error:  # a failing peer must not end the run
            if name == OURS:
                raise
            results[name] = {"status": "failed", "why": f"{type(error).__name__}: {error}"[:200]}
            continue
        # The bound 1e-5 fits outputs of order 0.1 that are sums of up to 784 terms.
        error_seen = float(np.abs(y - exact).max())
        results[name] = {"status": "ok" if error_seen < 1e-5 else "wrong", "largest_error": error_seen}
        if results[name]["status"] == "ok":
            start, count = time.perf_counter(), 0
            while time.perf_counter() - start < seconds / 2:
                call()
                count += 1
            calls[name] = call, max(1, 2 * count)
    times: dict[str, list[float]] = {name: [] for name in calls}
    reads: list[float] = []
    names = list(calls)
    with limits(threads):
        for number in range(rounds):
            for name in names[number % len(names) :] + names[: number % len(names)]:
                call, count = calls[name]
                time.sleep(PAUSE if threads == 1 else _QUIET)
                call()
                start = time.perf_counter()
                for _ in range(count):
                    call()
                times[name].append(1e6 * (time.perf_counter() - start) / count)
            reads.append(_read_rate(model))
    for name in names:
        results[name].update(summary(times[name]))
    return {
        "net": case.net, "rows": case.rows, "threads": threads, "contenders": results,
        **_compare(results),
        "weight_bytes": 4 * model.num_parameters, "read_gb_per_s": float(np.median(reads)),
    }  # fmt: skip


class _Unlimited:
    """Replacement for ``threadpool_limits`` that does nothing."""

    def __init__(self, threads: int) -> None:
        pass

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        pass


def _compare(results: dict[str, dict[str, Any]]) -> dict[str, Any]:
    ours = results[OURS].get("us")
    others = {name: numbers["us"] for name, numbers in results.items() if name != OURS and "us" in numbers}
    best = min(others, key=others.__getitem__) if others else None
    return {"best_peer": best, "ratio": others[best] / ours if best and ours else None}


def _read_rate(model: MLP) -> float:
    """Rate in GB/s at which one thread repeatedly reads an array of the size of the weights."""
    numbers = np.ones(max(1, model.num_parameters // 2), np.float64)
    numbers.max()
    start = time.perf_counter()
    for _ in range(5):
        numbers.max()  # vectorized, and faster than the memory
    return 5 * numbers.nbytes / (time.perf_counter() - start) / 1e9


_TITLES = {
    "onnxruntime": "ONNX Runtime", "torch": "PyTorch", "torchscript": "TorchScript", "scikit-learn": "scikit-learn",
    "numpy": "NumPy",
}  # fmt: skip


def table(document: dict[str, Any]) -> str:
    """Format the results as a Markdown table, in microseconds per call."""
    machine = document["machine"]
    heading = ["net", "rows", "threads", OURS, *_TITLES.values(), "speedup over the best peer", "GB/s"]
    lines = [_row(heading), _row(["---"] * len(heading))]
    for case in document["cases"]:
        contenders = case["contenders"]
        rate = ""
        if case["rows"] == 1 and case["weight_bytes"] > 1e6 and "us" in contenders[OURS]:  # smaller weights stay in L1
            rate = f"{case['weight_bytes'] / contenders[OURS]['us'] / 1e3:.1f} of {case['read_gb_per_s']:.1f}"
        lines.append(_row([
            case["net"], f"{case['rows']:,}", str(case["threads"]),
            *(_cell(contenders.get(name)) for name in (OURS, *_TITLES)),
            "-" if case["ratio"] is None else f"{case['ratio']:.2f}",
            rate or "-",
        ]))  # fmt: skip
    start, sizes = document["start"], document["sizes"]
    lines += [
        "",
        f"Microseconds per call, medians of {document['rounds']} rounds; float32; {document['date'][:10]}, "
        f"{machine['cpu']}, {machine['cores']} cores; "
        + ", ".join(f"{name} {version}" for name, version in document["versions"].items()) + ". "
        "GB/s: bytes of the weights divided by the time, and the rate at which one thread reads as many bytes.",
        "",
        "Time from the start of the process to the first prediction, in addition to `import numpy` "
        f"({start['numpy']:.0f} ms): " + ", ".join(f"{n} {ms:.0f} ms" for n, ms in start.items() if n != "numpy") + ".",
        "",
        "Installed size, without NumPy: "
        + ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in sizes.items()) + ".",
    ]  # fmt: skip
    return "\n".join(lines)


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(numbers: dict[str, Any] | None) -> str:
    if numbers is None:
        return "-"
    if numbers["status"] != "ok":
        return f"{numbers['status']}"
    return f"{numbers['us']:.2f}" if numbers["us"] < 100 else f"{numbers['us']:.0f}"
