"""Number of threads: affinity, control-group quotas, environment and work of a step."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from fastmlp._common import cgroups, threads
from fastmlp._common.errors import BackendError
from fastmlp._common.threads import choose_threads, usable_threads
from fastmlp._common.tuning import tuned


@pytest.fixture(autouse=True)
def machine(monkeypatch, tmp_path):
    """A machine of 16 processors, 12 of them for this process, without control groups: (affinity, write a file)."""
    for name in ("FASTMLP_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(cgroups, "_CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(cgroups, "_OWN_CGROUPS", tmp_path / "self")

    def affinity(usable, there=16):
        monkeypatch.setattr(os, "cpu_count", lambda: there)
        monkeypatch.setattr(os, "process_cpu_count", lambda: usable, raising=False)

    def write(path, text):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    affinity(12)
    return affinity, write


def test_affinity(machine):
    assert usable_threads() == threads.Limit(12, "12 processors usable (affinity, of 16)")
    machine[0](16)
    assert str(usable_threads()) == "16: 16 processors usable (all there are)"
    machine[0](1)
    assert usable_threads().reason == "1 processor usable (affinity, of 16)"


def test_affinity_before_python_3_13(monkeypatch):
    monkeypatch.delattr(os, "process_cpu_count")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 5, 7}, raising=False)
    assert usable_threads().count == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    assert usable_threads().count == 16


def test_a_system_that_tells_nothing(machine, monkeypatch):
    machine[0](None, None)
    assert usable_threads().count == 1


@pytest.mark.parametrize(
    ("quota", "count"), [("350000 100000", 3), ("100000 100000", 1), ("20000 100000", 1), ("9900000 100000", 12)]
)
def test_quota_of_version_2(machine, quota, count):
    machine[1]("self", "0::/\n")
    machine[1]("cgroup/cpu.max", quota + "\n")
    assert usable_threads().count == count


@pytest.mark.parametrize("text", ["max 100000\n", "", "100000\n", "many 100000\n", "100000 0\n", "-1 100000\n"])
def test_no_quota(machine, text):
    machine[1]("self", "0::/\n")
    machine[1]("cgroup/cpu.max", text)
    assert usable_threads().count == 12


def test_the_smallest_quota_on_the_way_up_counts(machine):
    write = machine[1]
    write("self", "0::/user.slice/user-0.slice/job\n")
    write("cgroup/cpu.max", "max 100000\n")
    write("cgroup/user.slice/cpu.max", "250000 100000\n")
    write("cgroup/user.slice/user-0.slice/cpu.max", "800000 100000\n")
    write("cgroup/user.slice/user-0.slice/job/cpu.max", "max 100000\n")
    write("cgroup/user.slice/other/cpu.max", "100000 100000\n")
    assert usable_threads() == threads.Limit(2, "2 processors usable (cgroup quota of 2.5)")


@pytest.mark.parametrize("path", ["/docker/0123abc", "/../../docker/0123abc", ""])
def test_in_a_container_the_root_is_the_containers_own_group(machine, path):
    machine[1]("self", f"0::{path}\n")
    machine[1]("cgroup/cpu.max", "400000 100000\n")
    assert usable_threads().count == 4


@pytest.mark.parametrize("mount", ["cpu,cpuacct", "cpu"])
def test_quota_of_version_1(machine, mount):
    write = machine[1]
    write("self", "5:memory:/job\n4:cpu,cpuacct:/job\n1:name=systemd:/job\n0::/job\n")
    write(f"cgroup/{mount}/cpu.cfs_quota_us", "-1\n")
    write(f"cgroup/{mount}/cpu.cfs_period_us", "100000\n")
    assert usable_threads().count == 12
    write(f"cgroup/{mount}/job/cpu.cfs_quota_us", "150000\n")
    write(f"cgroup/{mount}/job/cpu.cfs_period_us", "50000\n")
    assert usable_threads() == threads.Limit(3, "3 processors usable (cgroup quota of 3)")


def test_quotas_without_a_list_of_groups(machine):
    machine[1]("cgroup/cpu.max", "200000 100000\n")
    assert usable_threads().count == 2


@pytest.mark.parametrize(
    ("own", "omp", "count", "why"),
    [
        ("3", None, 3, "FASTMLP_NUM_THREADS=3"),
        (" 3 ", "1", 3, "FASTMLP_NUM_THREADS=3"),
        ("", "5", 5, "OMP_NUM_THREADS=5"),
        (None, "4,2", 4, "OMP_NUM_THREADS=4"),
        (None, "zero", 12, "affinity, of 16"),
        (None, "0", 12, "affinity, of 16"),
        (None, "-2", 12, "affinity, of 16"),
        ("100", None, 12, "affinity, of 16"),
    ],
)
def test_environment(monkeypatch, own, omp, count, why):
    for name, value in (("FASTMLP_NUM_THREADS", own), ("OMP_NUM_THREADS", omp)):
        if value is not None:
            monkeypatch.setenv(name, value)
    assert usable_threads() == threads.Limit(count, f"{count} processors usable ({why})")


@pytest.mark.parametrize("text", ["all", "0", "-1", "2.5", "4,2", "9" * 5000])
def test_a_bad_variable_of_our_own_is_an_error(monkeypatch, text):
    monkeypatch.setenv("FASTMLP_NUM_THREADS", text)
    for call in (usable_threads, lambda: choose_threads(None, 1.0, 64)):
        with pytest.raises(BackendError, match="FASTMLP_NUM_THREADS is .*; expected an integer of at least 1"):
            call()


def test_a_request_is_not_bounded(monkeypatch):
    monkeypatch.setenv("FASTMLP_NUM_THREADS", "2")
    assert choose_threads(40, 1.0, 8) == threads.Limit(40, "threads=40 was asked for")
    assert choose_threads(1, 1e12, 1000).count == 1
    for bad in (0, -1, 2.0, True, "2"):
        with pytest.raises(ValueError, match="threads is .*; expected an integer of at least 1"):
            choose_threads(bad, 1.0, 64)


def test_the_automatic_choice_follows_the_work():
    for share, count in ((0, 1), (0.5, 1), (1.99, 1), (2, 2), (3.5, 3), (12, 12), (1000, 12), (float("inf"), 12)):
        assert choose_threads(None, share * tuned("flops_per_thread"), 1000).count == count
    assert "a step has 0 Mflop, less than" in choose_threads(None, 0, 64).reason
    reason = choose_threads(None, 1e9, 1000).reason
    assert reason.startswith("a step has 1000 Mflop, at least") and reason.endswith(
        "12 processors usable (affinity, of 16)"
    )


def test_more_than_two_threads_have_24_rows_each():
    for rows, count in ((1, 2), (24, 2), (71, 2), (72, 3), (128, 5), (287, 11), (288, 12), (10_000, 12)):
        assert choose_threads(None, 1e9, rows).count == count
    reason = choose_threads(None, 1e9, 128).reason
    assert reason == "a step has 128 rows, at least 24 for each of more than two threads"
    assert choose_threads(None, 1.0, 128).count == 1


def test_importing_it_is_light():
    code = "import sys, fastmlp._common.threads; print('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
