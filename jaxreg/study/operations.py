"""Augmentation operations, which a policy applies to random examples of a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg import augment
from jaxreg.study import inputs
from jaxreg.study.data import kind
from jaxreg.study.inputs import Batch
from jaxreg.study.recipes import Policy, Recipe
from jaxreg.study.technique_rows import KINDS, TECHNIQUES


class Operation(NamedTuple):
    """An augmentation that a policy can apply, with the range of its magnitudes.

    Attributes:
      change: Function from the key, the batch and the magnitude to rows and labels.
      kinds: Kinds of rows that the operation accepts.
      low: Smallest magnitude that a search draws.
      high: Largest magnitude that a search draws.
      measured: Whether it acts on rows in original units, before standardization.
    """

    change: Callable[[jax.Array, Batch, Any], inputs.Changed]
    kinds: tuple[str, ...]
    low: float
    high: float
    measured: bool = True


def _rotate(key: jax.Array, batch: Batch, size: Any) -> inputs.Changed:
    return inputs.as_measured(
        batch, lambda image: augment.random_rotate(key, image, degrees=90 * size)
    )


def _translate(key: jax.Array, batch: Batch, size: Any) -> inputs.Changed:
    height, width = batch.x.shape[1:3]
    return inputs.as_measured(
        batch,
        lambda image: augment.random_translate(key, image, x=size * width, y=size * height),
    )


def _scale(key: jax.Array, batch: Batch, size: Any) -> inputs.Changed:
    return inputs.as_measured(batch, lambda image: augment.random_affine(key, image, scale=size))


def _shear(key: jax.Array, batch: Batch, size: Any) -> inputs.Changed:
    return inputs.as_measured(batch, lambda image: augment.random_shear(key, image, x=size, y=0.0))


def _of_arm(name: str, kinds: tuple[str, ...], low: float, high: float) -> Operation:
    arm = inputs.INPUTS[name]
    return Operation(arm.change, kinds, low, high, measured=arm.needs_scale)


# Magnitudes are relative: to 90 degrees, to the sides or the size of an image, to a standard
# deviation. For words they are probabilities.
OPERATIONS: Mapping[str, Operation] = {
    "rotate": Operation(_rotate, ("image",), 0.01, 0.3),
    "translate": Operation(_translate, ("image",), 0.01, 0.3),
    "scale": Operation(_scale, ("image",), 0.01, 0.3),
    "shear": Operation(_shear, ("image",), 0.01, 0.3),
    "cutout": _of_arm("cutout", ("image",), 0.1, 0.6),
    "magnitude_warp": _of_arm("magnitude_warp", ("series",), 0.05, 0.5),
    "time_warp": _of_arm("time_warp", ("series",), 0.05, 0.5),
    "jitter": _of_arm("jitter", ("table", "series", "image"), 0.05, 1.0),
    "token_dropout": _of_arm("token_dropout", ("text",), 0.05, 0.5),
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
        changed, _ = OPERATIONS[name].change(own_key, batch, size)
        # The integer 1 is allowed, but `bernoulli` takes floats only.
        p = jnp.asarray(probability, jnp.float32)
        chosen = jax.random.bernoulli(chosen_key, p, (len(x),))
        x = jnp.where(chosen.reshape(-1, *(1,) * (x.ndim - 1)), changed, x)
    return x


def check_suited(recipes: Sequence[Recipe], x: Any) -> None:
    """Raises ValueError if a technique of a recipe does not suit the kind of the rows.

    Args:
      recipes: The recipes.
      x: Rows, ``[rows, ...]``.

    Raises:
      ValueError: A recipe switches on a technique for another kind of rows.
    """
    own = kind(x)
    on = {name for recipe in recipes for name in recipe.structure}
    kinds = {each.name: each.kinds for each in TECHNIQUES if each.field in on}
    kinds |= {n: each.kinds for n, each in OPERATIONS.items() if f"policy {n}" in on}
    unsuited = {name: suited for name, suited in kinds.items() if own not in suited}
    if unsuited:
        listed = "; ".join(
            f"{name} is for {', '.join(f'{k} ({KINDS[k]})' for k in suited)}"
            for name, suited in unsuited.items()
        )
        raise ValueError(
            f"`recipes` must suit the rows, here a {own} of shape {x.shape[1:]}, but {listed}."
        )


def check_names(names: tuple[str, ...]) -> None:
    """Raises ValueError if ``names`` is empty or contains an unknown operation."""
    unknown = [name for name in names if name not in OPERATIONS]
    if unknown or not names:
        raise ValueError(
            f"`operations` must be some of {', '.join(OPERATIONS)}, got "
            f"{', '.join(unknown) or 'none'}."
        )
