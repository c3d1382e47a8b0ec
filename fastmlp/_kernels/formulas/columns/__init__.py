"""Functions by column, y = f(x, a, b), one file each; a and b are two numbers of the column of x.

A file defines

- ``forward(x, a, b)``: y; a function of one number does not read b,
- ``derivative(x, a, b)``: dy/dx,
- ``derivative_a(x, a, b)`` and ``derivative_b(x, a, b)``: dy/da and dy/db, if a or b is trained.
"""
