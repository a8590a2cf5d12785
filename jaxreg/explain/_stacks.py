"""Finds leaves that probably hold one kernel per layer along their first axis."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxreg import masks
from jaxreg.explain import _flow, _probe


def stacked_names(params: Any, apply: Callable[[Any], Any] | None) -> set[str]:
    """Returns the names of leaves that a model scans over, or that look like stacked kernels.

    A kernel looks like a stack if a bias or a scale beside it has two axes, which are the first and
    the last axis of the kernel.

    Args:
      params: Tree of parameters.
      apply: Model as a function of the parameters; None if there is no model.
    """
    found = set() if apply is None else scanned_names(apply, params)
    leaves = _probe.leaf_names(params)
    kernels = _probe.leaf_names(masks.kernels(params))
    for name, w in leaves.items():
        if not kernels[name] or jnp.ndim(w) < 3:
            continue
        folder = name.rpartition("/")[0]
        for own in ("bias", "scale", "b"):
            beside = jnp.shape(leaves.get(f"{folder}/{own}".lstrip("/"), 0.0))
            if len(beside) == 2 and beside == (jnp.shape(w)[0], jnp.shape(w)[-1]):
                found.add(name)
    return found


def scanned_names(function: Callable[[Any], Any], params: Any) -> set[str]:
    """Returns the names of leaves that a ``jax.lax.scan`` in ``function`` slices."""
    program = jax.make_jaxpr(function)(params).jaxpr
    names = list(_probe.leaf_names(params))
    return set(_sliced_names(program, names if len(names) == len(program.invars) else []))


def _sliced_names(program: Any, given: Sequence[str | None]) -> Iterator[str]:
    """Yields the names of arguments that reach a ``jax.lax.scan`` unchanged and are sliced."""
    known = dict(zip(program.invars, given, strict=False))
    for equation in program.eqns:
        ins = [None if hasattr(v, "val") else known.get(v) for v in equation.invars]
        for inner in _flow.programs(equation.params.values()):
            if len(inner.invars) != len(ins):
                continue
            if equation.primitive.name == "scan":
                # An array that is taken slice by slice has one axis less in the body of the loop.
                pairs = zip(equation.invars, inner.invars, strict=True)
                sliced = [len(a.aval.shape) > len(b.aval.shape) for a, b in pairs]
                named = list(zip(ins, sliced, strict=True))
                yield from (name for name, part in named if part and name is not None)
                ins = [None if part else name for name, part in named]
            yield from _sliced_names(inner, ins)
        if len(ins) == len(equation.outvars) == 1:
            same = equation.invars[0].aval.shape == equation.outvars[0].aval.shape
            known[equation.outvars[0]] = ins[0] if same else None
