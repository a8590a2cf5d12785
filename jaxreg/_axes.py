"""Output axes of a kernel, and its remaining axes."""

import jax

from jaxreg._checks import canonical_axes

Axes = int | tuple[int, ...]


def split_axes(w: jax.Array, axis: Axes) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Returns the output axes of ``w`` and its remaining axes, both sorted and nonnegative."""
    outputs = canonical_axes(axis, w.ndim)
    return outputs, tuple(a for a in range(w.ndim) if a not in outputs)
