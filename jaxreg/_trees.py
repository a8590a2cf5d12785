"""Functions of arrays, applied to the leaves of a tree."""

from collections.abc import Callable
from typing import Any

import jax

from jaxreg import masks
from jaxreg._checks import check_key
from jaxreg._paths import path_names

Axes = int | tuple[int, ...]
FeatureAxes = Axes | Callable[[tuple[str, ...], jax.Array], Axes]


def map_with_keys(function: Callable[..., jax.Array], key: jax.Array, tree: Any, *rest: Any) -> Any:
    """Returns the tree of ``function(leaf_key, leaf, *leaves)``, every leaf with its own key.

    Args:
      function: Random function of arrays.
      key: PRNG key. That of a leaf depends on its position among the leaves.
      tree: Pytree of arrays.
      *rest: Trees of the structure of ``tree``, whose leaves are further arguments.
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
    """Returns ``params`` with ``function(own_key, w)`` in place of every kernel ``w``.

    Args:
      function: Random function of an array.
      key: PRNG key.
      params: Parameter tree; :func:`jaxreg.masks.kernels` tells which leaves are kernels.
    """

    def change(own_key: jax.Array, w: Any, selected: bool) -> Any:  # noqa: FBT001
        return function(own_key, w) if selected else w

    return map_with_keys(change, key, params, masks.kernels(params))


def map_named_kernels(
    function: Callable[[str, jax.Array, Axes], jax.Array], params: Any, feature_axes: FeatureAxes
) -> Any:
    """Returns ``params`` with ``function(name, w, axis)`` in place of every kernel ``w``.

    Args:
      function: Function of the name of a kernel, such as ``query/kernel``, the kernel and its
        output axes.
      params: Parameter tree; :func:`jaxreg.masks.kernels` tells which leaves are kernels.
      feature_axes: The axes, or a function of the names and the kernel that tells them.
    """

    def change(path: tuple[Any, ...], w: Any, selected: bool) -> Any:  # noqa: FBT001
        if not selected:
            return w
        names = path_names(path)
        axis = feature_axes(names, w) if callable(feature_axes) else feature_axes
        return function("/".join(names), w, axis)

    return jax.tree_util.tree_map_with_path(change, params, masks.kernels(params))


def per_layer(function: Callable[..., Any], stacked: bool) -> Callable[..., Any]:  # noqa: FBT001
    """Returns a function of arrays that treats the layers of a stack one by one.

    Args:
      function: Function of arrays that looks at more than elements.
      stacked: Whether the first axis of the arrays is that of layers, as in the parameters of
        ``nn.scan`` and ``nnx.vmap``; :func:`jaxreg._selection.select_stacked` tells.
    """
    return jax.vmap(function) if stacked else function
