"""Linen modules that apply a function ``(key, x) -> x`` in training."""

from collections.abc import Sequence
from typing import Any

import jax
from flax import linen as nn
from jax.typing import ArrayLike

from jaxreg import dropout
from jaxreg._checks import check_rate, is_static_zero


class Stochastic(nn.Module, kw_only=True):
    """Applies ``transform(key, x)`` in training and ``evaluate(x)``, the identity, in evaluation.

    Subclass it to lift a function of your own: fields hold its strengths, ``transform`` calls it.
    The input may be any pytree.

    Attributes:
      deterministic: True in evaluation. Set here or at the call.
      rng_collection: Name of the stream of keys.
      axis_name: Mesh axis over which the keys have to differ, inside ``shard_map`` or ``pmap``.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import linen
      >>> class Sign(linen.Stochastic):
      ...     def transform(self, key, x):
      ...         return x * jax.random.rademacher(key, x.shape, x.dtype)
      >>> keys = {"dropout": jax.random.key(0)}
      >>> y = Sign().apply({}, jnp.ones(8), deterministic=False, rngs=keys)
      >>> print(abs(y))
      [1. 1. 1. 1. 1. 1. 1. 1.]
    """

    deterministic: bool | None = None
    rng_collection: str = "dropout"
    axis_name: str | tuple[str, ...] | None = None

    def transform(self, key: jax.Array, x: Any) -> Any:
        """Returns ``x`` changed at random; subclasses define it."""
        raise NotImplementedError(f"{type(self).__name__} must define `transform(key, x)`.")

    def evaluate(self, x: Any) -> Any:
        """Returns what evaluation makes of ``x``: ``x``, unless a subclass defines otherwise."""
        return x

    def is_off(self) -> bool:
        """Tells whether a static strength of zero makes this the identity: it needs no key."""
        return False

    def __call__(
        self,
        x: Any,
        deterministic: bool | None = None,  # noqa: FBT001
        rng: jax.Array | None = None,
    ) -> Any:
        """Applies the transform.

        Args:
          x: Input.
          deterministic: True in evaluation; needed here or in the constructor.
          rng: PRNG key to use in place of one from the stream.
        """
        if nn.merge_param("deterministic", self.deterministic, deterministic) or self.is_off():
            return self.evaluate(x)
        key = self.make_rng(self.rng_collection) if rng is None else rng
        if self.axis_name is not None and not self.is_initializing():
            key = dropout.fold_in_axis(key, self.axis_name)
        return self.transform(key, x)


class Dropout(Stochastic):
    """Linen form of :func:`jaxreg.dropout.dropout`.

    Attributes:
      rate: Probability of dropping.
      broadcast_dims: Axes along which one decision is shared.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import linen
      >>> layer = linen.Dropout(0.5)
      >>> keys = {"dropout": jax.random.key(0)}
      >>> y = layer.apply({}, jnp.ones(100), deterministic=False, rngs=keys)
      >>> print(jnp.unique(y))
      [0. 2.]
    """

    rate: ArrayLike
    broadcast_dims: int | Sequence[int] = ()

    def __post_init__(self) -> None:
        check_rate(self.rate)
        super().__post_init__()

    def evaluate(self, x: Any) -> Any:
        """Returns what evaluation makes of ``x``: ``x``, unless a subclass defines otherwise."""
        return x

    def is_off(self) -> bool:
        return is_static_zero(self.rate)

    def transform(self, key: jax.Array, x: jax.Array) -> jax.Array:
        return dropout.dropout(key, x, rate=self.rate, broadcast_axes=self.broadcast_dims)
