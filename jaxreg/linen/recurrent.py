"""Linen cells that wrap and regularize a recurrent cell, in ``nn.RNN`` or your own loop."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
from flax import linen as nn
from jax.typing import ArrayLike

from jaxreg import dropout
from jaxreg._checks import check_rate, is_floating, is_static_zero
from jaxreg._trees import map_with_keys
from jaxreg.linen.stochastic import Parametric, Rated, share_scope


class Cell(Parametric, nn.RNNCellBase):
    """Base class of modules that wrap a recurrent cell; the cell's variables keep their paths.

    Attributes:
      cell: Linen cell to wrap.
    """

    cell: nn.RNNCellBase

    def setup(self) -> None:
        share_scope(self, self.cell)

    @property
    def keys_differ_by_step(self) -> bool:
        """True if each time step needs its own key, False if all steps share a key."""
        raise NotImplementedError

    @property
    def split_rngs(self) -> dict[str, bool]:
        """Value of ``split_rngs`` to pass to ``nn.RNN``, for this cell and the cells inside it."""
        inside = self.cell.split_rngs if isinstance(self.cell, Cell) else {"params": False}
        name, split = self.rng_collection, self.keys_differ_by_step
        if inside.get(name, split) != split:
            raise ValueError(
                f"`rng_collection` of {type(self).__name__} must differ from its cell's, got "
                f"{name!r} for both: one needs a key per step and the other a single key; pass "
                'rng_collection="zoneout" to one and add that key to `rngs`.'
            )
        return {**inside, name: split}

    @nn.nowrap
    def initialize_carry(self, rng: jax.Array, input_shape: tuple[int, ...]) -> Any:
        return self.cell.initialize_carry(rng, input_shape)

    @property
    def num_feature_axes(self) -> int:
        return self.cell.num_feature_axes

    def evaluate(self, x: tuple[Any, Any]) -> tuple[Any, Any]:
        carry, inputs = x
        return self.cell(carry, inputs)

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        carry: Any,
        inputs: Any,
        deterministic: bool | None = None,  # noqa: FBT001
        rng: jax.Array | None = None,
    ) -> tuple[Any, Any]:
        """Advances the cell by one time step.

        Args:
          carry: Current state of the cell.
          inputs: Inputs of this step.
          deterministic: True in evaluation mode; required here or, under ``nn.RNN``, in the
            constructor.
          rng: PRNG key to use in place of one from the stream.
        """
        return self._apply((carry, inputs), deterministic=deterministic, rng=rng)


class LockedDropoutCell(Cell):
    """Applies dropout to inputs and hidden state, with the same mask at all time steps.

    The masks come from :func:`jaxreg.dropout.dropout`, and each call of ``nn.RNN`` draws new ones.
    As in Gal and Ghahramani, dropout acts only on inputs of the cell's layers: the memory of an
    LSTM and the direct path of a GRU from state to state are unchanged. This requires that the
    state is one array, which the cell passes unchanged to its layers, or that only the gates read
    its last array. Flax's cells meet one of these conditions. The cell's variables keep their
    paths.

    All steps need the same key: pass ``split_rngs=cell.split_rngs`` to ``nn.RNN``, which is
    ``{"params": False, "dropout": False}``. Without it, Flax raises an error about a missing key;
    with ``"dropout": True``, each step would have its own mask.

    Attributes:
      cell: Linen cell, such as ``nn.LSTMCell``.
      input_rate: Probability of dropping an input.
      state_rate: Probability of dropping an element of the hidden state.
      deterministic: True in evaluation mode; required here under ``nn.RNN``, else here or at the
        call.
      rng_collection: Name of the PRNG stream that keys come from.
      axis_name: Mesh axis along which devices need different keys, in ``shard_map`` or ``pmap``.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from flax import linen as nn
      >>> from jaxreg import linen
      >>> cell = linen.LockedDropoutCell(nn.LSTMCell(8), 0.2, 0.2, deterministic=False)
      >>> rnn = nn.RNN(cell, split_rngs=cell.split_rngs)
      >>> x = jnp.ones((4, 50, 3))
      >>> variables = rnn.init(jax.random.key(0), x)
      >>> print(rnn.apply(variables, x, rngs={"dropout": jax.random.key(1)}).shape)
      (4, 50, 8)

    References:
      Gal and Ghahramani, `A Theoretically Grounded Application of Dropout in Recurrent Neural
      Networks <https://arxiv.org/abs/1512.05287>`_, 2016, equation 7
    """

    input_rate: ArrayLike
    state_rate: ArrayLike

    def __post_init__(self) -> None:
        check_rate(self.input_rate, "input_rate")
        check_rate(self.state_rate, "state_rate")
        super().__post_init__()

    @property
    def keys_differ_by_step(self) -> bool:
        return False

    def is_off(self) -> bool:
        static = is_static_zero(self.input_rate) and is_static_zero(self.state_rate)
        return static or super().is_off()

    def transform(self, key: jax.Array, x: tuple[Any, Any]) -> tuple[Any, Any]:
        carry, inputs = x
        leaves, tree = jax.tree.flatten(carry)
        *memory, hidden = leaves
        if memory and isinstance(self.cell, Cell):
            raise ValueError(
                f"`cell` of LockedDropoutCell must not be a {type(self.cell).__name__} with a "
                "state of several arrays, because it would take the dropped state for its old one; "
                "put LockedDropoutCell inside, around the Flax cell."
            )
        seen, dropped = map_with_keys(
            self._drop, key, (inputs, hidden), (self.input_rate, self.state_rate)
        )
        if memory:
            return self.evaluate((tree.unflatten([*memory, dropped]), seen))
        substitution = _Substitution(hidden, dropped)
        with nn.intercept_methods(substitution):
            result = self.evaluate((carry, seen))
        if not substitution.happened:
            raise ValueError(
                f"`cell` must pass its state unchanged to its layers, but no layer of "
                f"{type(self.cell).__name__} reads it; apply dropout to the state inside the cell."
            )
        return result

    @nn.nowrap
    def _drop(self, key: jax.Array, x: jax.Array, rate: ArrayLike) -> jax.Array:
        return dropout.dropout(key, x, rate=rate, bits=self.bits)


class ZoneoutCell(Rated, Cell):
    """Keeps random elements of the previous state, drawn anew at each time step.

    Every floating-point array of the state goes through :func:`jaxreg.dropout.zoneout`, or in
    evaluation mode through :func:`jaxreg.dropout.zoneout_mean`. If the cell's output is part of its
    new state, as in Flax's cells, zoneout applies to the output too. The cell's variables keep
    their paths.

    Each step needs its own key: pass ``split_rngs=cell.split_rngs`` to ``nn.RNN``, which is
    ``{"params": False, "dropout": True}``. Without it, Flax raises an error about a missing key;
    with ``"dropout": False``, all steps would keep the same elements.

    Attributes:
      cell: Linen cell, such as ``nn.LSTMCell``.
      rate: Probability of keeping an old element instead of the new one; None if every call passes
        it.
      deterministic: True in evaluation mode; required here under ``nn.RNN``, else here or at the
        call.
      rng_collection: Name of the PRNG stream that keys come from.
      axis_name: Mesh axis along which devices need different keys, in ``shard_map`` or ``pmap``.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from flax import linen as nn
      >>> from jaxreg import linen
      >>> cell = linen.ZoneoutCell(nn.LSTMCell(8), 0.1, deterministic=False)
      >>> rnn = nn.RNN(cell, split_rngs=cell.split_rngs)
      >>> x = jnp.ones((4, 50, 3))
      >>> variables = rnn.init(jax.random.key(0), x)
      >>> print(rnn.apply(variables, x, rngs={"dropout": jax.random.key(1)}).shape)
      (4, 50, 8)

    References:
      Krueger et al., `Zoneout: Regularizing RNNs by Randomly Preserving Hidden Activations
      <https://arxiv.org/abs/1606.01305>`_, 2017
    """

    @property
    def keys_differ_by_step(self) -> bool:
        return True

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        carry: Any,
        inputs: Any,
        deterministic: bool | None = None,  # noqa: FBT001
        rng: jax.Array | None = None,
        *,
        rate: ArrayLike | None = None,
    ) -> tuple[Any, Any]:
        """Advances the cell by one time step.

        Args:
          carry: Current state of the cell.
          inputs: Inputs of this step.
          deterministic: True in evaluation mode; required here or, under ``nn.RNN``, in the
            constructor.
          rng: PRNG key to use in place of one from the stream.
          rate: Overrides the attribute.
        """
        return self._apply((carry, inputs), deterministic=deterministic, rng=rng, rate=rate)

    def transform(self, key: jax.Array, x: tuple[Any, Any]) -> tuple[Any, Any]:
        def mix(key: jax.Array, new: jax.Array, old: jax.Array) -> jax.Array:
            if not is_floating(new):
                return new
            return dropout.zoneout(key, new, old, rate=self.given_rate, bits=self.bits)

        return self._step(x, partial(map_with_keys, mix, key))

    def evaluate(self, x: tuple[Any, Any]) -> tuple[Any, Any]:
        def mix(new: jax.Array, old: jax.Array) -> jax.Array:
            return dropout.zoneout_mean(new, old, rate=self.given_rate) if is_floating(new) else new

        return self._step(x, partial(jax.tree.map, mix))

    @nn.nowrap
    def _step(self, x: tuple[Any, Any], mix: Callable[[Any, Any], Any]) -> tuple[Any, Any]:
        carry, output = super().evaluate(x)
        mixed = mix(carry, x[0])
        pairs = zip(jax.tree.leaves(carry), jax.tree.leaves(mixed), strict=True)
        return mixed, next((after for before, after in pairs if before is output), output)


class _Substitution:
    """Interceptor that replaces ``old`` with ``new`` in the inputs of a cell's layers.

    Inner cells still get ``old``, because the state also takes direct paths through them, which
    must not be dropped. Their layers get ``new``.
    """

    def __init__(self, old: jax.Array, new: jax.Array) -> None:
        self.old = old
        self.new = new
        self.happened = False

    def __call__(
        self,
        call: Callable[..., Any],
        inputs: Any,
        keywords: Any,
        context: nn.module.InterceptorContext,
    ) -> Any:
        if not isinstance(context.module, nn.RNNCellBase):
            self.happened = self.happened or any(value is self.old for value in inputs)
            inputs = tuple(self.new if value is self.old else value for value in inputs)
        return call(*inputs, **keywords)
