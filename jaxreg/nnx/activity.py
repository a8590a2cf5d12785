"""NNX module that penalizes activations and sows the penalty for ``flax.nnx.capture``."""

import operator
from collections.abc import Callable
from typing import Any

import jax
from flax import nnx
from jax.typing import ArrayLike

from jaxreg import penalties
from jaxreg._checks import check_given, check_nonnegative
from jaxreg.nnx._strengths import Module
from jaxreg.penalties.trees import sum_numbers


class Penalty(nnx.Intermediate):
    """Type of the variables that :class:`ActivityPenalty` sows and ``flax.nnx.capture`` collects.

    Example:
      >>> from flax import nnx as flax_nnx
      >>> from jaxreg import nnx
      >>> print(issubclass(nnx.Penalty, flax_nnx.Intermediate))
      True
    """


@nnx.dataclass(eq=False)
class ActivityPenalty(Module):
    """NNX module for :func:`jaxreg.penalties.activity`; returns its input and sows the penalty.

    The penalty is computed only inside :func:`with_penalties` or ``flax.nnx.capture`` of
    :class:`Penalty`, so evaluation costs nothing, and the model stores nothing. Several calls of
    one module add up.

    Attributes:
      penalty: Scalar function of the batch, such as :func:`jaxreg.penalties.decorrelation`. Wrap a
        sum over the batch in :func:`jaxreg.penalties.per_example` for a mean, as in Keras.
      weight: Factor, zero or positive; None if every call passes it.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from flax import nnx as flax_nnx
      >>> from jaxreg import nnx, penalties
      >>> sparse = nnx.ActivityPenalty(penalties.per_example(penalties.l1), weight=0.5)
      >>> model = flax_nnx.Sequential(jax.nn.relu, sparse)
      >>> y, penalty = nnx.with_penalties(model)(jnp.ones((4, 3)))
      >>> print(penalty)
      1.5
    """

    penalty: Callable[[jax.Array], jax.Array]
    weight: ArrayLike | None = None

    def __post_init__(self) -> None:
        if self.weight is not None:
            check_nonnegative(self.weight, "weight")

    def __call__(self, inputs: jax.Array, *, weight: ArrayLike | None = None) -> jax.Array:
        """Returns ``inputs`` unchanged and sows their penalty.

        Args:
          inputs: Activations, ``[batch, ...]``.
          weight: Overrides the attribute.
        """
        # Outside a capture, sowing is deprecated, and the values would add up over steps.
        if hasattr(self, "__captures__"):
            given = self.weight if weight is None else weight
            factor = check_given(given, "weight", self)
            value = penalties.activity(inputs, penalty=self.penalty, weight=factor)
            add: Callable[[Any, Any], Any] = operator.add
            self.sow(Penalty, "activity", value, init_fn=float, reduce_fn=add)
        return inputs


def with_penalties(call: Callable[..., Any]) -> Callable[..., tuple[Any, jax.Array]]:
    """Wraps a forward pass to return both its output and the sum of its penalties.

    Use it inside the loss function. ``flax.nnx.jit``, ``flax.nnx.remat`` and ``flax.nnx.scan`` may
    be inside ``call`` or around the result.

    Args:
      call: NNX module, a method of one, or a function whose first argument is one.

    Returns:
      Function with the arguments of ``call`` that returns its result and a scalar, float32 or
      wider: the sum over every :class:`ActivityPenalty`, 0 if there is none.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import nnx, penalties
      >>> layer = nnx.ActivityPenalty(penalties.l2, weight=2.0)
      >>> y, penalty = nnx.with_penalties(layer)(jnp.ones((4, 3)))
      >>> print(penalty)
      12.0
    """
    captured = nnx.capture(call, Penalty)

    def both(*args: Any, **kwargs: Any) -> tuple[Any, jax.Array]:
        result, sown = captured(*args, **kwargs)
        return result, sum_numbers(sown)

    return both
