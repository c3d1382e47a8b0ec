"""Train on a mapped file larger than the memory: time, bytes read and anonymous memory by the order of the rows.

    python bench/out_of_core.py
    python bench/out_of_core.py --size 4 --memory 1 --out bench/results/out-of-core-DATE.json

The file has rows of 784 float32 numbers in a temporary folder, and is deleted at the end. Each case is a process of its
own in a control group of limited memory, and trains a net of 784-512-512-10 in batches of 128. Where no such group can
be made (only root can, on Linux), the file is dropped from the page cache before each case and the memory is not
limited.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

WIDTH, BATCH, BLOCK = 784, 128, 1 << 16
GIB = 1 << 30
LIMITS = {1: "memory.limit_in_bytes", 2: "memory.max"}
# Name of a case: (order, whether the reads have the advice that a fit gives, whether the file is in the page cache).
CASES = {
    "full shuffle, in the page cache": ("full", True, True),
    "windows, in the page cache": ("windows", True, True),
    "windows": ("windows", True, False),
    "full shuffle": ("full", True, False),
    "full shuffle, reading ahead": ("full", False, False),
}


def write_rows(path: Path, size: float) -> None:
    """Write a ``.npy`` file of about ``size`` GiB of normal numbers."""
    rows = int(size * GIB) // (4 * WIDTH)
    numbers = np.random.default_rng(0)
    out = np.lib.format.open_memmap(path, "w+", np.float32, (rows, WIDTH))
    for at in range(0, rows, BLOCK):
        out[at : at + BLOCK] = numbers.standard_normal((min(BLOCK, rows - at), WIDTH), np.float32)
    out.flush()


def drop(path: Path) -> None:
    """Remove the file from the page cache."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_file(path: Path) -> float:
    """Read the file in order; return the bytes per second."""
    began = time.perf_counter()
    with path.open("rb", buffering=0) as stream:
        while stream.read(1 << 24):
            pass
    return path.stat().st_size / (time.perf_counter() - began)


@contextmanager
def memory_group(size: float) -> Iterator[Path | None]:
    """Yield the folder of a new control group with ``size`` GiB of memory, or None if none can be made."""
    from fastmlp._common.cgroups import control_groups

    made = None
    for parent, version in reversed(control_groups("memory")):
        folder = parent / f"fastmlp-bench-{os.getpid()}"
        try:
            folder.mkdir()
        except OSError:
            continue
        try:
            # A new group without this file has no memory controller.
            with (folder / LIMITS[version]).open("r+") as stream:
                stream.write(str(int(size * GIB)))
            made = folder
            break
        except OSError:
            folder.rmdir()
    try:
        yield made
    finally:
        if made is not None:
            made.rmdir()


def status(field: str) -> int:
    """Return a field of /proc/self/status, which are in KiB, in bytes."""
    return next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith(f"{field}:"))


def bytes_read() -> int:
    """Return the bytes that the process has had read from the disk."""
    return next(int(line.split()[1]) for line in open("/proc/self/io") if line.startswith("read_bytes:"))


def train(args: argparse.Namespace) -> None:
    """Run one case in this process, and print its measurements as JSON."""
    if args.group:
        (Path(args.group) / "cgroup.procs").write_text(str(os.getpid()))
    import fastmlp as fm

    order, advised, _ = CASES[args.case]
    X = np.load(args.file, mmap_mode="r")
    y = np.random.default_rng(1).integers(0, 10, len(X))
    model = fm.MLP(WIDTH, [512, 512], 10, rng=0)
    trainer = fm.Trainer(model, fm.CrossEntropyLoss(), fm.Adam(1e-3))

    class Meter(fm.Callback):
        may_change_model = looks_at_model = False

        def on_fit_begin(self, trainer: Any) -> None:
            if not advised:
                X.base.madvise(mmap.MADV_NORMAL)  # type: ignore[union-attr]
            self.began, self.read, self.worked = time.perf_counter(), bytes_read(), time.process_time()
            self.peak = self.first = status("RssAnon")

        def on_progress(self, trainer: Any) -> None:
            self.seconds, self.read_in_steps = time.perf_counter() - self.began, bytes_read() - self.read
            self.processor_seconds = time.process_time() - self.worked
            self.peak = max(self.peak, status("RssAnon"))
            if self.seconds > args.limit:
                trainer.stop()

    meter, before, anonymous = Meter(), bytes_read(), status("RssAnon")
    began = time.perf_counter()
    trainer.fit(
        X, y, batch_size=BATCH, max_steps=args.steps, shuffle=order, rng=0, callbacks=[meter], threads=args.threads
    )
    print(
        json.dumps(
            {
                "case": args.case,
                "steps": trainer.steps,
                "seconds": meter.seconds,
                "processor seconds": meter.processor_seconds,
                "microseconds per step": 1e6 * meter.seconds / trainer.steps,
                "bytes read in steps": meter.read_in_steps,
                "bytes of rows": 4 * WIDTH * BATCH * trainer.steps,
                "seconds of checks": meter.began - began,
                "bytes read by checks": meter.read - before,
                "anonymous bytes added": meter.peak - anonymous,
            }
        )
    )


