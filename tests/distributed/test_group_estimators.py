"""Estimators over ranks, which are threads here."""

import numpy as np
import pytest
from checks import assert_matches

import fastmlp as fm
from fastmlp._common.group import Group
from fastmlp.estimators import lbfgs

from .launch import on_threads

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def rows(count=700):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(count, 6))
    return X, (X @ rng.normal(size=(6, 3))).argmax(axis=1), rng.uniform(0, 2, count) * (np.arange(count) % 5 > 0)


def fitted(group, weighted=False, **arguments):
    X, y, weight = rows()
    net = fm.MLPClassifier((8,), solver="lbfgs", max_iter=12, alpha=1e-2, random_state=0, threads=1, **arguments)
    return net.fit(X, y, weight if weighted else None, group=group)


def bits(net):
    return b"".join(array.tobytes() for array in (*net.coefs_, *net.intercepts_)), net.loss_, net.n_iter_


@pytest.mark.parametrize("few", [0, 1 << 60], ids=["engine", "modules"])
@pytest.mark.parametrize("weighted", [False, True])
def test_same_bits_on_any_number_of_ranks(weighted, few, monkeypatch):
    monkeypatch.setattr(lbfgs, "_SMALL_WORK", few)
    ref, alone = fitted(Group(), weighted), fitted(None, weighted)
    for array, other in zip(alone.coefs_, ref.coefs_):
        assert_matches(array, other, 1e-6)  # of another order of sums, after 12 steps
    for ranks in (2, 4):
        found, errors = on_threads(ranks, lambda group: bits(fitted(group, weighted)))
        assert not errors and found == [bits(ref)] * ranks


def test_weights_of_rank_0_are_the_start():
    def work(group):
        X, y, _ = rows()
        return bits(
            fm.MLPClassifier((8,), solver="lbfgs", max_iter=3, random_state=group.rank, threads=1).fit(
                X, y, group=group
            )
        )

    found, errors = on_threads(2, work)
    assert not errors and found[0] == found[1]


def test_exception_on_one_rank_ends_all(monkeypatch):
    whole = lbfgs.Objective._of_piece

    def fails(self, theta, first, stop):
        if self.ranks.group.rank == 1 and self.ranks.group.sums > 5:
            raise ValueError("a bad piece")
        return whole(self, theta, first, stop)

    monkeypatch.setattr(lbfgs.Objective, "_of_piece", fails)
    found, errors = on_threads(2, lambda group: fitted(group))
    assert len(errors) == 2 and str(found[1]) == "a bad piece"
    assert isinstance(found[0], fm.RankError) and str(found[0]).startswith("rank 1 on ")
    assert str(found[0]).endswith(": a bad piece")


@pytest.mark.parametrize(
    "arguments",
    [{"solver": "adam", "early_stopping": True}, {"solver": "sgd", "learning_rate": "adaptive", "momentum": 0.5}],
)
def test_stochastic_solvers(arguments, capsys):
    X, y, _ = rows()

    def work(group):
        net = fm.MLPClassifier((8,), max_iter=4, random_state=0, threads=1, verbose=True, **arguments)
        net.fit(X, y, group=group, pieces=4)
        return bits(net), net.loss_curve_, net.validation_scores_

    ref = work(None)
    printed = capsys.readouterr().out
    assert printed.count("Iteration") == 4
    for ranks in (2, 4):
        found, errors = on_threads(ranks, work)
        assert not errors and found == [ref] * ranks
        assert capsys.readouterr().out == printed  # by rank 0


def test_wrong_arguments():
    X, y, _ = rows()
    with pytest.raises(ValueError, match="group is 1; expected a Group"):
        fm.MLPClassifier((4,)).fit(X, y, group=1)
    with pytest.raises(ValueError, match="pieces is 4; expected None for solver='lbfgs'"):
        fm.MLPClassifier((4,), solver="lbfgs").fit(X, y, pieces=4)
    with pytest.raises(ValueError, match="n_nets is 2; expected 1"):
        fm.MLPRegressor(hidden_layer_sizes=(4,), n_nets=2).fit(X, X[:, 0], group=Group())
