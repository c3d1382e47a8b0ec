"""The on-disk kernel cache: reuse, removal of stale files, and recovery from damage."""

from __future__ import annotations

import errno
import importlib.util
import itertools
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastmlp

numba = pytest.importorskip("numba")
if numba.config.DISABLE_JIT:
    pytest.skip("nothing is compiled", allow_module_level=True)

from fastmlp._kernels import kept  # noqa: E402
from fastmlp._kernels.jitted import numba_jit  # noqa: E402

SOURCE = """
from fastmlp._kernels.jitted.declare import VECTOR
from fastmlp._kernels.jitted.jit import kernel

@kernel(VECTOR, VECTOR)
def add(x, out):
    for i in range(x.size):
        out[i] = x[i] + 1
"""
# Prints the numbers of compiled and of cached functions, whether Numba's compiler was initialized, and the result of a
# function that is compiled afterwards.
FIT = """
import sys
import numba
import numpy as np
from numba.core import event
from fastmlp._kernels import get_backend

with event.install_recorder("numba:compile") as compiled:
    backend = get_backend("numba")
    x = np.ones((3, 5), np.float32)
    backend.activation_forward("relu", 0.0, x, np.empty_like(x))
    backend.optimizer_update("sgd", (0.1, 0.0, 0.0, 0.0), x, (None,), x.copy())
print(len(compiled.buffer), backend.updates.optimizer_update.stats.cache_hits)
print("numba.np.arraymath" in sys.modules, numba.njit(lambda x: np.sum(x * x))(x))
"""
names = itertools.count()


@pytest.fixture
def load(tmp_path, monkeypatch):
    """A new copy of a module with one kernel, as another process would have it; its cache is in ``tmp_path``."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setattr(numba_jit._KernelCache, "_swept", set())
    file = tmp_path / "small.py"
    file.write_text(SOURCE)

    def copy():
        spec = importlib.util.spec_from_file_location(f"small{next(names)}", file)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.add

    return copy


def hits(add, dtype=np.float32):
    """Whether the kernel works, and whether its version for a dtype came from the cache."""
    x = np.arange(3, dtype=dtype)
    out = np.empty_like(x)
    add(x, out)
    assert np.array_equal(out, x + 1)
    return sum(add.stats.cache_hits.values())


def files(folder):
    return sorted(path.name for path in folder.glob("*.nb*"))


def in_a_process(code, **environment):
    path = str(Path(fastmlp.__file__).parents[1])
    variables = {**os.environ, "FASTMLP_JIT": "1", "PYTHONPATH": path, **environment}
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], env=variables, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.slow
def test_a_second_process_compiles_nothing(tmp_path):
    first, then = in_a_process(FIT, NUMBA_CACHE_DIR=str(tmp_path)).splitlines()
    assert int(first.split()[0]) > 0 and first.endswith(" Counter()") and then == "True 15.0"
    kept = files(next(tmp_path.iterdir()))
    second, then = in_a_process(FIT, NUMBA_CACHE_DIR=str(tmp_path)).splitlines()
    assert int(second.split()[0]) == 0 and not second.endswith(" Counter()") and then == "False 15.0"
    assert files(next(tmp_path.iterdir())) == kept and len(kept) == 4


def test_two_versions_have_files_of_their_own(load, tmp_path):
    assert hits(load()) == 0 and hits(load(), np.float64) == 0
    assert hits(load()) == hits(load(), np.float64) == 1
    assert [Path(name).suffix for name in files(tmp_path / "__pycache__")] == [".nbc", ".nbc", ".nbi"]


def test_a_lost_entry_of_the_index_is_no_mix_up(load):
    """Two processes read the index at once, and each adds its own version: the last one's stays."""
    one, other = load(), load()
    hits(one)
    other._cache._cache_file._load_index = dict  # simulates an index read before the other process wrote to it
    hits(other, np.float64)
    assert hits(load(), np.float64) == 1
    assert hits(load()) == 0


def test_stale_files_are_deleted(load, tmp_path, monkeypatch):
    folder = tmp_path / "__pycache__"
    with monkeypatch.context() as patch:
        patch.setattr(kept, "fingerprint", lambda folder: "0123456789abcdef")
        hits(load())
    stale = files(folder)
    assert len(stale) == 2 and all("0123456789abcdef" in name for name in stale)
    others = ["gone.f-1.py310.fastmlp-0123456789abcdef.nbi", "gone.f-1.py310.fastmlp-0123456789abcdef.7.nbc.tmp.ab"]
    strangers = ["theirs.f-1.py311.1.nbc", "theirs.f-1.py311.nbi"]
    for name in others + strangers:
        (folder / name).touch()
    numba_jit._KernelCache._swept.clear()
    add = load()
    assert set(stale + others) < set(files(folder))  # stale files are removed only when a new file is saved
    assert hits(add) == 0
    left = files(folder)
    assert set(strangers) < set(left) and len(left) == 4 and not set(stale + others) & set(left)
    assert hits(load()) == 1


def test_what_another_process_deletes_meanwhile_does_not_matter(load, tmp_path, monkeypatch):
    folder = tmp_path / "__pycache__"
    folder.mkdir()
    (folder / "gone.f-1.py310.fastmlp-0.nbi").mkdir()  # unlink fails on a directory
    delete = Path.unlink

    def twice(path, *args):
        if path.suffix == ".nbc":
            delete(path)
        delete(path, *args)

    (folder / "gone.f-1.py310.fastmlp-0.1.nbc").touch()
    monkeypatch.setattr(Path, "unlink", twice)
    assert hits(load()) == 0 and hits(load()) == 1
    assert "gone.f-1.py310.fastmlp-0.1.nbc" not in files(folder)


