"""Export a model to ONNX and to C, and use it from a C program.

The command is

    python examples/export.py
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

import fastmlp as fm

X, y, X_test, y_test = fm.load("digits")
model = fm.MLP(64, [32], 10, normalize=fm.Normalize.fit(X, kind="standard"), rng=0)
trainer = fm.Trainer(model, fm.CrossEntropyLoss(), fm.Adam())
trainer.fit(X, y, epochs=20, rng=0)
row = X_test[:1].astype(np.float32)
outputs = model.infer(row)[0]
folder = Path(tempfile.mkdtemp())

# ## ONNX
#
# The input scaling is part of the graph, so that the runtime takes raw rows.

fm.export_onnx(model, folder / "digits.onnx")
try:
    import onnxruntime
except ImportError:
    print("onnxruntime is not installed")
else:
    session = onnxruntime.InferenceSession(folder / "digits.onnx")
    (theirs,) = session.run(None, {session.get_inputs()[0].name: row})
    print(f"ONNX Runtime: largest difference {np.abs(theirs[0] - outputs).max():.1e}")

# ## C
#
# One C99 file with the weights in it, static memory, and one function.

fm.export_c(model, folder / "digits.c")
program = """
#include <stdio.h>
void predict(const float *x, float *y);
int main(void) {
    float x[64], y[10];
    for (int i = 0; i < 64; i++)
        if (scanf("%f", &x[i]) != 1) return 1;
    predict(x, y);
    int best = 0;
    for (int i = 1; i < 10; i++)
        if (y[i] > y[best]) best = i;
    printf("%d\\n", best);
    return 0;
}
"""
(folder / "main.c").write_text(program)
compiler = shutil.which("cc")
if compiler is None:
    print("there is no C compiler")
else:
    subprocess.run([compiler, "-std=c99", "-O2", "main.c", "digits.c", "-o", "digits", "-lm"], cwd=folder, check=True)
    text = " ".join(str(number) for number in row[0])
    label = subprocess.run([folder / "digits"], input=text, capture_output=True, text=True, check=True).stdout
    print(f"the C program reads a digit as {label.strip()}, fastmlp as {outputs.argmax()}, and it is {y_test[0]}")
