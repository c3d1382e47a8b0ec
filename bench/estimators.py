"""Time the estimators of fastmlp and scikit-learn: fits, and predictions of one row and of many rows.

The results are medians of interleaved timings.

Usage: python bench/estimators.py [JSON]
"""

from __future__ import annotations

import datetime
import json
import statistics
import sys
import time
import warnings

import numpy as np
from sklearn.neural_network import MLPClassifier as SklearnClassifier

from fastmlp import MLPClassifier
from fastmlp._common.processor import version_of

# solver, rows, features, hidden layers, classes, epochs (or iterations)
CASES = [
    ("adam", 1000, 20, (100,), 2, 100),
    ("adam", 10000, 30, (64, 64), 2, 20),
    ("adam", 60000, 30, (64, 64), 2, 4),
    ("adam", 5000, 784, (512, 512), 10, 3),
    ("lbfgs", 150, 4, (100,), 3, 100),
    ("lbfgs", 10000, 30, (64, 64), 2, 20),
    ("lbfgs", 5000, 784, (100,), 10, 20),
]
ROUNDS = 5
_CALLS = 20


def timed(function, *arguments):
    """Return (seconds, result) of one call."""
    began = time.perf_counter()
    result = function(*arguments)
    return time.perf_counter() - began, result


def repeated(predict, x):
    """Call ``predict`` several times."""
    for _ in range(_CALLS):
        predict(x)


def measure(solver, rows, features, hidden, classes, epochs, dtype):
    """Return a row of the table: milliseconds per fit, and times of predictions."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(rows, features)).astype(dtype)
    y = (X @ rng.normal(size=(features, classes))).argmax(axis=1)
    options = {"solver": solver, "max_iter": epochs, "random_state": 0, "tol": 0.0, "n_iter_no_change": 10**6}
    MLPClassifier(hidden, **{**options, "max_iter": 1}).fit(X, y)  # compiles the kernels
    fits, fitted = {SklearnClassifier: [], MLPClassifier: []}, {}
    for _ in range(ROUNDS):
        for estimator, times in fits.items():
            time.sleep(0.15)  # BLAS threads of the previous call poll for work for a while
            seconds, fitted[estimator] = timed(estimator(hidden, **options).fit, X, y)
            times.append(seconds)
    scores = [fitted[estimator].score(X, y) for estimator in fits]
    assert abs(scores[0] - scores[1]) < 0.03, scores
    callers = {
        "scikit-learn": fitted[SklearnClassifier].predict,
        "fastmlp": fitted[MLPClassifier].predict,
        "compiled": fitted[MLPClassifier].compiled_predict(),
    }
    answers = [predict(X) for predict in callers.values()]
    assert (answers[1] == answers[2]).mean() > 0.999  # the two differ by rounding
    single, many = ({name: [] for name in callers} for _ in range(2))
    for _ in range(40):
        for name, predict in callers.items():
            predict(X[:1])
            single[name].append(timed(repeated, predict, X[:1])[0] / _CALLS)
    for _ in range(ROUNDS):
        for name, predict in callers.items():
            time.sleep(0.15)
            many[name].append(timed(predict, X)[0])
    return {
        "net": "-".join(map(str, (features, *hidden, classes))),
        "solver": solver,
        "rows": rows,
        "epochs": epochs,
        "dtype": dtype,
        "fit_ms": {e.__module__.split(".")[0]: 1e3 * statistics.median(times) for e, times in fits.items()},
        "one_row_us": {name: 1e6 * statistics.median(times) for name, times in single.items()},
        "all_rows_ms": {name: 1e3 * statistics.median(times) for name, times in many.items()},
        "scores": scores,
    }


def main():
    warnings.simplefilter("ignore")
    found = []
    for case in CASES:
        for dtype in ("float64", "float32"):
            row = measure(*case, dtype)
            fit, one, rows = row["fit_ms"], row["one_row_us"], row["all_rows_ms"]
            print(
                f"{row['solver']:5} {row['net']:18} {row['rows']:6} rows {row['epochs']:3} epochs {dtype}  "
                f"fit {fit['sklearn']:8.1f} {fit['fastmlp']:7.1f} ms ({fit['sklearn'] / fit['fastmlp']:.2f})  "
                f"one row {one['scikit-learn']:6.1f} {one['fastmlp']:6.1f} {one['compiled']:5.1f} us  "
                f"all {rows['scikit-learn']:7.2f} {rows['fastmlp']:7.2f} {rows['compiled']:7.2f} ms",
                flush=True,
            )
            found.append(row)
    if len(sys.argv) > 1:
        versions = {name: version_of(name) for name in ("numpy", "numba", "scikit-learn", "scipy")}
        with open(sys.argv[1], "w") as stream:
            json.dump({"date": str(datetime.date.today()), "versions": versions, "cases": found}, stream, indent=1)


if __name__ == "__main__":
    main()
