"""Compiler pass that inlines `jit.inline` functions into their callers, for Numba's ``pipeline_class``.

Numba's own pass runs the untyped passes on a function for each call of it, and copies the result twice. Here they run
once in a process, and a call costs one copy with renamed variables. The machine code is the same, see
tests/kernels/test_jit.py.
"""

from __future__ import annotations

import inspect
import itertools
import weakref
from typing import Any

from numba.core import ir, ir_utils, postproc
from numba.core.analysis import compute_cfg_from_blocks
from numba.core.compiler import DefaultPassBuilder
from numba.core.compiler_machinery import FunctionPass, PassManager, register_pass
from numba.core.errors import UnsupportedError
from numba.core.inline_closurecall import InlineWorker
from numba.core.untyped_passes import InlineInlinables

__all__ = ["with_inline_pass"]

_numbers = itertools.count()
_untyped: weakref.WeakKeyDictionary[Any, _Code] = weakref.WeakKeyDictionary()  # of each inlined function
_max_label = ir_utils._the_max_label  # bound here, so that a Numba without it fails at the import


def with_inline_pass(passes: PassManager) -> PassManager:
    """Replace Numba's inlining by `InlinePass` in a list of passes, and return the list."""
    passes.passes = [(InlinePass if one is InlineInlinables else one, what) for one, what in passes.passes]
    passes.finalize()
    return passes


class _Worker(InlineWorker):
    """Worker that runs the untyped passes on a function, with `InlinePass` among them."""

    def __init__(self, state: Any) -> None:
        super().__init__(state.typingctx, state.targetctx, state.locals, state.pipeline, state.flags)
        self._compiler_pipeline = lambda state: with_inline_pass(DefaultPassBuilder.define_untyped_pipeline(state))

    def code_of(self, function: Any) -> _Code:
        """Return the untyped code of a function."""
        code = self.run_untyped_passes(function)
        self.validator(code)
        return _Code(code)


@register_pass(mutates_CFG=True, analysis_only=False)
class InlinePass(FunctionPass):
    """Pass that inlines into a function what it calls."""

    _name = "fastmlp_inline"

    def __init__(self) -> None:
        FunctionPass.__init__(self)

    def run_pass(self, state: Any) -> bool:
        """Inline until no such call is left."""
        caller = state.func_ir
        labels, before = list(caller.blocks), len(caller.blocks)
        while labels:
            label = labels.pop()
            for i, statement in enumerate(caller.blocks[label].body):
                called = _inline_function(caller, statement)
                if called is not None:
                    if called not in _untyped:
                        _untyped[called] = _Worker(state).code_of(called.py_func)
                    labels.extend(_untyped[called].copy_to(caller, label, i))
                    break
        if len(caller.blocks) > before:
            state.flags.enable_ssa = False  # as Numba's pass does; the flag is part of symbol names
            for dead in compute_cfg_from_blocks(caller.blocks).dead_nodes():
                del caller.blocks[dead]
            postproc.PostProcessor(caller).run()
            caller.blocks = ir_utils.simplify_CFG(caller.blocks)
        return True


def _inline_function(caller: Any, statement: Any) -> Any:
    """Return the `jit.inline` function that a statement calls, or None."""
    if not (isinstance(statement, ir.Assign) and isinstance(statement.value, ir.Expr) and statement.value.op == "call"):
        return None
    definition = ir_utils.guard(ir_utils.get_definition, caller, statement.value.func)
    found = definition.value if isinstance(definition, (ir.Global, ir.FreeVar)) else None
    return found if getattr(found, "targetoptions", {}).get("inline") == "always" else None


