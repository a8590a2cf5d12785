"""Adaptive instance normalization: content with the statistics of a style."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg._checks import check_eps, check_real, check_shapes
from jaxreg._scopes import mark
from jaxreg._sharding import place_like
from jaxreg.normalization._affine import affine
from jaxreg.normalization._precisions import two_precisions
from jaxreg.normalization.statistics import moments


@mark()
def adaptive_instance_norm(
    x: jax.Array,
    style_mean: jax.Array,
    style_stddev: jax.Array,
    *,
    eps: ArrayLike = 1e-5,
    where: jax.Array | None = None,
) -> jax.Array:
    r"""Gives each channel of each example the mean and standard deviation of a style.

    .. math::

      y_{nc} = s_{nc} \, \frac{x_{nc} - \mu_{nc}}{\sqrt{\sigma_{nc}^2 + \epsilon}} + m_{nc}

    with mean and biased variance over the spatial axes, all but the first and the last. A channel
    that is constant, such as one with a single element, or has no selected element becomes the mean
    of the style.

    Args:
      x: Content, a real floating-point array ``[batch, *spatial, channels]``.
      style_mean: Mean :math:`m` of the style, ``[batch, channels]``.
      style_stddev: Standard deviation :math:`s` of the style, ``[batch, channels]``.
      eps: Added to the variance, zero or positive.
      where: Mask of the elements that enter the statistics, see :mod:`jaxreg.normalization`.

    Returns:
      Array with the shape and dtype of ``x``.

    Raises:
      TypeError: ``x`` is not real floating-point.
      ValueError: ``x`` has no spatial axis, ``eps`` is negative, or ``style_mean`` or
        ``style_stddev`` does not have shape ``[batch, channels]``.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import normalization
      >>> x = jnp.array([[[1.0], [3.0]]])
      >>> mean, std = jnp.array([[10.0]]), jnp.array([[4.0]])
      >>> print(normalization.adaptive_instance_norm(x, mean, std, eps=0.0).ravel())
      [ 6. 14.]

    References:
      Huang and Belongie, `Arbitrary Style Transfer in Real-time with Adaptive Instance
      Normalization <https://arxiv.org/abs/1703.06868>`_, 2017
    """
    check_real(x, "x")
    check_eps(eps)
    if x.ndim < 3:
        raise ValueError(
            f"`x` must have axes [batch, *spatial, channels], got shape {x.shape}; a channel "
            "without spatial axes has no statistics."
        )
    check_shapes([x.shape[0], x.shape[-1]], style_mean=style_mean, style_stddev=style_stddev)
    spatial = tuple(range(1, x.ndim - 1))
    batch = moments(x, axis=spatial, where=where)
    style_stddev = place_like(style_stddev.astype(batch.mean.dtype), batch.mean)
    # Content without selected elements becomes the mean of the style.
    known_std = jnp.where(batch.count > 0, style_stddev, jnp.zeros_like(style_stddev))
    mean = jnp.expand_dims(batch.mean, spatial)
    var = jnp.expand_dims(batch.var, spatial)
    features = (0, x.ndim - 1)
    strengths = {"scale": known_std, "bias": style_mean, "eps": eps}
    return affine(two_precisions(x), mean, var, **strengths, features=features, where=where)
