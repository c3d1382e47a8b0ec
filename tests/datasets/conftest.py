"""Generated data files, a loopback server, and a guard against other network addresses."""

from __future__ import annotations

import functools
import gc
import gzip
import http.server
import io
import os
import pathlib
import socket
import struct
import tarfile
import threading
import warnings

import numpy as np
import pytest

MNIST_FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
BATCHES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")


@pytest.fixture(autouse=True)
def _only_loopback(monkeypatch, tmp_path):
    """Neither the user's cache nor any address but 127.0.0.1 takes part in a test."""
    connect = socket.socket.connect

    def guarded(self, address):
        host = address[0] if isinstance(address, tuple) else address
        assert host == "127.0.0.1", f"a test reached for {address}"
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
    monkeypatch.setenv("FASTMLP_DATA", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "*")


def _idx(array):
    codes = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}
    code = codes[array.dtype.str[1:]]
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


@pytest.fixture(scope="session")
def idx_bytes():
    """Function: an array as the bytes of an IDX file."""
    return _idx


@pytest.fixture
def mnist_arrays():
    rng = np.random.default_rng(1)
    images = {n: rng.integers(0, 256, (n, 28, 28), dtype=np.uint8) for n in (30, 12)}
    labels = {n: (np.arange(n) % 10).astype(np.uint8) for n in (30, 12)}
    return images[30], labels[30], images[12], labels[12]


@pytest.fixture
def write_mnist(mnist_arrays):
    """Function: write the four files into a folder, gzipped or raw."""

    def write(folder, *, zipped=True, arrays=mnist_arrays):
        folder.mkdir(parents=True, exist_ok=True)
        for name, array in zip(MNIST_FILES, arrays, strict=True):
            content = _idx(array)
            path = folder / (name if zipped else name.removesuffix(".gz"))
            path.write_bytes(gzip.compress(content, 1, mtime=0) if zipped else content)
        return folder

    return write


def _py2_string(value):
    raw = value if isinstance(value, bytes) else value.encode()
    if len(raw) < 256:
        return b"U" + bytes([len(raw)]) + raw
    return b"T" + struct.pack("<i", len(raw)) + raw


def _py2_value(value):
    """One value in the opcodes of Python 2's protocol 2."""
    if isinstance(value, (bytes, str)):
        return _py2_string(value)
    if isinstance(value, int):
        return b"K" + bytes([value]) if 0 <= value < 256 else b"J" + struct.pack("<i", value)
    if isinstance(value, list):
        return b"](" + b"".join(map(_py2_value, value)) + b"e"
    if isinstance(value, dict):
        return b"}(" + b"".join(_py2_value(k) + _py2_value(v) for k, v in value.items()) + b"u"
    array = value
    code = _py2_string(array.dtype.str[1:])
    empty = b"cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85U\x01b\x87Rq\x03"
    minus = b"J\xff\xff\xff\xff"
    dtype = b"cnumpy\ndtype\n" + code + b"K\x00K\x01\x87R(K\x03U\x01|NNN" + minus + minus + b"K\x00tb"
    shape = b"(" + b"".join(_py2_value(int(n)) for n in array.shape) + b"t"
    return empty + b"(K\x01" + shape + dtype + b"\x89" + _py2_string(array.tobytes()) + b"tb"


@pytest.fixture(scope="session")
def python2_pickle():
    """Function: the bytes by which Python 2 pickled a dict of a batch."""
    return lambda value: b"\x80\x02" + _py2_value(value) + b"."


@pytest.fixture
def cifar_batches():
    """The six batches as (X, labels), 8 images each."""
    rng = np.random.default_rng(2)
    return {
        name: (rng.integers(0, 256, (8, 3072), dtype=np.uint8), [(3 * k + i) % 10 for i in range(8)])
        for k, name in enumerate(BATCHES)
    }


@pytest.fixture
def cifar_files(cifar_batches, python2_pickle):
    """The files of the official layout as bytes by name."""
    files = {
        name: python2_pickle({"batch_label": name, "labels": y, "data": X, "filenames": [f"{i}.png" for i in range(8)]})
        for name, (X, y) in cifar_batches.items()
    }
    names = [f"kind{i}" for i in range(10)]
    files["batches.meta"] = python2_pickle({"num_cases_per_batch": 8, "label_names": names, "num_vis": 3072})
    return files


@pytest.fixture
def write_cifar(cifar_files):
    """Function: write the batches into a folder, some of them replaced (None: left out)."""

    def write(folder, **replaced):
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in {**cifar_files, **replaced}.items():
            if content is not None:
                (folder / name).write_bytes(content)
        return folder

    return write


@pytest.fixture
def cifar_archive(cifar_files):
    """Function: the bytes of a tar.gz of the batches, with further members before them."""

    def pack(extra=(), files=cifar_files):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w:gz", compresslevel=1) as archive:
            for info, content in extra:
                archive.addfile(info, io.BytesIO(content))
            for name, content in files.items():
                info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        return out.getvalue()

    return pack


@pytest.fixture
def written(tmp_path):
    """Function: write a frame (or text) under a name and return the path."""

    def write(content, name="people.csv"):
        path = tmp_path / name
        if isinstance(content, (str, bytes)):
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        elif name.endswith(".parquet"):
            pytest.importorskip("pyarrow")
            content.to_parquet(path, index=False)
        else:
            content.to_csv(path, index=False, sep="\t" if name.endswith(".tsv") else ",")
        return path

    return write


class _Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        if self.path.startswith("/short/"):  # promises more than it sends
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            self.wfile.write(b"part of the file")
            return
        super().do_GET()

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(tmp_path):
    """A loopback server of the folder `server.folder`; `server.asked` lists the paths asked for."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(_Handler, directory=os.fspath(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        running.folder, running.asked = folder, []
        running.url = f"http://127.0.0.1:{running.server_address[1]}/"
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running
        running.shutdown()
        thread.join()
    # A download that fails leaves its connection to the garbage collector, which would otherwise warn in another test.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "unclosed <socket", ResourceWarning)
        gc.collect()


@pytest.fixture(scope="session")
def real_data():
    """The folder of real data files, which the repository does not hold."""
    chosen = os.environ.get("FASTMLP_TEST_DATA")
    if not chosen:
        pytest.skip("no real data: set FASTMLP_TEST_DATA to a folder that holds mnist/")
    folder = pathlib.Path(chosen)
    return folder
