"""Augmentation operations, which a policy applies to random examples of a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg import augment
from jaxreg.study.arms import ARMS, KINDS
from jaxreg.study.arms.row import BatchChange, arguments
from jaxreg.study.batch import Batch, change
from jaxreg.study.data import kind
from jaxreg.study.recipes import POLICY, Policy, Recipe


class Operation(NamedTuple):
    """An augmentation that a policy can apply, with the range of its magnitudes.

    Attributes:
      acts: The change of the batch; its strength is the magnitude.
      kinds: Kinds of rows that the operation accepts.
      low: Smallest magnitude that a search draws.
      high: Largest magnitude that a search draws.
    """

    acts: BatchChange
    kinds: tuple[str, ...]
    low: float
    high: float

    @property
    def is_measured(self) -> bool:
        """Returns whether it acts on rows in their original units, not on standardized rows."""
        return "stddev" in arguments(self.acts.function)


def rotate_images(
    key: jax.Array, x: jax.Array, strength: Any, mean: jax.Array, stddev: jax.Array
) -> jax.Array:
    """Rotates images at random; strength 1 means up to 90 degrees."""
    rows = x * stddev + mean
    return x + (augment.random_rotate(key, rows, degrees=90 * strength) - rows) / stddev


def translate_images(
    key: jax.Array, x: jax.Array, strength: Any, mean: jax.Array, stddev: jax.Array
) -> jax.Array:
    """Shifts images at random; strength 1 means up to their height and width."""
    rows = x * stddev + mean
    height, width = x.shape[1:3]
    moved = augment.random_translate(key, rows, x=strength * width, y=strength * height)
    return x + (moved - rows) / stddev


def scale_images(
    key: jax.Array, x: jax.Array, strength: Any, mean: jax.Array, stddev: jax.Array
) -> jax.Array:
    """Scales images at random; strength 1 means up to twice their size."""
    rows = x * stddev + mean
    return x + (augment.random_affine(key, rows, scale=strength) - rows) / stddev


def shear_images(
    key: jax.Array, x: jax.Array, strength: Any, mean: jax.Array, stddev: jax.Array
) -> jax.Array:
    """Shears images horizontally at random."""
    rows = x * stddev + mean
    return x + (augment.random_shear(key, rows, x=strength, y=0.0) - rows) / stddev


def _of_arm(name: str) -> Operation:
    arm = ARMS[name]
    assert isinstance(arm.acts, BatchChange)
    assert arm.grid is not None
    return Operation(arm.acts, arm.kinds, arm.grid.low, arm.grid.high)


# Magnitudes are relative: to 90 degrees, to the sides or the size of an image, to a standard
# deviation. For words they are probabilities.
OPERATIONS: Mapping[str, Operation] = {
    "rotate": Operation(BatchChange(rotate_images), ("image",), 0.01, 0.3),
    "translate": Operation(BatchChange(translate_images), ("image",), 0.01, 0.3),
    "scale": Operation(BatchChange(scale_images), ("image",), 0.01, 0.3),
    "shear": Operation(BatchChange(shear_images), ("image",), 0.01, 0.3),
    "cutout": _of_arm("cutout"),
    "magnitude_warp": _of_arm("magnitude_warp"),
    "time_warp": _of_arm("time_warp"),
    "jitter": _of_arm("jitter"),
    "token_dropout": _of_arm("token_dropout"),
}


def apply_policy(
    key: jax.Array,
    policy: Policy,
    x: jax.Array,
    *,
    mean: ArrayLike = 0.0,
    stddev: ArrayLike = 1.0,
) -> jax.Array:
    """Applies the operations of a policy in sequence, each to random examples of a batch.

    Args:
      key: PRNG key.
      policy: The policy; its numbers may be traced.
      x: Examples ``[batch, ...]`` of a kind that the operations accept.
      mean: Mean subtracted from the examples to standardize them.
      stddev: Standard deviation that the examples were divided by.

    Returns:
      Array with the shape and dtype of ``x``.

    Raises:
      ValueError: The policy names an unknown operation.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg.study import Policy, apply_policy
      >>> never = Policy(("rotate", "cutout"), (0.5, 0.5), (0.0, 0.0))
      >>> image = jnp.ones((4, 8, 8, 1))
      >>> print((apply_policy(jax.random.key(0), never, image) == image).all())
      True
    """
    check_names(policy.names)
    # Operations do not change labels.
    labels = jnp.zeros(len(x), jnp.int32)
    for index, (name, size, probability) in enumerate(
        zip(policy.names, policy.magnitudes, policy.probabilities, strict=True)
    ):
        own_key, chosen_key = jax.random.split(jax.random.fold_in(key, index))
        batch = Batch(x, labels, jnp.asarray(mean), jnp.asarray(stddev), 1)
        changed = change(OPERATIONS[name].acts, own_key, batch, size).x
        # The integer 1 is allowed, but `bernoulli` takes floats only.
        p = jnp.asarray(probability, jnp.float32)
        chosen = jax.random.bernoulli(chosen_key, p, (len(x),))
        x = jnp.where(chosen.reshape(-1, *(1,) * (x.ndim - 1)), changed, x)
    return x


def check_suited(recipes: Sequence[Recipe], x: Any, task: str) -> None:
    """Raises ValueError if an arm of a recipe does not suit the rows or the task.

    Args:
      recipes: The recipes.
      x: Rows, ``[rows, ...]``.
      task: Classification or regression.

    Raises:
      ValueError: A recipe switches on an arm for another kind of rows, or for another task.
    """
    own = kind(x)
    on = {name for recipe in recipes for name in recipe if name != POLICY}
    operations = {name for recipe in recipes if recipe.policy for name in recipe.policy.names}
    kinds = {name: arm.kinds for name, arm in ARMS.items() if name in on}
    kinds |= {name: each.kinds for name, each in OPERATIONS.items() if name in operations}
    unsuited = {name: suited for name, suited in kinds.items() if own not in suited}
    if unsuited:
        listed = "; ".join(
            f"{name} is for {', '.join(f'{k} ({KINDS[k]})' for k in suited)}"
            for name, suited in unsuited.items()
        )
        raise ValueError(
            f"`recipes` must suit the rows ({own} of shape {x.shape[1:]}), but {listed}."
        )
    others = [name for name, arm in ARMS.items() if name in on and task not in arm.tasks]
    if others:
        raise ValueError(f"`recipes` must suit the task ({task}); leave out {', '.join(others)}.")


def check_names(names: tuple[str, ...]) -> None:
    """Raises ValueError if ``names`` is empty or contains an unknown operation."""
    unknown = [name for name in names if name not in OPERATIONS]
    if unknown or not names:
        raise ValueError(
            f"`operations` must be some of {', '.join(OPERATIONS)}, got "
            f"{', '.join(unknown) or 'none'}."
        )
