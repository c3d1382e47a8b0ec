"""Compare estimators on tables: error, log-loss, AUC and calibration, or RMSE, with the seconds of fit and prediction.

    python bench/tabular.py --seeds 3 --rows 10000
    python bench/tabular.py --sets adult,concrete,my.csv --methods balanced,catboost

The sets are those of `tabular_sets.py` whose packages are installed, or CSV files with the target in the last column.
Every method has its defaults and the same number of threads, and is fitted to the same four fifths of the rows; the
other rows are for the test. Methods whose packages are not installed are left out.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import json
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tabular_sets
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits

import fastmlp as fm
from fastmlp._common.processor import processor

_PACKAGES = {"lightgbm": "lightgbm", "xgboost": "xgboost", "catboost": "catboost", "realmlp": "pytabkit"}


def ours(preset: str) -> Any:
    """Return the contender of a preset."""

    def fit(X: pd.DataFrame, y: Any, task: str, seed: int, threads: int) -> Any:
        made = fm.TabularClassifier if task == "classification" else fm.TabularRegressor
        return made(preset, random_state=seed, threads=threads).fit(X, y)

    return fit


def one_hot(X: pd.DataFrame) -> Any:
    """Return scikit-learn's usual preparation of columns for a network."""
    from sklearn.compose import make_column_selector, make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    return make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), make_column_selector(dtype_include=np.number)),
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), make_column_selector(dtype_include="category")),
    )


def plain(package: Any) -> Any:
    """Return the contender of an MLP of fastmlp or scikit-learn with its defaults."""

    def fit(X: pd.DataFrame, y: Any, task: str, seed: int, threads: int) -> Any:
        from sklearn.compose import TransformedTargetRegressor
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        options = {"threads": threads} if package is fm else {}  # scikit-learn's threads are those of the BLAS
        if task == "classification":
            net = package.MLPClassifier(random_state=seed, **options)
        else:
            regressor = package.MLPRegressor(random_state=seed, **options)
            net = TransformedTargetRegressor(regressor, transformer=StandardScaler())
        with threadpool_limits(threads):
            return make_pipeline(one_hot(X), net).fit(X, y)

    return fit


def scikit_learn(*arguments: Any) -> Any:
    """Contender scikit-learn's MLP."""
    import sklearn.neural_network as package

    return plain(package)(*arguments)


def lightgbm(X: pd.DataFrame, y: Any, task: str, seed: int, threads: int) -> Any:
    """Contender LightGBM."""
    import lightgbm as package

    made = package.LGBMClassifier if task == "classification" else package.LGBMRegressor
    return Renamed(made(n_jobs=threads, random_state=seed, verbose=-1)).fit(X, y)


def xgboost(X: pd.DataFrame, y: Any, task: str, seed: int, threads: int) -> Any:
    """Contender XGBoost."""
    import xgboost as package

    made = package.XGBClassifier if task == "classification" else package.XGBRegressor
    return Renamed(made(n_jobs=threads, random_state=seed, enable_categorical=True)).fit(X, y)


def catboost(X: pd.DataFrame, y: Any, task: str, seed: int, threads: int) -> Any:
    """Contender CatBoost."""
    import catboost as package

    names = [str(name) for name in X.select_dtypes("category")]
    made = package.CatBoostClassifier if task == "classification" else package.CatBoostRegressor
    model = made(
        thread_count=threads, random_seed=seed, verbose=0, allow_writing_files=False, cat_features=names or None
    )
    return Renamed(model, rename=False, texts=True).fit(X, y)


def realmlp(X: pd.DataFrame, y: Any, task: str, seed: int, threads: int) -> Any:
    """Contender RealMLP-TD, with medians in place of missing numbers, which it does not take."""
    import pytabkit as package

    made = package.RealMLP_TD_Classifier if task == "classification" else package.RealMLP_TD_Regressor
    return Filled(made(device="cpu", random_state=seed, n_threads=threads)).fit(X, y)


class Renamed:
    """Model with class indices as targets, plain column names, and texts for missing categories where asked."""

    def __init__(self, model: Any, rename: bool = True, texts: bool = False) -> None:
        self.model, self.rename, self.texts = model, rename, texts

    def prepare(self, X: pd.DataFrame) -> pd.DataFrame:
        """Return the columns as the model takes them."""
        X = X.copy()
        for name in X.select_dtypes("category") if self.texts else ():
            X[name] = X[name].astype(object).where(X[name].notna(), "missing").astype(str)
        return X.set_axis([f"f{place}" for place in range(X.shape[1])], axis=1) if self.rename else X

    def fit(self, X: pd.DataFrame, y: Any) -> Renamed:
        """Fit the model."""
        if pd.api.types.is_float_dtype(y):
            self.classes_ = None
        else:
            self.classes_, y = np.unique(y, return_inverse=True)
        self.model.fit(self.prepare(X), np.asarray(y))
        return self

    def predict(self, X: pd.DataFrame) -> Any:
        """Predict values."""
        return self.model.predict(self.prepare(X))

    def predict_proba(self, X: pd.DataFrame) -> Any:
        """Predict probabilities."""
        return self.model.predict_proba(self.prepare(X))


