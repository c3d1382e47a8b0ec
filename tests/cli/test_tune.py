"""`fastmlp tune`, the file that it writes, and who reads it."""

from __future__ import annotations

import json
import os

import pytest

from fastmlp._common import tuning
from fastmlp._common.threads import choose_threads
from fastmlp.cli import tune
from fastmlp.training.tune import Measured


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache folder of the test's own, whose files are read."""
    folder = tmp_path / "cache"
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda *_, **__: str(folder))
    monkeypatch.delenv("FASTMLP_TUNING")
    tuning.forget()
    yield folder
    tuning.forget()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Measurements that take no time."""
    found = {
        "panel_prefetch": Measured(0, "faster without"),
        "flops_per_thread": Measured(200_000, "two threads are faster"),
    }
    monkeypatch.setattr(tune, "measure", lambda: (found, 1.0))


def test_values_are_kept_and_used(fastmlp, cache, monkeypatch):
    monkeypatch.setattr("fastmlp._common.threads.usable_threads", lambda: tuning.Value(2, ""))
    assert tuning.tuned_value("panel_prefetch") == (1, "default")
    code, out, err = fastmlp("tune")
    assert code == 0 and not err and "flops_per_thread  200000" in out
    (path,) = (cache / "tuning").iterdir()
    assert f"kept in {path}" in out
    assert tuning.tuned_value("panel_prefetch") == (0, "measured")
    assert "panel_prefetch 0 (measured)" in fastmlp("info")[1]
    assert tuning.tuned_value("batch_block", 144) == (144, "derived")


def test_json_and_reset(fastmlp, cache):
    code, out, _ = fastmlp("tune", "--json")
    document = json.loads(out)
    assert code == 0 and document["choices"]["panel_prefetch"] == {"value": 0, "measured": "faster without"}
    assert os.path.isfile(document["file"])
    assert fastmlp("tune", "--reset") == (0, f"deleted {document['file']}\n", "")
    assert fastmlp("tune", "--reset") == (0, "there are no values measured on this processor\n", "")
    assert tuning.tuned_value("panel_prefetch") == (1, "default")


def test_the_environment_overrides(fastmlp, monkeypatch):
    fastmlp("tune")
    monkeypatch.setenv("FASTMLP_TUNING", "panel_prefetch=1, batch_block=40")
    assert tuning.tuned_value("panel_prefetch") == (1, "FASTMLP_TUNING")
    assert tuning.tuned_value("batch_block", 144) == (40, "FASTMLP_TUNING")
    assert tuning.tuned_value("flops_per_thread") == (200_000, "measured")
    monkeypatch.setenv("FASTMLP_TUNING", "off")
    assert tuning.tuned_value("flops_per_thread") == (1_500_000, "default")


@pytest.mark.parametrize(
    "text, expected",
    [
        ("speed=1", "some of flops_per_thread, "),
        ("batch_block", "an integer from 8 to 100000"),
        ("batch_block=2", "an integer from 8 to 100000"),
        ("panel_prefetch=-1", "an integer from 0 to 1"),
    ],
)
def test_bad_environment(fastmlp, monkeypatch, text, expected):
    monkeypatch.setenv("FASTMLP_TUNING", text)
    code, _, err = fastmlp("train", "--epochs", "1", "--out", "run")
    assert code == 1 and err.startswith(f"fastmlp: error: FASTMLP_TUNING has '{text}'; expected") and expected in err
    code, out, _ = fastmlp("info")
    assert code == 0 and f"FASTMLP_TUNING has '{text}'" in out


@pytest.mark.parametrize(
    "change, why",
    [
        (lambda content: "{", "it is damaged"),
        (lambda content: "[1]", "it is damaged"),
        (lambda content: json.dumps({**content, "values": None}), "it is damaged"),
        (lambda content: json.dumps({**content, "processor": {}}), "it was measured on another processor"),
        (
            lambda content: json.dumps({**content, "values": {"batch_block": 1}}),
            "it has the value '1' for 'batch_block'",
        ),
        (lambda content: json.dumps({**content, "values": {"new": 1}}), "it has the value '1' for 'new'"),
    ],
)
def test_a_file_that_is_not_one_of_this_processor(fastmlp, change, why):
    fastmlp("tune")
    path = tuning.tuning_file()
    path.write_text(change(json.loads(path.read_text())))
    tuning.forget()
    with pytest.warns(Warning, match=f"is ignored, since {why}; run fastmlp tune"):
        assert tuning.tuned_value("panel_prefetch") == (1, "default")
    assert choose_threads(None, 1e6, 32).count == 1  # without a second warning
    assert fastmlp("tune")[0] == 0
    assert tuning.tuned_value("panel_prefetch") == (0, "measured")


def test_no_folder_can_be_written_to(fastmlp, cache, monkeypatch):
    cache.write_text("a file")
    code, out, err = fastmlp("tune")
    assert code == 0 and not err and "not kept: " in out
    assert "to use the values: export FASTMLP_TUNING=panel_prefetch=0,flops_per_thread=200000" in out
    assert tuning.tuned_value("panel_prefetch") == (1, "default")
    assert fastmlp("tune", "--reset")[0] == 0
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda *_, **__: "~/.cache/fastmlp")  # a user without a home
    assert "not kept: the user has no cache folder" in fastmlp("tune")[1]
    assert json.loads(fastmlp("tune", "--json")[1])["file"] is None


def test_other_processors_and_versions_have_other_files(monkeypatch):
    first = tuning.tuning_file()
    monkeypatch.setattr(tuning, "identity", lambda: {"model": "97"})
    second = tuning.tuning_file()
    monkeypatch.setattr("fastmlp.__version__", "9.9")
    assert len({first, second, tuning.tuning_file()}) == 3


def test_a_disturbed_measurement_is_not_kept(fastmlp, cache, monkeypatch):
    monkeypatch.setattr(tune, "measure", lambda: ({}, 0.6))
    code, _, err = fastmlp("tune")
    assert code == 1 and "The threads ran for 60% of the time only" in err and not cache.exists()