def run_case(case: str, file: Path, group: Path | None, args: argparse.Namespace) -> dict[str, Any]:
    """Run one case in a new process and return its measurements."""
    cached = CASES[case][2]
    drop(file)
    if cached:
        read_file(file)
    command = [
        sys.executable, __file__, "--case", case, "--file", str(file), "--steps", str(args.steps),
        "--limit", str(args.limit), "--threads", str(args.threads),
    ]  # fmt: skip
    if group is not None and not cached:
        command += ["--group", str(group)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def show(result: dict[str, Any]) -> None:
    """Print a row of the table."""
    print(
        f"{result['case']:<32} {result['steps']:>6} {result['seconds']:>8.1f} {result['processor seconds']:>8.1f} "
        f"{result['microseconds per step']:>8.0f} "
        f"{result['bytes read in steps'] / GIB:>9.2f} {result['bytes of rows'] / GIB:>9.2f} "
        f"{result['anonymous bytes added'] / 2**20:>8.0f} {result['seconds of checks']:>8.1f}",
        flush=True,
    )


def main() -> None:
    """Write the file, run the cases, print the table and write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=float, default=2, help="GiB of the file (default: %(default)s)")
    parser.add_argument("--memory", type=float, default=0.5, help="GiB of the control group (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=500, help="steps of each case (default: %(default)s)")
    parser.add_argument("--limit", type=float, default=120, help="seconds of steps of a case (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="(default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=1, help="runs of each case, in turns; the fastest counts")
    parser.add_argument("--cases", help=f"part of these, separated by semicolons: {'; '.join(CASES)}")
    parser.add_argument("--folder", help="folder of the file (default: that of temporary files)")
    parser.add_argument("--out", help="the JSON file")
    for name in ("case", "file", "group"):  # of the process of one case
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        train(args)
        return
    from fastmlp._common.processor import processor

    folder = Path(tempfile.mkdtemp(dir=args.folder))
    results = []
    try:
        file = folder / "rows.npy"
        write_rows(file, args.size)
        drop(file)
        rate = read_file(file)
        with memory_group(args.memory) as group:
            kind = "no control group" if group is None else f"a control group of {args.memory:g} GiB"
            print(f"{processor()}; {args.size:g} GiB on a disk of {rate / 2**20:.0f} MiB/s; {kind}")
            cases = list(CASES) if args.cases is None else args.cases.split(";")
            runs = [[run_case(case, file, group, args) for case in cases] for _ in range(args.rounds)]
            results = [min(runs_of_case, key=lambda run: run["microseconds per step"]) for runs_of_case in zip(*runs)]
            heads = ["steps", "seconds", "CPU s", "us/step", "read GiB", "rows GiB", "anon MiB", "checks s"]
            print(f"{'':<32}", *(f"{head:>{width}}" for head, width in zip(heads, (6, 8, 8, 8, 9, 9, 8, 8))))
            for result in results:
                show(result)
    finally:
        shutil.rmtree(folder)
    if args.out:
        record = {
            "date": time.strftime("%Y-%m-%d"),
            "processor": processor(),
            "bytes per second of the disk in order": rate,
            "file bytes": int(args.size * GIB),
            "group bytes": None if group is None else int(args.memory * GIB),
            "threads": args.threads,
            "results": results,
        }
        Path(args.out).write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
