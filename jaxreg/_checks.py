"""Checks of arguments; error messages name the argument, the rule, the value and the fix.

Checks read Python and NumPy numbers, shapes and dtypes. They never read a JAX array, so that they
do not wait for a device; functions define a result for every value of a strength that is an array.
"""

import numbers
import operator
from collections.abc import Sequence
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

Strength = TypeVar("Strength")


def is_static(value: object) -> bool:
    """Returns whether ``value`` is a Python or NumPy scalar, not a JAX array."""
    if isinstance(value, np.ndarray | np.generic):
        return value.ndim == 0
    return isinstance(value, numbers.Real)


def is_static_zero(value: object) -> bool:
    """Returns whether ``value`` is a Python or NumPy zero, which switches a technique off."""
    return is_static(value) and value == 0


def check_given(value: Strength | None, name: str, module: object) -> Strength:
    """Returns ``value``; raises if it is None, given neither in the constructor nor at the call."""
    if value is None:
        raise ValueError(
            f"`{name}` must be given to {type(module).__name__} in its constructor or when called, "
            f"got None for both; pass {name}=..."
        )
    return value


def check_rate(rate: ArrayLike, name: str = "rate") -> None:
    """Raises unless ``rate`` is a scalar; a Python or NumPy number must lie in ``[0, 1]``."""
    if jnp.ndim(rate) != 0:
        raise _shape_error(rate, name)
    if is_static(rate) and not 0 <= float(rate) <= 1:  # pyright: ignore[reportArgumentType]
        raise ValueError(f"`{name}` must be a probability in [0, 1], got {rate}.")


def check_between(
    value: ArrayLike, name: str, low: float, high: float, meaning: str = "a number"
) -> None:
    """Raises unless ``value`` is a scalar; a Python or NumPy number must lie in ``[low, high]``."""
    check_scalar(value, name)
    if is_static(value) and not low <= float(value) <= high:  # pyright: ignore[reportArgumentType]
        raise ValueError(f"`{name}` must be {meaning} in [{low}, {high}], got {value}.")


def check_nonnegative(value: ArrayLike, name: str) -> None:
    """Raises if ``value`` is a Python or NumPy scalar that is negative or NaN."""
    if is_static(value) and not float(value) >= 0:  # pyright: ignore[reportArgumentType]
        raise ValueError(f"`{name}` must be zero or positive, got {value}.")


def check_positive(value: ArrayLike, name: str) -> None:
    """Raises unless all elements are positive; JAX arrays are not checked."""
    if not isinstance(value, jax.Array) and not np.all(np.asarray(value) > 0):
        raise ValueError(f"`{name}` must be positive, got {value}.")


def check_finite(value: ArrayLike, name: str) -> None:
    """Raises unless all elements are finite; JAX arrays are not checked."""
    if not isinstance(value, jax.Array) and not np.all(np.isfinite(value)):
        raise ValueError(f"`{name}` must be finite, got {value}.")


def is_floating(leaf: object) -> bool:
    """Returns whether a leaf is an array or a number of a real or complex floating-point dtype.

    It is False for functions, strings, dtypes and other leaves that are neither arrays nor numbers.
    """
    if isinstance(leaf, type) or not (hasattr(leaf, "dtype") or isinstance(leaf, numbers.Number)):
        return False
    return bool(jnp.issubdtype(jnp.result_type(leaf), jnp.inexact))


def check_scalar(value: ArrayLike, name: str) -> None:
    """Raises unless ``value`` is a single number, traced or not."""
    if jnp.ndim(value) != 0:
        raise _shape_error(value, name)


def _shape_error(value: ArrayLike, name: str) -> ValueError:
    return ValueError(
        f"`{name}` must be a single number, got shape {jnp.shape(value)}; "
        "map over several with jax.vmap."
    )


def check_axes(x: jax.Array, least: int, layout: str, name: str = "x") -> None:
    """Raises if ``x`` has fewer than ``least`` axes; the message shows the expected ``layout``."""
    if x.ndim < least:
        raise ValueError(f"`{name}` must have axes {layout}, got shape {x.shape}.")


def check_broadcasts(value: ArrayLike, name: str, shape: tuple[int, ...]) -> None:
    """Raises unless ``value`` broadcasts to exactly ``shape``."""
    try:
        fits = jnp.broadcast_shapes(jnp.shape(value), shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"`{name}` must broadcast to shape {shape}, got shape {jnp.shape(value)}; "
            "pass a number, or add axes of size 1."
        )


def check_mask(mask: ArrayLike | None, x: jax.Array, name: str = "where") -> None:
    """Raises unless ``mask`` is None or broadcasts to the shape of ``x``."""
    shape = () if mask is None else np.shape(mask)
    try:
        fits = np.broadcast_shapes(shape, x.shape) == x.shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"`{name}` must broadcast to the shape of `x`, {x.shape}, got shape {shape}; add axes "
            f"of size 1, for example {name}[..., None]."
        )


