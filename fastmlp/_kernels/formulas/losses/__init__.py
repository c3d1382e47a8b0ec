"""Losses that add up over the elements of a row: one file each, with

- ``loss(x, t, w, a, b)``: (term, derivative with respect to x) of an output x and its target t,

where w is the weight of the column (1 where there is none) and a, b are the loss's numbers, see ``Loss.numbers``.
"""
