"""Free memory: MemAvailable, limits of control groups, systems that tell less."""

from __future__ import annotations

import os

import pytest

from fastmlp._common import cgroups, memory
from fastmlp._common.memory import available_memory, format_bytes

MIB = 1 << 20


@pytest.fixture(autouse=True)
def write(monkeypatch, tmp_path):
    """A machine with 800 MiB available, and a function that writes its files."""
    monkeypatch.setattr(cgroups, "_CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(cgroups, "_OWN_CGROUPS", tmp_path / "self")
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")

    def write(path, text):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    write("meminfo", "MemTotal:  2097152 kB\nMemFree:  409600 kB\nMemAvailable:  819200 kB\nHugePages_Total:   0\n")
    return write


def test_what_the_machine_has():
    assert available_memory() == 800 * MIB


def group(write, folder, limit, usage, stat, version):
    names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    write(f"cgroup/{folder}/{names[0]}", f"{limit}\n")
    write(f"cgroup/{folder}/{names[1]}", f"{usage}\n")
    write(f"cgroup/{folder}/memory.stat", "".join(f"{name} {value}\n" for name, value in stat.items()))


def test_limit_of_version_2(write):
    """Cached files count as available; shared memory, which is in ``file`` too, does not."""
    write("self", "0::/job\n")
    stat = {"anon": 200 * MIB, "file": 150 * MIB, "shmem": 50 * MIB, "active_file": 60 * MIB, "inactive_file": 40 * MIB}
    group(write, "job", 512 * MIB, 350 * MIB, stat, 2)
    assert available_memory() == (512 - 350 + 100) * MIB
    write("cgroup/job/memory.high", f"{300 * MIB}\n")
    assert available_memory() == (300 - 350 + 100) * MIB
    write("cgroup/job/memory.high", f"{100 * MIB}\n")
    assert available_memory() == 0


def test_the_smallest_limit_on_the_way_up_counts(write):
    write("self", "0::/slice/job\n")
    group(write, "slice", 100 * MIB, 30 * MIB, {}, 2)
    group(write, "slice/job", "max", 20 * MIB, {}, 2)
    assert available_memory() == 70 * MIB
    group(write, "slice/other", 1 * MIB, 0, {}, 2)
    assert available_memory() == 70 * MIB


@pytest.mark.parametrize("mount", ["memory", "memory,hugetlb"])
def test_limit_of_version_1(write, mount):
    """A group of version 1 has the pages of the groups below it in its usage and in the fields of ``total_``."""
    write("self", f"4:{mount}:/job\n1:cpu:/other\n")
    stat = {"active_file": 0, "inactive_file": 0, "total_active_file": 300 * MIB, "total_inactive_file": 200 * MIB}
    group(write, f"{mount}/job", 1 << 30, 1 << 30, stat, 1)
    assert available_memory() == 500 * MIB
    group(write, f"{mount}/job", 9223372036854771712, 5 * MIB, {}, 1)
    assert available_memory() == 800 * MIB


@pytest.mark.parametrize("text", ["max\n", "", "much\n"])
def test_no_limit(write, text):
    write("self", "0::/\n")
    group(write, "", text.strip(), 5 * MIB, {}, 2)
    assert available_memory() == 800 * MIB


def test_other_systems(write, monkeypatch):
    write("meminfo", "")
    pages = {"SC_PHYS_PAGES": 1000, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr(os, "sysconf", pages.__getitem__, raising=False)
    assert available_memory() == 500 * 4096

    def unknown(name):
        raise ValueError("unrecognized configuration name")

    monkeypatch.setattr(os, "sysconf", unknown)
    assert available_memory() is None
    monkeypatch.delattr(os, "sysconf")
    assert available_memory() is None


@pytest.mark.parametrize(
    "count, text", [(0, "0 MiB"), (150 * MIB, "150 MiB"), (1 << 30, "1.0 GiB"), (5 << 29, "2.5 GiB")]
)
def test_sizes_as_text(count, text):
    assert format_bytes(count) == text
