"""Arrays in temporary files."""

from __future__ import annotations

import os

import numpy as np
import pytest

from fastmlp._common.mapped import mapping_of
from fastmlp.io import scratch


@pytest.mark.parametrize("allocates", [True, False])
def test_large_arrays_are_in_files_without_a_name(monkeypatch, tmp_path, allocates):
    monkeypatch.setattr(scratch, "_LEAST", 1000)
    monkeypatch.setattr(scratch, "_ZEROS", 300)
    if not allocates:
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
    empty = scratch.scratch_in(tmp_path)
    small, large = empty(124, np.int64), empty(125, np.int64)
    assert mapping_of(small) is None and mapping_of(large) is not None
    large[:] = np.arange(125)
    assert large.dtype == np.int64 and large.sum() == 125 * 62
    if os.name == "posix":
        assert not list(tmp_path.iterdir())


def test_a_full_disk_is_an_error(monkeypatch, tmp_path):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(scratch, "_LEAST", 8)
    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(OSError, match="No space left"):
        scratch.scratch_in(tmp_path)(10, float)
