"""Time the training steps of several checkouts of fastmlp in turns, in one run.

    python bench/commits.py before=../fastmlp-before after=.
    python bench/commits.py narrow=.,FASTMLP_LANES=8 wide=.,FASTMLP_LANES=16 --cases mnist,higgs

Each contender is a name, the folder of a checkout and environment variables after commas. Each has a process that
waits for its turn, so that a change of the machine's speed reaches all of them. ``--busy N`` runs N busy loops beside
them, as other processes of a shared machine.
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

# Answers a line of JSON with a line of JSON: the digest of the weights after some steps, then the time of a step.
WORKER = """
import hashlib, json, sys, time
from fastmlp.benchmark.cases import CASES, batches, first_weights, make_data
from fastmlp.benchmark.contender import OURS, find
from fastmlp.benchmark.timing import PAUSE, steps_for
ready = {}
for line in sys.stdin:
    name, threads, seconds = json.loads(line)
    case = CASES[name]
    if name not in ready:
        data = make_data(case)
        contender = find(OURS)(case, data, first_weights(case, data), threads)
        contender.losses(batches(case, 5))
        digest = hashlib.sha256(b"".join(array.tobytes() for array in contender.weights())).hexdigest()[:16]
        steps = steps_for(contender, lambda n: batches(case, n), seconds)
        ready.clear()  # the memory of one case at a time
        ready[name] = contender, batches(case, steps)
        answer = digest
    else:
        contender, order = ready[name]
        time.sleep(PAUSE)
        answer = 1e6 * contender.seconds(order) / len(order)
    print(json.dumps(answer), flush=True)
"""


class Checkout:
    """A process that times the steps of one checkout.

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
            raise SystemExit(f"{text!r}: {folder!r} holds no folder fastmlp; expected NAME=FOLDER of a checkout.")
        self.variables = dict(variable.split("=", 1) for variable in variables)
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(self.folder), **self.variables},
        )  # fmt: skip

    def ask(self, *question: Any) -> Any:
        """The answer to a question of `WORKER`."""
        assert self.process.stdin is not None and self.process.stdout is not None
        print(json.dumps(question), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended with exit code {self.process.wait()}.")
        return json.loads(line)

    def describe(self) -> dict[str, Any]:
        """The commit and the environment variables."""
        commit = subprocess.run(
            ["git", "-C", str(self.folder), "describe", "--always", "--dirty"], capture_output=True, text=True
        )
        return {"commit": commit.stdout.strip() or None, "variables": self.variables}


@contextmanager
def busy_loops(count: int) -> Any:
    """``count`` processes that compute all the time."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def main() -> None:
    """Time, print a table and write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkouts", nargs="+", metavar="NAME=FOLDER", help="the first is what the others are held to")
    parser.add_argument("--cases", default="seed,figure1,tabular,mnist,higgs,big,one", help="(default: %(default)s)")
    parser.add_argument("--threads", default="1,2", help="numbers of threads (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=25, help="(default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=0.1, help="of a timing (default: %(default)s)")
    parser.add_argument("--busy", type=int, default=0, metavar="N", help="busy loops beside (default: none)")
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
                # The compiling of a first run is over when the loops begin.
                digests = {one.name: one.ask(*question) for one in checkouts}
                times: dict[str, list[float]] = {one.name: [] for one in checkouts}
                load = OtherLoad()
                with busy_loops(args.busy):
                    for number in range(args.rounds):
                        first = number % len(checkouts)
                        for one in checkouts[first:] + checkouts[:first]:
                            times[one.name].append(one.ask(*question))
                base = times[checkouts[0].name]
                results.append(
                    {
                        "case": case, "threads": threads, "digests": digests, "load": load.cores(),
                        "us": {name: summary(values) for name, values in times.items()},
                        # Of the two times of each round: the machine's speed drifts from one round to the next.
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
    """A case as a row of a table: medians, ratios to the first's with quartiles, equality of bits."""
    first, *others = result["us"]
    cells = [f"{first} {result['us'][first]['us']:.1f}"]
    for name in others:
        ratio = result["ratio"][name]
        low, high = ratio["quartiles"]
        same = "" if result["digests"][name] == result["digests"][first] else ", other bits"
        cells.append(f"{name} {result['us'][name]['us']:.1f} ({ratio['us']:.3f}, {low:.3f} to {high:.3f}{same})")
    return f"| {result['case']} | {result['threads']} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
