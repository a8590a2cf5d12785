"""SpecAugment: spectrograms with warped time, and with erased bands of time and of frequency."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg import _bits
from jaxreg._checks import (
    check_at_least,
    check_broadcasts,
    check_key,
    check_nonnegative,
    check_rate,
    check_scalar,
)
from jaxreg._numerics import as_strength, real_dtype
from jaxreg._scopes import mark
from jaxreg._sharding import place_like
from jaxreg.augment._images import select
from jaxreg.augment.series._draws import uniform
from jaxreg.augment.series._steps import as_series, count_steps, read, replace_steps, times


class SpecPolicy(NamedTuple):
    """Strength of the time warp, and number and width of the erased bands.

    The published policies are ``LIBRISPEECH_BASIC``, ``LIBRISPEECH_DOUBLE``, ``SWITCHBOARD_MILD``
    and ``SWITCHBOARD_STRONG``.

    Attributes:
      warp: Largest number of steps :math:`W` that a point in time moves; traced or not.
      frequency_width: Largest number of channels :math:`F` in a band of frequency; traced or not.
      frequency_masks: Number of such bands, a static integer.
      time_width: Largest number of steps :math:`T` in a band of time; traced or not.
      time_masks: Number of such bands, a static integer.
      time_share: Largest share :math:`p` of a series in one band of time; traced or not.

    >>> from jaxreg.augment import series
    >>> print(series.SWITCHBOARD_MILD.time_width, series.SWITCHBOARD_MILD.time_share)
    70 0.2
    """

    warp: ArrayLike
    frequency_width: ArrayLike
    frequency_masks: int
    time_width: ArrayLike
    time_masks: int
    time_share: ArrayLike = 1.0


LIBRISPEECH_BASIC = SpecPolicy(80, 27, 1, 100, 1, 1.0)
LIBRISPEECH_DOUBLE = SpecPolicy(80, 27, 2, 100, 2, 1.0)
SWITCHBOARD_MILD = SpecPolicy(40, 15, 2, 70, 2, 0.2)
SWITCHBOARD_STRONG = SpecPolicy(40, 27, 2, 70, 2, 0.2)


@mark()
def random_spec_augment(
    key: jax.Array,
    x: jax.Array,
    *,
    policy: SpecPolicy,
    fill: ArrayLike = 0.0,
    length: ArrayLike | None = None,
) -> jax.Array:
    r"""Warps the time axis of a spectrogram, and erases bands of frequency and of time.

    .. math::

      c \sim \mathrm U(W, \tau - 1 - W), \; w \sim \mathrm U(-W, W): \quad
        \text{step } c \text{ moves to } c + w

      f \sim \{0, \dots, F\}, \; f_0 \sim \{0, \dots, \nu - f\}: \quad
        [f_0, f_0 + f) \text{ is erased}

      t \sim \{0, \dots, \min(T, p \tau)\}, \; t_0 \sim \{0, \dots, \tau - t\}: \quad
        [t_0, t_0 + t) \text{ is erased}

    all uniform, for :math:`\tau` steps and :math:`\nu` channels. Time is stretched linearly on
    either side of the point that moves, whereas Park et al. use a spline; both ends stay in place.
    A warp of more than half of the series counts as half of it. Bands are at most :math:`F` and
    :math:`T` wide, as in Park et al. In torchaudio they are always narrower, and by default the
    same for a whole batch.

    Args:
      key: PRNG key.
      x: Floating-point array ``[..., time, frequency]``.
      policy: Widths and numbers of bands, such as ``series.LIBRISPEECH_DOUBLE``. A policy whose
        widths are all 0 is exactly the identity.
      fill: Value for the erased bands, which broadcasts to ``x``. Park et al. use 0, the mean of a
        normalized spectrogram.
      length: Number of valid time steps in each example, an integer. Padding after them is
        unchanged.

    Returns:
      Array with the shape and dtype of ``x``.

    Raises:
      TypeError: ``x`` is not real floating-point, ``key`` is not a single PRNG key, or a number of
        bands is not an integer.
      ValueError: A number of ``policy`` is negative, or the share is above 1.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg.augment import series
      >>> x = jnp.ones((20, 100, 40))
      >>> policy = series.SWITCHBOARD_MILD
      >>> erased = series.random_spec_augment(jax.random.key(0), x, policy=policy) == 0
      >>> channels, steps = erased.all(axis=1).sum(axis=1), erased.all(axis=2).sum(axis=1)
      >>> print(channels.max() <= 2 * 15, steps.max() <= 2 * 20)
      True True

    References:
      Park et al., `SpecAugment: A Simple Data Augmentation Method for Automatic Speech Recognition
      <https://arxiv.org/abs/1904.08779>`_, 2019
    """
    check_key(key)
    x = as_series(x)
    _check_policy(policy)
    check_broadcasts(fill, "fill", x.shape)
    counted = count_steps(length, x)
    warp_key, frequency_key, time_key = jax.random.split(key, 3)
    y = _warp(warp_key, x, policy.warp, counted)
    channels = jnp.asarray(x.shape[-1], real_dtype(x))
    widest = as_strength(policy.frequency_width, x)
    bands = _bands(frequency_key, x, policy.frequency_masks, widest, channels)
    share = jnp.clip(as_strength(policy.time_share, x), 0, 1)
    widest = jnp.minimum(as_strength(policy.time_width, x), share * counted)
    spans = _bands(time_key, x, policy.time_masks, widest, counted)
    channel = jnp.arange(x.shape[-1], dtype=real_dtype(x))
    channel = channel.reshape((1,) * (x.ndim - 2) + channel.shape)
    erased = _within(times(x), spans)[..., None] | _within(channel, bands)[..., None, :]
    erased = erased & (times(x) < counted)[..., None]
    filling = jnp.broadcast_to(as_strength(fill, x).astype(x.dtype), x.shape)
    return select(erased, place_like(filling, x), y)


def _warp(key: jax.Array, x: jax.Array, warp: ArrayLike, counted: jax.Array) -> jax.Array:
    """Moves a random step by a random distance, and stretches both sides linearly."""
    if not x.shape[-2]:
        return x
    last = jnp.maximum(counted - 1, 0)
    drawn = uniform(key, x, 2)
    most = jnp.clip(as_strength(warp, x), 0, last / 2)
    source = most + (last - 2 * most) * drawn[..., :1]
    moved = source + most * (2 * drawn[..., 1:] - 1)
    step = times(x)
    tiny = jnp.finfo(step.dtype).tiny
    before = step * (source / jnp.maximum(moved, tiny))
    after = last - (last - step) * ((last - source) / jnp.maximum(last - moved, tiny))
    position = jnp.where(step < moved, before, after)
    return replace_steps(x, read(x, position), counted, most == 0)


def _bands(
    key: jax.Array, x: jax.Array, number: int, widest: jax.Array, size: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Returns the starts and ends ``[..., number]`` of random bands of whole steps or channels."""
    width_key, begin_key = jax.random.split(key)
    shape = (*x.shape[:-2], number, 1)
    widths = _bits.uniform(width_key, shape, like=x)[..., 0].astype(real_dtype(x))
    begins = _bits.uniform(begin_key, shape, like=x)[..., 0].astype(real_dtype(x))
    widest = jnp.floor(jnp.clip(widest, 0, size))
    widths = jnp.floor(widths * (widest + 1))
    begins = jnp.floor(begins * (size - widths + 1))
    return begins, begins + widths


def _within(position: jax.Array, bands: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Returns booleans ``[..., size]`` that mark the positions inside any of the bands."""
    begins, ends = bands
    begins = begins[..., None]
    ends = ends[..., None]
    position = position[..., None, :]
    return jnp.any((position >= begins) & (position < ends), axis=-2)


def _check_policy(policy: SpecPolicy) -> None:
    for name in ("warp", "frequency_width", "time_width"):
        value = getattr(policy, name)
        check_scalar(value, name)
        check_nonnegative(value, name)
    check_rate(policy.time_share, "time_share")
    for name in ("frequency_masks", "time_masks"):
        check_at_least(getattr(policy, name), name, 0)
