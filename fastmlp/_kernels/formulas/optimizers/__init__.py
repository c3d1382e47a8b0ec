"""Optimizers: one file each, with

- ``STATES``: the names of the arrays that the update keeps for a parameter, one to three,
- ``NUMBERS``: the names of the step's numbers n, at most eight, as the optimizer's ``numbers`` computes them,
- ``update(g, p, states ..., n)``: (p, states ...) after a step with gradient g,
- ``kept(n)``, where a state may be absent: whether each state is there. An absent one is given as 0.
"""

MOST_STATES, MOST_NUMBERS = 3, 8
