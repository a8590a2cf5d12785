"""NNX cells that wrap and regularize a recurrent cell, in ``flax.nnx.RNN`` or your own loop."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
from flax import nnx
from jax.typing import ArrayLike

from jaxreg import dropout
from jaxreg._checks import check_rate, is_floating, is_static_zero
from jaxreg._trees import map_with_keys
from jaxreg.nnx.stochastic import Rated, Source, Stochastic


@nnx.dataclass(eq=False)
class Cell(Stochastic, nnx.RNNCellBase):
    """Base class of modules that wrap a recurrent cell.

    Attributes:
      cell: NNX cell to wrap.
    """

    cell: nnx.RNNCellBase

    def initialize_carry(
        self,
        input_shape: tuple[int, ...],
        rngs: nnx.Rngs | nnx.RngStream | None = None,
        carry_init: nnx.Initializer | None = None,
    ) -> Any:
        """Returns the initial carry.

        Args:
          input_shape: Shape of the input of one time step.
          rngs: PRNG streams for the cell's carry.
          carry_init: Initializer of the cell's carry.
        """
        return self.cell.initialize_carry(input_shape, rngs, carry_init)

    @property
    def num_feature_axes(self) -> int:
        return self.cell.num_feature_axes

    def evaluate(self, x: tuple[Any, Any]) -> tuple[Any, Any]:
        return self.cell(*x)


class LockedCarry(NamedTuple):
    """Carry of a :class:`LockedDropoutCell`: the carry of its cell and the keys of its masks.

    Attributes:
      cell: Carry of the wrapped cell.
      keys: Keys of the input and state masks, one per example; None if nothing is dropped.
    """

    cell: Any
    keys: tuple[jax.Array, jax.Array] | None


@nnx.dataclass(eq=False)
class LockedDropoutCell(Cell):
    """Applies dropout to inputs and hidden state, with the same mask at all time steps.

    The masks come from :func:`jaxreg.dropout.dropout` with one key per example, and each call of
    ``flax.nnx.RNN`` draws new ones. As in Gal and Ghahramani, dropout acts only on inputs of the
    cell's layers: the memory of an LSTM and the direct path of a GRU from state to state are
    unchanged. This requires that the cell passes its state unchanged to its layers, as Flax's cells
    do.

    Set the mode in the constructor or with ``model.eval()`` or ``flax.nnx.view``. A single step
    cannot set it, because the keys are drawn together with the initial carry.

    The carry is a tuple of the cell's carry and the keys. ``initialize_carry`` draws the keys from
    this module's stream, so every call of ``flax.nnx.RNN`` has new masks, for any
    ``broadcast_rngs`` and ``state_axes``. An ``initial_carry`` from an earlier call reuses the
    masks of that call. To start from your own state, pass
    ``cell.initialize_carry(shape, rngs)._replace(cell=state)``.

    Attributes:
      cell: NNX cell, such as ``flax.nnx.LSTMCell``.
      input_rate: Probability of dropping an input.
      state_rate: Probability of dropping an element of the hidden state.
      deterministic: True in evaluation mode; ``model.eval()`` and ``flax.nnx.view`` set it too. It
        must not be None, since a call cannot pass it.
      rng_collection: Name of the PRNG stream that keys come from.
      axis_name: Mesh axis along which devices need different keys, in ``shard_map`` or ``pmap``.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.
      rngs: PRNG streams, from which this module forks its own; required in training mode.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx as flax_nnx
      >>> from jaxreg import nnx
      >>> rngs = flax_nnx.Rngs(0)
      >>> cell = nnx.LockedDropoutCell(flax_nnx.LSTMCell(3, 8, rngs=rngs), 0.2, 0.2, rngs=rngs)
      >>> print(flax_nnx.RNN(cell)(jnp.ones((4, 50, 3))).shape)
      (4, 50, 8)

    References:
      Gal and Ghahramani, `A Theoretically Grounded Application of Dropout in Recurrent Neural
      Networks <https://arxiv.org/abs/1512.05287>`_, 2016, equation 7
    """

    input_rate: ArrayLike
    state_rate: ArrayLike

    def __post_init__(self, rngs: nnx.Rngs | nnx.RngStream | None) -> None:
        check_rate(self.input_rate, "input_rate")
        check_rate(self.state_rate, "state_rate")
        super().__post_init__(rngs)

    def is_off(self) -> bool:
        return is_static_zero(self.input_rate) and is_static_zero(self.state_rate)

    def initialize_carry(
        self,
        input_shape: tuple[int, ...],
        rngs: nnx.Rngs | nnx.RngStream | None = None,
        carry_init: nnx.Initializer | None = None,
    ) -> LockedCarry:
        carry = super().initialize_carry(input_shape, rngs, carry_init)
        if self._evaluates() or self.is_off():
            return LockedCarry(carry, None)
        # Not from `rngs`, because `nnx.RNN` passes the same seed to all layers.
        examples = input_shape[: -self.num_feature_axes]
        return LockedCarry(carry, (self._keys(examples), self._keys(examples)))

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, carry: LockedCarry, inputs: jax.Array
    ) -> tuple[LockedCarry, Any]:
        """Advances the cell by one time step.

        Args:
          carry: Result of ``initialize_carry``, or the carry of the previous step.
          inputs: Inputs of this step.
        """
        if not isinstance(carry, LockedCarry):
            raise TypeError(
                f"`carry` must come from `initialize_carry` of LockedDropoutCell, got "
                f"{type(carry).__name__}; for your own state pass "
                "cell.initialize_carry(shape, rngs)._replace(cell=state)."
            )
        x = (carry.cell, inputs)
        if self._evaluates() or self.is_off():
            state, output = self.evaluate(x)
        elif carry.keys is None:
            raise ValueError(
                "`carry` must contain PRNG keys in training mode, got one made in evaluation mode; "
                "make it with `initialize_carry` after model.train()."
            )
        else:
            state, output = self.transform(carry.keys, x)
        return carry._replace(cell=state), output

    def transform(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, key: tuple[jax.Array, jax.Array], x: tuple[Any, jax.Array]
    ) -> tuple[Any, Any]:
        carry, inputs = x
        states = jax.tree.leaves(carry)
        dropped = {}

        def substitute(value: Any) -> Any:
            if not any(value is state for state in states):
                return value
            if id(value) not in dropped:
                dropped[id(value)] = self._drop(key[1], value, self.state_rate)
            return dropped[id(value)]

        cell = _with_readers(self.cell, substitute)
        result = cell(carry, self._drop(key[0], inputs, self.input_rate))
        if not dropped:
            raise ValueError(
                f"`cell` must pass its state unchanged to its layers, but no layer of "
                f"{type(self.cell).__name__} reads it; apply dropout to the state inside the cell."
            )
        return result

    def _keys(self, examples: tuple[int, ...]) -> jax.Array:
        """Returns new keys, one per example, as an array with the shape ``examples``."""
        return nnx.RngStream(self.make_key(), tag=self.rng_collection).split(examples).key[...]

    def _drop(self, keys: jax.Array, x: jax.Array, rate: ArrayLike) -> jax.Array:
        drop = partial(dropout.dropout, rate=rate, bits=self.bits)
        for _ in keys.shape:
            drop = jax.vmap(drop)
        return x if is_static_zero(rate) else drop(keys, x)


@nnx.dataclass(eq=False)
class ZoneoutCell(Rated, Cell):
    """Keeps random elements of the previous state, drawn anew at each time step.

    Every floating-point array of the state goes through :func:`jaxreg.dropout.zoneout`, or in
    evaluation mode through :func:`jaxreg.dropout.zoneout_mean`. If the cell's output is part of its
    new state, as in Flax's cells, zoneout applies to the output too.

    Each step draws its own key from this module's stream. ``flax.nnx.RNN`` advances the stream
    unless ``broadcast_rngs`` selects it, in which case all steps would keep the same elements.

    Attributes:
      cell: NNX cell, such as ``flax.nnx.LSTMCell``.
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
      >>> rngs = flax_nnx.Rngs(0)
      >>> cell = nnx.ZoneoutCell(flax_nnx.LSTMCell(3, 8, rngs=rngs), 0.1, rngs=rngs)
      >>> print(flax_nnx.RNN(cell)(jnp.ones((4, 50, 3))).shape)
      (4, 50, 8)

    References:
      Krueger et al., `Zoneout: Regularizing RNNs by Randomly Preserving Hidden Activations
      <https://arxiv.org/abs/1606.01305>`_, 2017
    """

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        carry: Any,
        inputs: jax.Array,
        *,
        deterministic: bool | None = None,
        rngs: Source | None = None,
        rate: ArrayLike | None = None,
    ) -> tuple[Any, Any]:
        """Advances the cell by one time step.

        Args:
          carry: Current state of the cell.
          inputs: Inputs of this step.
          deterministic: Overrides the attribute.
          rngs: Key, stream or streams to use in place of the module's own.
          rate: Overrides the attribute.
        """
        return self._apply((carry, inputs), deterministic=deterministic, rngs=rngs, rate=rate)

    def transform(self, key: jax.Array, x: tuple[Any, jax.Array]) -> tuple[Any, Any]:
        def mix(key: jax.Array, new: jax.Array, old: jax.Array) -> jax.Array:
            if not is_floating(new):
                return new
            return dropout.zoneout(key, new, old, rate=self.given_rate, bits=self.bits)

        return self._step(x, partial(map_with_keys, mix, key))

    def evaluate(self, x: tuple[Any, jax.Array]) -> tuple[Any, Any]:
        def mix(new: jax.Array, old: jax.Array) -> jax.Array:
            return dropout.zoneout_mean(new, old, rate=self.given_rate) if is_floating(new) else new

        return self._step(x, partial(jax.tree.map, mix))

    def _step(self, x: tuple[Any, Any], mix: Callable[[Any, Any], Any]) -> tuple[Any, Any]:
        carry, output = super().evaluate(x)
        mixed = mix(carry, x[0])
        pairs = zip(jax.tree.leaves(carry), jax.tree.leaves(mixed), strict=True)
        return mixed, next((after for before, after in pairs if before is output), output)


class _Reader(nnx.Module):
    """Wraps a layer to apply ``substitute`` to each of its positional inputs."""

    def __init__(self, layer: Callable[..., Any], substitute: Callable[[Any], Any]) -> None:
        self.layer = layer
        self.substitute = substitute

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        return self.layer(*map(self.substitute, inputs), **options)


def _with_readers(cell: nnx.RNNCellBase, substitute: Callable[[Any], Any]) -> nnx.RNNCellBase:
    """Returns a copy of a cell that shares its variables, with each layer in a ``_Reader``.

    Inner cells are not wrapped, because the state also takes direct paths through them, which must
    not be dropped. Their layers are wrapped.
    """
    copy = nnx.clone(cell, variables=False)
    for name, child in list(vars(copy).items()):
        if isinstance(child, nnx.RNNCellBase):
            setattr(copy, name, _with_readers(child, substitute))
        elif isinstance(child, nnx.Module):
            setattr(copy, name, _Reader(child, substitute))
    return copy
