"""Losses that add up over the columns of a row: one file each, with one of

- ``loss(x, t, w, a, b)``: (term, derivative with respect to x) of an output x and its target t,
- ``class_term(log_p, a)``: (term, derivative with respect to log p) of a class of probability p, where p is the softmax
  of the row of outputs; a class counts by its target and its weight.

w is the weight of the column (1 where there is none), and a, b are the loss's numbers, see ``Loss.numbers``.
"""
