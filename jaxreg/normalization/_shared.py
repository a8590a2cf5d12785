"""What the norms share: masks, shapes, and the affine map that statistics make."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg._checks import canonical_groups, check_mask
from jaxreg._numerics import as_strength, inverse_root, real_dtype, wide_dtype, widen
from jaxreg._sharding import varying_axes


def align_mask(where: ArrayLike, x: jax.Array) -> jax.Array:
    """Turns a mask of any dtype into booleans with as many axes as ``x``.

    Raises:
      ValueError: The mask does not broadcast to ``x``.
    """
    check_mask(where, x)
    mask = jnp.asarray(where).astype(bool)
    return jnp.expand_dims(mask, tuple(range(x.ndim - mask.ndim)))


class Devices(NamedTuple):
    """The devices that share statistics: those along mesh axes, or each group of them."""

    axis_name: str | tuple[str, ...]
    groups: tuple[tuple[int, ...], ...] | None

    def total(self, tree: Any) -> Any:
        """Sums over these devices.

        Raises:
          ValueError: The groups do not hold each index of the axis once.
        """
        if not self.axis_name:
            return tree
        if self.groups is None:
            return jax.lax.psum(tree, self.axis_name)
        number = jax.lax.axis_size(self.axis_name)
        if sorted(index for group in self.groups for index in group) != list(range(number)):
            raise ValueError(
                f"`axis_index_groups` must hold each index of {self.axis_name!r}, 0 to "
                f"{number - 1}, once, got {self.groups}."
            )
        try:
            return jax.lax.psum(tree, self.axis_name, axis_index_groups=self.groups)
        except NotImplementedError:  # In vmap, and in a shard_map that checks what varies.
            return jax.tree.map(self._total_of_group, tree)

    def _total_of_group(self, a: jax.Array) -> jax.Array:
        """Sum over the group of this device, from the values of all devices."""
        index, values = jax.lax.axis_index(self.axis_name), from_each(a, self.axis_name)
        group_of = {i: number for number, group in enumerate(self.groups or ()) for i in group}
        groups = jnp.asarray([group_of[i] for i in range(len(group_of))])
        mine = (groups == groups[index]).reshape(-1, *(1,) * a.ndim)
        return jnp.sum(jnp.where(mine, values, jnp.zeros_like(values)), axis=0)


def from_each(a: jax.Array, axis_name: str | tuple[str, ...]) -> jax.Array:
    """The values of all devices along a new first axis, the same on each; an ``all_reduce``."""
    slots = jnp.arange(jax.lax.axis_size(axis_name)).reshape(-1, *(1,) * a.ndim)
    mine = slots == jax.lax.axis_index(axis_name)
    return jax.lax.psum(jnp.where(mine, a, jnp.zeros_like(a)), axis_name)


def among(
    axis_name: str | tuple[str, ...] | None, axis_index_groups: Sequence[Sequence[int]] | None
) -> Devices:
    """The devices that the two arguments of a norm name, by default this one alone."""
    return Devices(axis_name or (), canonical_groups(axis_index_groups))


def check_synchronized(x: jax.Array, axis_name: str | tuple[str, ...] | None) -> None:
    """Raises where the statistics of a batch would be those of one device, and nobody said so."""
    varying = varying_axes(x)
    if varying and axis_name is None:
        raise ValueError(
            f"`axis_name` must be given inside `shard_map`, where `x` varies along {varying}; pass "
            f"the axes of the batch for its statistics, or () for those of each device."
        )


def select(x: jax.Array, mask: jax.Array | None) -> jax.Array:
    """``x`` with 0 outside the mask."""
    return x if mask is None else jnp.where(mask, x, jnp.zeros_like(x))


def affine(
    x: jax.Array,
    mean: jax.Array | None,
    var: jax.Array,
    *,
    scale: jax.Array | None,
    bias: jax.Array | None,
    eps: ArrayLike,
    features: tuple[int, ...],
    where: jax.Array | None,
) -> jax.Array:
    """Returns ``scale * (x - mean) / sqrt(var + eps) + bias`` in the dtype of ``x``.

    Args:
      x: Floating-point array.
      mean: Array that broadcasts to ``x``; 0 if absent.
      var: Array of the shape of ``mean``.
      scale: Factor, of the shape of the feature axes.
      bias: Offset of the same shape; only where there is a mean.
      eps: Added to the variance.
      features: Feature axes, sorted numbers in ``[0, ndim)``.
      where: Mask; what is infinite or NaN outside it counts as 0.
    """
    others = tuple(a for a in range(x.ndim) if a not in features)

    def expanded(a: jax.Array | None) -> jax.Array | None:
        return None if a is None else as_wide(jnp.expand_dims(a, others), x)

    check_kinds(x, scale=scale, bias=bias)
    scale, bias = expanded(scale), expanded(bias)
    gain = inverse_root(var + as_strength(eps, x))
    if where is not None:
        x = jnp.where(align_mask(where, x) | jnp.isfinite(x), x, jnp.zeros_like(x))
    # One factor in place of two, unless it would be as large as the input and its gradient with it.
    late = scale is not None and math.prod(jnp.broadcast_shapes(gain.shape, scale.shape)) >= x.size
    if scale is not None and not late:
        gain = gain * scale
    offset = bias if bias is not None and not late else jnp.zeros_like(gain)
    y = widen(x) * gain if mean is None else _affine(widen(x), mean, gain, offset)
    if scale is not None and late:
        y = y * scale if bias is None else y * scale + bias
    return y.astype(x.dtype)


@jax.custom_jvp
def _affine(x: jax.Array, mean: jax.Array, gain: jax.Array, bias: jax.Array) -> jax.Array:
    return (x - mean) * gain + bias


@_affine.defjvp
def _affine_jvp(primals: tuple[jax.Array, ...], tangents: tuple[jax.Array, ...]) -> tuple[Any, Any]:
    """Offsets of one shape come together first: backward, one sum serves the mean and the bias."""
    (x, mean, gain, bias), (dx, dmean, dgain, dbias) = primals, tangents
    if mean.shape == bias.shape == gain.shape:
        moved = dx * gain + (dbias - dmean * gain)
    else:
        moved = (dx - dmean) * gain + dbias
    return _affine(*primals), moved + (x - mean) * dgain


def as_wide(a: jax.Array, x: jax.Array) -> jax.Array:
    """Casts a statistic or a parameter to the dtype of computations on ``x``, real where it is."""
    return a.astype(wide_dtype(x.dtype) if jnp.iscomplexobj(a) else real_dtype(x))


def check_kinds(x: jax.Array, of: str = "x", **arrays: jax.Array | None) -> None:
    """Raises where one of the arrays is complex and the data are not."""
    for name, a in arrays.items():
        if a is not None and jnp.iscomplexobj(a) and not jnp.iscomplexobj(x):
            raise TypeError(
                f"`{name}` must be real where `{of}` is, got {a.dtype} for {x.dtype}; make `{of}` "
                "complex."
            )
