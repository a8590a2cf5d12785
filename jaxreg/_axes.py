"""Axes of a kernel: outputs and all others."""

import jax

from jaxreg._checks import canonical_axes

Axes = int | tuple[int, ...]


def split_axes(w: jax.Array, axis: Axes) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Returns the output axes and all others, as sorted numbers."""
    outputs = canonical_axes(axis, w.ndim)
    return outputs, tuple(a for a in range(w.ndim) if a not in outputs)
