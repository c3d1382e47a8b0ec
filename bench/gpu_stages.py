"""Time the stages of the persistent training kernel on a GPU, in clock cycles of work and of waiting.

    python bench/gpu_stages.py cifar10 mnist "width 64, batch 2^16"

The clock of the first block's multiprocessor is read before and after each barrier; the first steps are left out. Time
in which the first block waits for slower blocks counts as waiting. The output has one line per stage, with medians over
the steps.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
from pathlib import Path
from typing import Any

from gpu import nets

from fastmlp import Trainer, use_backend
from fastmlp._kernels import PRECISIONS, get_backend
from fastmlp._kernels.cuda import grid, table
from fastmlp._kernels.cuda.assembly import instruction
from fastmlp._kernels.cuda.jit import device
from fastmlp._kernels.cuda.runtime import cuda
from fastmlp.benchmark.cases import CASES, SEED, Case, make_data

CLOCKS = 2048  # entries of the enlarged launch header; each barrier writes two
_FIRST = table.CONTROL + 8  # in another cache line than the barrier's counter
_clock = instruction("mov.u64 $0, %clock64;", "=l,~{memory}", (), ("int64",), False)


@functools.cache
def timed_wait(entries: int) -> Any:
    """Return a grid barrier that stores the clock before and after it in a launch header of ``entries`` entries.

    The cache key of a kernel includes the barrier and what it captures, so no kernel without the clock is loaded.
    """
    first, end = _FIRST - table.CONTROL, entries - table.CONTROL

    @device
    def wait(control: Any, turn: int) -> None:
        cuda.syncthreads()
        leads = cuda.blockIdx.x == 0 and cuda.threadIdx.x == 0
        before = _clock()
        grid.wait_for_grid(control, turn)
        at = first + 2 * turn
        if leads and at + 1 < end:
            control[at], control[at + 1] = before, _clock()

    return wait


def install_timed_barrier() -> None:
    """Launch kernels with `timed_wait` from now on, with a launch header that has room for its output."""
    gpu = get_backend("cuda").machine()
    gpu.wait, gpu.header = timed_wait(CLOCKS), CLOCKS


def stages_of(case: Case, precision: str) -> list[dict[str, Any]]:
    """Return the clock cycles of the stages of a case, measured after as many steps for warm-up."""
    data = make_data(case)
    with use_backend("cuda"):
        gpu = get_backend("cuda").machine()
        trainer = Trainer(case.model(data), case.make_loss(), case.make_optimizer(), precision=precision)
    options = {"batch_size": case.batch, "rng": SEED, "drop_last": True}
    trainer.fit(data.X, data.y, max_steps=2, **options)
    session: Any = trainer._session
    plan = session.engine.plan
    count = len(plan.stages)
    session.chunk = steps_made = min(50, (CLOCKS - _FIRST) // (2 * count) - 1)  # all in one launch
    trainer.fit(data.X, data.y, max_steps=steps_made, eval_every=steps_made, **options)
    if trainer._session is not session:
        raise RuntimeError("the second fit did not reuse the session of the first")
    noted = gpu.download(gpu._kept["ints"][_FIRST:CLOCKS]).reshape(-1, 2)
    # The first step begins at turn 1, after the first batch was gathered.
    found = []
    for stage in range(count):
        turns = [1 + step * count + stage for step in range(steps_made // 2, steps_made)]
        jobs = plan.jobs[plan.stages[stage, table.FIRST_JOB] : plan.stages[stage, table.LAST_JOB]]
        found.append(
            {
                "kind": "chain" if plan.stages[stage, table.KIND] == table.CHAIN else "spread",
                "jobs": [describe(job) for job in jobs],
                "busy": statistics.median(int(noted[turn + 1, 0] - noted[turn, 1]) for turn in turns),
                "waiting": statistics.median(int(noted[turn + 1, 1] - noted[turn + 1, 0]) for turn in turns),
            }
        )
    return found


_NAMES = {
    getattr(table, name): name
    for name in (
        "FORWARD", "DELTA", "LOSS", "ACTIVATE", "ACTIVATE_BACK", "DROP", "DROP_BACK", "NORM", "NORM_BACK", "SOFTMAX",
        "SOFTMAX_BACK", "WEIGHTS", "NORM_GRADIENT", "UPDATE", "GATHER", "NORMALIZE",
        "NORMALIZE_BACK",
    )
}  # fmt: skip


def describe(job: Any) -> str:
    """Describe a job in a few words, for example ``FORWARD 0, 8 tiles along, 7 parts``."""
    words = [f"{_NAMES[int(job[table.KIND])]} {job[table.OP]}, {job[table.TILES]} tiles along"]
    words += [f"{job[table.SPLITS]} parts"] if job[table.SPLITS] > 1 else []
    words += ["wide"] if job[table.WIDE] else []
    return ", ".join(words)


def main() -> None:
    """Print the stages of the selected cases."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    cases = {case.name: case for case in (*CASES.values(), *nets())}
    parser.add_argument("cases", nargs="+", choices=cases, metavar="case")
    parser.add_argument("--precision", default="float32", choices=PRECISIONS)
    parser.add_argument("--json", type=Path, help="JSON file for the numbers")
    options = parser.parse_args()
    install_timed_barrier()
    document = {}
    for name in options.cases:
        document[name] = found = stages_of(cases[name], options.precision)
        total = sum(stage["busy"] + stage["waiting"] for stage in found)
        print(f"{name}: {total:.0f} clock cycles per step, {len(found)} stages", flush=True)
        for stage in found:
            print(f"  {stage['busy']:9.0f} busy {stage['waiting']:9.0f} waiting  {stage['kind']}: {stage['jobs'][0]}")
            for job in stage["jobs"][1:]:
                print(f"{'':43}{job}")
    if options.json:
        options.json.write_text(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
