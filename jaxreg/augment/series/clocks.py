"""Augmentations of time: warped, cut and stretched series, with linear interpolation."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg._checks import (
    check_at_least,
    check_between,
    check_broadcasts,
    check_finite,
    is_static,
)
from jaxreg._numerics import as_strength
from jaxreg._scopes import mark
from jaxreg.augment._draws import limit
from jaxreg.augment.series import splines
from jaxreg.augment.series._draws import normal, uniform
from jaxreg.augment.series._steps import (
    as_series,
    count_steps,
    end_at,
    per_example,
    place_by_example,
    read,
    replace_steps,
    times,
)

_LEAST_FACTOR = 1e-6


def time_warp(x: jax.Array, *, log_speeds: ArrayLike, length: ArrayLike | None = None) -> jax.Array:
    r"""Resamples a series at a smoothly changing speed; both ends stay in place.

    .. math::

      y(t) = x(\tau(t)), \qquad
      \tau(t) = (T - 1) \frac{\int_0^t e^{s(r)} \, dr}{\int_0^{T-1} e^{s(r)} \, dr}

    where the cubic spline :math:`s` goes through logarithms that are evenly spaced from the first
    step to the last. So time never runs backward, unlike with a spline through speeds. The integral
    is computed by the trapezoidal rule at the steps. All channels are warped together.

    Args:
      x: Floating-point array ``[..., time, channels]``.
      log_speeds: Logarithms of the speed at its knots, ``[..., knots]``. An example whose
        logarithms are all equal is exactly unchanged.
      length: Number of valid time steps in each example, an integer. The last of them stays in
        place, and padding after it is unchanged.

    Returns:
      Array with the shape and dtype of ``x``.

    Raises:
      TypeError: ``x`` is not real floating-point.
      ValueError: ``log_speeds`` have no knots or do not broadcast to ``[..., knots]``.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg.augment import series
      >>> x = jnp.linspace(0.0, 1.0, 9)[:, None]
      >>> y = series.time_warp(x, log_speeds=jnp.array([1.0, -1.0]))[:, 0]
      >>> print(y[0], y[-1], jnp.all(jnp.diff(y) > 0), jnp.all(y[1:-1] > x[1:-1, 0]))
      0.0 1.0 True True

    References:
      Um et al., `Data Augmentation of Wearable Sensor Data for Parkinson's Disease Monitoring using
      Convolutional Neural Networks <https://arxiv.org/abs/1706.00527>`_, 2017
    """
    x = as_series(x)
    knots = jnp.shape(log_speeds)[-1] if jnp.ndim(log_speeds) else 0
    if not knots:
        raise ValueError(f"`log_speeds` must have shape [..., knots], got {jnp.shape(log_speeds)}.")
    shape = (*x.shape[:-2], knots)
    check_broadcasts(log_speeds, "log_speeds", shape)
    logs = place_by_example(jnp.broadcast_to(as_strength(log_speeds, x), shape), x)
    counted = count_steps(length, x)
    if x.shape[-2] < 2:
        return x
    clock = times(x)
    last = jnp.maximum(counted - 1, 1)
    curve = splines.through(logs[..., None], jnp.minimum(clock * ((knots - 1) / last), knots - 1))
    curve = curve[..., 0]
    fastest = jax.lax.stop_gradient(jnp.max(curve, axis=-1, keepdims=True))
    speed = jnp.exp(curve - fastest)
    passed = jnp.where(clock[..., :-1] < last, (speed[..., :-1] + speed[..., 1:]) / 2, 0)
    passed = jnp.cumsum(jnp.pad(passed, [(0, 0)] * (passed.ndim - 1) + [(1, 0)]), axis=-1)
    position = end_at(last, last * (passed / passed[..., -1:]), x)
    still = jnp.all(logs == logs[..., :1], axis=-1)[..., None]
    return replace_steps(x, read(x, position), counted, still)


@mark("stddev")
def random_time_warp(
    key: jax.Array,
    x: jax.Array,
    *,
    stddev: ArrayLike,
    knots: int,
    length: ArrayLike | None = None,
) -> jax.Array:
    r"""Resamples a series at a random, smoothly changing speed; both ends stay in place.

    .. math::

      \log v_k \sim \mathcal N(0, \sigma^2)

    so that the speed :math:`v_k` at knot :math:`k` is as likely as its reciprocal. Um et al. draw
    speeds from :math:`\mathcal N(1, \sigma^2)`, which agrees to first order but allows negative
    speeds.

    Args:
      key: PRNG key.
      x: Floating-point array ``[..., time, channels]``.
      stddev: Standard deviation :math:`\sigma` of the logarithms; 0 is exactly the identity.
      knots: Number of knots, including both ends. Um et al. do not count the ends, so their 4 knots
        are ``knots=6`` here.
      length: Number of valid time steps in each example, an integer. Padding after them is
        unchanged.

    Returns:
      Array with the shape and dtype of ``x``, see :func:`time_warp`.

    Raises:
      TypeError: ``x`` is not real floating-point, or ``key`` is not a single PRNG key.
      ValueError: ``stddev`` is negative or not a single number, or ``knots`` is not positive.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg.augment import series
      >>> x = jnp.linspace(0.0, 1.0, 50)[:, None]
      >>> y = series.random_time_warp(jax.random.key(0), x, stddev=0.2, knots=6)
      >>> print(y[0], y[-1], jnp.all(jnp.diff(y, axis=0) > 0))
      [0.] [1.] True

    References:
      Um et al., `Data Augmentation of Wearable Sensor Data for Parkinson's Disease Monitoring using
      Convolutional Neural Networks <https://arxiv.org/abs/1706.00527>`_, 2017
    """
    x = as_series(x)
    check_at_least(knots, "knots", 1)
    logs = limit(stddev, "stddev", x) * normal(key, x, knots, 1)[..., 0]
    return time_warp(x, log_speeds=logs, length=length)


def window_slice(
    x: jax.Array, *, start: ArrayLike, share: ArrayLike, length: ArrayLike | None = None
) -> jax.Array:
    r"""Crops a window of a series and stretches it to the full length.

    .. math::

      y(t) = x(a + q t)

    Args:
      x: Floating-point array ``[..., time, channels]``.
      start: Step :math:`a` where the window begins, not necessarily whole: a single number, or one
        per example.
      share: Length :math:`q` of the window as a share of the whole: a single number, or one per
        example; 1 with a start of 0 is exactly the identity.
      length: Number of valid time steps in each example, an integer. Padding after them is
        unchanged.

    Returns:
      Array with the shape and dtype of ``x``. Beyond the last valid step, that step is repeated.

    Raises:
      TypeError: ``x`` is not real floating-point.
      ValueError: An argument does not broadcast to the leading axes of ``x``, or ``share`` is a
        number outside ``[0, 1]``.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg.augment import series
      >>> x = jnp.arange(5.0)[:, None]
      >>> print(series.window_slice(x, start=1, share=0.5)[:, 0])
      [1.  1.5 2.  2.5 3. ]

    References:
      Le Guennec, Malinowski and Tavenard, `Data Augmentation for Time Series Classification using
      Convolutional Neural Networks <https://shs.hal.science/halshs-01357973>`_, 2016
    """
    x = as_series(x)
    _check_share(share)
    start = per_example(start, "start", x)
    share = per_example(share, "share", x)
    counted = count_steps(length, x)
    if not x.shape[-2]:
        return x
    share = jnp.clip(share, 0, 1)
    position = jnp.minimum(start + share * times(x), jnp.maximum(counted - 1, 0))
    return replace_steps(x, read(x, position), counted, (share == 1) & (start == 0))


@mark("share")
def random_window_slice(
    key: jax.Array, x: jax.Array, *, share: ArrayLike, length: ArrayLike | None = None
) -> jax.Array:
    r"""Crops a random window of a series and stretches it to the full length.

    .. math::

      a \sim \mathrm U(0, (1 - q) (T - 1))

    Args:
      key: PRNG key.
      x: Floating-point array ``[..., time, channels]``.
      share: Length :math:`q` of the window as a share of the whole, in ``[0, 1]``; Le Guennec et
        al. use 0.9. 1 is exactly the identity.
      length: Number of valid time steps in each example, an integer. Padding after them is
        unchanged.

    Returns:
      Array with the shape and dtype of ``x``, see :func:`window_slice`.

    Raises:
      TypeError: ``x`` is not real floating-point, or ``key`` is not a single PRNG key.
      ValueError: ``share`` is a number outside ``[0, 1]``.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg.augment import series
      >>> x = jnp.tile(jnp.linspace(0.0, 1.0, 11)[:, None], (50, 1, 1))
      >>> y = series.random_window_slice(jax.random.key(0), x, share=0.9)
      >>> print(jnp.allclose(y[:, -1] - y[:, 0], 0.9), y.min() >= 0, y.max() <= 1)
      True True True

    References:
      Le Guennec, Malinowski and Tavenard, `Data Augmentation for Time Series Classification using
      Convolutional Neural Networks <https://shs.hal.science/halshs-01357973>`_, 2016
    """
    x = as_series(x)
    check_between(share, "share", 0, 1)
    share = jnp.clip(as_strength(share, x), 0, 1)
    room = (1 - share) * jnp.maximum(count_steps(length, x) - 1, 0)
    start = (room * uniform(key, x))[..., 0]
    return window_slice(x, start=start, share=share, length=length)


def window_warp(
    x: jax.Array,
    *,
    start: ArrayLike,
    share: ArrayLike,
    factor: ArrayLike,
    length: ArrayLike | None = None,
) -> jax.Array:
    r"""Slows down or speeds up a window of a series, and resamples the result to the same length.

    .. math::

      y(t) = x(\tau(\rho t)), \qquad \tau(u) = \begin{cases}
        u & u < a \\
        a + (u - a) / f & a \le u < a + f w \\
        u - (f - 1) w & \text{else}
      \end{cases}, \qquad \rho = 1 + (f - 1) \frac{w}{T - 1}

    with a window of :math:`w = q (T - 1)` from step :math:`a`. Both ends stay in place.

    Args:
      x: Floating-point array ``[..., time, channels]``.
      start: Step :math:`a` where the window begins, not necessarily whole: a single number, or one
        per example; a window that would pass the end is shifted to it.
      share: Length :math:`q` of the window as a share of the whole: a single number, or one per
        example; 0 is exactly the identity.
      factor: Factor :math:`f` of the duration of the window, positive: a single number, or one per
        example; 1 is exactly the identity.
      length: Number of valid time steps in each example, an integer. Padding after them is
        unchanged.

    Returns:
      Array with the shape and dtype of ``x``.

    Raises:
      TypeError: ``x`` is not real floating-point.
      ValueError: An argument does not broadcast to the leading axes of ``x``, ``share`` is a number
        outside ``[0, 1]``, or ``factor`` is not positive.

    Example:
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> from jaxreg.augment import series
      >>> x = jnp.arange(7.0)[:, None]
      >>> warped = series.window_warp(x, start=0, share=0.5, factor=3.0)
      >>> print(np.asarray(warped[:, 0]).round(2))
      [0.   0.67 1.33 2.   2.67 4.   6.  ]

    References:
      Le Guennec, Malinowski and Tavenard, `Data Augmentation for Time Series Classification using
      Convolutional Neural Networks <https://shs.hal.science/halshs-01357973>`_, 2016
    """
    x = as_series(x)
    _check_share(share)
    _check_factor(factor, "factor")
    a = per_example(start, "start", x)
    q = per_example(share, "share", x)
    f = per_example(factor, "factor", x)
    counted = count_steps(length, x)
    if not x.shape[-2]:
        return x
    q = jnp.clip(q, 0, 1)
    f = jnp.maximum(f, _LEAST_FACTOR)
    last = jnp.maximum(counted - 1, 0)
    w = q * last
    a = jnp.clip(a, 0, last - w)
    u = times(x) * (1 + (f - 1) * q)
    within = a + (u - a) / f
    position = jnp.where(u < a, u, jnp.where(u < a + f * w, within, u - (f - 1) * w))
    y = read(x, end_at(last, position, x))
    return replace_steps(x, y, counted, (q == 0) | (f == 1))


@mark("share")
def random_window_warp(
    key: jax.Array,
    x: jax.Array,
    *,
    share: ArrayLike,
    factors: tuple[ArrayLike, ArrayLike] = (0.5, 2.0),
    length: ArrayLike | None = None,
) -> jax.Array:
    """Slows down or speeds up a random window of a series, with equal probability.

    Args:
      key: PRNG key.
      x: Floating-point array ``[..., time, channels]``.
      share: Length of the window as a share of the whole, in ``[0, 1]``; 0 is exactly the identity.
        All places are equally likely.
      factors: The two factors of the duration of the window, positive.
      length: Number of valid time steps in each example, an integer. Padding after them is
        unchanged.

    Returns:
      Array with the shape and dtype of ``x``, see :func:`window_warp`.

    Raises:
      TypeError: ``x`` is not real floating-point, or ``key`` is not a single PRNG key.
      ValueError: ``share`` is a number outside ``[0, 1]``, or a factor is not positive.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg.augment import series
      >>> x = jnp.tile(jnp.linspace(0.0, 1.0, 50)[:, None], (20, 1, 1))
      >>> y = series.random_window_warp(jax.random.key(0), x, share=0.1)
      >>> print(y[:, 0].max(), y[:, -1].min(), jnp.all(jnp.diff(y, axis=1) > 0))
      0.0 1.0 True

    References:
      Le Guennec, Malinowski and Tavenard, `Data Augmentation for Time Series Classification using
      Convolutional Neural Networks <https://shs.hal.science/halshs-01357973>`_, 2016
    """
    x = as_series(x)
    check_between(share, "share", 0, 1)
    if len(factors) != 2:
        raise ValueError(f"`factors` must be a pair, got {len(factors)} factors.")
    for factor in factors:
        _check_factor(factor, "factors")
    drawn = uniform(key, x, 2)
    share = jnp.clip(as_strength(share, x), 0, 1)
    room = (1 - share) * jnp.maximum(count_steps(length, x) - 1, 0)
    start = (room * drawn[..., :1])[..., 0]
    one = as_strength(factors[0], x)
    other = as_strength(factors[1], x)
    factor = jnp.where(drawn[..., 1] < 0.5, one, other)
    return window_warp(x, start=start, share=share, factor=factor, length=length)


def _check_share(share: ArrayLike) -> None:
    if jnp.ndim(share) == 0:
        check_between(share, "share", 0, 1)


def _check_factor(factor: ArrayLike, name: str) -> None:
    if is_static(factor) and not float(factor) > 0:  # pyright: ignore[reportArgumentType]
        raise ValueError(f"`{name}` must be positive, got {factor}; pass 1 for no change.")
    check_finite(factor, name)
