"""Resumed fits: the same bits as uninterrupted ones, or an error with the reason."""

import json

import numpy as np
import pytest

import fastmlp as fm
from fastmlp.training import row_order
from fastmlp.training.fit import Fit

ROWS = 150


def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(ROWS, 7)).astype(np.float32)
    return X, (X @ rng.normal(size=(7, 3))).argmax(axis=1)


def trainer(lr=0.05, hidden=(9,), l2=0.1, **options):
    model = fm.MLP(7, hidden, 3, dropout=0.2, layer_norm=True, rng=1)
    optimizer = fm.Adam(fm.Cosine(lr, 60), **options)
    return fm.Trainer(model, fm.CrossEntropyLoss(), optimizer, l2=l2)


class Killed(Exception):
    """In the place of a signal."""


def kill_at(step):
    class Kill(fm.Callback):
        def on_step(self, trainer, number, loss):
            if number == step:
                raise Killed

    return Kill()


def fit(made, path, *extra, save=True, X=None, **options):
    rows = data()
    rows = (rows[0] if X is None else X, rows[1])
    stopping = fm.EarlyStopping(3)
    callbacks = [stopping, *([fm.SaveState(path, every_steps=1)] if save else []), *extra]
    arguments = {"batch_size": 32, "epochs": 12, "eval_every": 7, "rng": 5, **options}
    made.fit(*rows, validation=rows, callbacks=callbacks, **arguments)
    return made


def assert_same(ref, comp):
    for name, array in ref.model.state_dict().items():
        assert array.tobytes() == comp.model.state_dict()[name].tobytes(), name
    for name, kinds in ref.optimizer.state_dict()["state"].items():
        for kind, array in kinds.items():
            assert array.tobytes() == comp.optimizer.state_dict()["state"][name][kind].tobytes()
    assert (ref.steps, ref.epoch, ref.restored) == (comp.steps, comp.epoch, comp.restored)
    for key in ("step", "epoch", "train_loss", "val_loss", "val_accuracy", "lr"):
        assert ref.history[key] == comp.history[key], key


@pytest.mark.sampled
@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("step", [1, 6, 7, 8, 23, 59])
def test_the_same_bits(backend, step, tmp_path):
    with fm.use_backend(backend):
        ref = fit(trainer(), tmp_path / "ref", save=False)
        with pytest.raises(Killed):
            fit(trainer(), tmp_path / "state", kill_at(step))
        comp = fit(trainer(), tmp_path / "state", resume=tmp_path / "state", rng=None, threads=2)
    assert_same(ref, comp)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_the_same_bits_in_windows(backend, tmp_path, monkeypatch):
    """Of 64 blocks of a row: 150 rows are three windows."""
    monkeypatch.setattr(row_order, "BLOCK_NUMBERS", 7)
    with fm.use_backend(backend):
        ref = fit(trainer(), tmp_path / "ref", save=False, shuffle="windows")
        full = fit(trainer(), tmp_path / "full", save=False)
        with pytest.raises(Killed):
            fit(trainer(), tmp_path / "state", kill_at(23), shuffle="windows")
        comp = fit(trainer(), tmp_path / "state", resume=tmp_path / "state", rng=None, threads=2)
    assert_same(ref, comp)
    assert ref.history["train_loss"] != full.history["train_loss"]


def test_resuming_what_has_ended_changes_nothing(tmp_path):
    ref = fit(trainer(), tmp_path / "state")
    before = (tmp_path / "state").read_bytes()
    assert_same(ref, fit(trainer(), tmp_path / "other", resume=tmp_path / "state"))
    assert (tmp_path / "state").read_bytes() == before


def test_a_fit_stopped_early_stays_stopped(tmp_path):
    def stopped(path, **options):
        return fit(trainer(lr=1.0), path, epochs=40, **options)

    ref = stopped(tmp_path / "state")
    assert ref.restored is not None and ref.steps < 40 * 5
    assert_same(ref, stopped(tmp_path / "state", resume=tmp_path / "state"))


