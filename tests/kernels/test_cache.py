"""Object files of compiled kernels on disk: reuse by other processes, removal of stale files, recovery from damage."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import fastmlp
from fastmlp._kernels.compiled import object_files
from fastmlp._kernels.compiled.object_files import cache_files, cache_folder, load_object, save_object

# Prints how many functions were compiled, whether Numba was imported, and a result.
FIT = """
import sys
import numpy as np
from fastmlp._kernels import get_backend, watch_compilation

compiled = []
with watch_compilation(compiled.append):
    backend = get_backend("numba")
    x = np.ones((3, 5), np.float32)
    backend.activation_forward("relu", 0.0, x, np.empty_like(x))
    backend.optimizer_update("sgd", (0.1, 0.0, 0.0, 0.0), x, (None,), x.copy())
print(len(compiled), "numba" in sys.modules, x.sum())
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder of object files of this test."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(object_files, "_swept", set())
    return cache_folder()


def in_a_process(code, **environment):
    path = str(Path(fastmlp.__file__).parents[1])
    variables = {**os.environ, "FASTMLP_JIT": "1", "PYTHONPATH": path, **environment}
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], env=variables, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_another_process_loads_what_one_compiled(tmp_path):
    pytest.importorskip("numba")
    if os.environ.get("NUMBA_DISABLE_JIT"):
        pytest.skip("nothing is compiled")
    first = in_a_process(FIT, NUMBA_CACHE_DIR=str(tmp_path))
    assert first == "4 True 15.0\n"
    kept = names(next(tmp_path.iterdir()))
    assert len(kept) == 4 and all(name.startswith("fastmlp_") and name.endswith(".o") for name in kept)
    assert in_a_process(FIT, NUMBA_CACHE_DIR=str(tmp_path)) == "0 False 15.0\n"
    assert names(next(tmp_path.iterdir())) == kept
    damaged = next(tmp_path.glob("*/*.o"))
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 16
    damaged.write_bytes(content)
    assert in_a_process(FIT, NUMBA_CACHE_DIR=str(tmp_path)) == "1 True 15.0\n"
    assert in_a_process(FIT, NUMBA_CACHE_DIR=str(tmp_path)) == "0 False 15.0\n"


WARNED = """
import warnings
from fastmlp._kernels import get_backend
from fastmlp._kernels.compiled import library, on_demand

library._choose = lambda width: library._Choice(None, "the library is {state}")
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for symbol in ("one", "two"):
        on_demand._object_code(symbol, "", lambda machine: b"")
print([f"{{one.category.__name__}}: {{one.message}}" for one in caught])
"""


@pytest.mark.parametrize("chosen", ["FASTMLP_JIT", "FASTMLP_LANES", ""])
def test_a_first_compilation_says_so_once(tmp_path, chosen):
    pytest.importorskip("numba")
    unset = {"FASTMLP_JIT": "", "FASTMLP_LANES": "", "NUMBA_CACHE_DIR": str(tmp_path)}
    width = in_a_process("from fastmlp._kernels.cpu.host import LANES; print(LANES[4])", **unset).strip()
    values = {"FASTMLP_JIT": "1", "FASTMLP_LANES": width}
    found = in_a_process(WARNED.format(state="gone"), **unset | ({chosen: values[chosen]} if chosen else {}))
    if chosen:
        assert found == "[]\n"
    else:
        assert found.startswith("['PerformanceWarning: Numba compiles the kernels when they are first used, for about")
        assert found.endswith("There are no compiled kernels: the library is gone.']\n") and str(tmp_path) in found


def test_what_was_saved_is_loaded(folder):
    assert load_object("fastmlp_f", "sources", "key") is None
    for key, code in {"key": b"code", "another": b"", "long": bytes(100_000)}.items():
        save_object("fastmlp_f", "sources", key, code)
        assert load_object("fastmlp_f", "sources", key) == code
    assert len(names(folder)) == 3
    assert load_object("fastmlp_g", "sources", "key") is None and load_object("fastmlp_f", "others", "key") is None
    save_object("fastmlp_f", "sources", "key", b"new")
    assert load_object("fastmlp_f", "sources", "key") == b"new" and len(names(folder)) == 3


