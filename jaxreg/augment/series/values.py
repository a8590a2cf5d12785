"""Augmentations of the values of a series: noise, scale, and a scale that changes in time."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg import noise
from jaxreg._checks import check_at_least, check_broadcasts, check_scalar
from jaxreg._numerics import as_strength, widen
from jaxreg._scopes import mark
from jaxreg.augment._draws import limit
from jaxreg.augment.series import splines
from jaxreg.augment.series._draws import normal
from jaxreg.augment.series._steps import (
    as_series,
    count_steps,
    place_by_example,
    replace_steps,
    times,
)


@mark("stddev")
def random_jitter(
    key: jax.Array, x: jax.Array, *, stddev: ArrayLike, length: ArrayLike | None = None
) -> jax.Array:
    r"""Adds independent normal noise to every step and channel of a series.

    .. math::

      y_{tc} = x_{tc} + \sigma \varepsilon_{tc}, \qquad \varepsilon_{tc} \sim \mathcal N(0, 1)

    Args:
      key: PRNG key.
      x: Floating-point array ``[..., time, channels]``.
      stddev: Standard deviation :math:`\sigma`, in units of ``x``; 0 is exactly the identity.
      length: Number of valid time steps in each example, an integer. Padding after them is
        unchanged.

    Returns:
      Array with the shape and dtype of ``x``.

    Raises:
      TypeError: ``x`` is not real floating-point, or ``key`` is not a single PRNG key.
      ValueError: ``stddev`` is negative or not a single number, or ``x`` lacks an axis.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg.augment import series
      >>> y = series.random_jitter(jax.random.key(0), jnp.zeros((100, 90, 3)), stddev=0.1)
      >>> print(f"{y.std():.2f}")
      0.10

    References:
      Um et al., `Data Augmentation of Wearable Sensor Data for Parkinson's Disease Monitoring using
      Convolutional Neural Networks <https://arxiv.org/abs/1706.00527>`_, 2017
    """
    x = as_series(x)
    check_scalar(stddev, "stddev")
    y = noise.gaussian_noise(key, x, stddev=stddev)
    if length is None:
        return y
    return replace_steps(x, y, count_steps(length, x), jnp.zeros((), bool))


def scaling(x: jax.Array, *, factor: ArrayLike, length: ArrayLike | None = None) -> jax.Array:
    r"""Multiplies every channel of a series by a factor that is constant in time.

    .. math::

      y_{tc} = f_c x_{tc}

    Args:
      x: Floating-point array ``[..., time, channels]``.
      factor: Factor :math:`f`: a single number, one per channel, or ``[..., channels]``. 1 is
        exactly the identity.
      length: Number of valid time steps in each example, an integer. Padding after them is
        unchanged.

    Returns:
      Array with the shape and dtype of ``x``.

    Raises:
      TypeError: ``x`` is not real floating-point.
      ValueError: ``factor`` does not broadcast to ``[..., channels]``.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg.augment import series
      >>> print(series.scaling(jnp.ones((3, 2)), factor=jnp.array([2.0, 5.0])))
      [[2. 5.]
       [2. 5.]
       [2. 5.]]
    """
    x = as_series(x)
    shape = (*x.shape[:-2], x.shape[-1])
    check_broadcasts(factor, "factor", shape)
    factor = place_by_example(jnp.broadcast_to(as_strength(factor, x), shape), x)
    y = (factor[..., None, :] * widen(x)).astype(x.dtype)
    still = jnp.all(factor == 1, axis=-1)[..., None]
    return replace_steps(x, y, count_steps(length, x), still)


@mark("stddev")
def random_scaling(
    key: jax.Array, x: jax.Array, *, stddev: ArrayLike, length: ArrayLike | None = None
) -> jax.Array:
    r"""Multiplies every channel of every example by a random factor.

    .. math::

      f_c \sim \mathcal N(1, \sigma^2)

    Args:
      key: PRNG key.
      x: Floating-point array ``[..., time, channels]``.
      stddev: Standard deviation :math:`\sigma` of the factor; 0 is exactly the identity.
      length: Number of valid time steps in each example, an integer. Padding after them is
        unchanged.

    Returns:
      Array with the shape and dtype of ``x``, see :func:`scaling`.

    Raises:
      TypeError: ``x`` is not real floating-point, or ``key`` is not a single PRNG key.
      ValueError: ``stddev`` is negative or not a single number.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg.augment import series
      >>> x = jnp.linspace(1.0, 2.0, 5)[:, None]
      >>> y = series.random_scaling(jax.random.key(0), x, stddev=0.1)
      >>> print(jnp.allclose(y / x, y[0] / x[0]))
      True

    References:
      Um et al., `Data Augmentation of Wearable Sensor Data for Parkinson's Disease Monitoring using
      Convolutional Neural Networks <https://arxiv.org/abs/1706.00527>`_, 2017
    """
    x = as_series(x)
    factor = 1 + limit(stddev, "stddev", x) * normal(key, x, 1, x.shape[-1])
    return scaling(x, factor=factor[..., 0, :], length=length)


def magnitude_warp(
    x: jax.Array, *, factors: ArrayLike, length: ArrayLike | None = None
) -> jax.Array:
    r"""Multiplies every channel of a series by a smooth curve in time.

    .. math::

      y_{tc} = s_c(t) \, x_{tc}

    where the cubic spline :math:`s_c` goes through factors that are evenly spaced from the first
    step to the last.

    Args:
      x: Floating-point array ``[..., time, channels]``.
      factors: Values of the curve at its knots, ``[..., knots, channels]``, or with a single
        channel that all channels share. An example whose factors are all 1 is exactly unchanged.
      length: Number of valid time steps in each example, an integer. The last knot is at the last
        of them, and padding after it is unchanged.

    Returns:
      Array with the shape and dtype of ``x``.

    Raises:
      TypeError: ``x`` is not real floating-point.
      ValueError: ``factors`` have no knots or do not broadcast to ``[..., knots, channels]``.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg.augment import series
      >>> print(series.magnitude_warp(jnp.ones((5, 1)), factors=jnp.array([[1.0], [3.0]]))[:, 0])
      [1.  1.5 2.  2.5 3. ]

    References:
      Um et al., `Data Augmentation of Wearable Sensor Data for Parkinson's Disease Monitoring using
      Convolutional Neural Networks <https://arxiv.org/abs/1706.00527>`_, 2017
    """
    x = as_series(x)
    knots = jnp.shape(factors)[-2] if jnp.ndim(factors) > 1 else 0
    if not knots:
        raise ValueError(
            f"`factors` must have shape [..., knots, channels], got {jnp.shape(factors)}."
        )
    shape = (*x.shape[:-2], knots, x.shape[-1])
    check_broadcasts(factors, "factors", shape)
    factors = place_by_example(jnp.broadcast_to(as_strength(factors, x), shape), x)
    counted = count_steps(length, x)
    position = times(x) * ((knots - 1) / jnp.maximum(counted - 1, 1))
    curve = splines.through(factors, jnp.minimum(position, knots - 1))
    y = (curve * widen(x)).astype(x.dtype)
    return replace_steps(x, y, counted, jnp.all(factors == 1, axis=(-2, -1))[..., None])


@mark("stddev")
def random_magnitude_warp(
    key: jax.Array,
    x: jax.Array,
    *,
    stddev: ArrayLike,
    knots: int,
    length: ArrayLike | None = None,
) -> jax.Array:
    r"""Multiplies every channel of a series by a smooth random curve around 1.

    .. math::

      f_{kc} \sim \mathcal N(1, \sigma^2)

    Args:
      key: PRNG key.
      x: Floating-point array ``[..., time, channels]``.
      stddev: Standard deviation :math:`\sigma` of the factors; 0 is exactly the identity.
      knots: Number of knots, including both ends. Um et al. do not count the ends, so their 4 knots
        are ``knots=6`` here.
      length: Number of valid time steps in each example, an integer. Padding after them is
        unchanged.

    Returns:
      Array with the shape and dtype of ``x``, see :func:`magnitude_warp`.

    Raises:
      TypeError: ``x`` is not real floating-point, or ``key`` is not a single PRNG key.
      ValueError: ``stddev`` is negative or not a single number, or ``knots`` is not positive.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg.augment import series
      >>> x = jnp.zeros((8, 50, 3)).at[:, 25:].set(1.0)
      >>> y = series.random_magnitude_warp(jax.random.key(0), x, stddev=0.2, knots=6)
      >>> print(abs(y[:, :25]).max(), abs(jnp.diff(y[:, 25:], axis=1)).max() < 0.2)
      0.0 True

    References:
      Um et al., `Data Augmentation of Wearable Sensor Data for Parkinson's Disease Monitoring using
      Convolutional Neural Networks <https://arxiv.org/abs/1706.00527>`_, 2017
    """
    x = as_series(x)
    check_at_least(knots, "knots", 1)
    factors = 1 + limit(stddev, "stddev", x) * normal(key, x, knots, x.shape[-1])
    return magnitude_warp(x, factors=factors, length=length)
