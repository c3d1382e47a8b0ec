"""The least time in which a GPU could make a step, of which what it took is a share: nothing here is measured in a run.

The products' operations at the GPU's peak, or what has to come from its memory at full bandwidth, whichever takes
longer; and the barriers of the step's stages, in which nothing can be done. What stays in the second-level cache from
step to step need not come from memory.
"""

from __future__ import annotations

from typing import NamedTuple

from fastmlp._kernels.cuda.runtime import cuda
from fastmlp.benchmark.cases import Case

__all__ = ["Floor", "Gpu", "floor_of", "this_gpu"]

# Fused multiply-adds of a multiprocessor in a clock, by compute capability: NVIDIA's architecture white papers, from
# the dense peaks of the A100 (19.5, 156 and 312 TFLOPS) and the H100 (66.9, 495 and 989). Six products make one of
# "bf16x6".
FMAS = {
    (8, 0): {"float32": 64, "tf32": 512, "bf16": 1024, "bf16x6": 1024 / 6},
    (9, 0): {"float32": 128, "tf32": 1024, "bf16": 2048, "bf16x6": 2048 / 6},
}
BARRIER = 0.9e-6  # seconds of a barrier of 132 blocks by itself: an H200, 2026-11-27, see docs/cuda.md
STATES = {"Adam": 2, "SGD": 0}  # arrays of the optimizer beside each parameter


class Gpu(NamedTuple):
    """What a floor needs to know of a GPU."""

    capability: tuple[int, int]
    multiprocessors: int
    clock: float  # Hz, the highest
    bandwidth: float  # bytes a second, of its memory
    cache: int  # bytes, of the second level


class Floor(NamedTuple):
    """Microseconds of a step: its parts, and all of it."""

    operations: float
    memory: float
    barriers: float

    @property
    def us(self) -> float:
        """Operations and memory are at work at the same time, barriers are not."""
        return max(self.operations, self.memory) + self.barriers


def this_gpu() -> Gpu:
    """The current one, by what its driver says."""
    device = cuda.get_current_device()
    # Two transfers in a clock of the memory, of so many bits.
    bandwidth = 2 * 1e3 * device.MEMORY_CLOCK_RATE * device.GLOBAL_MEMORY_BUS_WIDTH / 8
    major, minor = device.compute_capability
    return Gpu(
        (major, minor), device.MULTIPROCESSOR_COUNT, 1e3 * device.CLOCK_RATE, bandwidth, device.L2_CACHE_SIZE
    )  # fmt: skip


def floor_of(case: Case, gpu: Gpu, precision: str, stages: int) -> Floor | None:
    """The floor of a case's step of so many stages; None for GPUs whose peak is not known here."""
    if gpu.capability not in FMAS:
        return None
    peak = 2 * FMAS[gpu.capability][precision] * gpu.multiprocessors * gpu.clock
    features = case.sizes[0] * (1 if case.uint8 else 4)
    outputs = sum(case.sizes[1:])
    parameters = sum((before + 1) * after for before, after in zip(case.sizes, case.sizes[1:], strict=False))
    states = STATES[case.optimizer] + (case.momentum > 0)
    weights, activations = 4 * parameters * (1 + states), 4 * case.batch * outputs
    moved = 0
    if case.rows * features + weights + 2 * activations > gpu.cache:
        # Rows come, weights and activations come and go.
        moved = case.batch * features + 2 * weights + 2 * activations
    return Floor(1e6 * case.useful_operations / peak, 1e6 * moved / gpu.bandwidth, 1e6 * BARRIER * stages)
