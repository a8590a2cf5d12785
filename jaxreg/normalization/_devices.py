"""Devices that share statistics, and sums over these devices."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxreg._checks import canonical_groups
from jaxreg._sharding import varying_axes


class Devices(NamedTuple):
    """Mesh axes whose devices share statistics, optionally in separate groups."""

    axis_name: str | tuple[str, ...]
    groups: tuple[tuple[int, ...], ...] | None

    def total(self, tree: Any) -> Any:
        """Sums the arrays of a pytree over the devices that share statistics.

        Raises:
          ValueError: The groups do not contain each index of the axis once.
        """
        if not self.axis_name:
            return tree
        if self.groups is None:
            return jax.lax.psum(tree, self.axis_name)
        number = jax.lax.axis_size(self.axis_name)
        if sorted(index for group in self.groups for index in group) != list(range(number)):
            raise ValueError(
                f"`axis_index_groups` must contain each index of {self.axis_name!r}, 0 to "
                f"{number - 1}, once, got {self.groups}."
            )
        try:
            return jax.lax.psum(tree, self.axis_name, axis_index_groups=self.groups)
        except NotImplementedError:  # Under vmap, and in a shard_map with check_vma.
            return jax.tree.map(self._total_of_group, tree)

    def _total_of_group(self, a: jax.Array) -> jax.Array:
        """Gathers ``a`` from all devices and sums the values of this device's group."""
        index = jax.lax.axis_index(self.axis_name)
        values = gather(a, self.axis_name)
        group_of = {i: number for number, group in enumerate(self.groups or ()) for i in group}
        groups = jnp.asarray([group_of[i] for i in range(len(group_of))])
        mine = (groups == groups[index]).reshape(-1, *(1,) * a.ndim)
        return jnp.sum(jnp.where(mine, values, jnp.zeros_like(values)), axis=0)


def gather(a: jax.Array, axis_name: str | tuple[str, ...]) -> jax.Array:
    """Stacks the arrays of all devices along a new first axis, by one ``psum``."""
    slots = jnp.arange(jax.lax.axis_size(axis_name)).reshape(-1, *(1,) * a.ndim)
    mine = slots == jax.lax.axis_index(axis_name)
    return jax.lax.psum(jnp.where(mine, a, jnp.zeros_like(a)), axis_name)


def as_devices(
    axis_name: str | tuple[str, ...] | None, axis_index_groups: Sequence[Sequence[int]] | None
) -> Devices:
    """Returns ``Devices`` for a norm's arguments; without ``axis_name``, each device is alone."""
    return Devices(axis_name or (), canonical_groups(axis_index_groups))


def check_synchronized(x: jax.Array, axis_name: str | tuple[str, ...] | None) -> None:
    """Raises if ``x`` varies along a ``shard_map`` axis and ``axis_name`` is missing.

    Otherwise, each device would silently compute its own statistics.
    """
    varying = varying_axes(x)
    if varying and axis_name is None:
        raise ValueError(
            f"`axis_name` must be given inside `shard_map`, where `x` varies along {varying}; pass "
            "the axes of the batch to share statistics, or () to compute them on each device."
        )
