"""LLVM code of the operations that kernels are written in, for Numba.

Each file belongs to the module of its name in `cpu`, which defines the operations in Python. `jit.lower` imports it
where kernels are compiled in this process.
"""
