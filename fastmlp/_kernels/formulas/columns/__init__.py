"""Functions by column: one file each, y = f(x, a, b) with two numbers a and b of the column of x, whose functions are

- ``forward(x, a, b)``: y; a function of one number does not read b,
- ``derivative(x, a, b)``: dy/dx,
- ``derivative_a(x, a, b)`` and ``derivative_b(x, a, b)``: dy/da and dy/db, where these are trained.
"""
