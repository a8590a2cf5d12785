"""SpecAugment: spectrograms with a warped time, and with bands of time and of frequency erased."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg import _bits
from jaxreg._checks import check_broadcasts, check_key, check_nonnegative, check_rate, check_scalar
from jaxreg._numerics import as_strength, real_dtype
from jaxreg._sharding import place_like
from jaxreg.augment._shared import select
from jaxreg.augment.series._shared import check_number, checked, kept, read, steps, times, uniform


class SpecPolicy(NamedTuple):
    """How far time is warped, and how many bands of what width are erased.

    The published ones are ``LIBRISPEECH_BASIC``, ``LIBRISPEECH_DOUBLE``, ``SWITCHBOARD_MILD`` and
    ``SWITCHBOARD_STRONG``.

    Attributes:
      warp: Most steps :math:`W` by which a point in time is moved; traced or not.
      frequency_width: Most channels :math:`F` of a band of frequency; traced or not.
      frequency_masks: Number of such bands, an integer that shapes the program.
      time_width: Most steps :math:`T` of a band of time; traced or not.
      time_masks: Number of such bands, an integer that shapes the program.
      time_share: Most of a series that one band of time may take, :math:`p`; traced or not.

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


def random_spec_augment(
    key: jax.Array,
    x: jax.Array,
    *,
    policy: SpecPolicy,
    fill: ArrayLike = 0.0,
    length: ArrayLike | None = None,
) -> jax.Array:
    r"""Warps the time of a spectrogram, and erases bands of frequency and of time.

    .. math::

      c \sim \mathrm U(W, \tau - 1 - W), \; w \sim \mathrm U(-W, W): \quad
        \text{step } c \text{ moves to } c + w

      f \sim \{0, \dots, F\}, \; f_0 \sim \{0, \dots, \nu - f\}: \quad
        [f_0, f_0 + f) \text{ is erased}

      t \sim \{0, \dots, \min(T, p \tau)\}, \; t_0 \sim \{0, \dots, \tau - t\}: \quad
        [t_0, t_0 + t) \text{ is erased}

    each number as likely, for :math:`\tau` steps and :math:`\nu` channels. Time is stretched
    linearly on either side of the point that moves, where the paper has a spline through it; both
    ends stay. A warp of more than half of the series counts as half of it. Bands are as wide as
    :math:`F` and :math:`T` at most, as in the paper; those of torchaudio are always narrower, and
    the same for a whole batch unless told.

    Args:
      key: PRNG key.
      x: Floating-point array ``[..., time, frequency]``.
      policy: Widths and numbers of bands, such as ``series.LIBRISPEECH_DOUBLE``. A policy of which
        all widths are 0 is the identity to the bit.
      fill: What takes the place of the erased: anything that broadcasts to ``x``. The paper's 0 is
        the mean of a normalized spectrogram.
      length: Steps of each example that count, an integer; what follows stays as it is.

    Returns:
      Array with the shape and dtype of ``x``.

    Raises:
      TypeError: ``x`` is not real floating-point, ``key`` is not one key, or a number of bands not
        an integer.
      ValueError: A number of ``policy`` is negative or, where it is a share, above 1.

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
    x = checked(x)
    _check_policy(policy)
    check_broadcasts(fill, "fill", x.shape)
    counted = steps(length, x)
    warp_key, frequency_key, time_key = jax.random.split(key, 3)
    y = _warped(warp_key, x, policy.warp, counted)
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


def _warped(key: jax.Array, x: jax.Array, warp: ArrayLike, counted: jax.Array) -> jax.Array:
    """The series with a random point moved at random, and the rest stretched linearly."""
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
    return kept(x, read(x, position), counted, most == 0)


def _bands(
    key: jax.Array, x: jax.Array, number: int, widest: jax.Array, size: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Begins and ends of random bands of whole steps or channels, ``[..., number]``."""
    width_key, begin_key = jax.random.split(key)
    shape = (*x.shape[:-2], number, 1)
    widths, begins = (
        _bits.uniform(k, shape, like=x)[..., 0].astype(real_dtype(x))
        for k in (width_key, begin_key)
    )
    widest = jnp.floor(jnp.clip(widest, 0, size))
    widths = jnp.floor(widths * (widest + 1))
    begins = jnp.floor(begins * (size - widths + 1))
    return begins, begins + widths


def _within(position: jax.Array, bands: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Which positions ``[..., size]`` lie within any of the bands."""
    begins, ends = (end[..., None] for end in bands)
    position = position[..., None, :]
    return jnp.any((position >= begins) & (position < ends), axis=-2)


def _check_policy(policy: SpecPolicy) -> None:
    for name in ("warp", "frequency_width", "time_width"):
        value = getattr(policy, name)
        check_scalar(value, name)
        check_nonnegative(value, name)
    check_rate(policy.time_share, "time_share")
    for name in ("frequency_masks", "time_masks"):
        check_number(getattr(policy, name), name, 0)
