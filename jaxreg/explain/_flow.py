"""Walks through the program of a function: what depends on what, and what draws random numbers."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
from jax.ad_checkpoint import checkpoint_name

from jaxreg.explain import _marks

_SOURCE, _TARGET = "jaxreg.flow: from ", "jaxreg.flow: to "
_LOOPS = ("scan", "while")
_RANDOM = {"random_bits", "random_gamma", "rng_bit_generator", "rng_uniform", "threefry2x32"}
_NONE: frozenset[str] = frozenset()


def mark_source(name: str, tree: Any) -> Any:
    """Returns ``tree`` with its arrays marked as the source ``name`` for :func:`follow`."""
    return jax.tree.map(lambda x: checkpoint_name(x, _SOURCE + name), tree)


def mark_target(name: str, tree: Any) -> Any:
    """Returns ``tree`` with its arrays marked as the target ``name`` for :func:`follow`."""
    return jax.tree.map(lambda x: checkpoint_name(x, _TARGET + name), tree)


class Flow(NamedTuple):
    """Findings of a walk through a program, each once and in its order."""

    pairs: tuple[tuple[str, str], ...]  # (source, target): the target depends on the source
    acting: tuple[_marks.Acting, ...]  # pure functions of jaxreg
    drawing: tuple[str, ...]  # places of random numbers outside of all that is known
    busy: frozenset[str]  # known modules that draw, or that call a function of jaxreg


def follow(
    function: Callable[..., Any],
    *inputs: Any,
    sources: Collection[str] = (),
    targets: Collection[str] = (),
) -> Flow:
    """Traces a function and finds which marked targets depend on which marked sources.

    In loops and branches every output counts as depending on every input.

    Args:
      function: Function of arrays.
      *inputs: Its arguments.
      sources: Pure functions, such as ``dropout.dropout``, whose results also count as sources.
      targets: Pure functions whose inputs also count as targets.
    """
    program = jax.make_jaxpr(function)(*inputs).jaxpr
    walk = _Walk(frozenset(sources), frozenset(targets))
    walk.through(program, [_NONE] * len(program.invars), _marks.OUTSIDE)
    return Flow(tuple(walk.pairs), tuple(walk.acting), tuple(walk.drawing), frozenset(walk.busy))


@dataclass
class _Walk:
    """A walk through a jaxpr and its findings so far; dicts serve as ordered sets."""

    sources: frozenset[str]
    targets: frozenset[str]
    pairs: dict[tuple[str, str], None] = field(default_factory=dict)
    acting: dict[_marks.Acting, None] = field(default_factory=dict)
    drawing: dict[str, None] = field(default_factory=dict)
    busy: set[str] = field(default_factory=set)

    def through(
        self, program: Any, given: Sequence[frozenset[str]], outer: _marks.Scopes
    ) -> list[frozenset[str]]:
        """Returns the sources that each output of a jaxpr depends on."""
        known = dict(zip(program.invars, given, strict=True))
        # The sources that equations are part of: what they compute comes from them only outside.
        inside: dict[Any, frozenset[str]] = {}

        def sources(variable: Any, own: frozenset[str]) -> frozenset[str]:
            if hasattr(variable, "val"):
                return _NONE  # Literals are not hashable, and depend on nothing.
            return known.get(variable, _NONE) | (inside.get(variable, _NONE) - own)

        for equation in program.eqns:
            scopes = _marks.read(str(equation.source_info.name_stack), outer)
            functions = self._record(equation, scopes)
            own = frozenset(f.label for f in functions if f.function in self.sources)
            ins = [sources(variable, own) for variable in equation.invars]
            for function in functions:
                if function.function in self.targets:
                    self._pair(_NONE.union(*ins), function.label)
            outs = self._outputs(equation, ins, scopes)
            known |= dict(zip(equation.outvars, outs, strict=True))
            inside |= dict.fromkeys(equation.outvars, own)
        last = frozenset(f.label for f in _marks.to_list(outer) if f.function in self.sources)
        return [sources(variable, last) for variable in program.outvars]

    def _record(self, equation: Any, scopes: _marks.Scopes) -> tuple[_marks.Acting, ...]:
        """Notes what an equation is part of and whether it draws; returns what is to be listed."""
        functions = _marks.to_list(scopes)
        self.acting |= dict.fromkeys(functions)
        draws = equation.primitive.name in _RANDOM
        if scopes.is_known and (draws or scopes.functions):
            self.busy.add(scopes.place)
        if draws and not scopes.is_known and not scopes.functions:
            self.drawing.setdefault(scopes.place)
        return functions

    def _outputs(
        self, equation: Any, ins: list[frozenset[str]], scopes: _marks.Scopes
    ) -> list[frozenset[str]]:
        """Returns the sources of the outputs of one equation."""
        outs = self._through(equation, ins, scopes)
        label = equation.params.get("name", "") if equation.primitive.name == "name" else ""
        if label.startswith(_TARGET):
            self._pair(outs[0], label.removeprefix(_TARGET))
        if label.startswith(_SOURCE):
            return [out | {label.removeprefix(_SOURCE)} for out in outs]
        return outs

    def _pair(self, sources: frozenset[str], target: str) -> None:
        for source in sorted(sources):
            self.pairs.setdefault((source, target))

    def _through(
        self, equation: Any, ins: list[frozenset[str]], scopes: _marks.Scopes
    ) -> list[frozenset[str]]:
        everything = _NONE.union(*ins)
        inner = list(programs(equation.params.values()))
        if len(inner) == 1 and equation.primitive.name not in _LOOPS:
            given = ins if len(ins) == len(inner[0].invars) else None
            outs = self.through(inner[0], given or [everything] * len(inner[0].invars), scopes)
            if len(outs) == len(equation.outvars):
                return outs
        # A second pass for values that a loop carries back to its beginning.
        for _ in range(2):
            for program in inner:
                given = [everything] * len(program.invars)
                everything = everything.union(*self.through(program, given, scopes))
        return [everything] * len(equation.outvars)


def draws(program: Any) -> bool:
    """Returns whether a jaxpr draws random numbers, at any depth."""
    inner = (inner for equation in program.eqns for inner in programs(equation.params.values()))
    names = {equation.primitive.name for equation in program.eqns}
    return bool(names & _RANDOM) or any(map(draws, inner))


def programs(values: Any) -> Iterator[Any]:
    """Yields the jaxprs among the parameters of an equation."""
    for value in values:
        if isinstance(value, list | tuple):
            yield from programs(value)
        elif hasattr(value, "jaxpr"):
            yield value.jaxpr
        elif hasattr(value, "eqns"):
            yield value
