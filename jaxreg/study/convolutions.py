"""Convolutions as matrix products, for loops on a CPU.

XLA's CPU compiler makes gradients of kernels fast outside loops only. A study trains in a loop,
where such a step takes about fifteen times as long. Matrix products are fast everywhere.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Jaxpr, Literal
from jax.extend.core.primitives import conv_general_dilated_p

JITTED = ("jit", "pjit")


def as_products(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function with the same values, whose convolutions are matrix products.

    Grouped and transposed convolutions do not change, nor do those in loops, in recomputed layers,
    and in functions with their own derivatives.
    """

    def call(*arguments: Any) -> Any:
        closed, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
        outputs = _evaluate(closed.jaxpr, closed.consts, jax.tree.leaves(arguments))
        return jax.tree.unflatten(jax.tree.structure(shapes), outputs)

    return call


def _evaluate(jaxpr: Jaxpr, consts: Sequence[Any], arguments: Sequence[Any]) -> list[Any]:
    """Evaluates a program, with products in place of its convolutions."""
    known = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *arguments], strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, Literal) else known[atom]

    for equation in jaxpr.eqns:
        values = [read(atom) for atom in equation.invars]
        results = _apply(equation, values)
        known.update(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _apply(equation: Any, values: list[Any]) -> list[Any]:
    primitive = equation.primitive
    if primitive.name in JITTED:
        inner = equation.params["jaxpr"]
        return _evaluate(inner.jaxpr, inner.consts, values)
    if primitive is conv_general_dilated_p and _is_plain(equation.params):
        x, kernel = values
        return [_product(x, kernel, equation.params)]
    results = primitive.bind(*values, **primitive.get_bind_params(equation.params))
    return results if primitive.multiple_results else [results]


def _is_plain(params: dict[str, Any]) -> bool:
    """Returns whether a convolution has neither groups nor holes in its input."""
    groups = params["feature_group_count"] * params["batch_group_count"]
    return groups == 1 and all(step == 1 for step in params["lhs_dilation"])


def _product(x: jax.Array, kernel: jax.Array, params: dict[str, Any]) -> jax.Array:
    """Multiplies the patches of ``x`` by the kernel."""
    axes = params["dimension_numbers"]
    x = jnp.transpose(x, (axes.lhs_spec[0], *axes.lhs_spec[2:], axes.lhs_spec[1]))
    kernel = jnp.transpose(kernel, (*axes.rhs_spec[2:], axes.rhs_spec[1], axes.rhs_spec[0]))
    borders = [(low, high, 0) for low, high in params["padding"]]
    x = jax.lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *borders, (0, 0, 0)])
    patches = _patches(x, kernel.shape[:-2], params["window_strides"], params["rhs_dilation"])
    y = jnp.matmul(
        patches,
        kernel.reshape(-1, kernel.shape[-1]),
        precision=params["precision"],
        preferred_element_type=params["preferred_element_type"],
    )
    places = (axes.out_spec[0], *axes.out_spec[2:], axes.out_spec[1])
    return jnp.transpose(y, [places.index(axis) for axis in range(y.ndim)])


def _patches(
    x: jax.Array, sizes: Sequence[int], strides: Sequence[int], steps: Sequence[int]
) -> jax.Array:
    """Returns the elements under every position of a window, along the last axis."""
    spans = [step * (size - 1) + 1 for size, step in zip(sizes, steps, strict=True)]
    parts = []
    for offsets in itertools.product(*map(range, sizes)):
        starts = [step * offset for offset, step in zip(offsets, steps, strict=True)]
        ends = [
            start + length - span + 1
            for start, length, span in zip(starts, x.shape[1:-1], spans, strict=True)
        ]
        parts.append(
            jax.lax.slice(x, (0, *starts, 0), (x.shape[0], *ends, x.shape[-1]), (1, *strides, 1))
        )
    return jnp.concatenate(parts, axis=-1)
