"""Manifold regularization: penalizes differences between predictions for similar examples."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg._checks import check_between, check_scalar, check_static_integer, is_static
from jaxreg._numerics import as_strength, square, widen
from jaxreg._scopes import mark
from jaxreg._sharding import whole_along
from jaxreg.smoothness._batches import check_batch

# Lengths outside this range have squares that are too small or too large to divide by.
_LENGTHS = (1e-6, 1e15)
# Number of coordinate differences in memory at a time, 64 MiB in float32.
_BLOCK = 2**24


class Neighbors(NamedTuple):
    """Sparse affinities: the neighbors of each example and their weights.

    Attributes:
      indices: Indices of the neighbors, integer, ``[n, neighbors]``.
      weights: The affinities, floating-point, ``[n, neighbors]``.
    """

    indices: jax.Array
    weights: jax.Array


@mark()
def graph_laplacian(predictions: jax.Array, affinity: jax.Array | Neighbors) -> jax.Array:
    r"""Returns the sum of squared differences between predictions, weighted by affinity.

    .. math::

      \sum_{i=1}^n \sum_{j=1}^n w_{ij} \|f_i - f_j\|^2

    The sum runs over ordered pairs, so each pair counts twice if :math:`w` is symmetric. It is then
    :math:`2 \operatorname{tr}(f^\top L f)`, with :math:`L` the Laplacian of the graph. Belkin et
    al. divide by :math:`n^2`. Labels are not used, so unlabeled examples count like labeled ones.
    It is computed from differences, so it is exactly zero where predictions agree, whatever their
    size.

    Args:
      predictions: Real floating-point predictions :math:`f`, ``[n, ...]``: logits, probabilities or
        features.
      affinity: The weights :math:`w`, zero or positive: an array ``[n, n]``, as from
        :func:`rbf_affinity`, or :class:`Neighbors`, as from :func:`knn_affinity`, where :math:`j`
        runs over the neighbors of :math:`i`.

    Returns:
      Scalar, float32 or wider.

    Raises:
      TypeError: ``predictions`` are not floating-point.
      ValueError: ``affinity`` does not have ``n`` rows, or is not square.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import smoothness
      >>> predictions, affinity = jnp.array([[0.0], [3.0]]), jnp.ones((2, 2))
      >>> print(smoothness.graph_laplacian(predictions, affinity))
      18.0

    References:
      Belkin, Niyogi and Sindhwani, `Manifold Regularization
      <https://www.jmlr.org/papers/v7/belkin06a.html>`_, 2006
    """
    check_batch(predictions, "predictions")
    rows = predictions.shape[0]
    if isinstance(affinity, Neighbors):
        _check_neighbors(affinity, rows)
        weights, others = affinity.weights, affinity.indices
    else:
        if affinity.shape != (rows, rows):
            raise ValueError(
                f"`affinity` must have shape {(rows, rows)} for {rows} predictions, got "
                f"{affinity.shape}."
            )
        weights, others = affinity, None
    return jnp.sum(weights.astype(widen(predictions).dtype) * _distances(predictions, others))


def rbf_affinity(x: jax.Array, *, length_scale: ArrayLike) -> jax.Array:
    r"""Returns Gaussian (RBF) affinities of all pairs of examples.

    .. math::

      w_{ij} = \exp\left(-\frac{\|x_i - x_j\|^2}{2 \sigma^2}\right)

    Args:
      x: Real floating-point examples, ``[n, ...]``, labeled or not.
      length_scale: Distance :math:`\sigma`, positive; less than 1e-6 counts as 1e-6, more than 1e15
        as 1e15. Infinity makes all weights 1.

    Returns:
      Array ``[n, n]``, symmetric, float32 or wider, with ones for identical examples.

    Raises:
      TypeError: ``x`` is not floating-point.
      ValueError: ``length_scale`` is a number that is not positive.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import smoothness
      >>> x = jnp.array([[0.0, 0.0], [0.0, 0.0], [3.0, 4.0]])
      >>> print(smoothness.rbf_affinity(x, length_scale=1.0).round(2))
      [[1. 1. 0.]
       [1. 1. 0.]
       [0. 0. 1.]]

    References:
      Belkin and Niyogi, `Laplacian Eigenmaps for Dimensionality Reduction and Data Representation
      <https://doi.org/10.1162/089976603321780317>`_, 2003
    """
    check_batch(x, "x")
    _check_length_scale(length_scale)
    return _similarity(_distances(x, None), length_scale)


def knn_affinity(x: jax.Array, *, neighbors: int, length_scale: ArrayLike) -> Neighbors:
    r"""Returns Gaussian (RBF) affinities of every example to its nearest neighbors.

    .. math::

      w_{ij} = \exp\left(-\frac{\|x_i - x_j\|^2}{2 \sigma^2}\right)
        \quad \text{for } j \in N(i), \qquad 0 \text{ otherwise}

    An example is not its own neighbor, but an identical one can be. Ties are broken in favor of
    lower indices. The relation is not symmetric; :func:`graph_laplacian` counts a pair once for
    each of the two examples that has the other as a neighbor. The search takes time :math:`n^2`, so
    do it once per data set; memory beyond ``x`` grows only with :math:`n`.

    Args:
      x: Real floating-point examples, ``[n, ...]``, labeled or not.
      neighbors: Number of examples in :math:`N(i)`, from 1 to ``n - 1``.
      length_scale: Distance :math:`\sigma`, positive; less than 1e-6 counts as 1e-6, more than 1e15
        as 1e15. Infinity makes all weights 1.

    Returns:
      :class:`Neighbors`: ``indices`` in int32 and ``weights`` in float32 or wider, both of shape
      ``[n, neighbors]``, with the nearest neighbor first.

    Raises:
      TypeError: ``x`` is not floating-point, or ``neighbors`` is not an integer.
      ValueError: ``neighbors`` is out of range, or ``length_scale`` is a number that is not
        positive.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import smoothness
      >>> x = jnp.array([[0.0], [1.0], [3.0]])
      >>> found = smoothness.knn_affinity(x, neighbors=1, length_scale=jnp.inf)
      >>> print(found.indices.ravel(), found.weights.ravel())
      [1 0 1] [1. 1. 1.]

    References:
      Belkin and Niyogi, `Laplacian Eigenmaps for Dimensionality Reduction and Data Representation
      <https://doi.org/10.1162/089976603321780317>`_, 2003
    """
    check_batch(x, "x")
    check_static_integer(neighbors, "neighbors")
    if not 1 <= neighbors < len(x):
        raise ValueError(
            f"`neighbors` must be in [1, {len(x) - 1}] for {len(x)} examples, got {neighbors}; an "
            "example is not its own neighbor."
        )
    _check_length_scale(length_scale)
    x = whole_along(x, range(x.ndim))
    indices = _nearest(jax.lax.stop_gradient(widen(x)).reshape(len(x), -1), neighbors)
    return Neighbors(indices, _similarity(_distances(x, indices), length_scale))


@jax.jit
@jax.checkpoint
def _distances(x: jax.Array, others: jax.Array | None) -> jax.Array:
    """Returns squared distances from each row ``i`` to all rows, or to the rows ``others[i]``.

    It is compiled so that the differences are never in memory; the gradient computes them again.
    """
    flat = widen(x).reshape(len(x), -1)
    whole = whole_along(flat, (0,))
    compared = whole[None] if others is None else whole[others]
    return jnp.sum(square(flat[:, None] - compared), axis=-1)


def _nearest(flat: jax.Array, neighbors: int) -> jax.Array:
    """Returns indices of the nearest neighbors of each row, computed in blocks of rows."""

    def search(item: tuple[jax.Array, jax.Array]) -> jax.Array:
        row, own = item
        distances = jnp.sum(square(flat - row[None]), axis=-1)
        distances = jnp.where(jnp.arange(len(flat)) == own, jnp.inf, distances)
        return jax.lax.top_k(-distances, neighbors)[1]

    rows_at_a_time = max(1, min(len(flat), _BLOCK // max(flat.size, 1)))
    items = (flat, jnp.arange(len(flat)))
    return jax.lax.map(search, items, batch_size=rows_at_a_time).astype(jnp.int32)


def _similarity(distances: jax.Array, length_scale: ArrayLike) -> jax.Array:
    length = jnp.clip(as_strength(length_scale, distances), *_LENGTHS)
    return jnp.exp(-distances / (2 * square(length)))


def _check_length_scale(length_scale: ArrayLike) -> None:
    check_scalar(length_scale, "length_scale")
    check_between(length_scale, "length_scale", 0, math.inf)
    if is_static(length_scale) and float(length_scale) == 0:  # pyright: ignore[reportArgumentType]
        raise ValueError("`length_scale` must be positive, got 0; try the median distance.")


def _check_neighbors(affinity: Neighbors, rows: int) -> None:
    indices, weights = affinity
    if indices.shape != weights.shape or indices.shape[:1] != (rows,) or indices.ndim != 2:
        raise ValueError(
            f"`affinity` must contain two arrays [{rows}, neighbors] for {rows} predictions, got "
            f"{indices.shape} and {weights.shape}."
        )
