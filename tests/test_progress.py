"""ProgressBar: permanent lines, and a bar on terminals only."""

import io
import sys

import numpy as np
import pytest

import fastmlp as fm


class Terminal(io.StringIO):
    def isatty(self):
        return True


def fit(*callbacks, validation=True, **options):
    X, y = np.random.default_rng(0).normal(size=(40, 3)), np.arange(40) % 2
    trainer = fm.Trainer(fm.MLP(3, [4], 2, rng=0), fm.CrossEntropyLoss(), fm.Adam())
    validation = (X, y) if validation else None
    trainer.fit(X, y, validation=validation, batch_size=10, epochs=3, rng=0, callbacks=callbacks, **options)
    return trainer


def test_a_line_for_each_epoch():
    stream = io.StringIO()
    trainer = fit(fm.ProgressBar(stream))
    for line, record in zip(stream.getvalue().splitlines(), trainer.history, strict=True):
        measures = f"loss {record['train_loss']:.4g}  val_loss {record['val_loss']:.4g}"
        accuracy = f"val_acc {record['val_accuracy']:.4g}"
        step = f"{record['step']}/12  epoch {record['epoch']:g}"
        assert line == f"{step}  {measures}  {accuracy}  lr 0.001  {record['seconds']:.1f} s"


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_a_heading_for_windows(stream):
    for lines in (True, False):
        out = stream()
        fit(fm.ProgressBar(out, lines=lines), shuffle="windows")
        heading = "order of the rows: windows of 64 blocks of 131,072 rows\n"
        assert out.getvalue().startswith(heading) == lines


def test_without_validation():
    stream = io.StringIO()
    fit(fm.ProgressBar(stream), validation=False)
    assert "val" not in stream.getvalue() and len(stream.getvalue().splitlines()) == 3


@pytest.mark.parametrize("lines", [True, False])
def test_a_bar_on_a_terminal(lines):
    stream = Terminal()
    fit(fm.ProgressBar(stream, lines=lines))
    text = stream.getvalue()
    assert "0/12" in text and text.count("epoch ") == (3 if lines else 0)
    assert text.endswith("\r")  # the bar has been erased


def test_no_bar_and_no_lines():
    stream = io.StringIO()
    fit(fm.ProgressBar(stream, lines=False))
    assert stream.getvalue() == ""


def test_a_program_without_a_console(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    assert fit(fm.ProgressBar()).steps == 12


def test_standard_error_as_it_is_when_the_fit_begins(capsys):
    bar = fm.ProgressBar()
    fit(bar)
    assert len(capsys.readouterr().err.splitlines()) == 3
