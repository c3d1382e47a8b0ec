"""Downloads from a loopback server."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import socket
import sys

import pytest

from fastmlp._common.errors import DataError
from fastmlp.datasets import load
from fastmlp.datasets.fetch import data_folder, fetch
from fastmlp.datasets.registry import SOURCES, Source

pytest.importorskip("pooch")


def made_source(server, **files):
    """Serve these files, and the registry entry that describes them."""
    checksums = {}
    for name, content in files.items():
        (server.folder / name).write_bytes(content)
        checksums[name] = "md5:" + hashlib.md5(content, usedforsecurity=False).hexdigest()
    return Source("made", ("a", "b"), (1, 1, 1), server.url, checksums)


def test_a_missing_file_is_downloaded_once(tmp_path, server):
    source = made_source(server, one=b"content")
    path = fetch(source, "one", tmp_path / "new" / "folder", download=True)
    assert path.read_bytes() == b"content" and os.listdir(path.parent) == ["one"]
    fetch(source, "one", path.parent, download=True)
    assert server.asked == ["/one"]


def test_what_stands_there_is_never_checked(tmp_path, server):
    source = made_source(server, one=b"content")
    (tmp_path / "one").write_bytes(b"a copy of another make")
    assert fetch(source, "one", tmp_path, download=True).read_bytes() == b"a copy of another make"
    assert server.asked == []


def failure(source, tmp_path):
    folder = tmp_path / "cache"
    with pytest.raises(DataError) as caught:
        fetch(source, "one", folder, download=True)
    assert not folder.exists() or os.listdir(folder) == []  # nothing under the name, nothing half done
    text = str(caught.value)
    assert str(folder / "one") in text and source.base_url + "one" in text and "\n" not in text
    return text


def test_a_wrong_checksum(tmp_path, server):
    source = made_source(server, one=b"content")
    (server.folder / "one").write_bytes(b"something else")
    assert "wrong checksum" in failure(source, tmp_path)


def test_not_found(tmp_path, server):
    source = made_source(server, one=b"content")
    (server.folder / "one").unlink()
    assert "the server answered 404" in failure(source, tmp_path)


@pytest.mark.slow
def test_a_connection_that_breaks_off(tmp_path, server):
    source = dataclasses.replace(made_source(server, one=b"content"), base_url=server.url + "short/")
    assert "connection broke off" in failure(source, tmp_path)


def test_connection_refused(tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound and not listening: refused, and no one else can take it
        port = closed.getsockname()[1]
        source = Source("made", (), (1, 1, 1), f"http://127.0.0.1:{port}/", {"one": "md5:" + "0" * 32})
        assert f"no connection to 127.0.0.1:{port}" in failure(source, tmp_path)


def test_a_folder_that_cannot_be_made(tmp_path, server):
    source = made_source(server, one=b"content")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match=r"could not be downloaded"):
        fetch(source, "one", tmp_path / "file" / "folder", download=True)


def test_download_forbidden(tmp_path, server):
    with pytest.raises(DataError, match="download=False"):
        fetch(made_source(server, one=b"content"), "one", tmp_path, download=False)
    assert server.asked == []


def test_the_folder_by_order(tmp_path, monkeypatch):
    import pooch

    monkeypatch.setenv("FASTMLP_DATA", str(tmp_path / "env"))
    assert data_folder(tmp_path / "given") == tmp_path / "given"
    assert data_folder(None) == tmp_path / "env"
    monkeypatch.delenv("FASTMLP_DATA")
    assert data_folder(None) == pooch.os_cache("fastmlp")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert data_folder("~/data") == tmp_path / "data"


def test_pooch_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(DataError, match="pip install pooch"):
        load("mnist", data_dir=tmp_path)
    monkeypatch.delenv("FASTMLP_DATA")
    with pytest.raises(DataError, match="set FASTMLP_DATA to a folder"):
        load("mnist")


class Terminal:
    """Standard error as a terminal would be."""

    encoding = "utf-8"

    def __init__(self):
        self.text = ""

    def isatty(self):
        return True

    def write(self, text):
        self.text += text

    def flush(self):
        pass


def test_a_progress_bar_on_a_terminal_only(tmp_path, server, monkeypatch, capfd):
    pytest.importorskip("tqdm")
    source = made_source(server, one=b"content" * 10000)
    fetch(source, "one", tmp_path / "a", download=True)
    assert capfd.readouterr() == ("", "")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    fetch(source, "one", tmp_path / "b", download=True)
    assert "100%" in terminal.text


def registered(monkeypatch, server, name, files):
    source = made_source(server, **files)
    entry = dataclasses.replace(SOURCES[name], base_url=server.url, checksums=source.checksums)
    monkeypatch.setitem(SOURCES, name, entry)


def test_mnist_is_downloaded_into_its_folder(tmp_path, monkeypatch, server, write_mnist):
    files = {path.name: path.read_bytes() for path in write_mnist(tmp_path / "made").iterdir()}
    order = ("train-images", "train-labels", "t10k-images", "t10k-labels")
    registered(monkeypatch, server, "mnist", {n: files[n] for o in order for n in files if n.startswith(o)})
    folder = tmp_path / "data"
    data = load("mnist", data_dir=folder)
    assert len(data.X) == 30 and sorted(os.listdir(folder / "mnist")) == sorted(files)
    assert len(load("mnist", data_dir=folder, download=False).X) == 30 and len(server.asked) == 4
    # Without data_dir the folder is that of the environment variable.
    load("mnist")
    assert sorted(os.listdir(tmp_path / "cache" / "mnist")) == sorted(files)


def test_a_folder_that_has_some_files_gets_the_others(tmp_path, monkeypatch, server, write_mnist):
    files = {path.name: path.read_bytes() for path in write_mnist(tmp_path / "made").iterdir()}
    registered(monkeypatch, server, "mnist", files)
    folder = write_mnist(tmp_path / "data")
    (folder / "train-labels-idx1-ubyte.gz").unlink()
    load("mnist", data_dir=folder)
    assert server.asked == ["/train-labels-idx1-ubyte.gz"]
    assert sorted(os.listdir(folder)) == sorted(files)


def test_cifar10_is_downloaded_and_read_from_its_archive(tmp_path, monkeypatch, server, cifar_archive):
    registered(monkeypatch, server, "cifar10", {"cifar-10-python.tar.gz": cifar_archive()})
    assert len(load("cifar10", data_dir=tmp_path / "data").X) == 40
    assert os.listdir(tmp_path / "data") == ["cifar-10-python.tar.gz"]


def test_the_registry_has_a_checksum_for_every_file():
    for source in SOURCES.values():
        assert source.name == "digits" or source.base_url.endswith("/")
        for checksum in source.checksums.values():
            algorithm, digest = checksum.split(":")
            assert algorithm == "md5" and len(digest) == 32 and int(digest, 16)
