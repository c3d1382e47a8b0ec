"""Connections to Dask clusters: TLS, warnings, versions, threads of workers; scikit-learn's searches on a cluster."""

from __future__ import annotations

import contextvars
import json
import re
import shutil
import socket
import subprocess
import types
import warnings
from pathlib import Path

import numpy as np
import pytest

import fastmlp as fm
from fastmlp._common.threads import assign_threads, usable_threads
from fastmlp.cli import main
from fastmlp.distributed.dask_client import connect, unprotected, wait_for_workers
from fastmlp.distributed.dask_worker import run_on_worker
from fastmlp.distributed.sweep_runs import Run

distributed = pytest.importorskip("distributed")


def cluster_of(*addresses):
    scheduler = types.SimpleNamespace(address=addresses[0])
    return types.SimpleNamespace(scheduler=scheduler, nthreads=lambda: dict.fromkeys(addresses[1:], 1))


@pytest.mark.parametrize(
    ("addresses", "bad"),
    [
        (["tcp://127.0.0.1:8786", "tcp://127.0.0.1:3"], None),
        (["tcp://[::1]:8786", "tcp://localhost:3"], None),
        (["inproc://10.0.0.1/23/1", "inproc://10.0.0.1/23/4"], None),
        (["tls://10.0.0.1:8786", "tls://10.0.0.2:3"], None),
        (["tcp://10.0.0.1:8786"], "tcp://10.0.0.1:8786"),
        (["tcp://127.0.0.1:8786", "tcp://127.0.0.1:3", "tcp://10.0.0.2:3"], "tcp://10.0.0.2:3"),
        (["tcp://scheduler:8786"], "tcp://scheduler:8786"),
    ],
)
def test_one_warning_for_connections_without_encryption(addresses, bad):
    warning = unprotected(cluster_of(*addresses))
    assert warning is None if bad is None else warning.startswith(f"Dask's connections to {bad} are not encrypted")


