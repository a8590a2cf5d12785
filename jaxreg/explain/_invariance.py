"""Finds scale-invariant weights, such as kernels before a norm, by rescaling them."""

from collections.abc import Callable, Collection
from typing import Any

import jax
import jax.numpy as jnp

from jaxreg._checks import is_floating
from jaxreg._paths import path_names

# Two factors to compare, and the tolerance. The first pair is far from saturation; for the second
# the constant of a norm is negligible.
_PAIRS = ((1.0, 4.0, 0.05), (64.0, 4096.0, 1e-3))


def scale_invariant(apply: Callable[[Any], Any], params: Any, names: Collection[str]) -> list[str]:
    """Returns the names of leaves whose values affect the outputs, but whose scale does not.

    A leaf is rescaled together with the bias next to it.
    """
    compiled = jax.jit(lambda tree: _flat(apply(tree)))
    as_given = compiled(params)
    found = []
    for name in names:
        matters = _differs(compiled(_rescale(params, name, -1.0)), as_given, 1e-3)
        if matters and not any(
            _differs(
                compiled(_rescale(params, name, low)), compiled(_rescale(params, name, high)), most
            )
            for low, high, most in _PAIRS
        ):
            found.append(name)
    return found


def _flat(outputs: Any) -> jax.Array:
    """Concatenates all floating-point outputs into one float32 vector."""
    leaves = [jnp.ravel(x) for x in jax.tree.leaves(outputs) if is_floating(x)]
    return jnp.concatenate([x.astype(jnp.float32) for x in leaves] or [jnp.zeros(0)])


def _differs(a: jax.Array, b: jax.Array, most: float) -> bool:
    """Returns whether ``max(abs(a - b))`` exceeds ``most * max(abs(b))``; False for NaN."""
    return bool(jnp.max(jnp.abs(a - b), initial=0.0) > most * jnp.max(jnp.abs(b), initial=0.0))


def _rescale(params: Any, name: str, factor: float) -> Any:
    """Scales a leaf and its bias by ``factor``; if negative, flips a third of the leaf's signs."""
    bias = f"{name.rpartition('/')[0]}/bias".lstrip("/")

    def change(path: Any, leaf: Any) -> Any:
        own = "/".join(path_names(path))
        if own not in (name, bias):
            return leaf
        if factor > 0:
            return (leaf * factor).astype(leaf.dtype)
        if own == bias:
            return leaf
        signs = jnp.where(jnp.arange(leaf.size) % 3 == 0, -1, 1).reshape(leaf.shape)
        return leaf * signs.astype(leaf.dtype)

    return jax.tree_util.tree_map_with_path(change, params)
