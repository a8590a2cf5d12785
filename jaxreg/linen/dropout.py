"""Linen modules that randomly drop parts of activations."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
from flax import linen as nn
from jax.typing import ArrayLike

from jaxreg import dropout
from jaxreg.linen.stochastic import Rated, Stochastic


class Dropout(Rated, nn.Dropout):
    """Linen module for :func:`jaxreg.dropout.dropout`.

    Attributes:
      rate: Probability of dropping; None if every call passes it.
      broadcast_dims: Axes along which the mask is shared.
      deterministic: True in evaluation mode, False in training mode; None if every call passes it.
      rng_collection: Name of the PRNG stream that keys come from.
      axis_name: Mesh axis along which devices need different keys, in ``shard_map`` or ``pmap``.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import linen
      >>> layer = linen.Dropout(0.5)
      >>> keys = {"dropout": jax.random.key(0)}
      >>> y = layer.apply({}, jnp.ones(100), deterministic=False, rngs=keys)
      >>> print(jnp.unique(y))
      [0. 2.]
    """

    # In Flax's order, since they are positional.
    rate: ArrayLike | None = None  # pyright: ignore[reportIncompatibleVariableOverride]
    broadcast_dims: int | Sequence[int] = ()  # pyright: ignore[reportIncompatibleVariableOverride]
    deterministic: bool | None = None
    rng_collection: str = "dropout"

    def transform(self, key: jax.Array, x: jax.Array) -> jax.Array:
        return dropout.dropout(
            key, x, rate=self.given_rate, broadcast_axes=self.broadcast_dims, bits=self.bits
        )


class ClassicalDropout(Rated):
    """Linen module for :func:`jaxreg.dropout.classical_dropout`; evaluation scales by ``1 - rate``.

    Attributes:
      rate: Probability of dropping; None if every call passes it.
      deterministic: True in evaluation mode, False in training mode; None if every call passes it.
      rng_collection: Name of the PRNG stream that keys come from.
      axis_name: Mesh axis along which devices need different keys, in ``shard_map`` or ``pmap``.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import linen
      >>> layer = linen.ClassicalDropout(0.25, deterministic=True)
      >>> print(layer.apply({}, jnp.array([2.0, 4.0])))
      [1.5 3. ]
    """

    def transform(self, key: jax.Array, x: jax.Array) -> jax.Array:
        return dropout.classical_dropout(key, x, rate=self.given_rate, bits=self.bits)

    def evaluate(self, x: jax.Array) -> jax.Array:
        return dropout.classical_scale(x, rate=self.given_rate)


class SpatialDropout(Rated):
    """Linen module for :func:`jaxreg.dropout.spatial_dropout`.

    Attributes:
      rate: Probability of dropping a channel; None if every call passes it.
      deterministic: True in evaluation mode, False in training mode; None if every call passes it.
      rng_collection: Name of the PRNG stream that keys come from.
      axis_name: Mesh axis along which devices need different keys, in ``shard_map`` or ``pmap``.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import linen
      >>> layer = linen.SpatialDropout(0.5)
      >>> keys = {"dropout": jax.random.key(0)}
      >>> y = layer.apply({}, jnp.ones((4, 8, 8, 32)), deterministic=False, rngs=keys)
      >>> print(jnp.all(y == y[:, :1, :1]), jnp.unique(y))
      True [0. 2.]
    """

    def transform(self, key: jax.Array, x: jax.Array) -> jax.Array:
        return dropout.spatial_dropout(key, x, rate=self.given_rate, bits=self.bits)


class GaussianDropout(Rated):
    """Linen module for :func:`jaxreg.dropout.gaussian_dropout`.

    Attributes:
      rate: Rate of the dropout that has the same noise variance, below 1; None if every call passes
        it.
      deterministic: True in evaluation mode, False in training mode; None if every call passes it.
      rng_collection: Name of the PRNG stream that keys come from.
      axis_name: Mesh axis along which devices need different keys, in ``shard_map`` or ``pmap``.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import linen
      >>> layer = linen.GaussianDropout(0.2)
      >>> keys = {"dropout": jax.random.key(0)}
      >>> y = layer.apply({}, jnp.ones(100_000), deterministic=False, rngs=keys)
      >>> print(jnp.round(jnp.var(y), 2))
      0.25
    """

    def transform(self, key: jax.Array, x: jax.Array) -> jax.Array:
        return dropout.gaussian_dropout(key, x, rate=self.given_rate, bits=self.bits)


class AlphaDropout(Rated):
    """Linen module for :func:`jaxreg.dropout.alpha_dropout`.

    Attributes:
      rate: Probability of dropping; None if every call passes it.
      deterministic: True in evaluation mode, False in training mode; None if every call passes it.
      rng_collection: Name of the PRNG stream that keys come from.
      axis_name: Mesh axis along which devices need different keys, in ``shard_map`` or ``pmap``.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import linen
      >>> layer = linen.AlphaDropout(0.5)
      >>> keys = {"dropout": jax.random.key(0)}
      >>> y = layer.apply({}, jnp.ones(100), deterministic=False, rngs=keys)
      >>> print(jnp.unique(y).size)
      2
    """

    def transform(self, key: jax.Array, x: jax.Array) -> jax.Array:
        return dropout.alpha_dropout(key, x, rate=self.given_rate, bits=self.bits)


class FeatureAlphaDropout(Rated):
    """Linen module for :func:`jaxreg.dropout.feature_alpha_dropout`.

    Attributes:
      rate: Probability of dropping a channel; None if every call passes it.
      deterministic: True in evaluation mode, False in training mode; None if every call passes it.
      rng_collection: Name of the PRNG stream that keys come from.
      axis_name: Mesh axis along which devices need different keys, in ``shard_map`` or ``pmap``.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import linen
      >>> layer = linen.FeatureAlphaDropout(0.5)
      >>> keys = {"dropout": jax.random.key(0)}
      >>> y = layer.apply({}, jnp.ones((4, 8, 8, 32)), deterministic=False, rngs=keys)
      >>> print(jnp.all(y == y[:, :1, :1]), jnp.unique(y).size)
      True 2
    """

    def transform(self, key: jax.Array, x: jax.Array) -> jax.Array:
        return dropout.feature_alpha_dropout(key, x, rate=self.given_rate, bits=self.bits)


class DropPath(Rated):
    """Linen module for :func:`jaxreg.dropout.drop_path`, applied to the branch of a residual block.

    Write the block as ``x + layer(branch(x))``.

    Attributes:
      rate: Probability of dropping the branch for an example; None if every call passes it.
      deterministic: True in evaluation mode, False in training mode; None if every call passes it.
      rng_collection: Name of the PRNG stream that keys come from.
      axis_name: Mesh axis along which devices need different keys, in ``shard_map`` or ``pmap``.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import linen
      >>> layer = linen.DropPath(0.5)
      >>> keys = {"dropout": jax.random.key(0)}
      >>> y = layer.apply({}, jnp.ones((100, 2)), deterministic=False, rngs=keys)
      >>> print(jnp.all(y[:, 0] == y[:, 1]), jnp.unique(y))
      True [0. 2.]
    """

    def transform(self, key: jax.Array, x: jax.Array) -> jax.Array:
        return dropout.drop_path(key, x, rate=self.given_rate, bits=self.bits)


class DropBlock(Rated):
    """Linen module for :func:`jaxreg.dropout.drop_block`.

    Attributes:
      rate: Probability of dropping an element; None if every call passes it.
      block_size: Side length of a block, or one length per axis.
      axis: Axes that blocks extend over; by default all but the first and the last.
      broadcast_dims: Axes along which the mask is shared.
      deterministic: True in evaluation mode, False in training mode; None if every call passes it.
      rng_collection: Name of the PRNG stream that keys come from.
      axis_name: Mesh axis along which devices need different keys, in ``shard_map`` or ``pmap``.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import linen
      >>> layer = linen.DropBlock(0.2, 3)
      >>> keys = {"dropout": jax.random.key(0)}
      >>> y = layer.apply({}, jnp.ones((2, 16, 16, 4)), deterministic=False, rngs=keys)
      >>> print(y.shape)
      (2, 16, 16, 4)
    """

    rate: ArrayLike | None = dataclasses.field()  # without a default, unlike in Rated
    block_size: int | Sequence[int]  # pyright: ignore[reportGeneralTypeIssues]
    axis: int | Sequence[int] | None = None
    broadcast_dims: int | Sequence[int] = ()

    def transform(self, key: jax.Array, x: jax.Array) -> jax.Array:
        return dropout.drop_block(
            key,
            x,
            rate=self.given_rate,
            block_size=self.block_size,
            axis=self.axis,
            broadcast_axes=self.broadcast_dims,
            bits=self.bits,
        )


class LockedDropout(Rated):
    """Linen module for :func:`jaxreg.dropout.locked_dropout`.

    Attributes:
      rate: Probability of dropping; None if every call passes it.
      time_axis: Time axis, along which the mask is shared.
      deterministic: True in evaluation mode, False in training mode; None if every call passes it.
      rng_collection: Name of the PRNG stream that keys come from.
      axis_name: Mesh axis along which devices need different keys, in ``shard_map`` or ``pmap``.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import linen
      >>> layer = linen.LockedDropout(0.5)
      >>> keys = {"dropout": jax.random.key(0)}
      >>> y = layer.apply({}, jnp.ones((4, 50, 32)), deterministic=False, rngs=keys)
      >>> print(jnp.all(y == y[:, :1]), jnp.unique(y))
      True [0. 2.]
    """

    time_axis: int = 1

    def transform(self, key: jax.Array, x: jax.Array) -> jax.Array:
        return dropout.locked_dropout(
            key, x, rate=self.given_rate, time_axis=self.time_axis, bits=self.bits
        )


class EmbeddingDropout(Rated):
    """Linen module for :func:`jaxreg.dropout.embedding_dropout`; the input is the embedding table.

    Attributes:
      rate: Probability of dropping a row; None if every call passes it.
      deterministic: True in evaluation mode, False in training mode; None if every call passes it.
      rng_collection: Name of the PRNG stream that keys come from.
      axis_name: Mesh axis along which devices need different keys, in ``shard_map`` or ``pmap``.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import linen
      >>> layer = linen.EmbeddingDropout(0.5)
      >>> keys = {"dropout": jax.random.key(0)}
      >>> table = layer.apply({}, jnp.ones((100, 8)), deterministic=False, rngs=keys)
      >>> print(jnp.all(table == table[:, :1]), jnp.unique(table))
      True [0. 2.]
    """

    def transform(self, key: jax.Array, x: jax.Array) -> jax.Array:
        return dropout.embedding_dropout(key, x, rate=self.given_rate, bits=self.bits)


class PatchDropout(Rated):
    """Linen module for :func:`jaxreg.dropout.patch_dropout`; evaluation keeps all patches.

    Attributes:
      rate: Share of the patches to drop, a Python or NumPy number; None if every call passes it.
      prefix: Number of leading tokens that are always kept, such as a class token.
      deterministic: True in evaluation mode, False in training mode; None if every call passes it.
      rng_collection: Name of the PRNG stream that keys come from.
      axis_name: Mesh axis along which devices need different keys, in ``shard_map`` or ``pmap``.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import linen
      >>> layer = linen.PatchDropout(0.5)
      >>> keys = {"dropout": jax.random.key(0)}
      >>> kept, indices = layer.apply({}, jnp.ones((2, 17, 8)), deterministic=False, rngs=keys)
      >>> print(kept.shape, indices.shape)
      (2, 9, 8) (2, 9)
    """

    prefix: int = 1

    def transform(self, key: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        rate: Any = self.given_rate  # The function checks that it is a Python number.
        return dropout.patch_dropout(key, x, rate=rate, prefix=self.prefix, bits=self.bits)

    def evaluate(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        return dropout.every_patch(x)


class Zoneout(Rated):
    """Linen module for :func:`jaxreg.dropout.zoneout`; evaluation applies ``zoneout_mean``.

    The input is the pair ``(new, old)``. See :class:`ZoneoutCell` to wrap a recurrent cell.

    Attributes:
      rate: Probability of keeping an old element instead of the new one; None if every call passes
        it.
      deterministic: True in evaluation mode, False in training mode; None if every call passes it.
      rng_collection: Name of the PRNG stream that keys come from.
      axis_name: Mesh axis along which devices need different keys, in ``shard_map`` or ``pmap``.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import linen
      >>> layer = linen.Zoneout(0.25, deterministic=True)
      >>> print(layer.apply({}, (jnp.ones(3), jnp.zeros(3))))
      [0.75 0.75 0.75]
    """

    def transform(self, key: jax.Array, x: tuple[jax.Array, jax.Array]) -> jax.Array:
        new, old = x
        return dropout.zoneout(key, new, old, rate=self.given_rate, bits=self.bits)

    def evaluate(self, x: tuple[jax.Array, jax.Array]) -> jax.Array:
        new, old = x
        return dropout.zoneout_mean(new, old, rate=self.given_rate)


class ConcreteDropout(Stochastic):
    """Linen module for :func:`jaxreg.dropout.concrete_dropout`, with a learned rate.

    The parameter ``logit`` is the logit of the rate. Add
    :func:`jaxreg.dropout.concrete_dropout_penalty` of this logit and the next layer's kernel to the
    loss; without it the rate goes to zero.

    Attributes:
      init_rate: Probability of dropping at the start of training, in the open interval (0, 1).
      temperature: Softness of the mask, positive; near 0, its values are close to 0 or 1.
      deterministic: True in evaluation mode, False in training mode; None if every call passes it.
      rng_collection: Name of the PRNG stream that keys come from.
      axis_name: Mesh axis along which devices need different keys, in ``shard_map`` or ``pmap``.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import linen
      >>> layer = linen.ConcreteDropout(init_rate=0.5)
      >>> print(layer.init(jax.random.key(0), jnp.ones(3), deterministic=True))
      {'params': {'logit': Array(0., dtype=float32)}}
    """

    init_rate: float = 0.1
    temperature: ArrayLike = 0.1

    def __post_init__(self) -> None:
        dropout.concrete_dropout_logit(self.init_rate)  # Checks the rate.
        super().__post_init__()

    def setup(self) -> None:
        logit = dropout.concrete_dropout_logit(self.init_rate)
        self.logit = self.param("logit", nn.initializers.constant(logit), (), "float32")

    def __call__(
        self,
        inputs: Any,
        deterministic: bool | None = None,  # noqa: FBT001
        rng: jax.Array | None = None,
        *,
        temperature: ArrayLike | None = None,
    ) -> Any:
        """Returns ``transform(key, inputs)`` in training mode, otherwise ``evaluate(inputs)``.

        Args:
          inputs: Input.
          deterministic: True in evaluation mode; required here or in the constructor.
          rng: PRNG key to use in place of one from the stream.
          temperature: Overrides the attribute.
        """
        return self._apply(inputs, deterministic=deterministic, rng=rng, temperature=temperature)

    def transform(self, key: jax.Array, x: jax.Array) -> jax.Array:
        return dropout.concrete_dropout(
            key, x, logit=self.logit, temperature=self.temperature, bits=self.bits
        )
