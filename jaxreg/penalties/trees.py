"""Sums of a penalty over the arrays of a tree."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxreg._checks import is_floating
from jaxreg._selection import Mask, select


def total(
    params: Any,
    penalty: Callable[..., jax.Array],
    mask: Mask = None,
    *,
    rest: tuple[Any, ...] = (),
) -> jax.Array:
    r"""Sums a penalty over the arrays of a parameter tree.

    .. math::

      \sum_{w \in \text{params},\; \text{mask}(w)} R(w)

    Args:
      params: Any pytree: Linen parameters, an NNX state, a list of arrays. Leaves that are not
        floating-point (counters, keys, functions) are passed over.
      penalty: Function of one array, such as :func:`l1`; bind options with ``functools.partial``.
      mask: Tree of booleans shaped like ``params`` or a prefix of it, or a function that makes one,
        such as :func:`jaxreg.masks.kernels`; everything counts if absent.
      rest: Further trees with the structure of ``params``, as for ``jax.tree.map``: their leaves
        are further arguments of the penalty, such as the start of :func:`distance`.

    Returns:
      Scalar, float32 or wider.

    Raises:
      ValueError: The tree of ``mask`` or of one of ``rest`` differs from that of ``params``.
      TypeError: A leaf of ``mask`` is no boolean.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import masks, penalties
      >>> params = {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}
      >>> print(penalties.total(params, penalties.l1, masks.kernels))
      6.0
      >>> start = {"kernel": jnp.zeros((2, 3)), "bias": jnp.ones(3)}
      >>> print(penalties.total(params, penalties.distance, rest=(start,)))
      3.0
    """
    leaves, tree = jax.tree.flatten(params)
    flags = jax.tree.leaves(select(mask, params))
    others = [_leaves_of(other, tree, f"rest[{i}]") for i, other in enumerate(rest)]
    terms = [
        _term(penalty, use, *map(jnp.asarray, arrays))
        for use, *arrays in zip(flags, leaves, *others, strict=True)
        if use is not False and is_floating(arrays[0])
    ]
    return functools.reduce(_add_wide, terms, jnp.zeros((), jnp.float32))


def _term(penalty: Callable[..., jax.Array], use: Any, *arrays: jax.Array) -> jax.Array:
    """Penalty of one leaf, which a traced mask may leave out."""
    if use is True:
        return penalty(*arrays)
    if use.size > 1:
        raise ValueError(
            f"`mask` must hold one boolean for each leaf of a penalty, got shape {use.shape}; set "
            "the rest to zero in a penalty of your own, as in "
            "lambda w: penalties.l2(jnp.where(mask, w, 0))."
        )
    term = penalty(*arrays)
    return jnp.where(use.reshape(()), term, jnp.zeros_like(term))


def summed(numbers: Any) -> jax.Array:
    """Sum of all floating-point numbers in a tree."""
    return total(numbers, jnp.sum)


def _leaves_of(other: Any, tree: Any, name: str) -> list[Any]:
    leaves, own_tree = jax.tree.flatten(other)
    if own_tree != tree:
        raise ValueError(
            f"`{name}` must have the tree structure of `params`, got {own_tree} for {tree}."
        )
    return leaves


def _add_wide(a: jax.Array, b: jax.Array) -> jax.Array:
    """Adds sums of arrays of different dtypes in the widest of them."""
    dtype = max(a.dtype, b.dtype, key=lambda d: d.itemsize)
    return a.astype(dtype) + b.astype(dtype)
