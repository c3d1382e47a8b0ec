"""`fastmlp bench`: cases, checks of the results, and output files. No test asserts a time."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from checks import assert_matches, product_bound

from fastmlp._common.installed import is_installed
from fastmlp._kernels.cpu.host import LANES, TILE_ROWS
from fastmlp._kernels.cpu.peak import repeat_tile
from fastmlp.benchmark import first_fit, growth, inference, machine, memory, peak, report, runner, timing, validate
from fastmlp.benchmark.cases import CASES, Case, batches, first_weights, make_data
from fastmlp.benchmark.contender import OURS, PEERS, find
from fastmlp.benchmark.ours import Ours
from fastmlp.cli import main
from fastmlp.inference.kernels import inference_kernels

TINY = [
    Case("bytes", (12, 5, 4, 3), "elu", "cross entropy", "SGD", 8, 1e-4, rows=60, uint8=True),
    Case("adam", (6, 7, 3), "relu", "cross entropy", "Adam", 10, 1e-4, rows=64),
    Case("binary", (6, 7, 1), "tanh", "binary cross entropy", "SGD", 10, 1e-2, 0.9, rows=64),
    Case("number", (6, 7, 1), "tanh", "squared error", "SGD", 1, 1e-2, rows=64),
]
QUICK = runner.Settings(peers=(), threads=1, rounds=2, seconds=1e-3, checked_steps=3)


@pytest.fixture(params=TINY, ids=lambda case: case.name)
def case(request):
    return request.param


@pytest.fixture(autouse=True)
def only_tiny(monkeypatch, tmp_path):
    """The command knows these cases too, and writes to a folder of the test's."""
    monkeypatch.chdir(tmp_path)
    for tiny in TINY:
        monkeypatch.setitem(CASES, tiny.name, tiny)


def contest(kind, case, **changes):
    """Let a contender make 9 steps, over the end of an epoch of 6 or 7; what is wrong with them."""
    data = make_data(case)
    weights = first_weights(case, data)
    expected = validate.reference(case, data, weights, batches(case, 9))
    return validate.disagreement(kind(dataclasses.replace(case, **changes), data, weights, 1), expected)


class Lazy(Ours):
    """Right losses, and no step."""

    def losses(self, order):
        data, case = make_data(self.case), self.case
        return validate.reference(case, data, first_weights(case, data), order).losses

    def weights(self):
        return first_weights(self.case, make_data(self.case))


class Refusing(Ours):
    @classmethod
    def refuses(cls, case):
        return "it has no such thing"


class Broken(Ours):
    def losses(self, order):
        raise RuntimeError("no compiler\nhere")


@pytest.fixture
def peers(monkeypatch):
    """Peers that are copies of fastmlp, so that none has to be installed."""
    kinds = {"torch": Ours, "torch.compile": Broken, "jax": Lazy, "scikit-learn": Refusing}
    monkeypatch.setattr(runner, "find", lambda name: Ours if name == OURS else kinds[name])
    monkeypatch.setattr(runner, "missing", lambda name: None)
    return kinds


