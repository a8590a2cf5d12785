"""Linen module that skips a layer at random."""

from collections.abc import Callable
from typing import Any

import jax
from flax import linen as nn
from flax.core import DenyList

from jaxreg import dropout
from jaxreg.linen.stochastic import Rated, Wrapper


class StochasticDepth(Rated, Wrapper):
    """Linen form of :func:`jaxreg.dropout.stochastic_depth`.

    It adds the layer to its input; evaluation is ``full_depth``. A layer that is skipped takes no
    time, and its variables such as ``batch_stats`` stay as they are. What it would ``sow`` as
    ``intermediates`` is left out in training, since there is nothing to sow when it is skipped.

    Attributes:
      layer: Linen module, whose variables are those of the layer by itself. Inputs after the first
        are passed on to it.
      rate: Probability of skipping the layer for the whole batch.

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

    def evaluate(self, x: tuple[Any, ...]) -> Any:
        first, *rest = x
        return dropout.full_depth(lambda first: self.layer(first, *rest), first)

    def transform(self, key: jax.Array, x: tuple[Any, ...]) -> Any:
        first, *rest = x
        # The layer, bound to the variables inside of the branch that is being traced.
        bound: list[Any] = [self.layer]

        def block(first: jax.Array) -> jax.Array:
            return bound[-1](first, *rest)

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
            key, block, first, rate=self.rate, cond=cond, bits=self.bits
        )
