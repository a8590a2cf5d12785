"""Validates and resolves masks of pytrees, for all functions that take a mask."""

import numbers
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxreg._checks import is_floating
from jaxreg._paths import path_names

Mask = Any | Callable[[Any], Any] | None


def is_function_of_tree(value: Any, tree: Any) -> bool:
    """Returns whether ``value`` is a function of trees rather than a callable pytree.

    Modules of Equinox and similar libraries are callable trees, and so are masks made from them.
    """
    if not callable(value):
        return False
    leaves = jax.tree.leaves(value)
    if len(leaves) == 1 and leaves[0] is value:
        return True
    return all(map(callable, leaves)) and jax.tree.structure(value) != jax.tree.structure(tree)


def check_mask(mask: Mask, name: str = "mask") -> None:
    """Raises if ``mask`` is a string, number or array instead of a tree or a function."""
    if isinstance(mask, str | numbers.Number | np.generic | np.ndarray | jax.Array):
        # Under inject_hyperparams Optax calls a mask with the step, as a schedule, and passes one
        # boolean.
        every = "all" if name == "mask" else "none"
        fix = f'pass None for {every}; under optax.inject_hyperparams, pass static_args=("{name}",)'
        if isinstance(mask, str):
            fix = f"pass masks.match({mask!r}) to select by name"
        raise TypeError(
            f"`{name}` must be a tree of booleans or a function of the parameters, got {mask!r}; "
            f"{fix}."
        )


def select(mask: Mask, params: Any, name: str = "mask") -> Any:
    """Resolves ``mask`` to a tree of booleans that marks the selected leaves of ``params``.

    Args:
      mask: Tree of booleans shaped like ``params`` or a prefix of it, a function that returns one,
        or None for all. A leaf may be a boolean array that broadcasts to the parameter, to select
        parts of it. A tree of different containers, such as an NNX state in place of a tree of
        dictionaries, is matched by the names of the leaves.
      params: Tree of parameters. For leaves that are not floating-point arrays, mask values that
        are not booleans are ignored.
      name: Name of the argument in errors.

    Returns:
      Tree shaped like ``params`` of Python booleans, and of arrays for masks that are traced or
      select parts of a leaf.

    Raises:
      TypeError: A leaf of the mask is not boolean.
      ValueError: The mask's tree structure does not match, or an array does not broadcast to its
        parameter.
    """
    places, tree = jax.tree_util.tree_flatten_with_path(params)
    if mask is None:
        return tree.unflatten([True] * len(places))
    pairs = zip(places, leaves_for(mask, params, name), strict=True)
    return tree.unflatten([_check_leaf(flag, path, w, name) for (path, w), flag in pairs])


def leaves_for(given: Any, params: Any, name: str) -> list[Any]:
    """Returns the leaves of ``given`` that belong to the leaves of ``params``, in their order.

    Args:
      given: Tree shaped like ``params``, a prefix of it, or a function that returns one. A tree of
        different containers is matched by the names of the leaves.
      params: Tree of parameters.
      name: Name of the argument in errors.

    Raises:
      ValueError: The tree matches neither by containers nor by names.
    """
    tree = given(params) if is_function_of_tree(given, params) else given
    try:
        return jax.tree.leaves(jax.tree.broadcast(tree, params))
    except ValueError as error:
        leaves = _by_name(tree, params)
        if leaves is None:
            raise ValueError(
                f"`{name}` must have the tree structure of the parameters, or a prefix of it: "
                f"{error}"
            ) from error
        return leaves


def _by_name(given: Any, params: Any) -> list[Any] | None:
    """Matches leaves of ``given`` to ``params`` by path names; returns None on a mismatch."""
    found = {path_names(path): leaf for path, leaf in jax.tree.leaves_with_path(given)}
    hollow = []
    flags = []
    used = set()
    for path, w in jax.tree.leaves_with_path(params, is_leaf=lambda x: not jax.tree.leaves(x)):
        names = path_names(path)
        own = next((names[:n] for n in range(len(names) + 1) if names[:n] in found), None)
        if not jax.tree.leaves(w):
            hollow.append(names)
        elif own is not None or not is_floating(w):
            flags.append(False if own is None else found[own])
        else:
            return None
        used.add(own)
    # Leaves that optax.masked hides are in the mask, but not among the parameters.
    rest = found.keys() - used
    known = all(any(names[: len(place)] == place for place in hollow) for names in rest)
    return flags if known else None


def _check_leaf(flag: Any, path: tuple[Any, ...], w: Any, name: str) -> Any:
    """Checks a mask's leaf; returns a bool, or a boolean array that broadcasts to ``w``."""
    if isinstance(flag, bool | np.bool_):
        return bool(flag)
    if not is_floating(w):
        return False
    where = "/".join(path_names(path)) or "the root"
    if not hasattr(flag, "shape") or flag.dtype != np.bool_:
        raise TypeError(
            f"`{name}` must be a tree of booleans, got {_describe(flag)} for {where}; compare "
            "labels or numbers to get booleans, or select by name with masks.match."
        )
    if flag.size == 1 and not isinstance(flag, Tracer):
        return bool(np.asarray(flag).reshape(()))
    shape = jnp.shape(w)
    try:
        fits = jnp.broadcast_shapes(flag.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"`{name}` must give a boolean for {where}, or a boolean array that broadcasts to its "
            f"shape {shape}, got shape {flag.shape}; to mask rows, add a last axis of size 1."
        )
    return flag


def _describe(flag: Any) -> str:
    """Describes a mask's leaf in error messages: by dtype and shape, or by ``repr``."""
    shape = getattr(flag, "shape", ())
    return f"an array of {flag.dtype} and shape {shape}" if shape else repr(flag)


def select_stacked(stacked: Mask, params: Any) -> Any:
    """Returns a tree of booleans that marks leaves with one kernel per layer on their first axis.

    Args:
      stacked: Mask as in :func:`select`, of whole leaves; None means no leaf.
      params: Tree of parameters.

    Returns:
      Tree of Python booleans shaped like ``params``.

    Raises:
      TypeError: A leaf of the mask is not a static boolean.
      ValueError: The mask's tree structure does not match, or it selects a single number.
    """
    if stacked is None:
        return jax.tree.map(lambda _: False, params)

    def check(path: tuple[Any, ...], w: Any, flag: Any) -> bool:
        where = "/".join(path_names(path)) or "the root"
        if not isinstance(flag, bool):
            raise TypeError(
                f"`stacked` must give one static boolean per leaf, got {_describe(flag)} for "
                f"{where}; select all layers of a stack or none."
            )
        if flag and is_floating(w) and jnp.ndim(w) == 0:
            raise ValueError(
                f"`stacked` must select arrays with an axis for layers, but {where} is a single "
                "number; do not select it."
            )
        return flag and is_floating(w)

    flags = select(stacked, params, "stacked")
    return jax.tree_util.tree_map_with_path(check, params, flags)
