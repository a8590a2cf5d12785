"""Sums of a penalty over the arrays of a pytree."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxreg._checks import is_floating
from jaxreg._selection import Mask, select, select_stacked
from jaxreg._trees import per_layer


def total(
    params: Any,
    penalty: Callable[..., jax.Array],
    mask: Mask = None,
    *,
    rest: tuple[Any, ...] = (),
    stacked: Mask = None,
) -> jax.Array:
    r"""Sums a penalty over the selected arrays of a parameter pytree.

    .. math::

      \sum_{w \in \text{params},\; \text{mask}(w)} R(w)

    Args:
      params: Any pytree: Linen parameters, an NNX state, a list of arrays. Leaves that are not
        floating-point (counters, keys, functions) are skipped.
      penalty: Function of one array, such as :func:`l1`; bind options with ``functools.partial``.
      mask: Tree of booleans shaped like ``params`` or a prefix of it, or a function that returns
        one, such as :func:`jaxreg.masks.kernels`; None for all.
      rest: More trees with the structure of ``params``, as in ``jax.tree.map``: their leaves are
        passed to the penalty as further arguments, such as the start of :func:`distance`.
      stacked: Mask of the leaves that stack one kernel per layer along their first axis, as
        ``nn.scan`` and ``nnx.vmap`` do: the penalty gets one layer at a time and is summed over
        them. None means no leaf. In a stack, ``mask`` may leave out layers by an array of booleans
        ``[layers, 1, ...]``.

    Returns:
      Scalar, float32 or wider.

    Raises:
      ValueError: ``mask``, ``stacked`` or one of ``rest`` has a different tree structure from
        ``params``.
      TypeError: A leaf of ``mask`` or ``stacked`` is not a boolean.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import masks, penalties
      >>> params = {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}
      >>> print(penalties.total(params, penalties.l1, masks.kernels))
      6.0
      >>> start = {"kernel": jnp.zeros((2, 3)), "bias": jnp.ones(3)}
      >>> print(penalties.total(params, penalties.distance, rest=(start,)))
      3.0

      A kernel for each of three layers; all groups have the norm 2:

      >>> params = {"layers": {"kernel": jnp.ones((3, 4, 5))}}
      >>> print(penalties.total(params, penalties.group_lasso, stacked=masks.match("layers")))
      60.0
    """
    leaves, tree = jax.tree.flatten(params)
    flags = jax.tree.leaves(select(mask, params))
    stacks = jax.tree.leaves(select_stacked(stacked, params))
    others = [_leaves_of(other, tree, f"rest[{i}]") for i, other in enumerate(rest)]
    terms = [
        _term(penalty, in_stack, use, *map(jnp.asarray, arrays))
        for use, in_stack, *arrays in zip(flags, stacks, leaves, *others, strict=True)
        if use is not False and is_floating(arrays[0])
    ]
    return functools.reduce(_add_wide, terms, jnp.zeros((), jnp.float32))


def _term(
    penalty: Callable[..., jax.Array],
    in_stack: bool,  # noqa: FBT001
    use: Any,
    w: jax.Array,
    *rest: jax.Array,
) -> jax.Array:
    """Returns the penalty of one leaf after masking, summed over the layers of a stack."""
    size = jnp.size(use)
    shape = jnp.shape(use)
    layers = size > 1 and in_stack and shape == (len(w), *(1,) * (w.ndim - 1))
    if size > 1 and not layers:
        raise ValueError(
            "`mask` must give one boolean per leaf, or per layer of a stack, got shape "
            f"{shape}; for parts of a leaf, set the rest to zero in the penalty: "
            "lambda w: penalties.l2(jnp.where(mask, w, 0))."
        )
    terms = per_layer(penalty, in_stack)(w, *rest)
    if use is not True:
        chosen = use.reshape(terms.shape if layers else ())
        terms = jnp.where(chosen, terms, jnp.zeros_like(terms))
    return jnp.sum(terms) if in_stack else terms


def sum_numbers(numbers: Any) -> jax.Array:
    """Sums the elements of all floating-point leaves of a pytree."""
    return total(numbers, jnp.sum)


def _leaves_of(other: Any, tree: Any, name: str) -> list[Any]:
    leaves, own_tree = jax.tree.flatten(other)
    if own_tree != tree:
        raise ValueError(
            f"`{name}` must have the same tree structure as `params`, {tree}, got {own_tree}."
        )
    return leaves


def _add_wide(a: jax.Array, b: jax.Array) -> jax.Array:
    """Adds two sums in the wider of their dtypes."""
    dtype = max(a.dtype, b.dtype, key=lambda d: d.itemsize)
    return a.astype(dtype) + b.astype(dtype)