def flipped(at):
    """Damage: one bit, at a share of the file's length."""
    return lambda content: content[: (i := int(at * (len(content) - 1)))] + bytes([content[i] ^ 16]) + content[i + 1 :]


DAMAGES = {
    **{f"bit at {at}": flipped(at) for at in (0, 0.2, 0.5, 0.8, 1)},
    "zeros": lambda content: bytes(len(content)),
    "zeros in the middle": lambda content: content[:200] + bytes(100) + content[300:],
    "one byte less": lambda content: content[:-1],
    "half": lambda content: content[: len(content) // 2],
    "no digest": lambda content: content[16:],
    "a digest alone": lambda content: content[:16],
    "nothing": lambda content: b"",
    "more": lambda content: content + b"x",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_never_loaded(folder, damage):
    save_object("fastmlp_f", "sources", "key", bytes(range(250)) * 3)
    [path] = folder.iterdir()
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    assert load_object("fastmlp_f", "sources", "key") is None
    save_object("fastmlp_f", "sources", "key", b"code")
    assert load_object("fastmlp_f", "sources", "key") == b"code"


def test_stale_files_are_deleted(folder):
    save_object("fastmlp_f", "sources of before", "key", b"code")
    save_object("fastmlp_f", "sources", "key of another processor", b"code")
    (folder / "theirs.o").touch()
    stale = [name for name in names(folder) if "before" in name]
    assert len(stale) == 1
    object_files._swept.clear()
    assert load_object("fastmlp_f", "sources", "key") is None
    assert set(stale) <= set(names(folder))  # only a new file makes room
    save_object("fastmlp_f", "sources", "key", b"code")
    assert len(names(folder)) == 3 and "theirs.o" in names(folder) and not set(stale) & set(names(folder))


def test_files_of_processes_that_were_killed_are_deleted(folder):
    for name, age in (("fastmlp_old.tmp", 3600), ("fastmlp_new.tmp", 0)):
        (folder / name).touch()
        os.utime(folder / name, times=(time.time() - age,) * 2)
    save_object("fastmlp_f", "sources", "key", b"code")
    assert [name for name in names(folder) if name.endswith(".tmp")] == ["fastmlp_new.tmp"]


def test_what_another_process_deletes_meanwhile_does_not_matter(folder, monkeypatch):
    (folder / "fastmlp_f.before.1.o").mkdir()  # unlink fails on a directory
    (folder / "fastmlp_g.before.1.o").touch()
    delete = Path.unlink

    def twice(path, *args):
        delete(path, *args)
        delete(path, *args)

    monkeypatch.setattr(Path, "unlink", twice)
    save_object("fastmlp_f", "sources", "key", b"code")
    assert load_object("fastmlp_f", "sources", "key") == b"code"


def test_a_full_disk_is_no_error(folder, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        save_object("fastmlp_f", "sources", "key", b"code")
    assert names(folder) == [] and load_object("fastmlp_f", "sources", "key") is None


def test_a_folder_that_can_no_longer_be_written_to_is_no_error(folder):
    folder.rmdir()
    folder.write_text("a file, below which root cannot write either")
    save_object("fastmlp_f", "sources", "key", b"code")
    assert load_object("fastmlp_f", "sources", "key") is None


def test_no_folder_at_all_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file"))
    assert cache_files() == (None, [])
    save_object("fastmlp_f", "sources", "key", b"code")
    assert load_object("fastmlp_f", "sources", "key") is None


def test_where_the_files_are(tmp_path, monkeypatch):
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setattr(object_files, "FOLDER", tmp_path / "installed")
    object_files._first_writable.cache_clear()
    assert cache_folder() == tmp_path / "installed" / "__pycache__"
    (tmp_path / "installed" / "__pycache__").rmdir()
    (tmp_path / "installed" / "__pycache__").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    object_files._first_writable.cache_clear()
    found = cache_folder()
    object_files._first_writable.cache_clear()
    if sys.platform.startswith("linux"):
        assert found.parent == tmp_path / "cache" / "fastmlp" / "kernels"
    save_object("fastmlp_f", "sources", "key", b"code")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "chosen"))
    assert cache_folder().parent == tmp_path / "chosen" and cache_files()[1] == []
