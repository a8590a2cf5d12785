"""Inverted dropout of contiguous blocks of a feature map (DropBlock) at an exact expected rate."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxreg import _bits
from jaxreg._checks import (
    canonical_axes,
    check_floating,
    check_key,
    check_rate,
    check_static_integer,
    is_static,
)
from jaxreg._numerics import as_strength, nan_where, widen
from jaxreg._scopes import mark
from jaxreg._sharding import place_like, whole_along

# Reaches float32 precision from 1e-6 to 1 - 2**-24, for up to 64 x 64 x 64 blocks; 7 would do.
_NEWTON_STEPS = 8


class _Mask(NamedTuple):
    """Static description of a mask: its shape and the block length along each block axis."""

    shape: tuple[int, ...]  # 1 along axes that share a decision
    sizes: tuple[tuple[int, int], ...]  # pairs of an axis and the length of a block

    @property
    def starts(self) -> tuple[int, ...]:
        """Shape of the array of positions at which a block can start and still fit into the map."""
        size = dict(self.sizes)
        return tuple(n - size.get(axis, 1) + 1 for axis, n in enumerate(self.shape))


@mark("rate")
def drop_block(
    key: jax.Array,
    x: jax.Array,
    *,
    rate: ArrayLike,
    block_size: int | Sequence[int],
    axis: int | Sequence[int] | None = None,
    broadcast_axes: int | Sequence[int] = (),
    bits: _bits.Bits | None = None,
) -> jax.Array:
    r"""Drops contiguous blocks of each channel of each example and scales the rest up (DropBlock).

    .. math::

      y_i = \frac{N}{\sum_j m_j} \, m_i x_i, \qquad m_i = \prod_{k \in K_i} (1 - s_k), \qquad
      s_k \sim \mathrm{Bernoulli}(\gamma), \qquad
      \frac 1 N \sum_i (1 - \gamma)^{|K_i|} = 1 - p

    Blocks start independently at the positions :math:`k` where they fit into the map, and
    :math:`K_i` are the starts whose block covers position :math:`i`. Ghiasi et al. approximate
    :math:`\gamma`; here it solves the last equation exactly, so that the expected share of dropped
    elements is :math:`p` for every size of map and block. The scale makes the mean of the mask over
    an example 1; :math:`N` counts the elements of an example, not of the batch, so that examples
    are independent. All elements of an example have the same scale, so in expectation border
    elements, which fewer blocks cover, are above ``x``, and central ones below.

    With blocks of size 1 it is elementwise dropout, and with one block as large as the map it is
    spatial dropout. To drop blocks of features, use ``axis=-1`` on ``[batch, features]``.

    Args:
      key: PRNG key.
      x: Floating-point array ``[batch, *spatial, channels]``.
      rate: Expected share :math:`p` of dropped elements, in ``[0, 1]``; a rate of 1 gives zeros and
        zero gradients.
      block_size: Length of a block along each of the block axes, or one length for all of them.
      axis: The one, two or three block axes; all but the first and the last by default.
      broadcast_axes: Axes along which one decision is shared; ``-1`` drops the same blocks of all
        channels.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.

    Returns:
      Array with the shape and dtype of ``x``; an example that loses every element is zero.

    Raises:
      TypeError: ``x`` is not floating-point, or ``key`` is not a single PRNG key.
      ValueError: ``rate`` is a number outside ``[0, 1]``, a block does not fit into its axis, or
        ``axis`` does not name one to three axes, or names the first axis.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import dropout
      >>> x = jnp.ones((100, 14, 14, 8))
      >>> y = dropout.drop_block(jax.random.key(0), x, rate=0.1, block_size=4)
      >>> print(f"{jnp.mean(y == 0):.2f}", jnp.allclose(jnp.mean(y, axis=(1, 2, 3)), 1))
      0.10 True

    References:
      Ghiasi et al., `DropBlock: A regularization method for convolutional networks
      <https://arxiv.org/abs/1810.12890>`_, 2018
    """
    check_key(key)
    check_floating(x, "x")
    check_rate(rate)
    sizes = _block_sizes(x, axis, block_size)
    shared = canonical_axes(broadcast_axes, x.ndim, "broadcast_axes")
    for a, _ in sizes:
        if a in shared:
            raise ValueError(
                f"`broadcast_axes` must not contain the block axis {a}, got {broadcast_axes}; "
                "to drop more along it, pass a larger `block_size`."
            )
    shape = tuple(1 if a in shared else size for a, size in enumerate(x.shape))
    mask = _Mask(shape, sizes)
    p = jnp.clip(as_strength(rate, x), 0, 1)
    # The compiler folds the unrolled steps of a static rate into a constant.
    start_rate = _start_rate(p, mask, unroll=is_static(rate))
    return _mask_and_scale(key, x, p, start_rate, mask, bits)


def _block_sizes(
    x: jax.Array, axis: int | Sequence[int] | None, block_size: int | Sequence[int]
) -> tuple[tuple[int, int], ...]:
    """Validates ``axis`` and ``block_size`` and returns them as pairs ``(axis, block length)``."""
    given = range(1, x.ndim - 1) if axis is None else axis
    axes = canonical_axes(given, x.ndim)
    if not 1 <= len(axes) <= 3 or 0 in axes:
        raise ValueError(
            "`axis` must name one to three axes, and not the batch axis 0, got "
            f"{axes} for `x` of shape {x.shape}; pass axis=-1 for [batch, features]."
        )
    if not isinstance(block_size, Sequence):
        return tuple((a, _check_block_size(block_size, a, x)) for a in axes)
    order = given if isinstance(given, Sequence) else (given,)
    if len(block_size) != len(axes):
        raise ValueError(
            f"`block_size` must be a single length, or one per block axis, {len(axes)} in all, got "
            f"{block_size}."
        )
    pairs = zip(order, block_size, strict=True)
    return tuple((a % x.ndim, _check_block_size(b, a, x)) for a, b in pairs)


def _check_block_size(size: int, axis: int, x: jax.Array) -> int:
    """Validates the block length for one axis of ``x`` and returns it as an ``int``."""
    check_static_integer(size, "block_size")
    if not 1 <= size <= x.shape[axis]:
        raise ValueError(
            f"`block_size` must be in [1, {x.shape[axis]}], the length of axis {axis} of `x`, got "
            f"{size}."
        )
    return int(size)


@partial(jax.jit, static_argnums=(4, 5))
@partial(jax.checkpoint, static_argnums=(4, 5))
def _mask_and_scale(
    key: jax.Array,
    x: jax.Array,
    rate: jax.Array,
    start_rate: jax.Array,
    mask: _Mask,
    bits: _bits.Bits | None,
) -> jax.Array:
    whole = whole_along(x, [axis for axis, _ in mask.sizes])
    starts = _bits.bernoulli(key, start_rate, mask.starts, like=whole, bits=bits)
    dropped = _cover(starts, mask.sizes)
    of_example = tuple(range(1, x.ndim))
    lost = jnp.sum(dropped, axis=of_example, keepdims=True, dtype=jnp.int32)
    number = int(np.prod(mask.shape[1:]))
    # If nothing is left, dividing by 1 instead of 0 keeps NaN out of the gradient.
    left = jnp.maximum(number - lost, 1).astype(rate.dtype)
    scaled = (widen(x) * (number / left)).astype(x.dtype)
    dropped = place_like(jnp.broadcast_to(dropped, x.shape), x)
    # The converted boolean is 0 where it counts. A scan would store an array of zeros.
    y = jnp.where(dropped, (~dropped).astype(x.dtype), scaled)
    return jnp.where(rate == 0, x, nan_where(jnp.isnan(rate), y))


def _cover(starts: jax.Array, sizes: tuple[tuple[int, int], ...]) -> jax.Array:
    """Expands a boolean mask of block starts to a mask of all positions that the blocks cover."""
    for axis, size in sizes:
        # One axis after the other, so that the work grows with the edge of a block, not its volume.
        window = [1] * starts.ndim
        padding = [(0, 0)] * starts.ndim
        window[axis] = size
        padding[axis] = (size - 1, size - 1)
        ones = [1] * starts.ndim
        starts = jax.lax.reduce_window(starts, False, jax.lax.bitwise_or, window, ones, padding)
    return starts


def _start_rate(rate: jax.Array, mask: _Mask, *, unroll: bool) -> jax.Array:
    r"""Returns the probability of a block start for which the expected drop rate is ``rate``.

    With :math:`s = -\log(1 - \gamma)` and :math:`n_i` blocks that could cover position :math:`i`,
    it solves :math:`\log \mathrm{mean}_i \exp(-s n_i) = \log(1 - p)`. The left side is convex and
    falls, and by Jensen's inequality lies above :math:`-s \, \mathrm{mean}_i n_i`: Newton's method
    started at the root of that line approaches the solution from the left.
    """
    numbers, shares = _coverage(mask)
    n = jnp.asarray(numbers, rate.dtype)
    share = jnp.asarray(shares, rate.dtype)
    rate = jax.lax.stop_gradient(rate)
    target = jnp.log1p(-jnp.minimum(rate, 1 - jnp.finfo(rate.dtype).epsneg))

    def step(_: int, s: jax.Array) -> jax.Array:
        free = jnp.exp(-s * n)
        kept = jnp.sum(share * free)
        # `lost` is `1 - kept`, summed separately so that it is exact when it is tiny.
        lost = -jnp.sum(share * jnp.expm1(-s * n))
        log_kept = jnp.where(lost < 0.5, jnp.log1p(-lost), jnp.log(kept))
        return s + (log_kept - target) * kept / jnp.sum(share * n * free)

    first = -target / float(numbers @ shares)
    s = jax.lax.fori_loop(0, _NEWTON_STEPS, step, first, unroll=unroll)
    return jnp.where(rate >= 1, jnp.ones_like(rate), -jnp.expm1(-s))


def _coverage(mask: _Mask) -> tuple[np.ndarray, np.ndarray]:
    """Counts the blocks that can cover each position; returns distinct counts and frequencies."""
    numbers = np.ones(1)
    shares = np.ones(1)
    for axis, size in mask.sizes:
        length = mask.shape[axis]
        position = np.arange(length)
        first = np.maximum(position - size + 1, 0)
        last = np.minimum(position, length - size)
        along, count = np.unique(last - first + 1, return_counts=True)
        numbers, inverse = np.unique(np.outer(numbers, along).ravel(), return_inverse=True)
        shares = np.bincount(inverse, np.outer(shares, count / length).ravel())
    return numbers, shares
