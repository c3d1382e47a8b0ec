"""The gradient itself, in the place of an optimizer's state; p stays."""

from __future__ import annotations

STATES = ("gradient",)
NUMBERS = ("lr",)


def update(g, p, gradient, n):
    return p, g
