"""Optimizers, one file each.

A file defines

- ``STATES``: the names of the state arrays of a parameter, one to three,
- ``NUMBERS``: the names of the step's numbers n, at most eight, as the optimizer's ``numbers`` computes them,
- ``update(g, p, states ..., n)``: (p, states ...) after a step with gradient g,
- ``kept(n)``, for optional states: whether each state exists. An absent state is passed as 0.
"""

MOST_STATES, MOST_NUMBERS = 3, 8
