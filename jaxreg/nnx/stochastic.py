"""NNX modules that apply a function ``(key, x) -> x`` in training."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
from flax import nnx
from jax.typing import ArrayLike

from jaxreg import dropout
from jaxreg._checks import check_rate, is_static_zero


@nnx.dataclass(eq=False)
class Stochastic(nnx.Module):
    """Applies ``transform(key, x)`` in training and ``evaluate(x)``, the identity, in evaluation.

    Subclass it to lift a function of your own: fields hold its strengths, ``transform`` calls it.
    The input may be any pytree.

    Attributes:
      deterministic: True in evaluation. Also set by ``model.eval()``, ``nnx.view`` or at the call.
      rng_collection: Name of the stream of keys.
      axis_name: Mesh axis over which the keys have to differ, inside ``shard_map`` or ``pmap``.
      rngs: Streams of keys; a stream of this module's own is forked from them. Without them every
        call in training needs ``rngs``.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from flax import nnx as flax_nnx
      >>> from jaxreg import nnx
      >>> class Sign(nnx.Stochastic):
      ...     def transform(self, key, x):
      ...         return x * jax.random.rademacher(key, x.shape, x.dtype)
      >>> print(abs(Sign(rngs=flax_nnx.Rngs(0))(jnp.ones(8))))
      [1. 1. 1. 1. 1. 1. 1. 1.]
    """

    _: dataclasses.KW_ONLY
    deterministic: bool = False
    rng_collection: str = "dropout"
    axis_name: str | tuple[str, ...] | None = None
    rngs: dataclasses.InitVar[nnx.Rngs | nnx.RngStream | None] = None

    def __post_init__(self, rngs: nnx.Rngs | nnx.RngStream | None) -> None:
        stream = None if rngs is None else self._stream(rngs).fork()
        self.rngs = nnx.data(stream)  # pyright: ignore[reportAttributeAccessIssue]

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
        *,
        deterministic: bool | None = None,
        rngs: nnx.Rngs | nnx.RngStream | jax.Array | None = None,
    ) -> Any:
        """Applies the transform.

        Args:
          x: Input.
          deterministic: Overrides the attribute.
          rngs: Key, stream or streams to use in place of the module's own.
        """
        evaluate = self.deterministic if deterministic is None else deterministic
        if evaluate or self.is_off():
            return self.evaluate(x)
        own = self.rngs  # pyright: ignore[reportAttributeAccessIssue]
        source = own if rngs is None else rngs
        if source is None:
            raise ValueError(
                f"`rngs` must be given to {type(self).__name__} in its constructor or at the call; "
                "pass rngs=nnx.Rngs(seed), or deterministic=True in evaluation."
            )
        key = source if isinstance(source, jax.Array) else self._stream(source)()
        if self.axis_name is not None:
            key = dropout.fold_in_axis(key, self.axis_name)
        return self.transform(key, x)

    def set_view(self, deterministic: bool | None = None) -> None:  # noqa: FBT001
        """Sets the mode; called by ``nnx.view``.

        Args:
          deterministic: True in evaluation.
        """
        if deterministic is not None:
            self.deterministic = deterministic

    def _stream(self, rngs: nnx.Rngs | nnx.RngStream) -> nnx.RngStream:
        if isinstance(rngs, nnx.RngStream):
            return rngs
        if isinstance(rngs, nnx.Rngs):
            return rngs[self.rng_collection]
        raise TypeError(
            f"`rngs` must be a PRNG key or streams, got {type(rngs).__name__}; pass nnx.Rngs(seed)."
        )


@nnx.dataclass(eq=False)
class Dropout(Stochastic):
    """NNX form of :func:`jaxreg.dropout.dropout`.

    Attributes:
      rate: Probability of dropping.
      broadcast_dims: Axes along which one decision is shared.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx as flax_nnx
      >>> from jaxreg import nnx
      >>> layer = nnx.Dropout(0.5, rngs=flax_nnx.Rngs(0))
      >>> print(jnp.unique(layer(jnp.ones(100))))
      [0. 2.]
    """

    rate: ArrayLike
    broadcast_dims: int | Sequence[int] = ()

    def __post_init__(self, rngs: nnx.Rngs | nnx.RngStream | None) -> None:
        check_rate(self.rate)
        super().__post_init__(rngs)

    def evaluate(self, x: Any) -> Any:
        """Returns what evaluation makes of ``x``: ``x``, unless a subclass defines otherwise."""
        return x

    def is_off(self) -> bool:
        return is_static_zero(self.rate)

    def transform(self, key: jax.Array, x: jax.Array) -> jax.Array:
        return dropout.dropout(key, x, rate=self.rate, broadcast_axes=self.broadcast_dims)