class Filled(Renamed):
    """Model with medians in place of missing numbers."""

    def prepare(self, X: pd.DataFrame) -> pd.DataFrame:
        """Return the columns as the model takes them."""
        numbers = X.select_dtypes("number")
        if not hasattr(self, "medians"):
            self.medians = numbers.median()
        return X.assign(**{name: numbers[name].fillna(self.medians[name]) for name in numbers})


METHODS: dict[str, Any] = {
    "fast": ours("fast"), "balanced": ours("balanced"), "best": ours("best"), "fastmlp MLP": plain(fm),
    "scikit-learn": scikit_learn,
    "lightgbm": lightgbm, "xgboost": xgboost, "catboost": catboost, "realmlp": realmlp,
}  # fmt: skip


def measure(model: Any, X: pd.DataFrame, y: Any, task: str) -> dict[str, float]:
    """Return the measures of a fitted model on test rows."""
    began = time.perf_counter()
    found = np.asarray(model.predict_proba(X) if task == "classification" else model.predict(X))
    seconds = time.perf_counter() - began
    if task == "regression":
        return {"loss": float(np.sqrt(np.mean((found.reshape(-1) - np.asarray(y)) ** 2))), "predict_s": seconds}
    classes = np.asarray(model.classes_)
    found = np.clip(found.astype(np.float64), 1e-7, None)
    found /= found.sum(axis=1, keepdims=True)
    scores = found[:, 1] if len(classes) == 2 else found
    return {
        "loss": float(log_loss(y, found, labels=classes)),
        "error": float((classes[found.argmax(axis=1)] != np.asarray(y)).mean()),
        "auc": float(roc_auc_score(y, scores, multi_class="ovr", labels=classes)),
        "calibration": fm.calibration_error(y, found, classes=classes),
        "predict_s": seconds,
    }


def run(name: str, methods: list[str], seeds: int, rows: int, threads: int) -> list[dict[str, Any]]:
    """Return the measures of all methods on a set."""
    X, y, task = tabular_sets.load(name) if name in tabular_sets.SETS else tabular_sets.load_csv(name)
    found = []
    for seed in range(seeds):
        strata = y if task == "classification" else None
        train, test = train_test_split(np.arange(len(y)), test_size=0.2, random_state=seed, stratify=strata)
        train = train[:rows]
        for method in methods:
            cpu, wall = time.process_time(), time.perf_counter()
            model = METHODS[method](X.iloc[train], y.iloc[train], task, seed, threads)
            times = {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}
            result = measure(model, X.iloc[test], y.iloc[test], task)
            found.append(
                {"set": name, "task": task, "method": method, "seed": seed, "rows": len(train)} | times | result
            )
            print(json.dumps(found[-1]), flush=True)
    return found


def ratios(results: list[dict[str, Any]], key: str, base: str, draws: int = 2000) -> list[str]:
    """Return lines of the geometric means over the sets of each method's measure relative to ``base``.

    The intervals of 90 % are those of a bootstrap over the sets.
    """
    frame = pd.DataFrame(results)
    if key not in frame:
        return []
    means = frame.groupby(["set", "method"])[key].mean().unstack().dropna(axis=0, how="any")
    logs, generator = np.log(means.div(means[base], axis=0)), np.random.default_rng(0)
    lines = []
    for method in logs:
        values = logs[method].to_numpy()
        drawn = values[generator.integers(len(values), size=(draws, len(values)))].mean(axis=1)
        low, high = np.exp(np.quantile(drawn, [0.05, 0.95]))
        lines.append(f"| {method} | {np.exp(values.mean()):.3f} | {low:.3f} to {high:.3f} |")
    return lines


def main() -> None:
    """Run the comparison, write a JSON file and print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", help="(default: all that are installed)")
    parser.add_argument("--methods", help="(default: all that are installed)")
    parser.add_argument("--seeds", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--rows", type=int, default=10_000, help="most training rows (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="(default: %(default)s)")
    parser.add_argument("--base", default="catboost", help="method of the ratios (default: %(default)s)")
    parser.add_argument("--out", help="JSON file (default: bench/results/tabular-DATE.json)")
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # of all libraries, on convergence and feature names
    there = [name for name in METHODS if name not in _PACKAGES or importlib.util.find_spec(_PACKAGES[name])]
    methods = args.methods.split(",") if args.methods else there
    results: list[dict[str, Any]] = []
    today = datetime.date.today().isoformat()
    document = {"date": today, "processor": str(processor()), "threads": args.threads, "results": results}
    out = Path(args.out or Path(__file__).parent / "results" / f"tabular-{today}.json")
    for name in args.sets.split(",") if args.sets else list(tabular_sets.SETS):
        try:
            results += run(name, methods, args.seeds, args.rows, args.threads)
            out.write_text(json.dumps(document, indent=1))  # a run that is stopped keeps the sets that are complete
        except ImportError as error:
            print(f"{name}: {error}")
    base = args.base if args.base in methods else methods[0]
    for key in ("loss", "error", "calibration", "cpu_s", "predict_s"):
        if lines := ratios(results, key, base):
            print(f"\n{key}\n\n| method | geometric mean of the ratio to {base} | 90 % interval |\n|---|---|---|")
            print("\n".join(lines))
    print(f"saved {out}")


if __name__ == "__main__":
    main()