@pytest.mark.slow
def test_a_file_that_is_gone_or_damaged_is_written_anew(load, tmp_path):
    folder = tmp_path / "__pycache__"
    hits(load())
    for suffix in ("nbc", "nbi"):
        for damage in (b"", b"\x80\x05K", b"no pickle", pickle.dumps("another version"), None):
            path = next(folder.glob(f"*.{suffix}"))
            path.unlink() if damage is None else path.write_bytes(damage)
            assert hits(load()) == 0, (suffix, damage)
            assert hits(load()) == 1, (suffix, damage)


def flipped(at):
    """Damage: one bit, at a share of the file's length."""
    return lambda content: content[: (i := int(at * (len(content) - 1)))] + bytes([content[i] ^ 16]) + content[i + 1 :]


DAMAGES = {
    **{f"bit at {at}": flipped(at) for at in (0, 0.2, 0.5, 0.8, 1)},  # at=1 damages the digest itself
    "zeros": lambda content: bytes(len(content)),
    "zeros in the middle": lambda content: content[:200] + bytes(100) + content[300:],
    "one byte less": lambda content: content[:-1],
    "half": lambda content: content[: len(content) // 2],
    "no digest": lambda content: content[:-16],
    "a digest alone": lambda content: content[-16:],
    "nothing": lambda content: b"",
    "more": lambda content: content + b"x",
    "another's": lambda content: content[:-16] + content[:16],
}


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["nbc", "nbi"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_never_loaded(load, tmp_path, damage, suffix):
    hits(load()), hits(load(), np.float64)
    whole = {path: path.read_bytes() for path in (tmp_path / "__pycache__").glob("*.nb*")}
    for path in (path for path in whole if path.suffix == f".{suffix}"):
        path.write_bytes(DAMAGES[damage](whole[path]))
        assert hits(load()) + hits(load(), np.float64) == (1 if suffix == "nbc" else 0)
        assert hits(load()) == hits(load(), np.float64) == 1
        assert {path.name for path in whole} == set(files(tmp_path / "__pycache__"))


def test_a_damaged_index_in_a_folder_that_cannot_be_written_to(load, tmp_path, monkeypatch):
    def refused(*args):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    hits(load())
    [index] = (tmp_path / "__pycache__").glob("*.nbi")
    index.write_bytes(b"no index")
    monkeypatch.setattr(os, "replace", refused)
    assert hits(load()) == 0 and index.read_bytes() == b"no index"


@pytest.mark.slow
def test_a_page_of_zeros_in_machine_code_is_compiled_again(tmp_path):
    """In processes, as the code would end them."""
    environment = {"NUMBA_CACHE_DIR": str(tmp_path)}
    in_a_process(FIT, **environment)
    kept = [path for path in tmp_path.glob("*/*.nbc") if path.stat().st_size > 8192]
    assert kept
    for path in kept:
        content = path.read_bytes()
        path.write_bytes(content[:4096] + bytes(4096) + content[8192:])
    first, again = (in_a_process(FIT, **environment).splitlines()[0].split()[0] for _ in range(2))
    assert int(first) > 0 and again == "0"


@pytest.mark.parametrize("writer", ["_save_data", "_save_index"])
def test_a_full_disk_is_no_error(load, tmp_path, monkeypatch, writer):
    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(numba_jit.IndexDataCacheFile, writer, full)
        add = load()
        assert hits(add) == 0 and hits(add, np.float64) == 0
    assert hits(load()) == 0 and hits(load()) == 1


def test_a_folder_that_can_no_longer_be_written_to_is_no_error(load, tmp_path):
    add = load()
    folder = tmp_path / "__pycache__"
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    folder.write_text("a file, below which root cannot write either")
    assert hits(add) == 0 and hits(add, np.float64) == 0


@pytest.mark.slow
def test_no_folder_at_all_is_no_error(tmp_path):
    file = tmp_path / "file"
    file.touch()
    settings = {"NUMBA_CACHE_DIR": str(file / "below"), "NUMBA_CACHE_LOCATOR_CLASSES": "UserProvidedCacheLocator"}
    compiled = in_a_process(FIT, **settings).splitlines()[0]
    if hasattr(numba.config, "CACHE_LOCATOR_CLASSES"):  # older versions of Numba fall back to another folder
        assert int(compiled.split()[0]) > 0 and compiled.endswith(" Counter()")
        assert (
            in_a_process("from fastmlp._kernels.jitted import numba_jit as j; print(j.cache_files())", **settings)
            == "(None, [])\n"
        )


def test_where_the_files_are(tmp_path, monkeypatch):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "elsewhere"))
    folder, found = numba_jit.cache_files()
    assert folder.parent == tmp_path / "elsewhere" and found == []
    for name in ("gemm.f-1.py311.fastmlp-0.nbi", "gemm.f-1.py311.fastmlp-0.1.nbc", "jit.cpython-311.pyc"):
        (folder / name).touch()
    assert [path.suffix for path in numba_jit.cache_files()[1]] == [".nbc", ".nbi"]
