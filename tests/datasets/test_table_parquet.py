"""Parquet tables: types that text tables lack, and damaged files."""

from __future__ import annotations

import numpy as np
import pytest

from fastmlp._common.errors import DataError
from fastmlp.datasets import load

pandas = pytest.importorskip("pandas")
pytest.importorskip("pyarrow")

FRAME = pandas.DataFrame({"x": np.arange(40.0), "price": np.linspace(1, 2, 40), "kind": ["a", "b"] * 20})


def test_parquet_keeps_float64_targets(written):
    path = written(FRAME, "people.parquet")
    assert load(path, target="price").y.dtype == np.float64
    narrow = FRAME.astype({"price": "float32"})
    assert load(written(narrow, "narrow.parquet"), target="price").y.dtype == np.float32
    assert load(path, target="price", dtype="float64").X.dtype == np.float64


def test_damaged_parquet(written):
    path = written(FRAME, "people.parquet")
    whole = path.read_bytes()
    for raw in (b"", whole[:-5], whole[: len(whole) // 2], b"PAR1" + b"x" * 50 + b"PAR1"):
        path.write_bytes(raw)
        with pytest.raises(DataError, match="cannot be read as Parquet"):
            load(path)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (pandas.to_datetime(["2020-01-01"] * 4), r"datetime64.* values; expected numbers or categories"),
        ([[1], [2], [3], [4]], "value of type ndarray"),
        ([{"a": 1}] * 4, "value of type dict"),
    ],
)
def test_parquet_columns_of_other_types(written, values, words):
    path = written(pandas.DataFrame({"x": values, "y": ["a", "b"] * 2}), "people.parquet")
    with pytest.raises(DataError, match=f"column 'x' .*{words}"):
        load(path)


def test_parquet_types_that_mean_numbers_or_categories(written):
    from decimal import Decimal

    frame = pandas.DataFrame(
        {
            "nullable": pandas.array([1, None, 3, 4] * 3, dtype="Int64"),
            "decimal": [Decimal("1.5"), Decimal("2.5")] * 6,
            "category": pandas.Categorical(["u", "v"] * 6),
            "flag": pandas.array([True, None, False] * 4, dtype="boolean"),
            "y": ["a", "b"] * 6,
        }
    )
    data = load(written(frame, "types.parquet"))
    assert data.feature_names == (
        "nullable", "decimal", "category=u", "category=v",
        "flag=False", "flag=True", "flag=<missing>",
    )  # fmt: skip
