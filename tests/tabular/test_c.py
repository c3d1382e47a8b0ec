"""C files of the estimators for tables, compiled and run."""

import math
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
from checks import assert_matches

import fastmlp as fm

from .test_asked import FAST, labels, made, table

CC = shutil.which("gcc") or shutil.which("cc")
MAIN = """#include <stdio.h>
#include <math.h>
void predict(const double *numbers, const char *const *texts, double *y);
int main(void) {
    double y[%(outputs)d];
    static const double numbers[][%(numbers)d] = {%(values)s};
    static const char *texts[][%(texts)d] = {%(strings)s};
    for (int r = 0; r < %(rows)d; r++) {
        predict(numbers[r], texts[r], y);
        for (int i = 0; i < %(outputs)d; i++) printf("%%.17g ", y[i]);
        printf("\\n");
    }
    return 0;
}
"""


def run(model, X, folder, outputs):
    """Outputs of the C file for the rows of a frame."""
    encoder = model.encoder_
    model.export_c(folder / "model.c")
    kinds = dict(zip(encoder.column_names(), (one.kind for one in encoder.encodings_)))
    values, strings = [], []
    for row in X.to_dict("records"):
        numbers = ["NAN" if pd.isna(row[name]) else repr(float(row[name])) for name in kinds if kinds[name] == "number"]
        texts = []
        for name in kinds:
            if kinds[name] == "category":
                missing = row[name] is None or (isinstance(row[name], float) and math.isnan(row[name]))
                quoted = str(row[name]).replace('"', '\\"')
                texts.append("0" if missing else f'"{quoted}"')
        values.append("{" + ", ".join(numbers or ["0"]) + "}")
        strings.append("{" + ", ".join(texts or ["0"]) + "}")
    widths = [sum(kind == one for kind in kinds.values()) or 1 for one in ("number", "category")]
    parts = {"numbers": widths[0], "texts": widths[1], "rows": len(X), "outputs": outputs}
    parts |= {"values": ", ".join(values), "strings": ", ".join(strings)}
    (folder / "main.c").write_text(MAIN % parts)
    flags = ["-std=c99", "-O1", "-Wall", "-Wextra", "-Werror", "-pedantic"]
    files = [folder / "model.c", folder / "main.c", "-o", folder / "run", "-lm"]
    subprocess.run([CC, *flags, *map(str, files)], check=True, capture_output=True, text=True)
    lines = subprocess.run([folder / "run"], check=True, capture_output=True, text=True).stdout.splitlines()
    return np.array([line.split() for line in lines], np.float64)


@pytest.mark.skipif(CC is None, reason="needs a compiler for C")
@pytest.mark.parametrize(("encoder", "calibrate"), [(None, True), (fm.ColumnEncoder(bins=4), False)])
def test_classifier(encoder, calibrate, tmp_path):
    X, value = table()
    model = fm.TabularClassifier(**FAST, encoder=encoder, calibrate=calibrate).fit(X, labels(value))
    new = pd.concat([X[:40], table(20, 5)[0].assign(town='o"dd', pair=None, color="violet")], ignore_index=True)
    assert_matches(model.predict_proba(new), run(model, new, tmp_path, 2), 1e-5)


@pytest.mark.skipif(CC is None, reason="needs a compiler for C")
def test_regressor_and_columns_of_one_kind(tmp_path):
    X, value = table()
    model = fm.TabularRegressor(**FAST).fit(X, np.stack([value * 100, value], axis=1))
    ref = model.predict(X[:30])
    assert_matches(ref, run(model, X[:30], tmp_path, 2), 1e-6 * np.abs(ref).max())
    towns = pd.DataFrame({"town": np.random.default_rng(0).choice([f"t{n}" for n in range(20)], 200)})
    numbers = pd.DataFrame({"x": np.linspace(-1, 1, 200), "constant": 1.0})
    for frame in (towns, numbers):
        model = fm.TabularRegressor(**FAST).fit(frame, value[:200])
        assert_matches(model.predict(frame)[:20, None], run(model, frame[:20], tmp_path, 1), 1e-4)


def test_errors(tmp_path):
    model, X, y = made("classifier")
    with pytest.raises(ValueError, match="name is 'inputs'; expected a free C identifier"):
        model.export_c(tmp_path / "model.c", "inputs")
    dated = fm.TabularClassifier(**FAST).fit(
        X.assign(day=pd.Timestamp("2024-01-01") + pd.to_timedelta(range(240), "D")), y
    )
    with pytest.raises(ValueError, match="Column 'day' holds dates"):
        dated.export_c(tmp_path / "model.c")
    assert not (tmp_path / "model.c").exists()
