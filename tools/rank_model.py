"""Print how much faster a training step is on several ranks, by the alpha-beta model of the network.

A step on R ranks takes the time of a rank's rows, of the update, which each rank makes, and of one sum of all gradients
by recursive halving and doubling: 2 log2(R) messages, 2 (R - 1) / R times the gradients in and out, and one addition of
each number. The slowest of R ranks whose steps vary by 3 % takes 1 + 0.03 sqrt(2 log R) times the mean.

    python tools/rank_model.py                  # nets of docs/distributed.md
    python tools/rank_model.py --parameters 669706 --row-us 13.1 --update-us 150 --rows 1024 --cores 16
"""

from __future__ import annotations

import argparse
import math

NETWORKS = {"1 Gbit/s": (50e-6, 0.117e9), "10 Gbit/s": (25e-6, 1.1e9), "100 Gbit/s": (3e-6, 11e9)}  # seconds, bytes/s
RANKS = (2, 4, 8, 16, 64, 256, 1024)
ADDITION = 5e9  # bytes a second that one core adds
CORES = 0.8  # efficiency of the cores of a rank
VARIATION = 0.03
# parameters, microseconds a row and an update on one core: AMD EPYC (family 26), 2026-12-01
NETS = {"784-512-512-10": (669_706, 13.1, 150.0), "1024-2048-2048-2048-10": (10_512_394, 300.0, 9000.0)}


def compute(row: float, update: float, rows: float, cores: int) -> float:
    """Return the seconds of a rank's rows and of the update."""
    return (row * rows + update) * 1e-6 / (1 if cores == 1 else CORES * cores)


def exchange(size: float, ranks: int, network: str) -> float:
    """Return the seconds of a sum of ``size`` bytes over the ranks."""
    latency, speed = NETWORKS[network]
    return 2 * math.log2(ranks) * latency + (ranks - 1) / ranks * size * (2 / speed + 1 / ADDITION)


def speedups(net: tuple[int, float, float], rows: float, cores: int, network: str, weak: bool) -> list[float]:
    """Return the speed on each number of ranks over that of one rank.

    ``weak``: each rank has ``rows`` rows; else all ranks together have them.
    """
    parameters, row, update = net
    found = []
    for ranks in RANKS:
        slowest = 1 + VARIATION * math.sqrt(2 * math.log(ranks))
        own = compute(row, update, rows if weak else rows / ranks, cores) * slowest
        step = own + exchange(4 * parameters, ranks, network)
        found.append((ranks if weak else 1) * compute(row, update, rows, cores) / step)
    return found


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parameters", type=int)
    parser.add_argument("--row-us", type=float, default=13.1, help="microseconds of a row on one core")
    parser.add_argument("--update-us", type=float, default=150.0, help="microseconds of an update on one core")
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--cores", type=int, default=16, help="cores of a rank")
    args = parser.parse_args()
    nets = NETS
    if args.parameters:
        nets = {f"{args.parameters:,} parameters": (args.parameters, args.row_us, args.update_us)}
    for name, net in nets.items():
        for weak in (False, True):
            print(f"\n{name}: {args.rows} rows {'a rank' if weak else 'in all'}, {args.cores} cores a rank\n")
            print("| network | " + " | ".join(f"{ranks} ranks" for ranks in RANKS) + " |")
            print("|---|" + "---:|" * len(RANKS))
            for network in NETWORKS:
                found = speedups(net, args.rows, args.cores, network, weak)
                print(f"| {network} | " + " | ".join(f"{speed:.3g}" for speed in found) + " |")


if __name__ == "__main__":
    main()
