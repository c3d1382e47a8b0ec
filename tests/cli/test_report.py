"""``fastmlp report``: the parts of the page, its command, and errors."""

import html
import json
import re
import shlex

import numpy as np
import pytest

from fastmlp.cli import main

pytest.importorskip("plotly")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Folder with the runs a and b of the digits, c of a table of classes, and r of one of numbers."""
    folder = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 2))
    lines = [f"{a:.4f},{b:.4f},{'left' if a < 0.1 * b else 'right'}" for a, b in x]
    (folder / "classes.csv").write_text("\n".join(["a,b,side", *lines]) + "\n")
    lines = [f"{a:.4f},{b:.4f},{3 * a + b:.4f}" for a, b in x]
    (folder / "numbers.csv").write_text("\n".join(["a,b,sum", *lines]) + "\n")
    common = ["--quiet", "--out"]
    for name, *options in (
        ("a", "--epochs", "2", "--hidden", "12", "--schedule", "cosine"),
        ("b", "--epochs", "2", "--lr", "0.01", "--seed", "3"),
        ("c", "--dataset", str(folder / "classes.csv"), "--preset", "fast", "--epochs", "5"),
        ("r", "--dataset", str(folder / "numbers.csv"), "--preset", "fast", "--epochs", "5"),
        ("p", "--dataset", str(folder / "numbers.csv"), "--plain", "--epochs", "5"),
    ):
        assert main(["train", *options, *common, str(folder / name)]) == 0
    return folder


@pytest.fixture
def report(folder, monkeypatch, capsys):
    """Page about some runs."""
    monkeypatch.chdir(folder)

    def write(*names):
        assert main(["report", *names, "--out", "page.html"]) == 0
        assert capsys.readouterr().out == "saved page.html\n"
        return (folder / "page.html").read_text(encoding="utf-8")

    return write


def titles(page):
    """Titles of the figures."""
    return re.findall(r'"title":\{"text":"([^"]*)"\},"xaxis"|"title":\{"text":"([A-Z][^"]*)"\}', page)


def rows_of(page, heading):
    """Cells of the first table with a column of this name."""
    tables = re.findall(r"<table>(.*?)</table>", page, re.S)
    table = next(one for one in tables if f"<th>{heading}</th>" in one.split("</tr>")[0])
    return [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row) for row in re.findall(r"<tr>(.*?)</tr>", table)]


def command_of(page):
    return shlex.split(html.unescape(re.search(r"<pre>(.*?)</pre>", page)[1]))


def shown(page):
    return {name for pair in titles(page) for name in pair if name}


def test_classification(report, folder):
    page = report("a")
    parts = {"Loss", "Accuracy", "Learning rate", "Calibration", "Confusion matrix", "Weights by layer"}
    assert parts | {"Outputs of the layers on test rows"} <= shown(page)
    scores = rows_of(page, "calibration error")
    results = json.loads((folder / "a" / "metrics.jsonl").read_text().splitlines()[-1])
    assert scores[1][:3] == ["a", f"{results['val_loss']:.4f}", f"{results['val_accuracy']:.4f}"]
    by_class = rows_of(page, "precision")
    assert [row[0] for row in by_class[1:]] == list("0123456789")
    assert sum(int(row[4]) for row in by_class[1:]) == 360
    assert "rows of" not in page and "<th>processor</th>" in page and "<th>numpy</th>" in page
    assert not re.search(r'(src|href)="http', re.sub(r"<script.*?</script>", "", page, flags=re.S))


def test_the_command_repeats_the_run(report, folder):
    for name in ("b", "c", "p"):
        words = command_of(report(name))
        assert words[:2] == ["fastmlp", "train"]
        assert main([*words[1:], "--quiet", "--out", str(folder / f"again-{name}")]) == 0
        ref, comp = ((folder / one / "model.safetensors").read_bytes() for one in (name, f"again-{name}"))
        assert ref == comp


def test_several_runs(report):
    page = report("a", "b", "a")
    assert [row[0] for row in rows_of(page, "calibration error")[1:]] == ["a", "b"]
    assert '"name":"a test"' in page and '"name":"b training"' in page
    assert '"name":"b"' not in page  # its learning rate is constant


def test_ensembles(report):
    page = report("c")
    assert {"Loss", "Accuracy", "Calibration", "Confusion matrix"} <= shown(page)
    assert "Weights by layer" not in page
    assert '"name":"net 1 held-out"' in page and '"name":"net 2 training"' in page
    assert [row[0] for row in rows_of(page, "precision")[1:]] == ["left", "right"]


@pytest.mark.parametrize("name", ["r", "p"])
def test_regression(report, name):
    page = report(name)
    assert {"Loss", "Predictions"} <= shown(page) and "Confusion matrix" not in shown(page)
    assert [row[0] for row in rows_of(page, "r2")[1:]] == [name]


def test_names_are_escaped(report, folder):
    (folder / "a").rename(folder / "<a>")
    try:
        page = report("<a>")
    finally:
        (folder / "<a>").rename(folder / "a")
    assert "<h2>&lt;a&gt;</h2>" in page and "<h2><a>" not in page


def test_changed_data_are_noted(report, folder, capsys):
    text = (folder / "classes.csv").read_text()
    (folder / "classes.csv").write_text(text.replace("left", "right", 1))
    try:
        assert main(["report", "c"]) == 0
    finally:
        (folder / "classes.csv").write_text(text)
    assert "classes.csv has changed since the run was trained" in capsys.readouterr().err


def test_errors(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    (folder / "empty").mkdir(exist_ok=True)
    for arguments, message in (
        (["a", "r"], "The runs are of different tasks (classification, regression); expected one task."),
        (["empty"], "empty has no metrics.jsonl; expected a run folder of fastmlp train."),
        (["nowhere"], "nowhere has no metrics.jsonl"),
        (["a", "--out", "no/page.html"], "no/page.html"),
    ):
        assert main(["report", *arguments]) == 1, arguments
        assert message in capsys.readouterr().err


def test_without_plotly(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    monkeypatch.setitem(__import__("sys").modules, "plotly", None)
    assert main(["report", "a"]) == 1
    error = capsys.readouterr().err
    assert "plotly" in error and 'pip install "fastmlp[report]"' in error


@pytest.mark.slow
def test_in_a_browser(report, folder):
    api = pytest.importorskip("playwright.sync_api")
    report("a", "b")
    with api.sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        except api.Error as error:
            pytest.skip(f"no browser: {str(error).splitlines()[0]}")
        requests, errors = [], []
        page = browser.new_page()
        page.on("request", lambda request: requests.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"file://{folder / 'page.html'}")
        page.wait_for_selector(".plotly-graph-div .main-svg")
        box = page.locator(".nsewdrag").first.bounding_box()
        for share in (0.3, 0.5):
            page.mouse.move(box["x"] + share * box["width"], box["y"] + 0.5 * box["height"], steps=5)
            page.wait_for_timeout(200)
        page.wait_for_selector(".hoverlayer *", state="attached")
        assert page.locator("table").count() >= 5
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        browser.close()
    assert not errors and all(url.startswith(("file:", "data:", "blob:")) for url in requests)
