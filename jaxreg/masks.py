"""Masks: functions from a parameter tree to a tree of booleans.

They look at names and shapes alone, never at values, and work on the parameters of Linen, on an
NNX state and on any other pytree. Hand them to ``optax.masked``, to :func:`jaxreg.penalties.total`
or to the decays of :mod:`jaxreg.transforms`.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxreg._checks import is_floating
from jaxreg._paths import path_names

__all__ = ["kernels"]

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
    return jax.tree_util.tree_map_with_path(_is_kernel, params)


def _is_kernel(path: tuple[Any, ...], leaf: Any) -> bool:
    own = "".join(path_names(path)[-1:])
    return bool(is_floating(leaf) and jnp.ndim(leaf) >= 2 and own not in _OFFSETS_AND_SCALES)