class _Code:
    """Untyped code of a function, which is copied for each call."""

    def __init__(self, code: Any) -> None:
        self._name, self._blocks = code.func_id.func_name, ir_utils.simplify_CFG(code.blocks)
        self._signature = inspect.signature(code.func_id.func)
        # Calls of a function that is an argument are resolved after the copy into the caller.
        order = ir_utils.find_topo_order(self._blocks)
        self._calls = [label for label in order if any(self._blocks[label].find_exprs("call"))]

    def copy_to(self, caller: Any, label: int, i: int) -> list[int]:
        """Replace the call in statement ``i`` of a block by a copy; return the labels of blocks that may call more."""
        block = caller.blocks[label]
        call = block.body[i]
        after = ir.Block(block.scope, block.loc)
        after.body = block.body[i + 1 :]
        offset = max(ir_utils.next_label(), *caller.blocks) + 1
        behind = offset + max(self._blocks) + 1
        _max_label.update(behind)
        block.body = [*block.body[:i], ir.Jump(offset + min(self._blocks), call.loc)]
        caller.blocks[behind] = after
        definitions = caller._definitions
        definitions[call.target.name] = [one for one in definitions[call.target.name] if one is not call.value]
        copy = _Copy(block.scope, f"{self._name}_v{next(_numbers)}_", self._arguments(call))
        for number, original in self._blocks.items():
            made = ir.Block(block.scope, original.loc)
            for statement in original.body:
                if isinstance(statement, ir.Return):
                    self._give(copy.of(statement.value), call.target, statement.loc, made.body)
                    made.body.append(ir.Jump(behind, statement.loc))
                elif isinstance(statement, ir.Jump):
                    made.body.append(ir.Jump(statement.target + offset, statement.loc))
                elif isinstance(statement, ir.Branch):
                    condition = copy.of(statement.cond)
                    made.body.append(
                        ir.Branch(condition, statement.truebr + offset, statement.falsebr + offset, statement.loc)
                    )
                else:
                    made.body.append(copy.of_statement(statement))
            for statement in made.find_insts(ir.Assign):
                definitions[statement.target.name].append(statement.value)
            caller.blocks[number + offset] = made
        return [behind, *(label + offset for label in self._calls)]

    def _arguments(self, call: Any) -> list[Any]:
        """Return the arguments of a call in the order of the parameters."""
        if call.value.vararg is not None:
            message = f"{self._name} is inlined, and its call has *arguments; expected single arguments."
            raise UnsupportedError(message, call.loc)
        bound = self._signature.bind(*call.value.args, **dict(call.value.kws)).arguments
        return [
            bound.get(name, ir.Const(parameter.default, call.loc))
            for name, parameter in self._signature.parameters.items()
        ]

    @staticmethod
    def _give(value: Any, target: Any, loc: Any, statements: list[Any]) -> None:
        """Assign the returned value without the cast that a return needs."""
        for statement in statements:
            if isinstance(statement, ir.Assign) and statement.target.name == value.name:
                if isinstance(statement.value, ir.Expr) and statement.value.op == "cast":
                    statement.value = statement.value.value
        statements.append(ir.Assign(value, target, loc))


class _Copy:
    """Copier of statements to the scope of the caller, with renamed variables."""

    def __init__(self, scope: Any, prefix: str, arguments: list[Any]) -> None:
        self._scope, self._prefix, self._arguments = scope, prefix, arguments
        self._variables: dict[str, Any] = {}

    def of(self, value: Any) -> Any:
        """Return the copy of a part of a statement."""
        if isinstance(value, ir.Var):
            found = self._variables.get(value.name)
            if found is None:
                name = self._prefix + value.name.replace(".", "_").replace("$", "_v")
                found = self._variables[value.name] = self._scope.redefine(name, value.loc)
            return found
        if isinstance(value, ir.Expr):
            return ir.Expr(value.op, value.loc, **{key: self.of(one) for key, one in value._kws.items()})
        if type(value) in (list, tuple):
            return type(value)([self.of(one) for one in value])
        if isinstance(value, ir.Arg):
            return self._arguments[value.index]
        return value

    def of_statement(self, statement: Any) -> Any:
        """Return the copy of a statement that does not end a block."""
        copy = object.__new__(type(statement))
        vars(copy).update((key, self.of(value)) for key, value in vars(statement).items())
        return copy