def test_ctrl_c_saves_where_it_came(tmp_path):
    class CtrlC(fm.Callback):
        def on_step(self, trainer, step, loss):
            if step == 10:
                raise KeyboardInterrupt

    ref = fit(trainer(), tmp_path / "ref", save=False)
    made = trainer()
    with pytest.raises(KeyboardInterrupt):
        rows = data()
        callbacks = [fm.EarlyStopping(3), CtrlC(), fm.SaveState(tmp_path / "state")]
        made.fit(*rows, validation=rows, callbacks=callbacks, batch_size=32, epochs=12, eval_every=7, rng=5)
    assert_same(ref, fit(trainer(), tmp_path / "state", resume=tmp_path / "state"))


OTHERS = {
    "learning rate": (lambda: trainer(0.01), {}, "its optimizer is"),
    "model": (lambda: trainer(hidden=(8,)), {}, "its model is"),
    "l2": (lambda: trainer(l2=0.2), {}, "its l2 is 0.1, here it is 0.2"),
    "seed": (trainer, {"rng": 6}, "its seed is 5, here it is 6"),
    "batch": (trainer, {"batch_size": 16, "epochs": None, "max_steps": 60}, "its batch size is 32, here it is 16"),
    "length": (trainer, {"epochs": 13}, "its steps is 60, here it is 65"),
    "order": (trainer, {"shuffle": "windows"}, 'its shuffle is "full", here it is "windows"'),
    "no order": (trainer, {"shuffle": False}, 'its shuffle is "full", here it is "none"'),
    "data": (trainer, {"X": data()[0] + np.float32(1e-6)}, "its training rows is"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_fit_is_refused(name, tmp_path):
    make, options, message = OTHERS[name]
    with pytest.raises(Killed):
        fit(trainer(), tmp_path / "state", kill_at(9))
    other = make()
    before = other.model.state_dict()
    with pytest.raises(fm.ResumeError, match=f"state cannot be resumed: {message}"):
        fit(other, tmp_path / "state", resume=tmp_path / "state", **options)
    assert all((array == other.model.state_dict()[key]).all() for key, array in before.items()) and not other.steps


def test_other_constants_of_the_model_are_refused(tmp_path):
    """Two scalings have one config and other numbers."""

    def scaled(mean):
        model = fm.Sequential(fm.Normalize(np.full(7, mean), np.ones(7)), fm.Linear(7, 3, rng=1))
        return fm.Trainer(model, fm.CrossEntropyLoss(), fm.SGD())

    with pytest.raises(Killed):
        fit(scaled(0.0), tmp_path / "state", kill_at(9))
    with pytest.raises(fm.ResumeError, match="its constants of the model is"):
        fit(scaled(0.5), tmp_path / "state", resume=tmp_path / "state")
    fit(scaled(0.0), tmp_path / "state", resume=tmp_path / "state")


def test_a_state_of_another_version_is_refused(tmp_path, monkeypatch):
    with pytest.raises(Killed):
        fit(trainer(), tmp_path / "state", kill_at(9))
    identity = Fit.identity.func
    monkeypatch.setattr(Fit, "identity", property(lambda self: {**identity(self), "more": 1}))
    with pytest.raises(fm.ResumeError, match="another version of fastmlp wrote it; they differ in more"):
        fit(trainer(), tmp_path / "state", resume=tmp_path / "state")


def test_buffers_of_any_shape(tmp_path):
    class Scale(fm.Identity):
        def __init__(self):
            super().__init__()
            self.buffers = {"k": np.array(2.0, np.float32)}

    made = fm.Trainer(fm.Sequential(Scale(), fm.Linear(7, 3, rng=0)), fm.CrossEntropyLoss(), fm.SGD())
    with pytest.warns(fm.PerformanceWarning, match="the module Scale is not one that the engine knows"):
        assert fit(made, tmp_path / "state").steps


def test_other_callbacks_are_refused_and_other_kernels_go_on(tmp_path, monkeypatch):
    with pytest.raises(Killed):
        fit(trainer(), tmp_path / "state", kill_at(9))
    with pytest.raises(
        fm.ResumeError, match=r"with the callbacks \['EarlyStopping'\], here they are \['EarlySt.*, 'Mod"
    ):
        fit(trainer(), tmp_path / "s", fm.ModelCheckpoint(tmp_path / "m"), resume=tmp_path / "state")
    monkeypatch.setattr("fastmlp._kernels.cpu.jit.version", lambda: "another")
    with pytest.warns(UserWarning, match='saved by other kernels ."numba .*, here "numba another"'):
        fit(trainer(), tmp_path / "s", resume=tmp_path / "state")


def test_a_damaged_state_is_refused(tmp_path):
    path = tmp_path / "state"
    with pytest.raises(Killed):
        fit(trainer(), path, kill_at(9))
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(200):
        at = int(rng.integers(len(whole)))
        flipped = bytes([whole[at] ^ (1 << int(rng.integers(8)))])
        path.write_bytes(whole[:at] + flipped + whole[at + 1 :])
        other = trainer()
        with pytest.raises(fm.ModelFileError):
            fit(other, tmp_path / "s", resume=path)
        assert not other.steps
    for size in (0, 7, 8, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(fm.ModelFileError, match="damaged or not a safetensors file"):
            fit(trainer(), tmp_path / "s", resume=path)


def test_files_of_another_kind(tmp_path):
    fm.save(trainer().model, tmp_path / "model")
    with pytest.raises(fm.ModelFileError, match="is not a training state: its format is 'fastmlp-model'"):
        fit(trainer(), tmp_path / "s", resume=tmp_path / "model")
    with pytest.raises(FileNotFoundError):
        fit(trainer(), tmp_path / "s", resume=tmp_path / "none")
    with pytest.raises(Killed):
        fit(trainer(), tmp_path / "state", kill_at(9))
    with pytest.raises(fm.ModelFileError, match="was not saved by fastmlp"):
        fm.load_model(tmp_path / "state")


def test_a_full_disk_leaves_the_state_before(tmp_path, monkeypatch):
    path = tmp_path / "state"
    fit(trainer(), path, epochs=2)
    before = path.read_bytes()
    import os

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        fit(trainer(), path, epochs=2, resume=path)
    assert path.read_bytes() == before and [file.name for file in tmp_path.iterdir()] == ["state"]


def test_metrics_go_on(tmp_path):
    ref = fit(trainer(), tmp_path / "ref", fm.MetricsFile(tmp_path / "whole"), save=False)
    with pytest.raises(Killed):
        fit(trainer(), tmp_path / "state", fm.MetricsFile(tmp_path / "parts"), kill_at(23))
    fit(trainer(), tmp_path / "state", fm.MetricsFile(tmp_path / "parts"), resume=tmp_path / "state")
    whole, parts = (
        [json.loads(line) for line in (tmp_path / name).read_text().splitlines()] for name in ("whole", "parts")
    )
    assert len(whole) == len(ref.history)
    assert [{**record, "seconds": 0} for record in whole] == [{**record, "seconds": 0} for record in parts]


def test_model_checkpoints(tmp_path):
    keeper = fm.ModelCheckpoint(tmp_path / "models", every_steps=20)
    made = trainer(lr=0.5)
    rows = data()
    made.fit(*rows, validation=rows, callbacks=[keeper], batch_size=32, epochs=12, eval_every=7, rng=5)
    names = sorted(file.name for file in (tmp_path / "models").iterdir())
    assert names[:2] == ["best.safetensors", "last.safetensors"] and len(names) >= 3
    assert keeper.best == min(made.history["val_loss"])
    last, best = (fm.load_model(tmp_path / "models" / f"{name}.safetensors") for name in ("last", "best"))
    assert all((array == made.model.state_dict()[name]).all() for name, array in last.state_dict().items())
    assert fm.Trainer(best, fm.CrossEntropyLoss(), fm.SGD()).evaluate(*rows)["loss"] == pytest.approx(keeper.best)
    with pytest.raises(ValueError, match=r"keep is \['worst'\]; expected some of 'last' and 'best'"):
        fm.ModelCheckpoint(tmp_path, keep=["worst"])


def test_a_run_folder_stands_for_its_model(tmp_path):
    model = fm.MLP(7, [9], 3, rng=0)
    fm.save(model, tmp_path / "model.safetensors")
    for path in (tmp_path, str(tmp_path), tmp_path / "model.safetensors"):
        assert (fm.load_model(path).state_dict()["0.weight"] == model.state_dict()["0.weight"]).all()
    with pytest.raises(fm.ModelFileError, match="has no model.safetensors; expected a run folder"):
        fm.load_model(tmp_path.parent)


def test_damage_to_a_model_is_seen(tmp_path):
    path = tmp_path / "model"
    fm.save(trainer().model, path)
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(fm.ModelFileError, match="its content does not match its checksum"):
        fm.load_model(path)
