"""Gaussian mixtures: fits a mixture to each class, and draws new examples from it."""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg import _bits
from jaxreg._checks import (
    check_finite,
    check_integer,
    check_key,
    check_nonnegative,
    check_real,
    check_scalar,
    check_static_integer,
)
from jaxreg._labels import widen_labels
from jaxreg._numerics import as_strength, widen
from jaxreg._scopes import mark
from jaxreg._sharding import whole_along

_PRECISE = jax.lax.Precision.HIGHEST


class Mixture(NamedTuple):
    """One mixture of Gaussians per class, over examples of any shape.

    Attributes:
      weights: Weights of the components, ``[num_classes, components]``.
      means: Means of the components, ``[num_classes, components, ...]``.
      covariances: Covariances of the components over the flattened features,
        ``[num_classes, components, features, features]``.

    >>> import jax, jax.numpy as jnp
    >>> from jaxreg import augment
    >>> weights, means, covariances = jnp.ones((1, 1)), jnp.zeros((1, 1, 2)), jnp.eye(2)[None, None]
    >>> mixture = augment.tables.Mixture(weights, means, covariances)
    >>> new = augment.tables.sample_mixture(jax.random.key(0), mixture, wanted=jnp.zeros(9, int))
    >>> print(new.shape)
    (9, 2)
    """

    weights: jax.Array
    means: jax.Array
    covariances: jax.Array


def fit_mixture(
    key: jax.Array,
    x: jax.Array,
    labels: jax.Array,
    *,
    num_classes: int,
    components: int,
    steps: int,
    ridge: ArrayLike = 1e-6,
) -> Mixture:
    r"""Fits a mixture of Gaussians to the examples of each class, by expectation maximization.

    .. math::

      r_{ik} \propto \pi_k \, \mathcal N(x_i; \mu_k, \Sigma_k), \quad
      \pi_k = \frac 1 n \sum_i r_{ik}, \quad
      \mu_k = \frac{\sum_i r_{ik} x_i}{\sum_i r_{ik}}, \quad
      \Sigma_k = \frac{\sum_i r_{ik} (x_i - \mu_k)(x_i - \mu_k)^\top}{\sum_i r_{ik}} + \lambda I

    Means start at examples far from each other (k-means++), covariances at the covariance of the
    class, and weights at equal values.

    Args:
      key: PRNG key for the start.
      x: Floating-point examples ``[examples, ...]``: rows of a table, series, or other arrays.
      labels: Class ids, integers ``[examples]``; ids out of range are ignored.
      num_classes: Number of classes.
      components: Number of Gaussians per class. More components than examples are useless, and
        covariances of many features need many examples or a large ``ridge``.
      steps: Number of steps of expectation maximization.
      ridge: Number :math:`\lambda` added to variances, zero or positive; 1e-6 in scikit-learn.
        Values below a millionth of the variance of the class are raised to it, for float32.

    Returns:
      The mixtures, float32 or wider. A class without examples has zero means.

    Raises:
      TypeError: ``x`` is not real floating-point, ``key`` is not a single PRNG key, or ``labels``
        are not integers.
      ValueError: The shapes do not fit, a number is not positive, or ``ridge`` is negative or
        infinite.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import augment
      >>> x, labels = jnp.array([[-1.0], [1.0], [5.0], [7.0]]), jnp.zeros(4, int)
      >>> fitted = augment.tables.fit_mixture(
      ...     jax.random.key(0), x, labels, num_classes=1, components=2, steps=10
      ... )
      >>> print(jnp.sort(fitted.means[0, :, 0]).round(2), fitted.weights[0].round(2))
      [0. 6.] [0.5 0.5]

    References:
      Dempster, Laird and Rubin, `Maximum Likelihood from Incomplete Data via the EM Algorithm
      <https://doi.org/10.1111/j.2517-6161.1977.tb01600.x>`_, 1977
      Arthur and Vassilvitskii, `k-means++: The Advantages of Careful Seeding
      <https://dl.acm.org/doi/10.5555/1283383.1283494>`_, 2007
    """
    check_key(key)
    check_real(x, "x")
    check_integer(labels, "labels")
    if x.ndim < 1 or not len(x) or labels.shape != x.shape[:1]:
        raise ValueError(
            "`x` must have at least one example, [examples, ...], and `labels` one id per example, "
            "[examples], got shapes "
            f"{x.shape} and {labels.shape}."
        )
    _check_count(num_classes, "num_classes", least=1)
    _check_count(components, "components", least=1)
    _check_count(steps, "steps", least=0)
    check_scalar(ridge, "ridge")
    check_nonnegative(ridge, "ridge")
    check_finite(ridge, "ridge")
    x = jnp.asarray(x)
    flat = widen(whole_along(x, range(x.ndim))).reshape(len(x), -1)
    ids = widen_labels(whole_along(jnp.asarray(labels), [0]))
    counted = (ids[None] == jnp.arange(num_classes, dtype=ids.dtype)[:, None]).astype(flat.dtype)
    fit = partial(_fit, flat, components=components, steps=steps, ridge=as_strength(ridge, x))
    weights, means, covariances = jax.vmap(fit)(jax.random.split(key, num_classes), counted)
    return Mixture(weights, means.reshape((num_classes, components, *x.shape[1:])), covariances)


