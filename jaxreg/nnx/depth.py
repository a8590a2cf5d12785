"""NNX module that skips a layer at random."""

from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from jaxreg import dropout
from jaxreg.nnx.stochastic import RatedWrapper


class StochasticDepth(RatedWrapper):
    """NNX form of :func:`jaxreg.dropout.stochastic_depth`.

    It adds the layer to its input; evaluation is ``full_depth``. When skipped, the layer takes no
    time, and its variables such as batch statistics stay as they are. It cannot ``sow``
    intermediates, which have no value when it is skipped.

    Attributes:
      layer: Module whose result is like its first input. Further arguments are
        passed on to it.
      rate: Probability of skipping the layer for the whole batch; None if every call gives it.

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
        # Parameters are only read and may come from outside; the others may change in the branch.
        graph, params, others = nnx.split(self.layer, nnx.Param, ...)
        variables = [others]

        def block(first: jax.Array) -> Any:
            return call(nnx.merge(graph, params, variables[-1]), first)

        def lifted(branch: Callable[[jax.Array], jax.Array]) -> Callable[..., jax.Array]:
            def run(inside: nnx.State, first: jax.Array) -> jax.Array:
                variables.append(inside)
                result = branch(first)
                variables.pop()
                return result

            return run

        def cond(kept: jax.Array, yes: Any, no: Any, first: jax.Array) -> jax.Array:
            return nnx.cond(kept, lifted(yes), lifted(no), others, first)

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
