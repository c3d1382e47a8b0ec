"""A run that is killed and resumed, with the bits of a run that was never stopped.

The command is

    python examples/resume.py
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import fastmlp as fm

# The training of both runs. `SaveState` writes the state at each evaluation; the new file replaces the old one when it
# is complete, so that a kill at any moment leaves a whole one.


def train(state, resume=None, pause=0.0):
    X, y, X_test, y_test = fm.load("digits")
    model = fm.MLP(64, [64], 10, normalize=fm.Normalize.fit(X, kind="standard"), rng=0)
    trainer = fm.Trainer(model, fm.CrossEntropyLoss(), fm.Adam(fm.Cosine(0.003, steps=900)))
    callbacks = [fm.SaveState(state)]
    if pause:
        callbacks.append(lambda trainer, record: time.sleep(pause))
    trainer.fit(X, y, validation=(X_test, y_test), epochs=20, batch_size=32, callbacks=callbacks, resume=resume, rng=0)
    return trainer


if len(sys.argv) > 1:  # the process that is killed
    train(sys.argv[1], pause=0.2)
    sys.exit()

# ## Kill a run
#
# A second process trains, with a pause after each evaluation so that there is time to kill it.

folder = Path(tempfile.mkdtemp())
process = subprocess.Popen([sys.executable, __file__, str(folder / "killed")])
while not (folder / "killed").exists() and process.poll() is None:
    time.sleep(0.05)
time.sleep(1.0)
process.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
process.wait()
print(f"killed; its state has {os.path.getsize(folder / 'killed')} bytes")

# ## Resume it
#
# `resume=` takes the state's file. Model, optimizer, order of the rows and random numbers go on where the state was
# written.

resumed = train(folder / "again", resume=folder / "killed")
whole = train(folder / "whole")
pairs = zip(resumed.model.state_dict().values(), whole.model.state_dict().values())
print("the resumed run has the weights of a run without a stop:", all((a == b).all() for a, b in pairs))
print(f"accuracy {resumed.history[-1]['val_accuracy']:.3f}, epochs {len(resumed.history)} and {len(whole.history)}")
