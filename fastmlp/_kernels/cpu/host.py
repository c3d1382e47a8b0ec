"""Properties of the host's processor: vector width, height of the GEMM tile and size of the L1 data cache."""

from __future__ import annotations

import functools
import os
import platform
from collections.abc import Mapping

from ..._common.errors import BackendError
from ..._common.processor import cache_sizes
from ..compiled.library import LEVEL_BYTES, chosen_level, host_level

__all__ = ["LANES", "TILE_ROWS", "VECTOR_BYTES", "l1_bytes", "width_of"]

# Accumulator rows of the GEMM tile by register width in bytes. The accumulators, two vectors per row, must leave
# registers for the operands. AVX2 has 16 vector registers; AVX-512 and NEON have 32.
_TILE_ROWS = {16: 12 if platform.machine() in ("arm64", "aarch64") else 6, 32: 6, 64: 12}


def width_of(features: Mapping[str, bool]) -> int:
    """Return the width of a vector register in bytes for the given instruction-set features.

    The width determines the order in which the lanes of a sum are added, and therefore the bits of results. The width
    must depend on the features alone, never on a processor's name or a timing.
    """
    if features.get("avx512f") and features.get("avx512vl") and features.get("avx512dq"):
        return 64
    if features.get("avx2") and features.get("fma"):
        return 32
    return 16


def _vector_bytes() -> int:
    """Return the width of a vector register in bytes.

    ``FASTMLP_INSTRUCTIONS`` (an instruction-set level of the processor) and ``FASTMLP_LANES`` (float32 lanes: 4, 8, 16)
    override it.
    """
    asked, forced = chosen_level(), os.environ.get("FASTMLP_LANES", "").strip()
    if forced:
        if forced not in ("4", "8", "16"):
            raise BackendError(f"FASTMLP_LANES is {forced!r}, expected 4, 8 or 16 (float32 lanes in a vector).")
        if asked is not None and LEVEL_BYTES[asked] != 4 * int(forced):
            raise BackendError(
                f"FASTMLP_LANES is {forced!r} and FASTMLP_INSTRUCTIONS {asked!r}, whose vectors have "
                f"{LEVEL_BYTES[asked] // 4} lanes; expected one of them."
            )
        return 4 * int(forced)
    if asked is not None:
        return LEVEL_BYTES[asked]
    level = host_level()
    if level is not None:
        return LEVEL_BYTES.get(level, 16)
    from llvmlite import binding

    return width_of(binding.get_host_cpu_features())


VECTOR_BYTES = _vector_bytes()
LANES = {4: VECTOR_BYTES // 4, 8: VECTOR_BYTES // 8}  # by itemsize
TILE_ROWS = _TILE_ROWS[VECTOR_BYTES]


_L1 = 32 << 10, 48 << 10  # smallest size in use, largest size with measurements


@functools.cache
def l1_bytes(folder: str = "/sys/devices/system/cpu/cpu0/cache") -> int:
    """Return the size of the L1 data cache in bytes, clamped to 32 to 48 KiB; 32 KiB if the system reports none."""
    for name, size in cache_sizes(folder).items():
        if name.startswith("L1 ") and name != "L1 Instruction" and size[:-1].isdecimal() and size.endswith("K"):
            return min(max(int(size[:-1]) << 10, _L1[0]), _L1[1])
    return _L1[0]
