"""Linen module that penalizes activations and sows the penalty in the collection ``losses``."""

import operator
from collections.abc import Callable, Mapping
from typing import Any

import jax
from flax import linen as nn
from jax.typing import ArrayLike

from jaxreg import penalties
from jaxreg._checks import check_given, check_nonnegative
from jaxreg.penalties.trees import sum_numbers

_COLLECTION = "losses"


class ActivityPenalty(nn.Module):
    """Linen module for :func:`jaxreg.penalties.activity`; returns its input and sows the penalty.

    The penalty is computed only if ``mutable=["losses"]`` is passed to ``apply``, so evaluation
    costs nothing, and ``init`` makes no collection. Several calls of one module add up.
    :func:`pop_penalties` sums the penalties of a model. In ``nn.scan``, pass
    ``variable_axes={"losses": 0}``.

    Attributes:
      penalty: Scalar function of the batch, such as :func:`jaxreg.penalties.decorrelation`. Wrap a
        sum over the batch in :func:`jaxreg.penalties.per_example` for a mean, as in Keras.
      weight: Factor, zero or positive; None if every call passes it.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from flax import linen as nn
      >>> from jaxreg import linen, penalties
      >>> sparse = linen.ActivityPenalty(penalties.per_example(penalties.l1), weight=0.5)
      >>> model = nn.Sequential([nn.relu, sparse])
      >>> y, updated = model.apply({}, jnp.ones((4, 3)), mutable=["losses"])
      >>> penalty, updated = linen.pop_penalties(updated)
      >>> print(penalty, updated)
      1.5 {}
    """

    penalty: Callable[[jax.Array], jax.Array]
    weight: ArrayLike | None = None

    def __post_init__(self) -> None:
        if self.weight is not None:
            check_nonnegative(self.weight, "weight")
        super().__post_init__()

    def __call__(self, inputs: jax.Array, *, weight: ArrayLike | None = None) -> jax.Array:
        """Returns ``inputs`` unchanged and sows their penalty.

        Args:
          inputs: Activations, ``[batch, ...]``.
          weight: Overrides the attribute.
        """
        if self.is_mutable_collection(_COLLECTION) and not self.is_initializing():
            given = self.weight if weight is None else weight
            factor = check_given(given, "weight", self)
            value = penalties.activity(inputs, penalty=self.penalty, weight=factor)
            add: Callable[[Any, Any], Any] = operator.add
            self.sow(_COLLECTION, "activity", value, init_fn=float, reduce_fn=add)
        return inputs


def pop_penalties(variables: Mapping[str, Any]) -> tuple[jax.Array, dict[str, Any]]:
    """Returns the sum of the collection ``losses``, and the variables without this collection.

    If the collection remained, the next step would add its penalties to the old ones.

    Args:
      variables: Updated variables, the second result of ``apply``.

    Returns:
      The sum of the collection, float32 or wider, to add to the loss; and the other collections.

    Raises:
      ValueError: There is no collection ``losses``.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import linen
      >>> updated = {"losses": {"a": jnp.array(1.0), "b": jnp.array(2.0)}, "batch_stats": {}}
      >>> penalty, updated = linen.pop_penalties(updated)
      >>> print(penalty, updated)
      3.0 {'batch_stats': {}}
    """
    if _COLLECTION not in variables:
        raise ValueError(
            f"`variables` must contain the collection 'losses', got {sorted(variables)}; pass "
            "mutable=['losses'] to `apply` of a model with an ActivityPenalty."
        )
    others = {name: values for name, values in variables.items() if name != _COLLECTION}
    return sum_numbers(variables[_COLLECTION]), others
