"""Fill values of pixels that are erased or outside an image, checked and cast to its dtype."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from jaxreg._checks import check_broadcasts
from jaxreg._numerics import as_strength
from jaxreg.augment._images import is_labels


def filling(fill: ArrayLike, image: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Checks the fill of an image and returns it as an array that broadcasts to ``shape``.

    Returns:
      Array in the image's dtype if that is integer or boolean, and otherwise in the dtype of
      computations on the image. A traced fill is clipped to the range of an integer dtype.

    Raises:
      TypeError: ``fill`` is not real, or is a JAX array of floats for an image of integers.
      ValueError: The image's dtype cannot represent ``fill``, or the shapes do not broadcast.
    """
    check_fill(fill, image.dtype)
    if not isinstance(fill, jax.Array):
        fill = np.asarray(fill)
    check_broadcasts(fill, "fill", shape)
    if not is_labels(image):
        return as_strength(fill, image)
    if isinstance(fill, np.ndarray):
        return jnp.asarray(fill.astype(image.dtype))
    if image.dtype == bool or fill.dtype == bool:
        return fill.astype(image.dtype)
    return _clip_to(image.dtype, fill)


def check_fill(fill: ArrayLike, dtype: DTypeLike) -> None:
    """Raises unless ``dtype`` can represent the fill; checks only the dtype of a JAX array."""
    values = fill if isinstance(fill, jax.Array) else np.asarray(fill)
    real = jnp.issubdtype(values.dtype, jnp.number) or values.dtype == bool
    if not real or jnp.issubdtype(values.dtype, jnp.complexfloating):
        raise TypeError(f"`fill` must be a real number, got {values.dtype} {fill!r}.")
    floating = jnp.issubdtype(dtype, jnp.floating)
    if isinstance(values, jax.Array):
        if not floating and jnp.issubdtype(values.dtype, jnp.floating):
            raise TypeError(
                f"`fill` must contain integers for an image of {dtype}, got an array of "
                f"{values.dtype}; convert it with fill.astype(image.dtype)."
            )
    elif not np.all(_holds(dtype, values)):
        raise ValueError(
            f"`fill` must be a number that {jnp.dtype(dtype)} can represent, got {fill}; pass "
            "another number, or convert the image to a wider dtype first."
        )


def _holds(dtype: DTypeLike, values: np.ndarray) -> np.ndarray:
    """Returns a mask of the values that ``dtype`` can represent; a float dtype may round them."""
    if jnp.issubdtype(dtype, jnp.floating):
        with np.errstate(over="ignore"):
            return ~np.isfinite(values) | np.isfinite(values.astype(dtype))
    if jnp.issubdtype(dtype, jnp.bool_):
        return (values == 0) | (values == 1)
    limits = jnp.iinfo(dtype)
    return (values >= limits.min) & (values <= limits.max) & (values == np.floor(values))


def _clip_to(dtype: DTypeLike, fill: jax.Array) -> jax.Array:
    """Clips an array of integers to the range of an integer dtype, and casts it."""
    own = jnp.iinfo(fill.dtype)
    limits = jnp.iinfo(dtype)
    return jnp.clip(fill, max(own.min, limits.min), min(own.max, limits.max)).astype(dtype)