def test_a_cluster_in_another_network_warns_once(client, monkeypatch):
    monkeypatch.setattr("fastmlp.distributed.dask_client.unprotected", lambda client: "not encrypted")
    with pytest.warns(UserWarning, match="not encrypted") as caught:
        runs = fm.distributed.sweep(lambda: None, {"lr": [1]}, [[1.0]], [1], client=client)
    assert len(caught) == 1 and "TypeError" in runs[0].error


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """Files of an authority's certificate, a certificate and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificates")
    folder = tmp_path_factory.mktemp("tls")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test"]
    files = folder / "cert.pem", folder / "key.pem"
    subprocess.run([*command, "-out", str(files[0]), "-keyout", str(files[1])], check=True, capture_output=True)
    return str(files[0]), *map(str, files)


def test_tls(certificates, tmp_path):
    authority, certificate, key = certificates
    pairs = {f"tls_{who}_{kind}": path for who in ("client", "scheduler", "worker")
             for kind, path in (("cert", certificate), ("key", key))}  # fmt: skip
    security = distributed.Security(tls_ca_file=authority, require_encryption=True, **pairs)
    options = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": ":0"}
    with distributed.LocalCluster(security=security, protocol="tls", **options) as cluster:
        address = cluster.scheduler_address
        file = tmp_path / "scheduler.json"
        file.write_text(json.dumps({"address": address}))
        for where in ({"address": address.removeprefix("tls://")}, {"scheduler_file": file}):
            with connect(**where, tls=certificates) as client:
                wait_for_workers(client)
                assert client.scheduler.address == address and unprotected(client) is None
                assert client.submit(len, "abc").result() == 3


def test_a_scheduler_that_does_not_answer(unused_tcp_port):
    with pytest.raises(fm.BackendError, match=f"No Dask scheduler answers at tcp://127.0.0.1:{unused_tcp_port}"):
        connect(f"127.0.0.1:{unused_tcp_port}", timeout=0.3)


@pytest.fixture
def unused_tcp_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_a_cluster_without_workers():
    def wait(count, timeout):
        raise TimeoutError(f"Only 0/{count} workers arrived after {timeout}")

    client = cluster_of("tcp://127.0.0.1:8786")
    client.wait_for_workers = wait
    with pytest.raises(fm.BackendError, match="has no workers after 60 s; start them with dask worker tcp://127.0.0.1"):
        wait_for_workers(client)


def _threads(folder, payload, data, callbacks):
    (folder / "threads.txt").write_text(str(usable_threads().count))


def test_threads_are_those_of_the_worker(monkeypatch, tmp_path):
    """Dask's nanny sets OMP_NUM_THREADS=1 whatever the number of threads of its worker is."""
    monkeypatch.delenv("FASTMLP_NUM_THREADS", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    usable = usable_threads().count
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    state = types.SimpleNamespace(nthreads=8)
    worker = types.SimpleNamespace(state=state, address="tcp://10.0.0.1:3", local_directory=str(tmp_path))
    link = types.SimpleNamespace(files=dict)
    monkeypatch.setattr("distributed.get_worker", lambda: worker)
    monkeypatch.setattr("fastmlp.distributed.dask_worker._WorkerLink", lambda *names: link)
    run = Run("a", _threads, None, "x")
    for runs, share in ((1, 8), (2, 4), (3, 2), (8, 1), (100, 1)):
        result = run_on_worker(run, None, "variable", "topic", runs, fm.__version__)
        assert int(result["files"]["threads.txt"]) == min(usable, share) and result["error"] is None
    result = run_on_worker(run, None, "variable", "topic", 1, "0.0.1")
    assert f"10.0.0.1:3 has fastmlp {fm.__version__}; expected 0.0.1, as in this process" in result["error"]
    assert usable_threads().count == 1


def test_assigned_threads(monkeypatch):
    def count(assigned):
        assign_threads(assigned, "threads of a worker")
        return usable_threads().count

    monkeypatch.setattr("fastmlp._common.threads.os.cpu_count", lambda: 64)
    monkeypatch.setattr("fastmlp._common.threads._affinity", lambda: 64)
    monkeypatch.setattr("fastmlp._common.threads._quota", lambda: None)
    monkeypatch.delenv("FASTMLP_NUM_THREADS", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert contextvars.copy_context().run(count, 16) == 16 and usable_threads().count == 1
    for own, expected in (("4", 4), ("32", 16)):
        monkeypatch.setenv("FASTMLP_NUM_THREADS", own)
        assert contextvars.copy_context().run(count, 16) == expected


def test_scikit_learns_search_on_a_cluster(client):
    joblib = pytest.importorskip("joblib")
    model_selection = pytest.importorskip("sklearn.model_selection")
    X, y = fm.load("digits")[:2]
    net = fm.MLPClassifier(hidden_layer_sizes=(16,), max_iter=40, tol=0, n_iter_no_change=40, random_state=0)
    search = model_selection.GridSearchCV(net, {"learning_rate_init": [1e-2, 3e-2]}, cv=2)
    scores = []
    for parallel in ({"backend": "sequential"}, {"backend": "dask", "client": client}):
        with warnings.catch_warnings(), joblib.parallel_config(**parallel):
            warnings.simplefilter("ignore")  # the fits stop before they converge
            scores.append(search.fit(X[:600] / 16, y[:600]).cv_results_["mean_test_score"])
    ref, comp = scores
    assert np.array_equal(ref, comp) and ref.max() > 0.8


@pytest.mark.slow
def test_the_page(tmp_path, monkeypatch):
    pytest.importorskip("sklearn")
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[2] / "docs" / "distributed.md").read_text(encoding="utf-8")
    section = re.search(r"\n## Many fits on a Dask cluster\n(.*?)(\n## |\Z)", page, re.S)[1]
    names = {"__name__": "__main__"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fits of scikit-learn's search that do not converge
        for block in re.findall(r"```python\n(.*?)```", section, re.S):
            exec(compile(block, "distributed.md", "exec"), names)
    assert len(names["runs"]) == 8 and names["best"].history[-1]["val_accuracy"] > 0.9
    assert names["search"].best_score_ > 0.8
    (command,) = re.findall(r"^\$ fastmlp (.*)$", section, re.M)
    assert main(command.split()) == 0 and len(list((tmp_path / "halved").glob("lr=*"))) == 4
