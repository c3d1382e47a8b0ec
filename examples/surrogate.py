"""A surrogate of a slow simulation, with its uncertainty from an ensemble.

Networks that agree on the rows that they were trained on differ elsewhere. Their spread tells where the surrogate can
be trusted, and where the simulation should run next.

    python examples/surrogate.py
"""

import numpy as np

import fastmlp as fm

# The simulation: a damped oscillation of two parameters. It stands for one that takes minutes.


def simulate(points):
    stiffness, damping = points.T
    return np.exp(-damping) * np.cos(3 * stiffness)


rng = np.random.default_rng(0)
points = rng.uniform([0, 0], [2, 1], (200, 2))
values = simulate(points)
grid = np.stack(np.meshgrid(np.linspace(0, 3, 61), np.linspace(0, 1, 21)), axis=-1).reshape(-1, 2)

# ## Ten networks at once
#
# They have other initial weights and see other rows: each is trained on a sample with replacement. `fit_many` trains
# them on all processors, with the results of each alone.


def ensemble(points, values, nets=10):
    x, y = points.astype(np.float32), values.astype(np.float32)[:, None]
    trainers, each = [], []
    for seed in range(nets):
        model = fm.MLP(2, [32, 32], 1, activation="tanh", normalize=fm.Normalize.fit(x, kind="standard"), rng=seed)
        trainers.append(fm.Trainer(model, fm.MSELoss(), fm.Adam(0.01)))
        each.append({"rng": seed, "rows": np.random.default_rng(seed).integers(0, len(x), len(x))})
    fm.fit_many(trainers, x, y, each=each, batch_size=32, epochs=150)
    return [trainer.model for trainer in trainers]


def predict(models, points):
    found = np.stack([model.infer(points.astype(np.float32))[:, 0] for model in models])
    return found.mean(axis=0), found.std(axis=0)


mean, spread = predict(ensemble(points, values), grid)
error = np.abs(mean - simulate(grid))
known = grid[:, 0] <= 2
print(f"inside the samples:  mean error {error[known].mean():.3f}, mean spread {spread[known].mean():.3f}")
print(f"outside the samples: mean error {error[~known].mean():.3f}, mean spread {spread[~known].mean():.3f}")

# ## Run the simulation where the networks disagree
#
# Two rounds, each with every tenth of the 200 points with the largest spread, then the same measurement.

for _ in range(2):
    _, spread = predict(ensemble(points, values), grid)
    chosen = grid[np.argsort(spread)[-200::10]]
    points, values = np.concatenate([points, chosen]), np.concatenate([values, simulate(chosen)])
mean, spread = predict(ensemble(points, values), grid)
error = np.abs(mean - simulate(grid))
print(
    f"with {len(points)} points: mean error outside {error[~known].mean():.3f}, mean spread {spread[~known].mean():.3f}"
)
