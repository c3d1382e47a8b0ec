"""Compare the speed of several checkouts of fastmlp in one run, with interleaved timings.

    python bench/commits.py before=../fastmlp-before after=.
    python bench/commits.py narrow=.,FASTMLP_LANES=8 wide=.,FASTMLP_LANES=16 --cases mnist,higgs

Each contender is a name, the folder of a checkout and, after commas, environment variables. Each has its own process,
and the processes are timed in alternation, so that a change of the machine's speed affects all of them. ``--busy N``
runs N busy loops at the same time, to simulate a shared machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from fastmlp._common.processor import processor
from fastmlp.benchmark.machine import OtherLoad
from fastmlp.benchmark.timing import summary

# Reads and writes lines of JSON: the first request for a case returns a digest of the weights after some steps, later
# requests the microseconds per step. Older checkouts call the case "cifar10" by its former name "seed".
WORKER = """
import hashlib, json, sys, time
from fastmlp.benchmark.cases import CASES, batches, first_weights, make_data
from fastmlp.benchmark.contender import OURS, find
from fastmlp.benchmark.timing import PAUSE, steps_for
ready = {}
for line in sys.stdin:
    name, threads, seconds = json.loads(line)
    case = CASES["seed" if name == "cifar10" and name not in CASES else name]
    if name not in ready:
        data = make_data(case)
        contender = find(OURS)(case, data, first_weights(case, data), threads)
        contender.losses(batches(case, 5))
        digest = hashlib.sha256(b"".join(array.tobytes() for array in contender.weights())).hexdigest()[:16]
        steps = steps_for(contender, lambda n: batches(case, n), seconds)
        ready.clear()  # frees the previous case
        ready[name] = contender, batches(case, steps)
        answer = digest
    else:
        contender, order = ready[name]
        time.sleep(PAUSE)
        answer = 1e6 * contender.seconds(order) / len(order)
    print(json.dumps(answer), flush=True)
"""


class Checkout:
    """Process that times the steps of one checkout.

    Parameters
    ----------
    text : str
        ``NAME=FOLDER`` or ``NAME=FOLDER,VARIABLE=VALUE,...``.
    """

    def __init__(self, text: str) -> None:
        self.name, _, rest = text.partition("=")
        folder, *variables = rest.split(",")
        self.folder = Path(folder).resolve()
        if not (self.folder / "fastmlp").is_dir():
            raise SystemExit(
                f"{text!r}: {folder!r} has no folder fastmlp; expected NAME=FOLDER with a checkout of fastmlp."
            )
        self.variables = dict(variable.split("=", 1) for variable in variables)
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(self.folder), **self.variables},
        )  # fmt: skip

    def request(self, *question: Any) -> Any:
        """Send a request to `WORKER` and return its answer."""
        assert self.process.stdin is not None and self.process.stdout is not None
        print(json.dumps(question), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended with exit code {self.process.wait()}.")
        return json.loads(line)

    def describe(self) -> dict[str, Any]:
        """Return the commit and the environment variables."""
        commit = subprocess.run(
            ["git", "-C", str(self.folder), "describe", "--always", "--dirty"], capture_output=True, text=True
        )
        return {"commit": commit.stdout.strip() or None, "variables": self.variables}


@contextmanager
def busy_loops(count: int) -> Any:
    """Run ``count`` processes that compute all the time."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def main() -> None:
    """Time the checkouts, print a table and write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "checkouts", nargs="+", metavar="NAME=FOLDER", help="checkouts to time; the first is the baseline"
    )
    parser.add_argument("--cases", default="cifar10,figure1,tabular,mnist,higgs,big,one", help="(default: %(default)s)")
    parser.add_argument("--threads", default="1,2", help="numbers of threads (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=25, help="(default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=0.1, help="duration of one timing (default: %(default)s)")
    parser.add_argument("--busy", type=int, default=0, metavar="N", help="busy loops at the same time (default: none)")
    parser.add_argument("--out", help="the JSON file")
    args = parser.parse_args()
    results = []
    with ExitStack() as stack:
        checkouts = [Checkout(text) for text in args.checkouts]
        for one in checkouts:
            stack.callback(one.process.kill)
        for threads in map(int, args.threads.split(",")):
            for case in args.cases.split(","):
                question = case, threads, args.seconds
                # Kernels are compiled here, before the busy loops start.
                digests = {one.name: one.request(*question) for one in checkouts}
                times: dict[str, list[float]] = {one.name: [] for one in checkouts}
                load = OtherLoad()
                with busy_loops(args.busy):
                    for number in range(args.rounds):
                        first = number % len(checkouts)
                        for one in checkouts[first:] + checkouts[:first]:
                            times[one.name].append(one.request(*question))
                base = times[checkouts[0].name]
                results.append(
                    {
                        "case": case, "threads": threads, "digests": digests, "load": load.cores(),
                        "us": {name: summary(values) for name, values in times.items()},
                        # Ratios are taken within a round, as the machine's speed drifts between rounds.
                        "ratio": {
                            name: summary([one / other for one, other in zip(base, values, strict=True)])
                            for name, values in times.items()
                        },
                    }
                )  # fmt: skip
                print(line(results[-1]), flush=True)
        document = {
            "date": time.strftime("%Y-%m-%dT%H:%M:%S"), "cpu": processor(), "busy_loops": args.busy,
            "rounds": args.rounds, "seconds": args.seconds,
            "checkouts": {one.name: one.describe() for one in checkouts}, "results": results,
        }  # fmt: skip
    if args.out:
        Path(args.out).write_text(json.dumps(document, indent=1) + "\n")


def line(result: dict[str, Any]) -> str:
    """Format a case as a table row: medians, ratios to the baseline with quartiles, equality of the weights."""
    first, *others = result["us"]
    cells = [f"{first} {result['us'][first]['us']:.1f}"]
    for name in others:
        ratio = result["ratio"][name]
        low, high = ratio["quartiles"]
        same = "" if result["digests"][name] == result["digests"][first] else ", different bits"
        cells.append(f"{name} {result['us'][name]['us']:.1f} ({ratio['us']:.3f}, {low:.3f} to {high:.3f}{same})")
    return f"| {result['case']} | {result['threads']} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
