"""Linen module that skips a layer at random."""

from collections.abc import Callable
from typing import Any

import jax
from flax import linen as nn
from flax.core import DenyList

from jaxreg import dropout
from jaxreg.linen.stochastic import RatedWrapper


class StochasticDepth(RatedWrapper):
    """Linen form of :func:`jaxreg.dropout.stochastic_depth`.

    It adds the layer to its input; evaluation is ``full_depth``. A layer that is skipped takes no
    time, and its variables such as ``batch_stats`` stay as they are. What it would ``sow`` as
    ``intermediates`` is left out in training, since there is nothing to sow when it is skipped.

    Attributes:
      layer: Linen module, whose variables are those of the layer by itself. Arguments after the
        first are passed on to it.
      rate: Probability of skipping the layer for the whole batch; None if every call gives it.

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
        # The layer, bound to the variables inside of the branch that is being traced.
        bound: list[Any] = [self.layer]

        def block(first: jax.Array) -> jax.Array:
            return call(bound[-1], first)

        def inside(branch: Callable[..., Any]) -> Callable[..., Any]:
            def run(layer: nn.Module, *operands: Any) -> Any:
                bound.append(layer)
                result = branch(*operands)
                bound.pop()
                return result

            return run

        def cond(kept: jax.Array, yes: Callable[..., Any], no: Callable[..., Any], *xs: Any) -> Any:
            variables = DenyList("intermediates")
            return nn.cond(kept, inside(yes), inside(no), self.layer, *xs, variables=variables)

        return dropout.stochastic_depth(
            key, block, first, rate=self.given_rate, cond=cond, bits=self.bits
        )


def _first_and_rest(x: tuple[tuple[Any, ...], dict[str, Any]]) -> tuple[Any, Callable[..., Any]]:
    """The first input, and the call of a layer with this input and all other arguments."""
    inputs, options = x
    if not inputs:
        raise TypeError(
            "`inputs` of StochasticDepth must begin with the array that the layer's result is "
            f"added to, got the keywords {sorted(options)} alone; pass it by position."
        )
    first, *rest = inputs
    return first, lambda layer, first: layer(first, *rest, **options)
