"""Train on images from the command line, with loss and accuracy curves.

    python examples/images.py                      # on the digits that come with the package
    python examples/images.py --dataset cifar10    # downloads 163 MiB; some minutes

The script runs the commands that a shell would run; each line below that begins with $ is such a command.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from fastmlp.cli import main

parser = argparse.ArgumentParser()
parser.add_argument("--dataset", default="digits")
parser.add_argument("--data-dir", help="folder with the files of the data set, or to download them to")
args = parser.parse_args()
data = ["--dataset", args.dataset, *(["--data-dir", args.data_dir] if args.data_dir else [])]


def run(*command):
    print("$ fastmlp", *command)
    if main(list(command)):
        sys.exit(f"fastmlp {command[0]} failed")


# `fastmlp train` has defaults for each of its data sets. For CIFAR-10 it trains one hidden layer of 100 units with the
# images minus their mean, in batches of 200, and evaluates the test images every 100 steps. It saves a run folder: the
# model, the metrics of each evaluation, and a picture of the curves.

folder = Path(tempfile.mkdtemp())
run("train", *data, "--out", str(folder / "first"), "--no-progress")
print("files:", ", ".join(sorted(path.name for path in (folder / "first").iterdir())))

# A second run with other options. Early stopping ends it when the test loss no longer falls, and keeps the best
# weights.

options = ["--hidden", "64,64", "--dropout", "0.2", "--early-stopping", "5"]
run("train", *data, *options, "--out", str(folder / "second"), "--no-progress")

# `fastmlp compare` ranks runs and draws their curves in one picture; `fastmlp evaluate` repeats the evaluation of a
# saved model.

run("compare", str(folder / "first"), str(folder / "second"), "--out", str(folder / "curves.png"))
run("evaluate", str(folder / "first"), *data[2:])
