"""Masks: functions from a parameter tree to a tree of booleans, or of depths.

They look at names and shapes alone, never at values, and work on the parameters of Linen, on an
NNX state and on any other pytree. Hand the masks to ``optax.masked``, to
:func:`jaxreg.penalties.total` or to the decays of :mod:`jaxreg.transforms`, and :func:`depth` to
:func:`jaxreg.transforms.layerwise_scale`.

A name stands for whole names along the path: ``Dense_1`` is found in ``encoder/Dense_1/kernel`` and
not in ``Dense_10/kernel``. Boxes of partition metadata are looked through.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxreg._checks import is_floating
from jaxreg._paths import path_names

__all__ = ["depth", "kernels", "match", "no_bias_or_norm"]

# The names that Flax, Haiku and common practice give to what is added to or scales an activation.
_OFFSETS_AND_SCALES = frozenset({"b", "bias", "scale", "offset", "mean", "var"})


def kernels(params: Any) -> Any:
    """Selects the weights that multiply activations, embeddings included.

    A leaf is one if it is floating-point, has at least two axes, and is not named like an offset or
    a scale (``bias``, ``scale``, ``b``, ``offset``, ``mean``, ``var``): the bias of an attention
    projection and the scale of a scanned normalization have two axes too.

    Args:
      params: Parameter tree.

    Returns:
      Tree of booleans with the structure of ``params``.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import masks
      >>> print(masks.kernels({"bias": jnp.ones(3), "kernel": jnp.ones((2, 3))}))
      {'bias': False, 'kernel': True}
    """
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: _is_weight(path, leaf) and jnp.ndim(leaf) >= 2, params
    )


def no_bias_or_norm(params: Any) -> Any:
    """Selects every weight but the offsets and scales of layers and norms.

    A leaf is one if it is floating-point and is not named like an offset or a scale (``bias``,
    ``scale``, ``b``, ``offset``, ``mean``, ``var``). Unlike :func:`kernels` it selects vectors and
    single numbers of other names: layer scale, a class token, positions, a temperature.

    Args:
      params: Parameter tree.

    Returns:
      Tree of booleans with the structure of ``params``.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import masks
      >>> print(masks.no_bias_or_norm({"bias": jnp.ones(3), "gamma": jnp.ones(3)}))
      {'bias': False, 'gamma': True}
    """
    return jax.tree_util.tree_map_with_path(_is_weight, params)


def match(regex: str) -> Callable[[Any], Any]:
    """Makes a mask that selects parameters by their path.

    The expression has to match one or more whole names along the path, which are joined by ``/``:
    ``kernel`` selects ``Dense_0/kernel`` and not ``Dense_0/kernel_2``; ``^head/.*`` selects what
    stands under ``head`` at the root. The dtype of a leaf does not count.

    Args:
      regex: Regular expression of Python's ``re``.

    Returns:
      Function from a parameter tree to a tree of booleans of its structure, which are all False
      where no path matches.

    Raises:
      ValueError: ``regex`` is no regular expression.
      TypeError: ``regex`` is not a string, such as the parameters themselves.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import masks
      >>> params = {"Dense_1": {"kernel": jnp.ones((2, 3))}, "Dense_10": {"kernel": jnp.ones(3)}}
      >>> print(masks.match("Dense_1/kernel")(params))
      {'Dense_1': {'kernel': True}, 'Dense_10': {'kernel': False}}
    """
    pattern = _whole_names(regex, "regex")

    def mask(params: Any) -> Any:
        return jax.tree_util.tree_map_with_path(
            lambda path, _: pattern.search(_joined(path)) is not None, params
        )

    return mask


def depth(params: Any, order: Sequence[str]) -> Any:
    r"""Tells how far from the input each parameter is.

    .. math::

      d(w) = \min \{i : \text{order}_i \text{ matches the path of } w\}

    Args:
      params: Parameter tree.
      order: Names or regular expressions from the input to the output, each as in :func:`match`;
        the first that matches counts. Join those of one depth by ``|``.

    Returns:
      Tree of integers in ``[0, len(order))`` with the structure of ``params``.

    Raises:
      ValueError: No expression matches some parameter, which is named.
      TypeError: ``order`` is a single string.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import masks
      >>> params = {"embed": jnp.ones(3), "block_0": {"kernel": jnp.ones(3)}, "head": jnp.ones(3)}
      >>> print(masks.depth(params, ("embed|position", "block_0", "block_1", "head")))
      {'block_0': {'kernel': 1}, 'embed': 0, 'head': 3}
    """
    if isinstance(order, str):
        raise TypeError(f"`order` must be a sequence of names, got {order!r}; pass ({order!r},).")
    patterns = [_whole_names(regex, "order") for regex in order]

    def position(path: tuple[Any, ...], _: Any) -> int:
        name = _joined(path)
        for i, pattern in enumerate(patterns):
            if pattern.search(name):
                return i
        fix = 'add a name, or end with ".*" for the rest'
        if not name:
            fix = 'under optax.inject_hyperparams pass static_args=("depth",)'
        raise ValueError(
            f"`order` must match every parameter, got {tuple(order)} and {name!r}; {fix}."
        )

    return jax.tree_util.tree_map_with_path(position, params)


def _is_weight(path: tuple[Any, ...], leaf: Any) -> bool:
    own = "".join(path_names(path)[-1:])
    return bool(is_floating(leaf)) and own not in _OFFSETS_AND_SCALES


def _joined(path: tuple[Any, ...]) -> str:
    return "/".join(path_names(path))


def _whole_names(regex: str, argument: str) -> re.Pattern[str]:
    """Compiles an expression that may begin and end at the borders of names alone."""
    if not isinstance(regex, str):
        raise TypeError(
            f"`{argument}` must give regular expressions as strings, got {type(regex).__name__}; "
            "masks.match(regex) returns the function of the parameters."
        )
    flags = re.match(r"(\(\?[aiLmsux]+\))?", regex)[0]  # pyright: ignore[reportOptionalSubscript]
    try:
        re.compile(regex)
        return re.compile(rf"{flags}(?:^|(?<=/))(?:{regex[len(flags) :]})(?=/|$)")
    except re.error as error:
        raise ValueError(
            f"`{argument}` must give regular expressions, got {regex!r}: {error}; "
            "take signs that are meant as they are through re.escape."
        ) from None
