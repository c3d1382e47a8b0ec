"""Backpropagation by hand, from the equations to a trained network.

A network with one hidden layer, first in plain NumPy, one line for each equation of the derivations; then the same
network in fastmlp, with the same numbers; then a check of the gradients by finite differences.

    python examples/backpropagation.py
"""

import numpy as np

import fastmlp as fm

# Legend: N rows, I inputs, H hidden units, C classes. X is (N, I), the first weights W1 (H, I), the second W2 (C, H).
# The handwritten digits have I = 64 inputs from 0 to 16 and C = 10 classes.
X, labels, X_test, labels_test = fm.load("digits")
X, X_test = X / 16, X_test / 16
N, inputs, H, C = len(X), 64, 32, 10
rng = np.random.default_rng(0)
W1, b1 = rng.normal(0, np.sqrt(2 / inputs), (H, inputs)), np.zeros(H)
W2, b2 = rng.normal(0, np.sqrt(1 / H), (C, H)), np.zeros(C)

# ## Forward
#
# A linear layer is Z = X Wᵀ + b. The activation is A = max(Z, 0). The softmax P of the second layer's outputs gives the
# loss L = -(1 / N) sum log P[i, label_i].


def forward(X):
    Z1 = X @ W1.T + b1
    A1 = np.maximum(Z1, 0)
    Z2 = A1 @ W2.T + b2
    E = np.exp(Z2 - Z2.max(axis=1, keepdims=True))
    return Z1, A1, E / E.sum(axis=1, keepdims=True)


def loss_of(P, labels):
    return -np.log(P[np.arange(len(labels)), labels]).mean()


# ## Backward
#
# The chain rule from the loss to the weights. Of softmax and cross-entropy together only P - T remains, where T has a
# one at each row's label: dZ2 = (P - T) / N. Then, for each linear layer, dW = dZᵀ A, db = sum of the rows of dZ, dA =
# dZ W; and for the activation, dZ = dA where Z > 0, else 0.


def gradients(X, labels):
    Z1, A1, P = forward(X)
    T = np.eye(C)[labels]
    dZ2 = (P - T) / len(X)
    dW2, db2 = dZ2.T @ A1, dZ2.sum(axis=0)
    dZ1 = (dZ2 @ W2) * (Z1 > 0)
    dW1, db1 = dZ1.T @ X, dZ1.sum(axis=0)
    return dW1, db1, dW2, db2


# ## The same network in fastmlp
#
# A Linear module stores W as "weight" (O, I) and b as "bias" (O,), as above. `forward_backward` of the loss returns the
# loss and dZ2; `backward` of the model fills the `grads` of its modules.

model = fm.MLP(inputs, [H], C, activation="relu", dtype="float64", rng=0)
model.load_state_dict(dict(zip(model.state_dict(), (W1, b1, W2, b2))))
criterion = fm.CrossEntropyLoss()
value, dZ2 = criterion.forward_backward(model(X[:100]), labels[:100])
model.backward(dZ2)
by_hand = gradients(X[:100], labels[:100])
ours = [gradient for module in model for gradient in module.grads.values()]
difference = max(np.abs(a - b).max() for a, b in zip(ours, by_hand, strict=True))
print(f"loss by hand {loss_of(forward(X[:100])[2], labels[:100]):.12f}, in fastmlp {value:.12f}")
print(f"largest difference of a gradient: {difference:.1e}")

# ## Check the gradients
#
# The derivative along one number is close to (L(w + h) - L(w - h)) / (2 h). `check_gradients` does that for all weights
# and inputs, and leaves out differences across the kink of the ReLU.

report = fm.check_gradients(model, criterion, X[:8], labels[:8])
print(f"finite differences: largest relative error {report.max_error:.1e}, passed: {report.passed}")

# ## Train
#
# Gradient descent by hand: subtract a multiple of the gradient, batch by batch.

for _ in range(20):
    order = rng.permutation(N)
    for start in range(0, N, 32):
        rows = order[start : start + 32]
        for weight, gradient in zip((W1, b1, W2, b2), gradients(X[rows], labels[rows])):
            weight -= 0.2 * gradient
print(f"by hand: test accuracy {(forward(X_test)[2].argmax(axis=1) == labels_test).mean():.3f}")

# `Trainer` runs the same steps in compiled kernels.

trainer = fm.Trainer(model, criterion, fm.SGD(0.2))
trainer.fit(X, labels, batch_size=32, epochs=20, rng=0)
print(f"fastmlp: test accuracy {trainer.evaluate(X_test, labels_test)['accuracy']:.3f}")
