"""Linen module that skips a layer at random."""

from collections.abc import Callable
from typing import Any

import jax
from flax import linen as nn
from flax.core import DenyList

from jaxreg import dropout
from jaxreg.linen.stochastic import RatedWrapper


class StochasticDepth(RatedWrapper):
    """Linen module for :func:`jaxreg.dropout.stochastic_depth`.

    It adds the layer's result to the layer's input; evaluation mode uses
    :func:`jaxreg.dropout.full_depth`. A skipped layer takes no time, and its variables, such as
    ``batch_stats``, do not change. In training mode the layer does not ``sow`` ``intermediates``,
    which would have no value when it is skipped. The layer's variables keep their paths.

    Attributes:
      layer: Linen module whose result has the shape of its first input.
      rate: Probability of skipping the layer for the whole batch; None if every call passes it.
      deterministic: True in evaluation mode, False in training mode; None if every call passes it.
      rng_collection: Name of the PRNG stream that keys come from.
      axis_name: Mesh axis along which devices need different keys, in ``shard_map`` or ``pmap``.
      bits: Source of random bits in place of the package's own, such as ``jax.random.bits``.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from flax import linen as nn
      >>> from jaxreg import linen
      >>> layer = linen.StochasticDepth(nn.Dense(3), 1.0, deterministic=False)
      >>> variables = layer.init(jax.random.key(0), jnp.ones((2, 3)))
      >>> print(layer.apply(variables, jnp.ones((2, 3)), rngs={"dropout": jax.random.key(1)}))
      [[1. 1. 1.]
       [1. 1. 1.]]
    """

    def evaluate(self, x: tuple[tuple[Any, ...], dict[str, Any]]) -> Any:
        first, call = _first_and_rest(x)
        return dropout.full_depth(lambda first: call(self.layer, first), first)

    def transform(self, key: jax.Array, x: tuple[tuple[Any, ...], dict[str, Any]]) -> Any:
        first, call = _first_and_rest(x)
        # The last element is the layer, bound to the variables of the branch being traced.
        bound: list[Any] = [self.layer]

        def block(first: jax.Array) -> jax.Array:
            return call(bound[-1], first)

        def bind(branch: Callable[..., Any]) -> Callable[..., Any]:
            def run(layer: nn.Module, *operands: Any) -> Any:
                bound.append(layer)
                result = branch(*operands)
                bound.pop()
                return result

            return run

        def cond(kept: jax.Array, yes: Callable[..., Any], no: Callable[..., Any], *xs: Any) -> Any:
            variables = DenyList("intermediates")
            return nn.cond(kept, bind(yes), bind(no), self.layer, *xs, variables=variables)

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
