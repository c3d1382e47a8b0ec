"""Lower bound of the time of a training step on a GPU, computed from the GPU's specification.

The bound is the larger of two times, plus the barriers between the stages of the step: the operations of the matrix
products at the peak rate, and the memory traffic at full bandwidth. Data that stay in the L2 cache between steps cause
no traffic.
"""

from __future__ import annotations

from typing import NamedTuple

from fastmlp._kernels.cuda.runtime import cuda
from fastmlp.benchmark.cases import Case

__all__ = ["Floor", "Gpu", "floor_of", "this_gpu"]

# Fused multiply-adds per multiprocessor and clock cycle, by compute capability. Source: NVIDIA's architecture white
# papers, dense peaks of the A100 (19.5, 156 and 312 TFLOPS) and the H100 (66.9, 495 and 989). "bf16x6" needs six bf16
# products.
FMAS = {
    (8, 0): {"float32": 64, "tf32": 512, "bf16": 1024, "bf16x6": 1024 / 6},
    (9, 0): {"float32": 128, "tf32": 1024, "bf16": 2048, "bf16x6": 2048 / 6},
}
BARRIER = 0.9e-6  # seconds of a barrier of 132 blocks: measured on an H200, 2026-11-27, see docs/cuda.md
STATES = {"Adam": 2, "SGD": 0}  # optimizer state arrays per parameter


class Gpu(NamedTuple):
    """Properties of a GPU that determine the bound."""

    capability: tuple[int, int]
    multiprocessors: int
    clock: float  # highest frequency in Hz
    bandwidth: float  # of the memory, in bytes per second
    cache: int  # size of the L2 cache in bytes


class Floor(NamedTuple):
    """Lower bound of the microseconds per step, and its parts."""

    operations: float
    memory: float
    barriers: float

    @property
    def us(self) -> float:
        """Bound in microseconds; operations and memory traffic overlap, barriers do not."""
        return max(self.operations, self.memory) + self.barriers


def this_gpu() -> Gpu:
    """Return the properties of the current GPU, as reported by its driver."""
    device = cuda.get_current_device()
    # Double data rate: two transfers per cycle of the memory clock.
    bandwidth = 2 * 1e3 * device.MEMORY_CLOCK_RATE * device.GLOBAL_MEMORY_BUS_WIDTH / 8
    major, minor = device.compute_capability
    return Gpu(
        (major, minor), device.MULTIPROCESSOR_COUNT, 1e3 * device.CLOCK_RATE, bandwidth, device.L2_CACHE_SIZE
    )  # fmt: skip


def floor_of(case: Case, gpu: Gpu, precision: str, stages: int) -> Floor | None:
    """Return the bound for a step with ``stages`` stages; None for GPUs that are not in `FMAS`."""
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
        # Rows are read; weights and activations are read and written.
        moved = case.batch * features + 2 * weights + 2 * activations
    return Floor(1e6 * case.useful_operations / peak, 1e6 * moved / gpu.bandwidth, 1e6 * BARRIER * stages)
