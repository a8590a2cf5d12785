"""Permutations of the segments of a series."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg import _bits
from jaxreg._checks import check_at_least, check_broadcasts, check_key
from jaxreg._scopes import mark
from jaxreg.augment._images import select
from jaxreg.augment.series._steps import as_series, count_steps, place_by_example, take, times

Cuts = Callable[[jax.Array, jax.Array, int, jax.Array], jax.Array]


def permutation(
    x: jax.Array,
    *,
    order: jax.Array,
    cuts: jax.Array | None = None,
    length: ArrayLike | None = None,
) -> jax.Array:
    """Rearranges the segments of a series in a given order.

    Args:
      x: Floating-point array ``[..., time, channels]``.
      order: Numbers of the segments in their new order, integers ``[..., segments]`` that are a
        permutation of 0, 1 and so on; the identity leaves ``x`` exactly as it is.
      cuts: Steps where the segments begin, except the first, ascending integers
        ``[..., segments - 1]``; from :func:`even_cuts` by default. Equal cuts make empty segments.
      length: Number of valid time steps in each example, an integer. Padding after them is
        unchanged.

    Returns:
      Array with the shape and dtype of ``x``, made of the same steps.

    Raises:
      TypeError: ``x`` is not real floating-point, or ``order`` or ``cuts`` are not integers.
      ValueError: ``order`` or ``cuts`` do not broadcast to ``[..., segments]``.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg.augment import series
      >>> x = jnp.arange(7.0)[:, None]
      >>> print(series.permutation(x, order=jnp.array([2, 0, 1]))[:, 0])
      [5. 6. 0. 1. 2. 3. 4.]

    References:
      Um et al., `Data Augmentation of Wearable Sensor Data for Parkinson's Disease Monitoring using
      Convolutional Neural Networks <https://arxiv.org/abs/1706.00527>`_, 2017
    """
    x = as_series(x)
    lead = x.shape[:-2]
    if jnp.ndim(order) < 1 or not order.shape[-1]:
        raise ValueError(f"`order` must have shape [..., segments], got {jnp.shape(order)}.")
    number = order.shape[-1]
    order = _integers(order, "order", (*lead, number), x)
    counted = _whole(count_steps(length, x), x)
    if cuts is None:
        cuts = _even(counted, number)
    cuts = _integers(cuts, "cuts", (*lead, number - 1), x)
    begins = jnp.concatenate([jnp.zeros_like(counted), jnp.minimum(cuts, counted)], axis=-1)
    ends = jnp.concatenate([begins[..., 1:], counted], axis=-1)
    # Column k marks the segment that comes k-th, so that a sum of products picks its values.
    is_kth = order[..., None, :] == jnp.arange(number, dtype=jnp.int32).reshape(
        (1,) * len(lead) + (number, 1)
    )
    sizes = ends - begins
    begins = _pick(is_kth, begins)
    sizes = _pick(is_kth, sizes)
    placed = jnp.cumsum(sizes, axis=-1, dtype=jnp.int32) - sizes
    step = times(x).astype(jnp.int32)
    inside = (step[..., None] >= placed[..., None, :]) & (
        step[..., None] < (placed + sizes)[..., None, :]
    )
    moves = jnp.where(inside, (begins - placed)[..., None, :], 0)
    shift = jnp.sum(moves, axis=-1, dtype=jnp.int32)
    return take(x, step + shift)


@mark("segments")
def random_permutation(
    key: jax.Array,
    x: jax.Array,
    *,
    segments: int,
    cuts: Cuts | None = None,
    length: ArrayLike | None = None,
) -> jax.Array:
    """Shuffles the segments of a series uniformly.

    Args:
      key: PRNG key.
      x: Floating-point array ``[..., time, channels]``.
      segments: Number of segments; 1 is exactly the identity.
      cuts: Function that chooses where segments begin: :func:`even_cuts` by default,
        :func:`random_cuts`, or a function like them.
      length: Number of valid time steps in each example, an integer. Padding after them is
        unchanged.

    Returns:
      Array with the shape and dtype of ``x``, see :func:`permutation`.

    Raises:
      TypeError: ``x`` is not real floating-point, or ``key`` is not a single PRNG key.
      ValueError: ``segments`` is not positive.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg.augment import series
      >>> x = jnp.arange(8.0)[:, None]
      >>> y = series.random_permutation(jax.random.key(0), x, segments=4)
      >>> print(jnp.sort(y[:, 0]), jnp.all(y[1::2] - y[::2] == 1))
      [0. 1. 2. 3. 4. 5. 6. 7.] True

    References:
      Um et al., `Data Augmentation of Wearable Sensor Data for Parkinson's Disease Monitoring using
      Convolutional Neural Networks <https://arxiv.org/abs/1706.00527>`_, 2017
    """
    check_key(key)
    x = as_series(x)
    check_at_least(segments, "segments", 1)
    order_key, cut_key = jax.random.split(key)
    words = _bits.draw(order_key, (*x.shape[:-2], segments, 1), like=x)
    order = jnp.argsort(words[..., 0], axis=-1).astype(jnp.int32)
    counted = _whole(count_steps(length, x), x)
    cuts = even_cuts if cuts is None else cuts
    begins = cuts(cut_key, x, segments, counted[..., 0])
    return permutation(x, order=order, cuts=begins, length=length)


def even_cuts(key: jax.Array, x: jax.Array, segments: int, counted: jax.Array) -> jax.Array:
    """Returns cuts into segments whose lengths differ by at most 1, the longer segments first.

    Args:
      key: Not used.
      x: Array ``[..., time, channels]``.
      segments: Number of segments.
      counted: Number of valid time steps in each example, integers ``[...]``.

    Returns:
      Integers ``[..., segments - 1]``.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg.augment import series
      >>> print(series.even_cuts(None, jnp.ones((10, 1)), 4, jnp.int32(10)))
      [3 6 8]
    """
    del key, x
    return _even(counted[..., None], segments)


def random_cuts(key: jax.Array, x: jax.Array, segments: int, counted: jax.Array) -> jax.Array:
    """Draws distinct steps to cut at, uniformly among all choices.

    Args:
      key: PRNG key.
      x: Array ``[..., time, channels]``.
      segments: Number of segments; if there are more segments than steps, the last are empty.
      counted: Number of valid time steps in each example, integers ``[...]``.

    Returns:
      Integers ``[..., segments - 1]``, ascending.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg.augment import series
      >>> print(series.random_cuts(jax.random.key(0), jnp.ones((3, 1)), 3, jnp.int32(3)))
      [1 2]
    """
    words = _bits.draw(key, (*x.shape[:-1], 1), like=x)[..., 0] >> 1
    step = times(x).astype(jnp.int32)
    counted = counted[..., None]
    last = jnp.full_like(words, 2**32 - 1)
    words = select((step > 0) & (step < counted), words, last)
    found = jnp.argsort(words, axis=-1).astype(jnp.int32)[..., : segments - 1]
    missing = segments - 1 - found.shape[-1]
    found = jnp.pad(found, [(0, 0)] * (found.ndim - 1) + [(0, missing)])
    enough = jnp.arange(segments - 1, dtype=jnp.int32).reshape(
        (1,) * (found.ndim - 1) + (segments - 1,)
    )
    return jnp.sort(jnp.where(enough < counted - 1, found, counted), axis=-1)


def _even(counted: jax.Array, segments: int) -> jax.Array:
    segment = jnp.arange(1, segments, dtype=counted.dtype)
    segment = segment.reshape((1,) * (counted.ndim - 1) + segment.shape)
    return segment * (counted // segments) + jnp.minimum(segment, counted % segments)


def _whole(counted: jax.Array, x: jax.Array) -> jax.Array:
    """Casts the numbers of valid steps to int32 and broadcasts them to ``[..., 1]``."""
    counted = jnp.broadcast_to(counted.astype(jnp.int32), (*x.shape[:-2], 1))
    return place_by_example(counted, x)


def _integers(value: jax.Array, name: str, shape: tuple[int, ...], x: jax.Array) -> jax.Array:
    if not jnp.issubdtype(jnp.result_type(value), jnp.integer):
        raise TypeError(f"`{name}` must contain integers, got dtype {jnp.result_type(value)}.")
    check_broadcasts(value, name, shape)
    return place_by_example(jnp.broadcast_to(jnp.asarray(value, jnp.int32), shape), x)


def _pick(is_kth: jax.Array, value: jax.Array) -> jax.Array:
    """Permutes values ``[..., segments]`` to the new order of the segments."""
    return jnp.sum(jnp.where(is_kth, value[..., None], 0), axis=-2, dtype=jnp.int32)
