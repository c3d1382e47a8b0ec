"""Damage files of every kind that fastmlp reads, and look for an error that is not one of its own.

Usage: python tools/fuzz.py SECONDS [SEED]

Each file is cut, has bits flipped, bytes inserted or numbers replaced; of saved models and training states the metadata
and the tensors' shapes are changed too, with the checksum made again, so that the damage gets past it. An allocation of
more than 256 MiB counts as a find.
"""

from __future__ import annotations

import collections
import contextlib
import gzip
import io
import json
import pickle
import random
import resource
import struct
import sys
import tempfile
import time
import traceback
from pathlib import Path

import numpy as np

import fastmlp as fm
from fastmlp.cli.compare import history_of
from fastmlp.cli.options import config_arguments
from fastmlp.cli.runs import read_config
from fastmlp.datasets.idx import read_idx
from fastmlp.datasets.plain_pickle import read_plain_pickle
from fastmlp.io.tensor_file import read_tensors, write_tensors

EXPECTED = (ValueError, OSError)


def trainer():
    """A small one, whose states are damaged."""
    model = fm.MLP(4, [5], 2, dropout=0.1, layer_norm=True, rng=0)
    return fm.Trainer(model, fm.CrossEntropyLoss(), fm.Adam(fm.Cosine(0.1, 20)))


X, Y = np.random.default_rng(0).normal(size=(12, 4)), np.arange(12) % 2


def fit(path, resume):
    """Save a state, or go on with one."""
    callbacks = [fm.EarlyStopping(3, monitor="train_loss"), *([] if resume else [fm.SaveState(path)])]
    trainer().fit(X, Y, batch_size=5, epochs=2, rng=0, callbacks=callbacks, resume=path if resume else None)


def make(folder):
    """Kind: (bytes of a good file, what reads one, its name's end)."""
    fm.save(trainer().model, folder / "model")
    fit(folder / "state", False)
    idx = struct.pack(">HBBII", 0, 8, 2, 3, 4) + bytes(12)
    batch = pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 1]}, 2)
    table = b"age,color,label\n1.5,red,yes\n2,blue,no\n3,red,yes\n4,blue,no\n7,red,no\n"
    record = dict.fromkeys(fm.history.KEYS, 1.0)
    config = {"data": {"dataset": "digits"}, "options": {}, "dataset": {}}

    def reads_stream(reader):
        return lambda path: reader(path.read_bytes(), str(path))

    return {
        "model": ((folder / "model").read_bytes(), fm.load_model, ".safetensors"),
        "state": ((folder / "state").read_bytes(), lambda path: fit(path, True), ".safetensors"),
        "idx": (idx, read_idx, ""),
        "idx.gz": (gzip.compress(idx), read_idx, ".gz"),
        "cifar": (batch, reads_stream(read_plain_pickle), ""),
        "csv": (table, lambda path: fm.load(path), ".csv"),
        "metrics": (json.dumps(record).encode() + b"\n", None, ".jsonl"),
        "config": (json.dumps(config).encode(), read_config, ".json"),
        "toml": (b'lr = 0.1\nhidden = [3, 4]\noptimizer = "sgd"\nquiet = true\n', config_arguments, ".toml"),
    }


def damage(data, chance):
    """Another file."""
    data = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 5))):
        at = chance.randrange(len(data)) if data else 0
        how = chance.randrange(6)
        if how == 0 and data:
            data[at] ^= 1 << chance.randrange(8)
        elif how == 1:
            del data[at:]
        elif how == 2:
            data[at:at] = bytes(chance.randrange(256) for _ in range(chance.choice((1, 4, 100))))
        elif how == 3:
            data[at : at + 8] = struct.pack(
                chance.choice("<>") + "Q", chance.choice((0, 1, 2**31, 2**62, 2**63, 2**64 - 1))
            )
        elif how == 4:
            del data[at : at + chance.choice((1, 3, 20))]
        else:
            data[at : at + 1] = chance.choice(
                (b"-", b"9" * 30, b"nan", b"\x00", b"[" * 2000, b"\xff", b"1e999", b'"', b"\n")
            )
    return bytes(data)


def twist(value, chance):
    """JSON with one thing in it changed."""
    if chance.random() < 0.3 or not isinstance(value, (dict, list)) or not value:
        return chance.choice((None, -1, 0, 2**63, 10**40, 1.5, "x", [], {}, [[]], True, "é" * 50, float("nan")))
    twisted = dict(value) if isinstance(value, dict) else list(value)
    key = chance.choice(list(twisted) if isinstance(value, dict) else range(len(value)))
    if isinstance(value, dict) and chance.random() < 0.2:
        del twisted[key]
    else:
        twisted[key] = twist(value[key], chance)
    return twisted


def forge(path, kind, chance):
    """A model or a state with a right checksum and something wrong in it."""
    metadata, tensors = read_tensors(path, f"fastmlp-{'model' if kind == 'model' else 'training'}", 1)
    if chance.random() < 0.7:
        key = chance.choice([key for key in metadata if key[0] in "mcpit"])
        with contextlib.suppress(ValueError):
            metadata[key] = json.dumps(twist(json.loads(metadata[key]), chance))
    else:
        name = chance.choice(list(tensors))
        shape = tuple(chance.choice((0, 1, 2, 7)) for _ in range(chance.randrange(4)))
        dtype = chance.choice((np.float32, np.float64, np.int64, np.uint8, np.float16, np.bool_))
        tensors.pop(name)
        if chance.random() < 0.7:
            tensors[chance.choice((name, name + "x", "optimizer", "optimizer.a", "callbacks.0.z"))] = np.zeros(
                shape, dtype
            )
    write_tensors(path, tensors, metadata)


def main():
    seconds, seed = float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    chance, counts, finds = random.Random(seed), collections.Counter(), collections.Counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kinds = make(folder)
        run = folder / "run"
        run.mkdir()
        # The memory that a first round takes, and a quarter of a gigabyte beside it.
        end = time.monotonic() + seconds
        limited = False
        while time.monotonic() < end:
            kind = chance.choice(list(kinds))
            good, read, suffix = kinds[kind]
            path = run / "metrics.jsonl" if kind == "metrics" else folder / f"damaged{suffix}"
            if kind in ("model", "state") and chance.random() < 0.7:
                path.write_bytes(good)
                forge(path, kind, chance)
            else:
                path.write_bytes(damage(good, chance))
            counts[kind] += 1
            try:
                with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                    history_of(run) if read is None else read(path)
            except EXPECTED:
                pass
            except BaseException as error:
                where = traceback.extract_tb(error.__traceback__)[-1]
                key = (kind, type(error).__name__, f"{Path(where.filename).name}:{where.lineno}")
                finds[key] += 1
                if finds[key] == 1:
                    kept = Path(tempfile.gettempdir(), f"fuzz-{kind}-{type(error).__name__}-{where.lineno}{suffix}")
                    kept.write_bytes(path.read_bytes())
                    print(f"{key}: {str(error)[:150]} ({kept})", flush=True)
            if not limited and sum(counts.values()) > 200:
                used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
                resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 28), resource.RLIM_INFINITY))
                limited = True
    print(f"{sum(counts.values())} files: {dict(counts)}; {sum(finds.values())} finds of {len(finds)} kinds")
    return 1 if finds else 0


if __name__ == "__main__":
    raise SystemExit(main())
