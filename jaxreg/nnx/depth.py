"""NNX module that skips a layer at random."""

from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from jaxreg import dropout
from jaxreg.nnx.stochastic import RatedWrapper


class StochasticDepth(RatedWrapper):
    """NNX module for :func:`jaxreg.dropout.stochastic_depth`.

    It adds the layer's result to the layer's input; evaluation mode uses
    :func:`jaxreg.dropout.full_depth`. A skipped layer takes no time, and its variables, such as
    batch statistics, do not change. The layer cannot ``sow`` intermediates, which would have no
    value when it is skipped.

    Attributes:
      layer: NNX module whose result has the shape of its first input.
      rate: Probability of skipping the layer for the whole batch; None if every call passes it.
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
      >>> linear = flax_nnx.Linear(3, 3, rngs=flax_nnx.Rngs(0))
      >>> layer = nnx.StochasticDepth(linear, 1.0, rngs=flax_nnx.Rngs(1))
      >>> print(layer(jnp.ones((2, 3))))
      [[1. 1. 1.]
       [1. 1. 1.]]
    """

    def evaluate(self, x: tuple[tuple[Any, ...], dict[str, Any]]) -> Any:
        first, call = _first_and_rest(x)
        return dropout.full_depth(lambda first: call(self.layer, first), first)

    def transform(self, key: jax.Array, x: tuple[tuple[Any, ...], dict[str, Any]]) -> Any:
        first, call = _first_and_rest(x)
        # The branch only reads parameters, and closes over them. It may change the other variables,
        # which are its operands.
        graph, params, others = nnx.split(self.layer, nnx.Param, ...)
        variables = [others]

        def block(first: jax.Array) -> Any:
            return call(nnx.merge(graph, params, variables[-1]), first)

        def bind(branch: Callable[[jax.Array], jax.Array]) -> Callable[..., jax.Array]:
            def run(state: nnx.State, first: jax.Array) -> jax.Array:
                variables.append(state)
                result = branch(first)
                variables.pop()
                return result

            return run

        def cond(kept: jax.Array, yes: Any, no: Any, first: jax.Array) -> jax.Array:
            return nnx.cond(kept, bind(yes), bind(no), others, first)

        return dropout.stochastic_depth(
            key, block, first, rate=self.given_rate, cond=cond, bits=self.bits
        )


def _first_and_rest(x: tuple[tuple[Any, ...], dict[str, Any]]) -> tuple[Any, Callable[..., Any]]:
    """Returns the first input, and a function that calls a layer with a new first input."""
    inputs, options = x
    if not inputs:
        raise TypeError(
            "`inputs` of StochasticDepth must begin with the array that the layer's result is "
            f"added to, got only the keywords {sorted(options)}; pass it by position."
        )
    first, *rest = inputs
    return first, lambda layer, first: layer(first, *rest, **options)
