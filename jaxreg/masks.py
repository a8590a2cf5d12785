"""Masks: functions from a parameter tree to a tree of booleans, of multipliers or of depths.

They look at names and shapes, never at values, and work on Linen parameters, on an NNX state and on
any other pytree. Pass masks to ``optax.masked``, to :func:`jaxreg.penalties.total` or to the decays
of :mod:`jaxreg.transforms`. Pass :func:`multipliers` to those decays, or to
``add_penalty_gradient`` or ``proximal`` there, and pass :func:`depth` to
:func:`jaxreg.transforms.layerwise_scale`. :func:`all_of`, :func:`any_of` and :func:`negate` combine
masks.

Patterns match whole names along the path: ``Dense_1`` matches ``encoder/Dense_1/kernel`` but not
``Dense_10/kernel``. Boxes of partition metadata do not count as names.

In jaxreg a mask may be a function of the parameters, a tree of booleans, or a prefix of one (True
for a whole subtree). Leaves that are not arrays are skipped. A leaf of a decay's mask may
also be a boolean array that broadcasts to the parameter: with ``[rows, 1]``, some rows of an
embedding table decay and others do not.

In a transformer, :func:`kernels` selects class tokens and position embeddings too, as code with
``ndim > 1`` usually does: they have two or more axes, such as ``[1, 1, features]``. To leave them
out, use ``masks.all_of(masks.kernels, masks.negate(masks.match("cls|pos_embedding")))``.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxreg import _signatures
from jaxreg._checks import check_nonnegative, is_floating
from jaxreg._paths import path_names
from jaxreg._selection import Mask, check_mask, select, select_stacked

__all__ = [
    "all_of",
    "any_of",
    "depth",
    "kernels",
    "match",
    "multipliers",
    "negate",
    "no_bias_or_norm",
]

# Names that Flax, Haiku and common practice give to parameters that shift or scale activations.
_OFFSETS_AND_SCALES = frozenset({"b", "bias", "scale", "offset", "mean", "var"})


def kernels(params: Any, *, stacked: Mask = None) -> Any:
    """Selects the weights that multiply activations, embeddings included.

    A leaf is selected if it is floating-point, has at least two axes, and is not named like an
    offset or a scale (``bias``, ``scale``, ``b``, ``offset``, ``mean``, ``var``): the bias of an
    attention projection and the scale of a scanned normalization have two axes too. Class tokens
    and position embeddings are selected; :mod:`jaxreg.masks` shows how to leave them out.

    Args:
      params: Parameter tree.
      stacked: Mask of the leaves that stack one array per layer along their first axis, as
        ``nn.scan`` and ``nnx.vmap`` do; that axis does not count. None means no leaf.

    Returns:
      Tree of booleans with the structure of ``params``.

    Raises:
      TypeError: ``stacked`` is not a mask of whole leaves.
      ValueError: ``stacked`` has a different tree structure.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import masks
      >>> print(masks.kernels({"bias": jnp.ones(3), "kernel": jnp.ones((2, 3))}))
      {'bias': False, 'kernel': True}
    """

    def leaf(path: tuple[Any, ...], w: Any, in_stack: bool) -> bool:  # noqa: FBT001
        return _is_weight(path, w) and jnp.ndim(w) >= 2 + in_stack

    return jax.tree_util.tree_map_with_path(leaf, params, select_stacked(stacked, params))


def no_bias_or_norm(params: Any) -> Any:
    """Selects all parameters except biases and the offsets and scales of norms.

    A leaf is selected if it is floating-point and is not named like an offset or a scale (``bias``,
    ``scale``, ``b``, ``offset``, ``mean``, ``var``). Unlike :func:`kernels` it also selects vectors
    and single numbers with other names, such as layer scale or a temperature.

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
    """Returns a mask that selects parameters whose path matches a regular expression.

    The expression has to match one or more whole names along the path, joined by ``/``: ``kernel``
    selects ``Dense_0/kernel`` but not ``Dense_0/kernel_2``; ``^head/.*`` selects everything below
    ``head`` at the root. Leaves of every dtype can match.

    Args:
      regex: Regular expression of Python's ``re``.

    Returns:
      Function from a parameter tree to a tree of booleans with its structure; all are False if no
      path matches.

    Raises:
      ValueError: ``regex`` is not a regular expression.
      TypeError: ``regex`` is not a string; for example, it is the parameter tree itself.

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
            lambda path, _: pattern.search(_name(path)) is not None, params
        )

    return mask


def all_of(*masks: Mask) -> Callable[[Any], Any]:
    """Returns a mask that selects the leaves that all ``masks`` select.

    Args:
      *masks: Masks: functions of the parameters, trees of booleans, or None for all parameters.

    Returns:
      Function from a parameter tree to a tree of booleans with its structure. If a mask selects
      parts of a leaf by an array, so does the result.

    Raises:
      TypeError: A mask is a single value, or one of its leaves is not a boolean.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import masks
      >>> params = {"embed": {"embedding": jnp.ones((9, 3))}, "head": {"kernel": jnp.ones((3, 2))}}
      >>> mask = masks.all_of(masks.kernels, masks.negate(masks.match("embedding")))
      >>> print(mask(params))
      {'embed': {'embedding': False}, 'head': {'kernel': True}}
    """
    return _combine(lambda a, b: a & b, True, masks)


def any_of(*masks: Mask) -> Callable[[Any], Any]:
    """Returns a mask that selects the leaves that at least one of ``masks`` selects.

    Args:
      *masks: Masks as in :func:`all_of`.

    Returns:
      Function from a parameter tree to a tree of booleans with its structure. If a mask selects
      parts of a leaf by an array, so does the result.

    Raises:
      TypeError: A mask is a single value, or one of its leaves is not a boolean.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import masks
      >>> params = {"bias": jnp.ones(3), "kernel": jnp.ones((2, 3)), "gamma": jnp.ones(3)}
      >>> print(masks.any_of(masks.kernels, masks.match("gamma"))(params))
      {'bias': False, 'gamma': True, 'kernel': True}
    """
    return _combine(lambda a, b: a | b, False, masks)


def negate(mask: Mask) -> Callable[[Any], Any]:
    """Returns a mask that selects the leaves that ``mask`` does not select.

    Args:
      mask: Mask as in :func:`all_of`.

    Returns:
      Function from a parameter tree to a tree of booleans with its structure. If the mask selects
      parts of a leaf by an array, so does the result.

    Raises:
      TypeError: The mask is a single value, or one of its leaves is not a boolean.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import masks
      >>> print(masks.negate(masks.kernels)({"bias": jnp.ones(3), "kernel": jnp.ones((2, 3))}))
      {'bias': True, 'kernel': False}
    """
    return _combine(lambda a, b: b ^ a, True, (mask,))


def multipliers(
    patterns: Sequence[tuple[str, ArrayLike]], *, otherwise: ArrayLike = 0.0
) -> Callable[[Any], Any]:
    r"""Returns a function from parameters to multipliers, chosen by regular expressions for paths.

    The patterns work like ``wd_mults`` and ``lr_mults`` in big_vision. A pattern has to match the
    whole path, whose names are joined by ``/``; the first match counts. ``.*/kernel`` matches
    ``Dense_0/kernel``, ``kernel`` does not. The decays of :mod:`jaxreg.transforms`,
    ``add_penalty_gradient`` and ``proximal`` take the result as ``multipliers``.

    Args:
      patterns: Pairs of a regular expression and a multiplier, zero or positive; the first
        expression that matches a parameter gives its multiplier.
      otherwise: Multiplier of the parameters that no pattern matches.

    Returns:
      Function from a parameter tree to a tree of multipliers with its structure.

    Raises:
      ValueError: A pattern is not a regular expression, or a multiplier is negative.
      TypeError: ``patterns`` is not a sequence of pairs, or a pattern is not a string.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import masks
      >>> params = {"head": {"kernel": jnp.ones((2, 3))}, "pos_embedding": jnp.ones((1, 4, 2))}
      >>> scales = masks.multipliers([(".*/kernel", 1.0), ("pos_.*", 0.1)])
      >>> print(scales(params))
      {'head': {'kernel': 1.0}, 'pos_embedding': 0.1}

    References:
      Beyer, Zhai and Kolesnikov, `Big Vision <https://github.com/google-research/big_vision>`_,
      2022, ``optax.py``
    """
    rows = [(_compile(regex, "patterns"), value) for regex, value in _pairs(patterns)]
    check_nonnegative(otherwise, "otherwise")
    for _, value in rows:
        check_nonnegative(value, "patterns")

    def tree(params: Any) -> Any:
        def leaf(path: tuple[Any, ...], _: Any) -> ArrayLike:
            name = _name(path)
            return next((value for regex, value in rows if regex.fullmatch(name)), otherwise)

        return jax.tree_util.tree_map_with_path(leaf, params)

    return tree


def depth(params: Any, order: Sequence[str], *, stacked: Mask = None) -> Any:
    r"""Returns each parameter's depth: the index of the first entry of ``order`` that matches it.

    .. math::

      d(w) = \min \{i : \text{order}_i \text{ matches the path of } w\}

    A stack of layers takes up one depth per layer, and gets an array of depths instead of one
    integer.

    Args:
      params: Parameter tree.
      order: Names or regular expressions from the input to the output, each as in :func:`match`;
        the first that matches counts. Join names of the same depth by ``|``.
      stacked: Mask of the leaves that stack one array per layer along their first axis, as
        ``nn.scan`` and ``nnx.vmap`` do. None means no leaf.

    Returns:
      Tree of integers, from 0 at the input, with the structure of ``params``. A stack has a NumPy
      array with one integer per layer.

    Raises:
      ValueError: No expression matches a parameter, which the message names, or the stacks of one
        expression have different numbers of layers.
      TypeError: ``order`` is a single string.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import masks
      >>> params = {"embed": jnp.ones(3), "block_0": {"kernel": jnp.ones(3)}, "head": jnp.ones(3)}
      >>> print(masks.depth(params, ("embed|position", "block_0", "block_1", "head")))
      {'block_0': {'kernel': 1}, 'embed': 0, 'head': 3}
      >>> params = {"embed": jnp.ones(3), "blocks": jnp.ones((4, 3)), "head": jnp.ones(3)}
      >>> order = ("embed", "blocks", "head")
      >>> print(masks.depth(params, order, stacked=masks.match("blocks")))
      {'blocks': array([1, 2, 3, 4]), 'embed': 0, 'head': 5}
    """
    if isinstance(order, str):
        raise TypeError(f"`order` must be a sequence of names, got {order!r}; pass ({order!r},).")
    patterns = [_whole_names(regex, "order") for regex in order]

    def position(path: tuple[Any, ...], _: Any) -> int:
        name = _name(path)
        for i, pattern in enumerate(patterns):
            if pattern.search(name):
                return i
        fix = 'add a name, or end with ".*" for the rest'
        if not name:
            fix = 'under optax.inject_hyperparams, pass static_args=("depth",)'
        raise ValueError(
            f"`order` must match every parameter, got {tuple(order)}, which does not match "
            f"{name!r}; {fix}."
        )

    places = jax.tree_util.tree_map_with_path(position, params)
    if stacked is None:
        return places
    return _unroll(places, params, select_stacked(stacked, params), order)


def _unroll(places: Any, params: Any, stacked: Any, order: Sequence[str]) -> Any:
    """Converts indices in ``order`` to depths; a stack takes as many depths as it has layers."""
    layers = [1] * len(order)

    def widen(place: int, w: Any, in_stack: bool) -> None:  # noqa: FBT001
        if in_stack:
            count = jnp.shape(w)[0]
            if layers[place] not in (1, count):
                raise ValueError(
                    "`stacked` must select stacks with equal numbers of layers for each expression "
                    f"of `order`, got {layers[place]} and {count} for {order[place]!r}; give each "
                    "stack its own expression."
                )
            layers[place] = count

    jax.tree.map(widen, places, params, stacked)
    first = [sum(layers[:place]) for place in range(len(order))]

    def leaf(place: int, w: Any, in_stack: bool) -> Any:  # noqa: FBT001
        return first[place] + np.arange(jnp.shape(w)[0]) if in_stack else first[place]

    return jax.tree.map(leaf, places, params, stacked)


def _combine(
    join: Callable[[Any, Any], Any],
    start: bool,  # noqa: FBT001
    masks: tuple[Mask, ...],
) -> Callable[[Any], Any]:
    """Returns a mask that folds ``masks`` leaf by leaf with ``join``, beginning with ``start``."""
    for each in masks:
        check_mask(each)

    def mask(params: Any) -> Any:
        found = jax.tree.map(lambda _: start, params)
        for each in masks:
            found = jax.tree.map(join, found, select(each, params))
        return found

    return mask


def _pairs(patterns: Sequence[tuple[str, ArrayLike]]) -> list[tuple[str, ArrayLike]]:
    """Returns ``patterns`` as a list; raises unless its items are pairs."""
    rows: list[Any] = list(patterns) if isinstance(patterns, Sequence) else [patterns]
    if any(isinstance(row, str) or not isinstance(row, Sequence) or len(row) != 2 for row in rows):
        raise TypeError(
            "`patterns` must be pairs of a regular expression and a multiplier, got "
            f'{patterns!r}; pass for example [(".*/kernel", 1.0)].'
        )
    return rows


def _is_weight(path: tuple[Any, ...], leaf: Any) -> bool:
    own = "".join(path_names(path)[-1:])
    return is_floating(leaf) and own not in _OFFSETS_AND_SCALES


def _name(path: tuple[Any, ...]) -> str:
    return "/".join(path_names(path))


def _whole_names(regex: str, argument: str) -> re.Pattern[str]:
    """Compiles a regular expression that matches only whole names of a path joined by ``/``."""
    _compile(regex, argument)
    flags = re.match(r"(\(\?[aiLmsux]+\))?", regex)[0]  # pyright: ignore[reportOptionalSubscript]
    return _compile(rf"{flags}(?:^|(?<=/))(?:{regex[len(flags) :]})(?=/|$)", argument)


def _compile(regex: str, argument: str) -> re.Pattern[str]:
    if not isinstance(regex, str):
        raise TypeError(
            f"`{argument}` must use strings as regular expressions, got {type(regex).__name__}; "
            "call masks.match(regex) first, then its result with the parameters."
        )
    try:
        return re.compile(regex)
    except re.error as error:
        raise ValueError(
            f"`{argument}` must use valid regular expressions, got {regex!r}: {error}; "
            "escape literal characters with re.escape."
        ) from None


_signatures.show(__name__)
