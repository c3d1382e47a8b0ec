"""A Dask cluster of two processes on this machine."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module")
def client():
    """Client of a cluster of two workers with one thread each."""
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0"}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster, set_as_default=False) as client:
        yield client