def bench(capsys, *arguments):
    code = main(["bench", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, err


def test_the_cases():
    assert [case.name for case in CASES.values() if case not in TINY] == [
        "cifar10", "figure1", "tabular", "mnist", "higgs", "big", "one",
    ]  # fmt: skip
    cifar10 = CASES["cifar10"]
    forward, weights, inputs = 3072 * 100 + 100 * 10, 3072 * 100 + 100 * 10, 100 * 10
    assert cifar10.useful_operations == 2 * 200 * (forward + weights + inputs)
    assert CASES["higgs"].net == "28-300x5-1 tanh" and CASES["higgs"].update == "SGD 0.9"
    for case in CASES.values():
        assert case.kind == "training" and case.rows >= case.batch


def test_batches_leave_out_an_epochs_rest(case):
    an_epoch = case.rows // case.batch
    order = batches(case, 2 * an_epoch + 1)
    assert order.shape == (2 * an_epoch + 1, case.batch)
    for epoch in (order[:an_epoch], order[an_epoch : 2 * an_epoch]):
        assert len(np.unique(epoch)) == an_epoch * case.batch
    assert not np.array_equal(order[0], order[an_epoch])
    with pytest.raises(ValueError, match="expected at least 1000, the rows of a batch"):
        batches(dataclasses.replace(case, batch=1000), 1)


def test_fastmlp_agrees_with_the_reference(case):
    assert contest(Ours, case) is None


@pytest.mark.parametrize(("off", "agrees"), [(0.03, True), (0.05, False), (np.nan, False)])
def test_as_far_off_as_numpy_in_float32(off, agrees):
    """Where that is further from the reference than the tolerance: four times as far, and no further."""
    before, after, single = (np.full(100, value, np.float32) for value in (0.0, 1.0, 1.01))

    class Fixed:
        def losses(self, order):
            return [0.5]

        def weights(self):
            return [after + np.float32(off)]

    expected = validate.Reference(np.zeros((1, 1)), [0.5], [before], [after], lambda: [single])
    assert (validate.disagreement(Fixed(), expected) is None) == agrees


@pytest.mark.parametrize("name", PEERS)
def test_peers_agree_with_the_reference(name, case, monkeypatch):
    package = PEERS[name][2]
    pytest.importorskip(package, reason="the peer is not installed")
    if name == "torch.compile":
        monkeypatch.setattr(sys.modules["torch"], "compile", lambda step, mode: step)  # saves compilation time
    kind = find(name)
    if reason := kind.refuses(case):
        assert name == "scikit-learn" and case.name == "bytes" and reason == "it has no elu"
        return
    assert contest(kind, case) is None
    contender = kind(case, make_data(case), first_weights(case, make_data(case)), 1)
    assert contender.seconds(batches(case, 20)) > 0
    changed = contender.weights()
    assert not any(np.array_equal(a, b) for a, b in zip(changed, first_weights(case, make_data(case))))


def test_disagreement_is_seen(case):
    assert "after 9 steps 0% of array 0 agree" in contest(Lazy, case)
    assert contest(Ours, case, lr=1.01 * case.lr) is not None
    if case.loss == "binary cross entropy":
        assert "the loss of step 1 is" in contest(Ours, case, loss="squared error")


def test_a_contender_that_gives_nan_disagrees(case):
    class Nan(Ours):
        def weights(self):
            return [np.full_like(array, np.nan) for array in super().weights()]

    assert "0% of array 0 agree" in contest(Nan, case)


@pytest.mark.slow
def test_a_run(peers):
    said = []
    document = runner.run(TINY[:2], dataclasses.replace(QUICK, peers=tuple(PEERS)), said.append)
    assert [case["name"] for case in document["cases"]] == ["bytes", "adam"]
    first = document["cases"][0]
    ours, eager = first["contenders"][OURS], first["contenders"]["torch"]
    assert {name: numbers["status"] for name, numbers in first["contenders"].items()} == {
        OURS: "ok", "torch": "ok", "torch.compile": "failed", "jax": "wrong", "scikit-learn": "left out",
    }  # fmt: skip
    assert first["contenders"]["torch.compile"]["why"] == "RuntimeError: no compiler"
    assert first["best_peer"] == "torch" and first["ratio"] == eager["us"] / ours["us"] and "asked" not in first
    for numbers in (ours, eager):
        low, high = numbers["quartiles"]
        assert 0 < low <= numbers["us"] <= high and numbers["steps"] >= 1
    assert first["fraction_of_peak"] == pytest.approx(first["gflops"] / first["peak_gflops"])
    assert first["gflops"] == pytest.approx(1e-3 * TINY[0].useful_operations / ours["us"])
    assert said[0].startswith("bytes: fastmlp ") and "jax wrong (after 3 steps 0% of array 0 agree" in said[0]
    assert document["threads"] == 1 and document["machine"]["lanes"] == LANES[4]
    assert document["versions"]["numpy"] == np.__version__


def test_what_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(PEERS, "jax", ("with_jax", "Jax", "a_package_that_is_not_there"))
    said = []
    document = runner.run([TINY[3]], dataclasses.replace(QUICK, peers=("jax",)), said.append)
    assert document["left_out"] == {"jax": 'not installed: pip install "fastmlp[peers]"'} and "jax" in said[0]
    (result,) = document["cases"]
    assert result["ratio"] is None and list(result["contenders"]) == [OURS]
    assert 'jax: not installed: pip install "fastmlp[peers]".' in report.table(document)


def test_the_command(capsys, peers, tmp_path):
    code, out, err = bench(
        capsys, "--cases", "adam,bytes", "--quick", "--seconds", "1e-3", "--threads", 1, "--out", "r.json"
    )
    assert code == 0 and "saved r.json" in err
    rows = [line.strip("| ").split(" | ") for line in out.splitlines() if line.startswith("|")]
    assert rows[0][4:9] == ["fastmlp", "PyTorch", "torch.compile", "JAX", "scikit-learn"]
    assert [row[0] for row in rows[2:]] == ["bytes", "adam"]
    assert rows[2][6:9] == ["failed", "wrong", "-"] and len(rows[2]) == 12
    assert "torch.compile in bytes: failed, RuntimeError: no compiler." in out
    assert bench(capsys, "--table", "r.json") == (0, out, "")


def test_tables_of_older_files(capsys, tmp_path):
    """Files of before 2026-12 have the case `cifar10` under its former name, and columns that are gone."""
    results = Path(__file__).parents[1] / "bench" / "results"
    for name, first in (("bench-2026-11-28.json", "cifar10"), ("inference-2026-11-24.json", "64-64-64-4")):
        code, out, err = bench(capsys, "--table", results / name)
        rows = [line.strip("| ").split(" | ") for line in out.splitlines() if line.startswith("|")]
        assert (code, err) == (0, "") and rows[2][0] == first and "asked" not in rows[0]
        assert {len(row) for row in rows} == {len(rows[0])}


def test_files_get_names_by_date(capsys, monkeypatch, tmp_path):
    quick = ("--cases", "number", "--peers", "", "--rounds", 1, "--seconds", "1e-3")
    assert bench(capsys, *quick)[0] == bench(capsys, *quick)[0] == 0
    day = json.loads(next(tmp_path.glob("bench-*.json")).read_text())["date"][:10]
    first, second = sorted((path.name for path in tmp_path.iterdir()), key=len)
    assert re.fullmatch(rf"bench-[a-z0-9-]+-{day}\.json", first) and second == first.replace(".json", "-2.json")
    (tmp_path / "bench" / "results").mkdir(parents=True)
    assert first in bench(capsys, *quick)[2].split("results/")[1]


def test_the_best_rate_is_that_of_all_runs_on_the_same_processor(tmp_path):
    def document(cpu, threads, *rates):
        return {"machine": {"cpu": cpu}, "threads": threads, "cases": [{"peak_gflops": rate} for rate in rates]}

    others = [document("this", 2, 50.0, 400.0), document("other", 2, 900.0), document("this", 1, 800.0), [1], {}]
    for number, other in enumerate(others):
        (tmp_path / f"bench-{number}.json").write_text(json.dumps(other))
    (tmp_path / "other.json").write_text(json.dumps(document("this", 2, 950.0)))
    (tmp_path / "bench-damaged.json").write_text("{")
    for rates, ref in (((300.0, None), 400.0), ((500.0,), 500.0)):
        mine = document("this", 2, *rates)
        report.add_best_rate(mine, tmp_path)
        assert mine["best_gflops"] == ref
    alone = document("unknown", 2)
    report.add_best_rate(alone, tmp_path)
    assert alone["best_gflops"] is None


def test_wrong_results_fail_the_command(capsys, monkeypatch):
    monkeypatch.setattr(runner, "find", lambda name: Lazy)
    code, out, _ = bench(capsys, "--cases", "bytes", "--peers", "", "--quick", "--out", "r.json")
    assert code == 1 and "fastmlp in bytes: wrong" in out


@pytest.mark.parametrize(
    "arguments, expected, text",
    [
        (("--cases", "cifar10,nothing"), 2, "--cases has 'nothing'; expected one of cifar10, figure1"),
        (("--peers", "numpy"), 2, "--peers has 'numpy'; expected one of torch"),
        (("--threads", "4000"), 2, "--threads is 4000; expected at most"),
        (("--rounds", "0"), 2, "not an integer of at least 1"),
        (("--out", ""), 2, "--out is empty"),
        (("--out", "no/such/r.json"), 1, "no/such is not a folder"),
        (("--out", "."), 1, ". is a folder"),
        (("--table", "none.json"), 1, "none.json: No such file"),
        (("--table", "other.json"), 1, "other.json is not a result of fastmlp bench: KeyError"),
        (("--table", "text.json"), 1, "text.json is not a result of fastmlp bench: JSONDecodeError"),
    ],
)
def test_mistakes(capsys, tmp_path, arguments, expected, text):
    (tmp_path / "other.json").write_text('{"format": 1}')
    (tmp_path / "text.json").write_text("text")
    code, out, err = bench(capsys, *arguments)
    assert code == expected and text in err and out == "" and err.count("\n") == 1


def test_the_latency_of_one_step(monkeypatch):
    monkeypatch.setattr(runner, "LATENCY", ("adam",))
    document = runner.run(TINY[1:2], QUICK)
    assert document["cases"][0]["trainer_step"]["us"] > 0
    assert "One call of `Trainer.step`: adam " in report.table(document)


def test_the_micro_kernel():
    rows, columns, k = TILE_ROWS, 2 * LANES[4], 9
    generator = np.random.default_rng(0)
    a, panel, c = (generator.standard_normal(shape, np.float32) for shape in ((rows, k), (k, columns), (rows, columns)))
    expected = c + 3 * (a.astype(np.float64) @ panel)
    bound = product_bound(np.tile(a, 3), np.tile(panel, (3, 1)), np.float32) + 3e-7 * np.abs(c)
    flat = c.ravel()
    repeat_tile(a.ravel(), panel.ravel(), flat, k, 3, 1)
    assert_matches(expected, flat.reshape(c.shape), bound)
    assert peak.MicroKernel(2).rate(1e-3) > 0


def test_steps_for_a_timing():
    class Even:
        def seconds(self, order):
            return 1e-3 * len(order)

    assert timing.steps_for(Even(), range, 1.0) == 1000
    assert timing.steps_for(Even(), range, 1e-5) == 1
    assert timing.summary([3.0, 1.0, 2.0]) == {"us": 2.0, "quartiles": [1.5, 2.5]}
    assert timing.summary([3.0]) == {"us": 3.0, "quartiles": [3.0, 3.0]}


@pytest.mark.slow
def test_growth(tmp_path):
    pytest.importorskip("matplotlib", reason="pictures need the extra")
    points = growth.sweep({"width": (4, 8), "depth": (1,)}, rounds=1, seconds=1e-3)
    assert {(p["axis"], p["value"]) for p in points} == {("width", 4), ("width", 8), ("depth", 1)}
    assert {p["threads"] for p in points} == set(range(1, min(2, machine.usable_cores()) + 1))
    assert growth.draw(points, "title", tmp_path / "g.png") is None
    assert (tmp_path / "g.png").read_bytes()[:4] == b"\x89PNG"


def test_growth_without_matplotlib(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert "fastmlp[plot]" in growth.draw([], "title", tmp_path / "g.png")


@pytest.mark.slow
def test_memory(monkeypatch):
    monkeypatch.setattr(memory, "missing", lambda name: "not installed")
    found = memory.measure("one", (OURS, "torch"))
    assert found["weights_and_gradients"] == 8 * (8 * 16 + 16 + 16 + 1)
    assert found["contenders"]["torch"] == {"why": "not installed"}
    assert 0 <= found["contenders"][OURS]["bytes"] < 2**26
    monkeypatch.setattr(memory, "_TIMEOUT", 1e-3)
    assert memory.measure("one", (OURS,))["contenders"][OURS] == {"why": "took more than 0.001 s"}


def test_a_disturbed_run_says_so():
    document = runner.run([TINY[3]], QUICK)
    document["machine"]["processors"], document["cases"][0]["other_load"] = 2, 1.05
    assert "Unreliable" not in report.table(document)
    document["threads"] = 2
    assert "Unreliable, as other processes used cores during the timing: number 1.05." in report.table(document)


def test_the_load_of_others():
    cores = machine.OtherLoad().cores()
    assert cores is None or cores >= 0


INFERENCE = [
    inference.InferenceCase((5, 6, 3), 1, 1),
    inference.InferenceCase((5, 6, 3), 40, None),
]


@pytest.mark.slow
@pytest.mark.skipif(inference_kernels() is None, reason="no compiled kernels here")
def test_inference_checks_all_and_shows_a_table(monkeypatch, capsys):
    peers = [name for name, (package, _) in inference.PEERS.items() if is_installed(package)]
    monkeypatch.setattr(inference, "_QUIET", 0.0)
    monkeypatch.setattr(inference, "CASES", INFERENCE)
    monkeypatch.setattr(inference.run, "__defaults__", (tuple(peers), 2, 1e-3, INFERENCE, lambda line: None))
    assert main(["bench", "--inference", "--rounds", "2", "--seconds", "0.001", "--out", "i.json"]) == 0
    document = json.loads(Path("i.json").read_text())
    for case in document["cases"]:
        assert list(case["contenders"]) == ["fastmlp", *peers]
        for name, numbers in case["contenders"].items():
            assert numbers["status"] == "ok", (name, numbers)
    assert document["start"].keys() >= {"numpy", "fastmlp"} and document["sizes"]["fastmlp to predict"] > 1e5
    shown = capsys.readouterr().out
    assert shown == inference.table(document) + "\n" and "| 5-6-3 | 40 |" in shown
    assert main(["bench", "--table", "i.json"]) == 0 and capsys.readouterr().out == shown


def test_inference_notices_a_wrong_answer(monkeypatch):
    wrong = {"numpy": ("numpy", lambda model, x, threads: lambda: np.zeros((len(x), 3)))}
    monkeypatch.setattr(inference, "PEERS", wrong)
    contenders = inference._time_case(INFERENCE[0], ["numpy"], 1, 1e-3)["contenders"]
    assert contenders["numpy"]["status"] == "wrong" and "us" not in contenders["numpy"]
    assert contenders["fastmlp"]["status"] == "ok"


def test_startup(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    ours = {name: found for name, found in first_fit.CONTENDERS.items() if name in ("fastmlp", "fastmlp train")}
    monkeypatch.setattr(first_fit, "CONTENDERS", ours)
    assert main(["bench", "--startup", "--rounds", "1", "--out", "s.json"]) == 0
    document = json.loads(Path("s.json").read_text())
    assert list(document["start"]) == list(ours) and all(seconds > 0 for seconds in document["start"].values())
    shown = capsys.readouterr().out
    assert shown == first_fit.table(document) + "\n" and "| fastmlp train |" in shown
    assert main(["bench", "--table", "s.json"]) == 0 and capsys.readouterr().out == shown
    assert main(["bench", "--startup", "--inference"]) == 2
    assert "give --startup or --inference" in capsys.readouterr().err
    assert main(["bench", "--startup", "--cases", "cifar10"]) == 2
    assert "--cases is an option of the training benchmark" in capsys.readouterr().err


def test_inference_has_cases_of_its_own(capsys):
    assert main(["bench", "--inference", "--cases", "cifar10"]) == 2
    assert "--cases is an option of the training benchmark" in capsys.readouterr().err


@pytest.mark.parametrize("options", [["--peers", ""], ["--inference"]])
def test_without_numba(monkeypatch, capsys, tmp_path, options):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.setattr("fastmlp._kernels._has_library", lambda: False)
    assert main(["bench", *options]) == 1
    expected = "fastmlp: error: The backend 'numba' needs numba, which is not installed: pip install numba.\n"
    assert capsys.readouterr().err == expected and not list(tmp_path.iterdir())