def check_floating(x: jax.Array, name: str) -> None:
    """Raises unless ``x`` is an array of real or complex floating-point numbers."""
    if not hasattr(x, "dtype"):
        raise TypeError(f"`{name}` must be an array, got {type(x).__name__}; pass jnp.asarray(...)")
    if not jnp.issubdtype(x.dtype, jnp.inexact):
        raise TypeError(
            f"`{name}` must have a floating-point dtype, got {x.dtype}; convert it first, "
            f"for example with {name}.astype(jnp.float32)."
        )


def check_real(x: jax.Array, name: str) -> None:
    """Raises unless ``x`` is an array of real floating-point numbers."""
    check_floating(x, name)
    if jnp.iscomplexobj(x):
        raise TypeError(
            f"`{name}` must have a real dtype, got {x.dtype}; pass its real and imaginary parts "
            "separately."
        )


def check_integer(x: jax.Array, name: str) -> None:
    """Raises unless ``x`` is an array of integers."""
    if not hasattr(x, "dtype"):
        raise TypeError(f"`{name}` must be an array, got {type(x).__name__}; pass jnp.asarray(...)")
    if not jnp.issubdtype(x.dtype, jnp.integer):
        raise TypeError(f"`{name}` must be integer class ids, got dtype {x.dtype}.")


def check_static_integer(value: int, name: str) -> None:
    """Raises unless ``value`` is a Python or NumPy integer."""
    if not isinstance(value, numbers.Integral):
        raise TypeError(
            f"`{name}` must be an integer, got {type(value).__name__} {value!r}; it is "
            "fixed when the program is compiled and cannot be an array."
        )


def check_at_least(value: int, name: str, least: int) -> None:
    """Raises unless ``value`` is a Python or NumPy integer of at least ``least``."""
    check_static_integer(value, name)
    if value < least:
        raise ValueError(f"`{name}` must be at least {least}, got {value}.")


def check_key(key: jax.Array) -> None:
    """Raises unless ``key`` is a single PRNG key, typed or raw ``uint32``."""
    fix = "make one with jax.random.key(seed)"
    if not hasattr(key, "dtype"):
        raise TypeError(f"`key` must be a PRNG key, got {type(key).__name__} {key!r}; {fix}.")
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        if key.shape:
            raise TypeError(
                f"`key` must be a single PRNG key, got keys of shape {key.shape}; "
                "map over them with jax.vmap."
            )
    elif key.dtype != jnp.uint32 or key.ndim == 0:
        raise TypeError(f"`key` must be a PRNG key, got {key.dtype} of shape {key.shape}; {fix}.")
    elif key.ndim > 1:
        raise TypeError(
            f"`key` must be a single PRNG key, got a uint32 array of shape {key.shape}; "
            "map over its first axis with jax.vmap."
        )


def canonical_axes(axis: int | Sequence[int], ndim: int, name: str = "axis") -> tuple[int, ...]:
    """Returns ``axis`` as a sorted tuple of distinct axes in ``[0, ndim)``.

    Raises:
      ValueError: An axis lies outside the array or is given twice.
    """
    axes = tuple(map(operator.index, axis if isinstance(axis, Sequence) else (axis,)))
    for a in axes:
        if not -ndim <= a < ndim:
            raise ValueError(f"`{name}` must lie in [{-ndim}, {ndim}), got {a}.")
    positive = tuple(sorted(a % ndim for a in axes))
    if len(set(positive)) != len(positive):
        raise ValueError(f"`{name}` must name each axis once, got {axis}.")
    return positive


def canonical_groups(
    groups: Sequence[Sequence[int]] | None,
) -> tuple[tuple[int, ...], ...] | None:
    """Converts groups of device indices along a mesh axis to hashable tuples."""
    return None if groups is None else tuple(tuple(map(operator.index, group)) for group in groups)


def group_count(num_groups: int | None, group_size: int | None, channels: int) -> int:
    """Returns the number of channel groups, given by ``num_groups`` or ``group_size``."""
    if (num_groups is None) == (group_size is None):
        raise ValueError(
            "Exactly one of `num_groups` and `group_size` must be None, got "
            f"{num_groups} and {group_size}; pass num_groups=None with a size."
        )
    name = "group_size" if num_groups is None else "num_groups"
    given: int = group_size if num_groups is None else num_groups  # pyright: ignore
    check_static_integer(given, name)
    if given < 1 or channels % given:
        raise ValueError(f"`{name}` must divide the {channels} channels, got {given}.")
    return channels // given if num_groups is None else given


def check_eps(eps: ArrayLike) -> None:
    """Raises unless ``eps`` is a scalar; a Python or NumPy number must be zero or positive."""
    check_scalar(eps, "eps")
    check_nonnegative(eps, "eps")


def check_shapes(shape: list[int], **arrays: jax.Array | None) -> None:
    """Raises unless every array is None or has ``shape``, the shape of the feature axes."""
    for name, a in arrays.items():
        if a is not None and a.shape != tuple(shape):
            raise ValueError(
                f"`{name}` must have the same shape as the feature axes, {tuple(shape)}, got "
                f"{a.shape}."
            )
