"""Which weights do not matter in size, because a norm follows: found by rescaling them."""

from collections.abc import Callable, Collection
from typing import Any

import jax
import jax.numpy as jnp

from jaxreg._checks import is_floating
from jaxreg._paths import path_names

# The first pair is far from saturation, the second where the constant of a norm is negligible.
_PAIRS = ((1.0, 4.0, 0.05), (64.0, 4096.0, 1e-3))


def scale_invariant(apply: Callable[[Any], Any], params: Any, names: Collection[str]) -> list[str]:
    """Names of the leaves whose scale changes no output, though their values do.

    A leaf is rescaled together with the bias next to it.
    """
    compiled = jax.jit(lambda tree: _flat(apply(tree)))
    as_given = compiled(params)
    found = []
    for name in names:
        if _differs(compiled(_changed(params, name, -1.0)), as_given, 1e-3) and all(
            not _differs(
                compiled(_changed(params, name, low)), compiled(_changed(params, name, high)), most
            )
            for low, high, most in _PAIRS
        ):
            found.append(name)
    return found


def _flat(outputs: Any) -> jax.Array:
    """All floating-point outputs in one vector."""
    leaves = [jnp.ravel(x) for x in jax.tree.leaves(outputs) if is_floating(x)]
    return jnp.concatenate([x.astype(jnp.float32) for x in leaves] or [jnp.zeros(0)])


def _differs(a: jax.Array, b: jax.Array, most: float) -> bool:
    """Whether outputs differ by more than a share of their size; what is not finite does not."""
    return bool(jnp.max(jnp.abs(a - b), initial=0.0) > most * jnp.max(jnp.abs(b), initial=0.0))


def _changed(params: Any, name: str, factor: float) -> Any:
    """Parameters with a leaf rescaled; a negative factor turns the sign of a third of it."""
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
