"""Deprecated functions and renamed arguments."""

from __future__ import annotations

import inspect

import pytest

from fastmlp._common.deprecation import deprecated, renamed_argument


def test_a_deprecated_function_warns_at_the_line_of_its_caller():
    @deprecated("fm.new()", since="0.2", removed="0.4")
    def old(a, b=2):
        """Doc."""
        return a, b

    with pytest.warns(
        FutureWarning, match=r"old is deprecated since fastmlp 0.2 .* removed in 0.4; use fm.new\(\)"
    ) as got:
        assert old(1, b=3) == (1, 3)
    assert got[0].filename == __file__ and old.__doc__ == "Doc."


class Example:
    @renamed_argument("alpha", "rate", since="0.2", removed="0.4")
    def __init__(self, n, *, rate=0.5):
        self.n, self.rate = n, rate


def test_a_renamed_argument_is_taken_with_a_warning():
    with pytest.warns(FutureWarning, match=r"argument alpha= of Example is deprecated .* use rate=") as got:
        example = Example(1, alpha=0.1)
    assert (example.n, example.rate) == (1, 0.1) and got[0].filename == __file__
    assert Example(2).rate == 0.5 and Example(2, rate=3).rate == 3  # warnings are errors in these tests
    assert list(inspect.signature(Example).parameters) == ["n", "rate"]


def test_both_names_at_once_are_an_error():
    with pytest.raises(TypeError, match="Example got both alpha= and rate=; expected rate= alone"):
        Example(1, alpha=0.1, rate=0.2)
    with pytest.raises(TypeError, match="alphas"):
        Example(1, alphas=0.1)
