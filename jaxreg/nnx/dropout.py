"""NNX modules that randomly drop parts of activations."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
from flax import nnx
from jax.typing import ArrayLike

from jaxreg import dropout
from jaxreg._checks import check_given
from jaxreg.nnx.stochastic import Rated, Source, Stochastic


@nnx.dataclass(eq=False)
class Dropout(Rated):
    """NNX module for :func:`jaxreg.dropout.dropout`.

    Attributes:
      rate: Probability of dropping; None if every call passes it.
      broadcast_dims: Axes along which the mask is shared.
      deterministic: True in evaluation mode; ``model.eval()`` and ``flax.nnx.view`` set it too.
        None if every call passes it.
      rng_collection: Name of the PRNG stream that keys come from.
      axis_name: Mesh axis along which devices need different keys, in ``shard_map`` or ``pmap``.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.
      rngs: PRNG streams, from which this module forks its own; None if every training call passes
        them.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx as flax_nnx
      >>> from jaxreg import nnx
      >>> layer = nnx.Dropout(0.5, rngs=flax_nnx.Rngs(0))
      >>> print(jnp.unique(layer(jnp.ones(100))))
      [0. 2.]
    """

    broadcast_dims: int | Sequence[int] = ()

    def transform(self, key: jax.Array, x: jax.Array) -> jax.Array:
        return dropout.dropout(
            key, x, rate=self.given_rate, broadcast_axes=self.broadcast_dims, bits=self.bits
        )


class ClassicalDropout(Rated):
    """NNX module for :func:`jaxreg.dropout.classical_dropout`; evaluation scales by ``1 - rate``.

    Attributes:
      rate: Probability of dropping; None if every call passes it.
      deterministic: True in evaluation mode; ``model.eval()`` and ``flax.nnx.view`` set it too.
        None if every call passes it.
      rng_collection: Name of the PRNG stream that keys come from.
      axis_name: Mesh axis along which devices need different keys, in ``shard_map`` or ``pmap``.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.
      rngs: PRNG streams, from which this module forks its own; None if every training call passes
        them.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx as flax_nnx
      >>> from jaxreg import nnx
      >>> layer = nnx.ClassicalDropout(0.5, rngs=flax_nnx.Rngs(0))
      >>> x = jnp.ones(100)
      >>> print(jnp.unique(layer(x)), jnp.unique(layer(x, deterministic=True)))
      [0. 1.] [0.5]
    """

    def transform(self, key: jax.Array, x: jax.Array) -> jax.Array:
        return dropout.classical_dropout(key, x, rate=self.given_rate, bits=self.bits)

    def evaluate(self, x: jax.Array) -> jax.Array:
        return dropout.classical_scale(x, rate=self.given_rate)


class SpatialDropout(Rated):
    """NNX module for :func:`jaxreg.dropout.spatial_dropout`.

    Attributes:
      rate: Probability of dropping a channel; None if every call passes it.
      deterministic: True in evaluation mode; ``model.eval()`` and ``flax.nnx.view`` set it too.
        None if every call passes it.
      rng_collection: Name of the PRNG stream that keys come from.
      axis_name: Mesh axis along which devices need different keys, in ``shard_map`` or ``pmap``.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.
      rngs: PRNG streams, from which this module forks its own; None if every training call passes
        them.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx as flax_nnx
      >>> from jaxreg import nnx
      >>> y = nnx.SpatialDropout(0.5, rngs=flax_nnx.Rngs(0))(jnp.ones((4, 8, 8, 32)))
      >>> print(jnp.all(y == y[:, :1, :1]), jnp.unique(y))
      True [0. 2.]
    """

    def transform(self, key: jax.Array, x: jax.Array) -> jax.Array:
        return dropout.spatial_dropout(key, x, rate=self.given_rate, bits=self.bits)


class GaussianDropout(Rated):
    """NNX module for :func:`jaxreg.dropout.gaussian_dropout`.

    Attributes:
      rate: Rate of the dropout that has the same noise variance, below 1; None if every call passes
        it.
      deterministic: True in evaluation mode; ``model.eval()`` and ``flax.nnx.view`` set it too.
        None if every call passes it.
      rng_collection: Name of the PRNG stream that keys come from.
      axis_name: Mesh axis along which devices need different keys, in ``shard_map`` or ``pmap``.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.
      rngs: PRNG streams, from which this module forks its own; None if every training call passes
        them.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx as flax_nnx
      >>> from jaxreg import nnx
      >>> layer = nnx.GaussianDropout(0.2, rngs=flax_nnx.Rngs(0))
      >>> print(jnp.round(jnp.std(layer(jnp.ones(100_000))), 2))
      0.5
    """

    def transform(self, key: jax.Array, x: jax.Array) -> jax.Array:
        return dropout.gaussian_dropout(key, x, rate=self.given_rate, bits=self.bits)


class AlphaDropout(Rated):
    """NNX module for :func:`jaxreg.dropout.alpha_dropout`.

    Attributes:
      rate: Probability of dropping; None if every call passes it.
      deterministic: True in evaluation mode; ``model.eval()`` and ``flax.nnx.view`` set it too.
        None if every call passes it.
      rng_collection: Name of the PRNG stream that keys come from.
      axis_name: Mesh axis along which devices need different keys, in ``shard_map`` or ``pmap``.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.
      rngs: PRNG streams, from which this module forks its own; None if every training call passes
        them.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx as flax_nnx
      >>> from jaxreg import nnx
      >>> layer = nnx.AlphaDropout(0.5, rngs=flax_nnx.Rngs(0))
      >>> print(jnp.unique(layer(jnp.ones(100))).size)
      2
    """

    def transform(self, key: jax.Array, x: jax.Array) -> jax.Array:
        return dropout.alpha_dropout(key, x, rate=self.given_rate, bits=self.bits)


class FeatureAlphaDropout(Rated):
    """NNX module for :func:`jaxreg.dropout.feature_alpha_dropout`.

    Attributes:
      rate: Probability of dropping a channel; None if every call passes it.
      deterministic: True in evaluation mode; ``model.eval()`` and ``flax.nnx.view`` set it too.
        None if every call passes it.
      rng_collection: Name of the PRNG stream that keys come from.
      axis_name: Mesh axis along which devices need different keys, in ``shard_map`` or ``pmap``.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.
      rngs: PRNG streams, from which this module forks its own; None if every training call passes
        them.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx as flax_nnx
      >>> from jaxreg import nnx
      >>> y = nnx.FeatureAlphaDropout(0.5, rngs=flax_nnx.Rngs(0))(jnp.ones((4, 8, 8, 32)))
      >>> print(jnp.all(y == y[:, :1, :1]), jnp.unique(y).size)
      True 2
    """

    def transform(self, key: jax.Array, x: jax.Array) -> jax.Array:
        return dropout.feature_alpha_dropout(key, x, rate=self.given_rate, bits=self.bits)


class DropPath(Rated):
    """NNX module for :func:`jaxreg.dropout.drop_path`, applied to the branch of a residual block.

    Write the block as ``x + layer(branch(x))``.

    Attributes:
      rate: Probability of dropping the branch for an example; None if every call passes it.
      deterministic: True in evaluation mode; ``model.eval()`` and ``flax.nnx.view`` set it too.
        None if every call passes it.
      rng_collection: Name of the PRNG stream that keys come from.
      axis_name: Mesh axis along which devices need different keys, in ``shard_map`` or ``pmap``.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.
      rngs: PRNG streams, from which this module forks its own; None if every training call passes
        them.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx as flax_nnx
      >>> from jaxreg import nnx
      >>> y = nnx.DropPath(0.5, rngs=flax_nnx.Rngs(0))(jnp.ones((100, 2)))
      >>> print(jnp.all(y[:, 0] == y[:, 1]), jnp.unique(y))
      True [0. 2.]
    """

    def transform(self, key: jax.Array, x: jax.Array) -> jax.Array:
        return dropout.drop_path(key, x, rate=self.given_rate, bits=self.bits)


@nnx.dataclass(eq=False)
class DropBlock(Rated):
    """NNX module for :func:`jaxreg.dropout.drop_block`.

    Attributes:
      rate: Probability of dropping an element; None if every call passes it.
      block_size: Side length of a block, or one length per axis.
      axis: Axes that blocks extend over; by default all but the first and the last.
      broadcast_dims: Axes along which the mask is shared.
      deterministic: True in evaluation mode; ``model.eval()`` and ``flax.nnx.view`` set it too.
        None if every call passes it.
      rng_collection: Name of the PRNG stream that keys come from.
      axis_name: Mesh axis along which devices need different keys, in ``shard_map`` or ``pmap``.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.
      rngs: PRNG streams, from which this module forks its own; None if every training call passes
        them.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx as flax_nnx
      >>> from jaxreg import nnx
      >>> layer = nnx.DropBlock(0.0, 3)  # A rate of zero needs no key.
      >>> print(jnp.unique(layer(jnp.ones((4, 16, 16, 2)))))
      [1.]
    """

    rate: ArrayLike | None = dataclasses.field()  # without a default, unlike in Rated
    block_size: int | Sequence[int]
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


@nnx.dataclass(eq=False)
class LockedDropout(Rated):
    """NNX module for :func:`jaxreg.dropout.locked_dropout`.

    Attributes:
      rate: Probability of dropping; None if every call passes it.
      time_axis: Time axis, along which the mask is shared.
      deterministic: True in evaluation mode; ``model.eval()`` and ``flax.nnx.view`` set it too.
        None if every call passes it.
      rng_collection: Name of the PRNG stream that keys come from.
      axis_name: Mesh axis along which devices need different keys, in ``shard_map`` or ``pmap``.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.
      rngs: PRNG streams, from which this module forks its own; None if every training call passes
        them.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx as flax_nnx
      >>> from jaxreg import nnx
      >>> y = nnx.LockedDropout(0.5, rngs=flax_nnx.Rngs(0))(jnp.ones((4, 50, 32)))
      >>> print(jnp.all(y == y[:, :1]), jnp.unique(y))
      True [0. 2.]
    """

    time_axis: int = 1

    def transform(self, key: jax.Array, x: jax.Array) -> jax.Array:
        return dropout.locked_dropout(
            key, x, rate=self.given_rate, time_axis=self.time_axis, bits=self.bits
        )


class EmbeddingDropout(Rated):
    """NNX module for :func:`jaxreg.dropout.embedding_dropout`; the input is the embedding table.

    Attributes:
      rate: Probability of dropping a row; None if every call passes it.
      deterministic: True in evaluation mode; ``model.eval()`` and ``flax.nnx.view`` set it too.
        None if every call passes it.
      rng_collection: Name of the PRNG stream that keys come from.
      axis_name: Mesh axis along which devices need different keys, in ``shard_map`` or ``pmap``.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.
      rngs: PRNG streams, from which this module forks its own; None if every training call passes
        them.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx as flax_nnx
      >>> from jaxreg import nnx
      >>> table = nnx.EmbeddingDropout(0.5, rngs=flax_nnx.Rngs(0))(jnp.ones((100, 8)))
      >>> print(jnp.all(table == table[:, :1]), jnp.unique(table))
      True [0. 2.]
    """

    def transform(self, key: jax.Array, x: jax.Array) -> jax.Array:
        return dropout.embedding_dropout(key, x, rate=self.given_rate, bits=self.bits)


@nnx.dataclass(eq=False)
class PatchDropout(Rated):
    """NNX module for :func:`jaxreg.dropout.patch_dropout`; evaluation keeps all patches.

    Attributes:
      rate: Share of the patches to drop, a Python or NumPy number; None if every call passes it.
      prefix: Number of leading tokens that are always kept, such as a class token.
      deterministic: True in evaluation mode; ``model.eval()`` and ``flax.nnx.view`` set it too.
        None if every call passes it.
      rng_collection: Name of the PRNG stream that keys come from.
      axis_name: Mesh axis along which devices need different keys, in ``shard_map`` or ``pmap``.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.
      rngs: PRNG streams, from which this module forks its own; None if every training call passes
        them.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx as flax_nnx
      >>> from jaxreg import nnx
      >>> layer = nnx.PatchDropout(0.75, rngs=flax_nnx.Rngs(0))
      >>> kept, indices = layer(jnp.ones((2, 1 + 16, 8)))
      >>> print(kept.shape, indices.shape)
      (2, 5, 8) (2, 5)
    """

    rate: float | None = None  # pyright: ignore[reportIncompatibleVariableOverride]
    prefix: int = 1

    def transform(self, key: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        rate = check_given(self.rate, "rate", self)
        return dropout.patch_dropout(key, x, rate=rate, prefix=self.prefix, bits=self.bits)

    def evaluate(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        return dropout.every_patch(x)


class Zoneout(Rated):
    """NNX module for :func:`jaxreg.dropout.zoneout`; evaluation applies ``zoneout_mean``.

    The input is the pair ``(new, old)``. See :class:`ZoneoutCell` to wrap a recurrent cell.

    Attributes:
      rate: Probability of keeping an old element instead of the new one; None if every call passes
        it.
      deterministic: True in evaluation mode; ``model.eval()`` and ``flax.nnx.view`` set it too.
        None if every call passes it.
      rng_collection: Name of the PRNG stream that keys come from.
      axis_name: Mesh axis along which devices need different keys, in ``shard_map`` or ``pmap``.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.
      rngs: PRNG streams, from which this module forks its own; None if every training call passes
        them.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx as flax_nnx
      >>> from jaxreg import nnx
      >>> layer = nnx.Zoneout(0.25, rngs=flax_nnx.Rngs(0))
      >>> pair = jnp.ones(100), jnp.zeros(100)
      >>> print(jnp.unique(layer(pair)), jnp.unique(layer(pair, deterministic=True)))
      [0. 1.] [0.75]
    """

    def transform(self, key: jax.Array, x: tuple[jax.Array, jax.Array]) -> jax.Array:
        new, old = x
        return dropout.zoneout(key, new, old, rate=self.given_rate, bits=self.bits)

    def evaluate(self, x: tuple[jax.Array, jax.Array]) -> jax.Array:
        new, old = x
        return dropout.zoneout_mean(new, old, rate=self.given_rate)


@nnx.dataclass(eq=False)
class ConcreteDropout(Stochastic):
    """NNX module for :func:`jaxreg.dropout.concrete_dropout`, with a learned rate.

    The parameter ``logit`` is the logit of the rate. Add
    :func:`jaxreg.dropout.concrete_dropout_penalty` of this logit and the next layer's kernel to the
    loss; without it the rate goes to zero.

    Attributes:
      init_rate: Probability of dropping at the start of training, in the open interval (0, 1).
      temperature: Softness of the mask, positive; near 0, its values are close to 0 or 1.
      deterministic: True in evaluation mode; ``model.eval()`` and ``flax.nnx.view`` set it too.
        None if every call passes it.
      rng_collection: Name of the PRNG stream that keys come from.
      axis_name: Mesh axis along which devices need different keys, in ``shard_map`` or ``pmap``.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.
      rngs: PRNG streams, from which this module forks its own; None if every training call passes
        them.

    Example:
      >>> import jax
      >>> from flax import nnx as flax_nnx
      >>> from jaxreg import nnx
      >>> layer = nnx.ConcreteDropout(0.5, rngs=flax_nnx.Rngs(0))
      >>> print(jax.nn.sigmoid(layer.logit[...]))
      0.5
    """

    init_rate: float = 0.1
    temperature: ArrayLike = 0.1

    def __post_init__(self, rngs: nnx.Rngs | nnx.RngStream | None) -> None:
        logit = dropout.concrete_dropout_logit(self.init_rate)
        constant = nnx.initializers.constant(logit)
        self.logit = nnx.Param(constant(None, (), "float32"))  # pyright: ignore[reportArgumentType]
        super().__post_init__(rngs)

    def __call__(
        self,
        inputs: Any,
        *,
        deterministic: bool | None = None,
        rngs: Source | None = None,
        temperature: ArrayLike | None = None,
    ) -> Any:
        """Returns ``transform(key, inputs)`` in training mode, otherwise ``evaluate(inputs)``.

        Args:
          inputs: Input.
          deterministic: Overrides the attribute.
          rngs: Key, stream or streams to use in place of the module's own.
          temperature: Overrides the attribute.
        """
        return self._apply(inputs, deterministic=deterministic, rngs=rngs, temperature=temperature)

    def transform(self, key: jax.Array, x: jax.Array) -> Any:
        return dropout.concrete_dropout(
            key, x, logit=self.logit[...], temperature=self.temperature, bits=self.bits
        )
