"""Copy the gradient to the state; p does not change."""

from __future__ import annotations

STATES = ("gradient",)
NUMBERS = ("lr",)


def update(g, p, gradient, n):
    return p, g
