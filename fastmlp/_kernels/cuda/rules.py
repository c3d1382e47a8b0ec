"""The optimizers' formulas as the persistent kernel applies them: whatever an optimizer keeps beside a parameter."""

from __future__ import annotations

import functools

from . import formulas
from .jit import device

__all__ = ["rule"]


@functools.cache
def rule(name):
    """(numbers, has, step): numbers(on, h) is a tuple of a step's numbers from ``on.hyper[h ..]``, in the order of
    `formulas`; RMSprop's end with whether it is centred.

    Of an element there are the parameter and up to three states, in planes one after the other: has(n) says of each of
    the four whether it is there. step(g, n, *them) is what they are after a step with gradient g.
    """

    @device
    def four(on, h):
        n = on.hyper
        return n[h], n[h + 1], n[h + 2], n[h + 3]

    @device
    def eight(on, h):
        n = on.hyper
        return n[h], n[h + 1], n[h + 2], n[h + 3], n[h + 4], n[h + 5], n[h + 6], n[h + 7]

    @device
    def seven(on, h):
        n = on.hyper
        return n[h], n[h + 1], n[h + 2], n[h + 3], n[h + 4], n[h + 5], n[h + 6]

    @device
    def three(on, h):
        n = on.hyper
        return n[h], n[h + 1], n[h + 2]

    @device
    def one(on, h):
        return (on.hyper[h],)

    @device
    def has_sgd(n):
        return True, n[1] != 0, False, False

    @device
    def sgd(g, n, w, v, unused, none):
        w, v = formulas.sgd(g, w, v, n[0], n[1], n[2], n[3] != 0, n[1] != 0)
        return w, v, unused, none

    @device
    def has_adam(n):
        return True, True, True, False

    @device
    def adam(g, n, w, m, s, unused):
        w, m, s = formulas.adam(g, w, m, s, n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7])
        return w, m, s, unused

    @device
    def has_rmsprop(n):
        return True, True, n[6] != 0, n[5] != 0

    @device
    def rmsprop(g, n, w, s, m, v):
        return formulas.rmsprop(g, w, s, m, v, n[0], n[1], n[2], n[3], n[4], n[5], n[6] != 0, n[5] != 0)

    @device
    def has_adagrad(n):
        return True, True, False, False

    @device
    def adagrad(g, n, w, t, unused, none):
        w, t = formulas.adagrad(g, w, t, n[0], n[1], n[2])
        return w, t, unused, none

    @device
    def has_kept(n):
        return False, True, False, False

    @device
    def keep(g, n, w, kept, unused, none):
        return w, g, unused, none

    return {
        "sgd": (four, has_sgd, sgd), "adam": (eight, has_adam, adam), "rmsprop": (seven, has_rmsprop, rmsprop),
        "adagrad": (three, has_adagrad, adagrad), "keep": (one, has_kept, keep),
    }[name]  # fmt: skip