@mark()
def sample_mixture(key: jax.Array, mixture: Mixture, *, wanted: jax.Array) -> jax.Array:
    r"""Draws new examples of the ``wanted`` classes from their mixtures of Gaussians.

    .. math::

      k \sim \pi, \qquad s \sim \mathcal N(\mu_k, \Sigma_k)

    Args:
      key: PRNG key.
      mixture: Mixtures, such as the result of :func:`fit_mixture`.
      wanted: Class ids of the new examples, integers ``[new]``, traced or not, as for
        :func:`smote`. An id out of range counts as the nearest class.

    Returns:
      Array ``[new, ...]`` of the dtype of the means.

    Raises:
      TypeError: ``key`` is not a single PRNG key, or a class id is not an integer.
      ValueError: ``wanted`` is not of shape ``[new]``.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import augment
      >>> means = jnp.array([[[0.0], [100.0]]])
      >>> mixture = augment.tables.Mixture(jnp.array([[0.5, 0.5]]), means, jnp.ones((1, 2, 1, 1)))
      >>> new = augment.tables.sample_mixture(jax.random.key(0), mixture, wanted=jnp.zeros(50, int))
      >>> print(jnp.all((abs(new) < 10) | (abs(new - 100) < 10)))
      True
    """
    check_key(key)
    check_integer(wanted, "wanted")
    check_real(mixture.means, "means")
    if wanted.ndim != 1:
        raise ValueError(
            f"`wanted` must be class ids of shape [new], got shape {wanted.shape}; for one class "
            "pass jnp.full(new, label)."
        )
    mixture = Mixture(*(jnp.asarray(array) for array in mixture))
    dtype = widen(mixture.means).dtype
    weights = _gather(mixture.weights, dtype)
    means = _gather(mixture.means, dtype)
    covariances = _gather(mixture.covariances, dtype)
    classes, components = weights.shape
    flat = means.reshape(classes, components, -1)
    which_key, noise_key = jax.random.split(key)
    ids = widen_labels(whole_along(jnp.asarray(wanted), [0]))
    chosen = jnp.clip(ids, 0, classes - 1)
    share = _bits.uniform(which_key, (len(wanted), 1), like=weights).astype(weights.dtype)
    bounds = jnp.cumsum(weights, axis=-1)
    above = share * bounds[chosen, -1:] >= bounds[chosen, :-1]
    component = jnp.sum(above, axis=-1, dtype=jnp.int32)
    noise = _bits.normal(noise_key, (len(wanted), flat.shape[-1]), like=weights)
    root = jnp.linalg.cholesky(covariances)[chosen, component]
    moved = jnp.einsum("nij,nj->ni", root, noise.astype(flat.dtype), precision=_PRECISE)
    new = flat[chosen, component] + moved
    return new.reshape((len(wanted), *means.shape[2:])).astype(mixture.means.dtype)


def _check_count(value: int, name: str, *, least: int) -> None:
    check_static_integer(value, name)
    if value < least:
        raise ValueError(f"`{name}` must be at least {least}, got {value}.")


