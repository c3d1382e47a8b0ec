"""The modules of `_kernels.cpu` a second time, compiled by Numba, in a process that uses the library of kernels.

They compile what the library lacks: the formulas that users register.
"""

from pathlib import Path

__path__ = [str(Path(__file__).parents[1] / "cpu")]
