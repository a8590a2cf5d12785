"""Finds dependencies between marked values in the jaxpr of a function."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.ad_checkpoint import checkpoint_name

_SOURCE, _TARGET = "jaxreg.flow: from ", "jaxreg.flow: to "
_LOOPS = ("scan", "while")
_NONE: frozenset[str] = frozenset()


def mark_source(name: str, tree: Any) -> Any:
    """Returns ``tree`` with its arrays marked as the source ``name`` for :func:`dependencies`."""
    return jax.tree.map(lambda x: checkpoint_name(x, _SOURCE + name), tree)


def mark_target(name: str, tree: Any) -> Any:
    """Returns ``tree`` with its arrays marked as the target ``name`` for :func:`dependencies`."""
    return jax.tree.map(lambda x: checkpoint_name(x, _TARGET + name), tree)


def dependencies(function: Callable[..., Any], *inputs: Any) -> set[tuple[str, str]]:
    """Returns name pairs ``(source, target)`` in which the marked target depends on the source.

    In loops and branches every output counts as depending on every input.
    """
    program = jax.make_jaxpr(function)(*inputs).jaxpr
    pairs: set[tuple[str, str]] = set()
    _walk(program, [_NONE] * len(program.invars), pairs)
    return pairs


def _walk(
    program: Any, given: Sequence[frozenset[str]], pairs: set[tuple[str, str]]
) -> list[frozenset[str]]:
    """Returns the sources that each output of a jaxpr depends on; adds new pairs to ``pairs``."""
    known = dict(zip(program.invars, given, strict=True))

    def sources(variable: Any) -> frozenset[str]:
        # Literals are not hashable, and depend on nothing.
        return _NONE if hasattr(variable, "val") else known.get(variable, _NONE)

    for equation in program.eqns:
        ins = [sources(variable) for variable in equation.invars]
        outs = _through(equation, ins, pairs)
        label = equation.params.get("name", "") if equation.primitive.name == "name" else ""
        if label.startswith(_TARGET):
            pairs |= {(source, label.removeprefix(_TARGET)) for source in outs[0]}
        if label.startswith(_SOURCE):
            outs = [out | {label.removeprefix(_SOURCE)} for out in outs]
        known |= dict(zip(equation.outvars, outs, strict=True))
    return [sources(variable) for variable in program.outvars]


def _through(
    equation: Any, ins: list[frozenset[str]], pairs: set[tuple[str, str]]
) -> list[frozenset[str]]:
    """Returns the sources that each output of one equation depends on; adds to ``pairs``."""
    everything = _NONE.union(*ins)
    inner = list(programs(equation.params.values()))
    if len(inner) == 1 and equation.primitive.name not in _LOOPS:
        outs = _walk(inner[0], _arguments(inner[0], ins, everything), pairs)
        if len(outs) == len(equation.outvars):
            return outs
    # A second pass for values that a loop carries back to its beginning.
    for _ in range(2):
        for program in inner:
            given = [everything] * len(program.invars)
            everything = everything.union(*_walk(program, given, pairs))
    return [everything] * len(equation.outvars)


def _arguments(
    program: Any, ins: list[frozenset[str]], everything: frozenset[str]
) -> list[frozenset[str]]:
    count = len(program.invars)
    return ins if len(ins) == count else [everything] * count


def programs(values: Any) -> Any:
    """Yields the jaxprs among the parameters of an equation."""
    for value in values:
        if isinstance(value, list | tuple):
            yield from programs(value)
        elif hasattr(value, "jaxpr"):
            yield value.jaxpr
        elif hasattr(value, "eqns"):
            yield value
