"""A batch of training rows, and the changes that arms make to it."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax

from jaxreg.study.arms.row import BatchChange, arguments, call


class Batch(NamedTuple):
    """A batch of training rows.

    Attributes:
      x: Rows, standardized if they are numbers.
      labels: Class ids ``[batch]``, distributions ``[batch, num_classes]``, or numbers to predict.
      mean: Mean subtracted from the rows to standardize them.
      stddev: Standard deviation that the rows were divided by.
      num_classes: Number of classes; None for numbers to predict.
    """

    x: jax.Array
    labels: jax.Array
    mean: jax.Array
    stddev: jax.Array
    num_classes: int | None


def change(acts: BatchChange, key: jax.Array, batch: Batch, strength: Any) -> Batch:
    """Applies one change to a batch."""
    function = acts.function
    changed = call(function, {**batch._asdict(), "key": key, "strength": strength})
    if "labels" in arguments(function):
        x, labels = changed
        return batch._replace(x=x, labels=labels)
    return batch._replace(x=changed)
