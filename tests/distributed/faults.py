"""On each rank: a fit in which one rank does something at the second evaluation; saves the state in a folder.

mpiexec -n 2 python faults.py FOLDER EPOCHS RANK WHAT
"""

import hashlib
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

import fastmlp as fm

folder, epochs, rank, what = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
group = fm.distributed.mpi(timeout=3 if what == "stop" else 60)


class Fault(fm.Callback):
    every_rank, may_change_model, looks_at_model = True, False, False

    def on_evaluation(self, trainer, record):
        if group.rank == rank and record["step"] == 16:
            if what == "raise":
                raise ValueError("a bad callback")
            signals = {"kill": signal.SIGKILL, "interrupt": signal.SIGINT, "stop": signal.SIGSTOP}
            if what in signals:
                os.kill(os.getpid(), signals[what])


rng = np.random.default_rng(0)
X = rng.normal(size=(256, 8)).astype(np.float32)
trainer = fm.Trainer(fm.MLP(8, [12], 3, rng=0), fm.CrossEntropyLoss(), fm.Adam(0.02))
state = folder / "state"
options = {"resume": state} if state.exists() else {}
group.share(None)  # no rank saves the state before all have looked for it
try:
    trainer.fit(
        X, np.arange(256) % 3, batch_size=32, epochs=epochs, rng=1, pieces=4, threads=1, group=group,
        callbacks=[Fault(), fm.SaveState(state)], **options,
    )  # fmt: skip
except (KeyboardInterrupt, RuntimeError, ValueError) as error:
    line = f"rank {group.rank} at step {trainer.steps}: {type(error).__name__} {error}\n"
    os.write(1, line.encode())  # in one piece, beside those of other ranks
    time.sleep(0.2)  # before mpiexec reads that a rank has ended
    sys.exit(1)
weights = b"".join(array.tobytes() for array in trainer.model.state_dict().values())
if group.rank == 0:
    print(f"step {trainer.steps} {hashlib.sha256(weights).hexdigest()}")
