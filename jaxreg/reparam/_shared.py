"""Which axes of a kernel hold its outputs, and factors along them."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg._axes import Axes
from jaxreg._checks import check_broadcasts
from jaxreg._numerics import as_strength


def output_axes(path: tuple[str, ...], w: jax.Array) -> Axes:
    """Tells which axes of a kernel of Flax hold its outputs.

    It is the last one, but the last two of ``[features, heads, depth]``: of a kernel with three
    axes that belongs to the ``query``, ``key`` or ``value`` of an attention. Pass it to the modules
    around layers as ``feature_axes``: ``WeightNorm`` and ``SpectralNorm`` take the last axis alone
    where Flax does. They take axes or another such function in its place, as layers need whose
    outputs have several axes or, like those of ``flax.linen.ConvTranspose`` with
    ``transpose_kernel``, stand elsewhere.

    Args:
      path: Names from the root of the parameters to the kernel's own.
      w: Kernel.

    Returns:
      Axis or axes, counted from the end.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import reparam
      >>> print(reparam.output_axes(("query", "kernel"), jnp.ones((8, 2, 4))))
      (-2, -1)
    """
    projects = w.ndim == 3 and bool({"query", "key", "value"} & set(path[-2:-1]))
    return (-2, -1) if projects else -1


def per_output(
    scale: ArrayLike, w: jax.Array, outputs: tuple[int, ...], others: tuple[int, ...]
) -> jax.Array:
    """Checks a factor of the outputs and aligns it with the axes of ``w``."""
    shape = tuple(w.shape[a] for a in outputs)
    check_broadcasts(scale, "scale", shape)
    return jnp.expand_dims(jnp.broadcast_to(as_strength(scale, w), shape), others)
