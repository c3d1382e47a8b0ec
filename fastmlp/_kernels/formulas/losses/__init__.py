"""Losses that sum over the columns of a row, one file each.

A file defines one of

- ``loss(x, t, w, a, b)``: (term, derivative with respect to x) of an output x and its target t,
- ``class_term(log_p, a)``: (term, derivative with respect to log p) of a class of probability p, where p is the softmax
  of the row of outputs. The term of a class is multiplied by the target and the weight of the class.

w is the weight of the column (1 without weights). a and b are the loss's numbers, see ``Loss.numbers``.
"""
