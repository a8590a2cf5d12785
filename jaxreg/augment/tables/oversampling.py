"""Oversampling by interpolation between two examples of a class."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxreg import _bits
from jaxreg._checks import check_integer, check_key, check_real, check_static_integer
from jaxreg._labels import widen_labels
from jaxreg._numerics import real_dtype, square, widen
from jaxreg._scopes import mark
from jaxreg._sharding import whole_along

Distance = Callable[[jax.Array, jax.Array], jax.Array]

# Number of differences of features in memory at a time: 64 MiB in float32.
_BLOCK = 2**24


@mark()
def smote(
    key: jax.Array,
    x: jax.Array,
    labels: jax.Array,
    *,
    wanted: jax.Array,
    neighbors: int = 5,
    distance: Distance | None = None,
) -> jax.Array:
    r"""Makes new examples by interpolating between an example and a neighbor of the same class.

    .. math::

      s = x_i + u \, (x_j - x_i), \qquad u \sim \mathrm U(0, 1), \quad j \in N(i)

    as in imbalanced-learn: all examples :math:`i` of the class are equally likely, and so are the
    nearest :math:`N(i)` of the same class. This function returns results where imbalanced-learn
    raises: if a class has fewer examples than ``neighbors``, it has fewer neighbors; if it has a
    single example, that one is repeated; if it has none, its new examples are zeros. An example is
    not its own neighbor, but an identical one can be. Among examples at the same distance, earlier
    ones count as nearer.

    Args:
      key: PRNG key.
      x: Floating-point examples ``[examples, ...]``: rows of a table, series, or other arrays.
      labels: Class ids of the examples, integers ``[examples]``.
      wanted: Class ids of the new examples, integers ``[new]``, traced or not. To balance all
        classes, pass ``numpy.repeat(numpy.arange(num_classes), shortfall)`` with the integers that
        :func:`shortfall` returns.
      neighbors: Number of neighbors, positive; Chawla et al. use 5.
      distance: Function of all examples ``[examples, ...]`` and of one example that returns their
        distances ``[examples]``, or numbers in the same order. The default is Euclidean, for a
        series over all steps and channels; your own may weigh channels or align steps.

    Returns:
      Array ``[new, ...]`` of the dtype of ``x``. The search time grows with the number of new
      examples times the number of examples in ``x``, so draw a set once for many epochs.

    Raises:
      TypeError: ``x`` is not real floating-point, ``key`` is not a single PRNG key, or class ids
        are not integers.
      ValueError: The shapes do not fit, ``x`` has no examples, or ``neighbors`` is not positive.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import augment
      >>> x, labels = jnp.array([[0.0, 0.0], [1.0, 2.0], [9.0, 9.0]]), jnp.array([1, 1, 0])
      >>> new = augment.tables.smote(jax.random.key(0), x, labels, wanted=jnp.ones(20, int))
      >>> print(new.shape, jnp.allclose(new[:, 1], 2 * new[:, 0]), new.max() < 2)
      (20, 2) True True

    References:
      Chawla et al., `SMOTE: Synthetic Minority Over-sampling Technique
      <https://arxiv.org/abs/1106.1813>`_, 2002
    """
    check_key(key)
    _check(x, labels, wanted)
    check_static_integer(neighbors, "neighbors")
    if neighbors < 1:
        raise ValueError(f"`neighbors` must be at least 1, got {neighbors}.")
    x = whole_along(jnp.asarray(x), range(x.ndim))
    labels = widen_labels(whole_along(jnp.asarray(labels), [0]))
    wanted = widen_labels(whole_along(jnp.asarray(wanted), [0]))
    wanted = wanted.astype(labels.dtype)
    number = len(wanted)
    drawn = _bits.uniform(key, (number, 3), like=x.reshape(len(x), -1)).astype(real_dtype(x))
    find = _Search(x, labels, min(neighbors, max(len(x) - 1, 1)), distance or _euclidean)
    at_a_time = max(1, min(number, _BLOCK // max(x.size, 1)))
    if not number:
        return x[:0]
    first, second = jax.lax.map(find, (wanted, drawn[:, 0], drawn[:, 1]), batch_size=at_a_time)
    share = drawn[:, 2].reshape((number,) + (1,) * (x.ndim - 1))
    start = widen(x)[first]
    end = widen(x)[second]
    new = (start + share * (end - start)).astype(x.dtype)
    exists = jnp.any(labels[None] == wanted[:, None], axis=1)
    return jnp.where(exists.reshape(share.shape), new, jnp.zeros_like(new))


def shortfall(labels: jax.Array, *, num_classes: int) -> jax.Array:
    """Counts the examples that each class needs to become as large as the largest class.

    Args:
      labels: Class ids, integers ``[examples]``; ids out of range are ignored.
      num_classes: Number of classes.

    Returns:
      Integers ``[num_classes]``.

    Raises:
      TypeError: ``labels`` are not integers.
      ValueError: ``num_classes`` is not positive.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import augment
      >>> print(augment.tables.shortfall(jnp.array([0, 2, 2, 2, 0]), num_classes=3))
      [1 3 0]
    """
    check_integer(labels, "labels")
    check_static_integer(num_classes, "num_classes")
    if num_classes < 1:
        raise ValueError(f"`num_classes` must be at least 1, got {num_classes}.")
    ids = widen_labels(jnp.asarray(labels)).reshape(-1, 1)
    classes = jnp.arange(num_classes, dtype=ids.dtype)[None]
    counts = jnp.sum(ids == classes, axis=0, dtype=jnp.int32)
    return jnp.max(counts) - counts


class _Search:
    """Maps a class id and two uniform numbers to the indices of an example and of its neighbor."""

    def __init__(self, x: jax.Array, labels: jax.Array, neighbors: int, distance: Distance):
        self.x = jax.lax.stop_gradient(widen(x))
        self.labels = labels
        self.neighbors = neighbors
        self.distance = distance

    def __call__(self, item: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        wanted, own_share, neighbor_share = item
        members = self.labels == wanted
        rank = jnp.cumsum(members, dtype=jnp.int32)
        own = jnp.sum(rank <= _index(own_share, rank[-1]), dtype=jnp.int32)
        own = jnp.minimum(own, len(self.x) - 1)
        distances = self.distance(self.x, self.x[own])
        others = members & (jnp.arange(len(self.x), dtype=jnp.int32) != own)
        # An infinitely distant example is still nearer than those that do not count.
        largest = jnp.full_like(distances, jnp.finfo(distances.dtype).max)
        distances = jnp.where(distances < largest, distances, largest)
        distances = jnp.where(others, distances, jnp.full_like(distances, jnp.inf))
        order = jax.lax.top_k(-distances, self.neighbors)[1].astype(jnp.int32)
        found = jnp.minimum(jnp.sum(others, dtype=jnp.int32), self.neighbors)
        neighbor = order[_index(neighbor_share, found)]
        return own, jnp.where(found > 0, neighbor, own)


def _index(share: jax.Array, number: jax.Array) -> jax.Array:
    """Returns ``floor(share * number)`` as int32, less than ``number``; 0 if ``number`` is 0."""
    scaled = jnp.floor(share * number.astype(share.dtype)).astype(jnp.int32)
    return jnp.clip(scaled, 0, jnp.maximum(number - 1, 0))


def _euclidean(x: jax.Array, row: jax.Array) -> jax.Array:
    return jnp.sum(square(x - row[None]), axis=tuple(range(1, x.ndim)))


def _check(x: jax.Array, labels: jax.Array, wanted: jax.Array) -> None:
    """Raises unless ``x``, ``labels`` and ``wanted`` have valid dtypes and matching shapes."""
    check_real(x, "x")
    check_integer(labels, "labels")
    check_integer(wanted, "wanted")
    if x.ndim < 1 or not len(x):
        raise ValueError(
            f"`x` must have at least one example, [examples, ...], got shape {x.shape}."
        )
    if labels.shape != x.shape[:1]:
        raise ValueError(
            f"`labels` must be class ids of shape {x.shape[:1]}, got shape {labels.shape}."
        )
    if wanted.ndim != 1:
        raise ValueError(
            f"`wanted` must be class ids of shape [new], got shape {wanted.shape}; for one class "
            "pass jnp.full(new, label)."
        )
