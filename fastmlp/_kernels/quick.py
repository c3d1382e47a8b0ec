"""Numba's compilers without what takes them long and changes nothing of what they make.

The first call of a kernel waits for Numba, most of the time for its Python, of which this takes a good part away:
docs/performance.md has the figures, tests/kernels/test_jit.py compares the machine code. A Numba that has not what is
replaced here goes on as it is.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
from collections.abc import Callable, Iterator
from typing import Any

from numba.core.compiler_lock import global_compiler_lock
from numba.core.targetconfig import ConfigStack
from numba.core.types.functions import BaseFunction

__all__ = ["quickly"]

_inside: list[str] = []  # compilations: one compiles what another one calls


@contextlib.contextmanager
def quickly(core: str = "numba.core") -> Iterator[None]:
    """While a compiler runs, whose package ``core`` is: Numba's, or the copy of it that numba-cuda has.

    Both compile in one thread at a time, and under this lock.
    """
    with global_compiler_lock:
        if core in _inside:
            yield
            return
        postproc, ssa = _module(f"{core}.postproc"), _module(f"{core}.ssa")
        known: dict[int, tuple[Any, set[str]]] = {}
        _inside.append(core)
        try:
            with (
                _uncollected(),
                _replaced(getattr(postproc, "PostProcessor", None), "run", _lazily(postproc)),
                _replaced(ssa, "_run_ssa", functools.partial(_afresh, known)),
                _replaced(ssa, "_run_block_rewrite", functools.partial(_where_it_occurs, known)),
                _replaced(BaseFunction, "get_call_type", _once),
            ):
                yield
        finally:
            _inside.remove(core)


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """A compiler makes millions of objects that live until its end: looking for cycles among them, again and again,
    took an eighth of its time. What it leaves is collected afterwards, as ever."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


@contextlib.contextmanager
def _replaced(owner: Any, name: str, made_of: Callable[..., Any]) -> Iterator[None]:
    before = getattr(owner, name, None)
    if before is None:
        yield
        return
    setattr(owner, name, made_of(before))
    try:
        yield
    finally:
        setattr(owner, name, before)


def _lazily(postproc: Any) -> Callable[..., Any]:
    """After most of its passes Numba looks for the variables that are alive at each of a function's blocks. Few passes
    need them, and those find them by way of ``variable_lifetime``."""

    def made_of(run: Callable[..., Any]) -> Callable[..., Any]:
        def run_lazily(self: Any, emit_dels: bool = False, *options: Any, **more: Any) -> None:
            if emit_dels or self.func_ir.is_generator:
                run(self, emit_dels, *options, **more)
            else:
                self.func_ir.blocks = postproc.transforms.canonicalize_cfg(self.func_ir.blocks)
                self.func_ir.variable_lifetime = postproc.VariableLifetime(self.func_ir.blocks)

        return run_lazily

    return made_of


def _afresh(known: dict[int, Any], run: Callable[..., Any]) -> Callable[..., Any]:
    """Forget the names of another function's blocks, or of these before something else has changed them."""

    def run_afresh(*arguments: Any) -> Any:
        known.clear()
        return run(*arguments)

    return run_afresh


def _where_it_occurs(known: dict[int, tuple[Any, set[str]]], rewrite: Callable[..., Any]) -> Callable[..., Any]:
    """For each variable that is assigned to more than once Numba goes through all of a function, to give each
    assignment a name of its own. Blocks where the variable does not occur stay as they are. ``known``: by the identity
    of a block, (the block, names in it)."""

    def names(block: Any) -> set[str]:
        if id(block) not in known:
            known[id(block)] = block, {one.name for statement in block.body for one in statement.list_vars()}
        return known[id(block)][1]

    def rewrite_where_it_occurs(blocks: dict[int, Any], states: dict[str, Any], handler: Any) -> dict[int, Any]:
        some = {label: block for label, block in blocks.items() if states["varname"] in names(block)}
        changed, made = rewrite(some, states, handler), {}
        for label, block in blocks.items():
            new = changed.get(label)
            if new is None:
                new = type(block)(block.scope, block.loc)
                new.body = block.body[:]
            # Names that are new are no variable's that is still to be looked for.
            known[id(new)] = new, names(block)
            made[label] = new
        return made

    return rewrite_where_it_occurs


def _once(resolve: Callable[..., Any]) -> Callable[..., Any]:
    """For each addition Numba tries all that is known of "+", one after the other, until something fits the types of
    the two numbers: the same again and again."""
    known: dict[Any, tuple[Any, ...]] = {}

    def resolve_once(self: Any, context: Any, args: Any, kws: Any) -> Any:
        if type(args) is not tuple:  # as from code that changes what it gets
            return resolve(self, context, args, kws)
        flags = ConfigStack.top_or_none()
        settings = None if flags is None else flags.summary()
        key = id(self), id(context), settings, args, tuple(kws.items())
        if key not in known:
            known[key] = resolve(self, context, args, kws), self, context
        return known[key][0]

    return resolve_once
