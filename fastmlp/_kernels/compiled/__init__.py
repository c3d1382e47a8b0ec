"""Kernels of `_kernels.cpu` compiled ahead of time: one shared library for each instruction-set level.

`build` compiles them, from the functions that the JIT compiles, and `library` loads them, without Numba.
"""
