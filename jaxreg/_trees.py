"""Applies functions of arrays to the leaves of a parameter tree."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax

from jaxreg import masks
from jaxreg._checks import check_key, is_floating
from jaxreg._paths import plain_keys
from jaxreg._selection import Mask, select_stacked

Axes = int | tuple[int, ...]
FeatureAxes = Axes | None | Callable[[tuple[str, ...], Any], Axes | None]


class Kernel(NamedTuple):
    """Path and axes of a parameter that a wrapper reparametrizes.

    Attributes:
      path: Keys from the root of the parameter tree to the parameter.
      box: Attribute names of the boxes around the array, such as ``value``.
      axis: Output axes of one kernel.
      stacked: True if the array holds one kernel per layer along its first axis.
    """

    path: tuple[Any, ...]
    box: tuple[str, ...]
    axis: Axes
    stacked: bool


def map_with_keys(function: Callable[..., jax.Array], key: jax.Array, tree: Any, *rest: Any) -> Any:
    """Maps ``function(leaf_key, leaf, *leaves)`` over a tree, with a different key for each leaf.

    Args:
      function: Random function of arrays.
      key: PRNG key. The key of a leaf depends on its position among the leaves.
      tree: Pytree of arrays.
      *rest: Trees with the structure of ``tree``, whose leaves are further arguments.
    """
    check_key(key)
    leaves, treedef = jax.tree.flatten(tree)
    others = [treedef.flatten_up_to(other) for other in rest]
    results = [
        function(jax.random.fold_in(key, position), *arguments)
        for position, arguments in enumerate(zip(leaves, *others, strict=True))
    ]
    return treedef.unflatten(results)


def map_kernels(
    function: Callable[[jax.Array, jax.Array], jax.Array], key: jax.Array, params: Any
) -> Any:
    """Replaces every kernel ``w`` by ``function(key, w)``, with a PRNG key for each kernel.

    Args:
      function: Random function of an array.
      key: PRNG key.
      params: Parameter tree; :func:`jaxreg.masks.kernels` selects the kernels.
    """

    def change(own_key: jax.Array, w: Any, selected: bool) -> Any:  # noqa: FBT001
        return function(own_key, w) if selected else w

    return map_with_keys(change, key, params, masks.kernels(params))


def find_kernels(
    params: Any,
    selects: Callable[[tuple[Any, ...], Any], bool],
    feature_axes: FeatureAxes,
    stacked: Mask,
    prefix: tuple[str, ...] = (),
) -> tuple[Kernel | None, ...]:
    """Returns a :class:`Kernel` for each leaf to reparametrize, and None for each leaf to keep.

    Args:
      params: Parameter tree.
      selects: Function of the path and the shape of one kernel that returns whether to
        reparametrize it.
      feature_axes: Output axes, None for no axes, or a function of the path's names and the kernel.
      stacked: Mask of the leaves with one kernel per layer along their first axis.
      prefix: Names that precede the names in the tree.
    """
    flags = jax.tree.leaves(select_stacked(stacked, params))
    found: list[Kernel | None] = []
    for (keys, w), in_stack in zip(jax.tree.leaves_with_path(params), flags, strict=True):
        path, box = plain_keys(keys)
        one = jax.ShapeDtypeStruct(w.shape[in_stack:], w.dtype) if is_floating(w) else None
        if one is None or not selects((*prefix, *path), one):
            found.append(None)
            continue
        found.append(Kernel(path, box, _own_axes(feature_axes, (*prefix, *path), one), in_stack))
    return tuple(found)


def _own_axes(feature_axes: FeatureAxes, path: tuple[Any, ...], w: Any) -> Axes:
    """Returns a kernel's output axes: ``feature_axes``, or its result if it is a function."""
    axis: Any = feature_axes
    if callable(feature_axes):
        names = "/".join(map(str, path)).split("/")
        axis = feature_axes(tuple(names), w)
    if axis is None:
        return ()
    return tuple(axis) if isinstance(axis, Sequence) else axis


def is_kernel(path: tuple[Any, ...], w: Any) -> bool:
    """Returns whether :func:`jaxreg.masks.kernels` selects a parameter, by its name and shape."""
    own = str(path[-1]) if path else ""
    return bool(masks.kernels({own: w})[own])


def change_kernels(
    function: Callable[[Kernel, jax.Array], jax.Array],
    params: Any,
    kernels: Sequence[Kernel | None],
) -> Any:
    """Replaces the leaves ``w`` that ``kernels`` describes by ``function(kernel, w)``.

    Raises:
      ValueError: ``params`` has a different number of leaves.
    """
    leaves, treedef = jax.tree.flatten(params)
    if len(leaves) != len(kernels):
        raise ValueError(
            f"`layer_instance` must keep its {len(kernels)} parameters, got {len(leaves)}; wrap it "
            "after all of them exist."
        )
    pairs = zip(leaves, kernels, strict=True)
    return treedef.unflatten([w if k is None else function(k, w) for w, k in pairs])


def per_layer(function: Callable[..., Any], stacked: bool) -> Callable[..., Any]:  # noqa: FBT001
    """Returns ``function``, mapped over the first axis of its arguments if ``stacked``.

    Args:
      function: Function of arrays that is not elementwise.
      stacked: True if the first axis of the arrays holds layers, as in the parameters of
        ``nn.scan`` and ``nnx.vmap``; see :func:`jaxreg._selection.select_stacked`.
    """
    return jax.vmap(function) if stacked else function
