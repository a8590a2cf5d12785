"""Axes of one unit's weights, and the validation of sizes per unit."""

import jax
from jax.typing import ArrayLike

from jaxreg._checks import canonical_axes, check_broadcasts, check_nonnegative


def units(
    w: jax.Array, axis: int | tuple[int, ...] | None
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Returns the axes of one unit's weights, and ``w.shape`` with size 1 along these axes."""
    axes = tuple(range(w.ndim - 1)) if axis is None else canonical_axes(axis, w.ndim)
    return axes, tuple(1 if a in axes else n for a, n in enumerate(w.shape))


def check_size(value: ArrayLike, name: str, per_unit: tuple[int, ...]) -> None:
    """Raises unless ``value`` is nonnegative and broadcasts to one number per unit."""
    check_nonnegative(value, name)
    check_broadcasts(value, name, per_unit)
