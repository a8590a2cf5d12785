"""Output axes of kernels, and factors along them."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg._axes import Axes
from jaxreg._checks import check_broadcasts
from jaxreg._numerics import as_strength


def output_axes(path: tuple[str, ...], w: jax.Array) -> Axes:
    """Returns the output axes of a Flax kernel.

    It is the last axis, or the last two axes of ``[features, heads, depth]``, a kernel with three
    axes that belongs to the ``query``, ``key`` or ``value`` of an attention layer. Pass this
    function as ``feature_axes`` to the wrappers ``WeightNorm`` and ``SpectralNorm``, which by
    default use only the last axis, as in Flax. For other layers, such as
    ``flax.linen.ConvTranspose`` with ``transpose_kernel``, pass the axes or a function of your own.

    Args:
      path: Names from the root of the parameters to the kernel, including its own name.
      w: Kernel.

    Returns:
      Axis or axes, counted from the end.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import reparam
      >>> print(reparam.output_axes(("query", "kernel"), jnp.ones((8, 2, 4))))
      (-2, -1)
    """
    is_projection = w.ndim == 3 and bool({"query", "key", "value"} & set(path[-2:-1]))
    return (-2, -1) if is_projection else -1


def align_scale(
    scale: ArrayLike, w: jax.Array, outputs: tuple[int, ...], others: tuple[int, ...]
) -> jax.Array:
    """Validates a scale per output and expands it to broadcast to ``w``."""
    shape = tuple(w.shape[a] for a in outputs)
    check_broadcasts(scale, "scale", shape)
    return jnp.expand_dims(jnp.broadcast_to(as_strength(scale, w), shape), others)
