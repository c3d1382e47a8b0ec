"""Online learning: rows that arrive one batch at a time, from a source that changes.

The command is

    python examples/online.py
"""

import numpy as np

import fastmlp as fm

# The source: the boundary between the two classes turns slowly.


def batch(number, rng, rows=32):
    X = rng.normal(size=(rows, 10)).astype(np.float32)
    angle = number / 1000
    return X, (np.cos(angle) * X[:, 0] + np.sin(angle) * X[:, 1] > 0).astype(int)


# `partial_fit` makes one pass over the rows that it is given. Each batch is predicted before it is learned, so that the
# accuracy is that on new rows.

rng = np.random.default_rng(0)
learner = fm.MLPClassifier((32,), learning_rate_init=0.01, random_state=0)
right = []
for number in range(3000):
    X, y = batch(number, rng)
    if number:
        right.append((learner.predict(X) == y).mean())
    learner.partial_fit(X, y, classes=[0, 1])
    if number == 500:
        frozen = learner.compiled_predict()
        frozen_labels = [frozen(batch(n, np.random.default_rng(n))[0]) for n in range(500, 3000, 500)]
    if number % 500 == 499:
        print(f"batch {number + 1}: accuracy on the last 500 batches {np.mean(right[-500:]):.3f}")

# A model that stopped learning at batch 500 falls behind.

for n, labels in zip(range(500, 3000, 500), frozen_labels):
    print(
        f"stopped at batch 500, on batch {n}: accuracy {(labels == batch(n, np.random.default_rng(n))[1]).mean():.2f}"
    )