def _gather(array: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """Replicates an array on all devices, and casts it to ``dtype``."""
    return whole_along(array, range(array.ndim)).astype(dtype)


def _fit(
    x: jax.Array,
    key: jax.Array,
    counted: jax.Array,
    *,
    components: int,
    steps: int,
    ridge: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Fits a mixture to the rows of ``x`` where ``counted`` is 1, after centering for precision."""
    number = jnp.maximum(jnp.sum(counted), 1)
    x = jnp.where(counted[:, None] > 0, x, jnp.zeros_like(x))
    center = jnp.matmul(counted, x, precision=_PRECISE) / number
    x = jnp.where(counted[:, None] > 0, x - center[None], jnp.zeros_like(x))
    covariance = jnp.matmul(x.T, x, precision=_PRECISE) / number
    variance = jnp.trace(covariance) / max(x.shape[1], 1)
    least = jnp.maximum(ridge, _LEAST_RIDGE * variance)
    # Without any example the variance is 0, and the ridge may be 0 too.
    diagonal = jnp.maximum(least, jnp.finfo(x.dtype).tiny ** 0.5) * jnp.eye(x.shape[1])
    diagonal = diagonal.astype(x.dtype)
    means = _seeds(key, x, counted, components)
    weights = jnp.full(components, 1 / components, x.dtype)
    start = (weights, means, jnp.stack([covariance + diagonal] * components))

    def step(mixture, _):
        return _maximize(x, counted, _expect(x, *mixture), diagonal), None

    weights, means, covariances = jax.lax.scan(step, start, length=steps)[0]
    return weights, means + center[None], covariances


_LEAST_RIDGE = 1e-6


def _seeds(key: jax.Array, x: jax.Array, counted: jax.Array, components: int) -> jax.Array:
    """Picks rows as initial means with k-means++, which favors rows far from earlier picks."""

    def choose(nearest, key):
        share = jax.random.uniform(key, dtype=x.dtype)
        bounds = jnp.cumsum(nearest)
        row = x[jnp.clip(jnp.sum(bounds <= share * bounds[-1]), 0, len(x) - 1)]
        distances = jnp.sum((x - row[None]) ** 2, axis=1)
        return jnp.minimum(nearest, counted * distances), row

    first, *others = jax.random.split(key, components)
    _, row = choose(counted, first)
    nearest = counted * jnp.sum((x - row[None]) ** 2, axis=1)
    rows = [row]
    for other in others:
        nearest, row = choose(nearest, other)
        rows.append(row)
    return jnp.stack(rows)


def _expect(
    x: jax.Array, weights: jax.Array, means: jax.Array, covariances: jax.Array
) -> jax.Array:
    """Returns the probability of each component for each row, ``[rows, components]``."""

    def log_density(mean, covariance):
        root = jnp.linalg.cholesky(covariance)
        centered = (x - mean[None]).T
        z = jax.lax.linalg.triangular_solve(root, centered, left_side=True, lower=True)
        log_volume = jnp.sum(jnp.log(jnp.diagonal(root)))
        return -jnp.sum(z**2, axis=0) / 2 - log_volume - x.shape[1] * math.log(2 * math.pi) / 2

    logs = jax.vmap(log_density, out_axes=1)(means, covariances)
    return jax.nn.softmax(logs + jnp.log(weights)[None], axis=1)


def _maximize(
    x: jax.Array, counted: jax.Array, shares: jax.Array, diagonal: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns the maximum-likelihood mixture, given the share of each component in each row."""
    shares = shares * counted[:, None]
    total = jnp.sum(shares, axis=0) + 10 * jnp.finfo(x.dtype).eps
    means = jnp.matmul(shares.T, x, precision=_PRECISE) / total[:, None]

    def covariance(mean, share, sum_of_shares):
        centered = x - mean[None]
        spread = jnp.matmul((share[:, None] * centered).T, centered, precision=_PRECISE)
        return spread / sum_of_shares + diagonal

    covariances = jax.vmap(covariance, in_axes=(0, 1, 0))(means, shares, total)
    return total / jnp.sum(total), means, covariances
