"""What a policy has decided for each example, carried out.

All operations of a step are computed for all examples and one result of each is kept, since a
device does not branch for every example. The geometries among them are matrices, of which the
chosen one is kept before anything is resampled, and two steps in a row take one resampling: colors
of the first, geometry of both, colors of the second.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg._numerics import real_dtype, strength
from jaxreg.augment._shared import kept_shape, place_by_example, select, spread, uniform
from jaxreg.augment.geometry import affine
from jaxreg.augment.matrices import chain
from jaxreg.augment.operations import Operation, Warp
from jaxreg.augment.sampling import Sampler

Operations = Sequence[Operation | Warp]


class Chosen(NamedTuple):
    """What one step does to each example: arrays of its leading axes.

    ``number`` is the position of an operation, or of none of them; ``level`` lies in ``[0, 1]``,
    and ``sign`` is 1 or -1.
    """

    operations: Operations
    number: jax.Array
    level: jax.Array
    sign: jax.Array


def any_of(key: jax.Array, image: jax.Array, operations: Operations, level: jax.Array) -> Chosen:
    """One of some operations for each example, in one of its directions."""
    if not len(operations):
        raise ValueError("`operations` must hold at least one operation, got none.")
    number_key, sign_key = jax.random.split(key)
    number = die(number_key, image, len(operations))
    return Chosen(operations, number, jnp.clip(level, 0, 1), sign(sign_key, image))


def augmented(
    image: jax.Array, steps: Sequence[Chosen], fill: ArrayLike, sample: Sampler
) -> jax.Array:
    """The image after all steps, of which each resampling takes two."""
    for start in range(0, len(steps), 2):
        first, *second = steps[start : start + 2]
        image = _recolored(image, first)
        if any(isinstance(one, Warp) for step in (first, *second) for one in step.operations):
            matrix = chain(*(_matrix(step, image) for step in (first, *second)))
            image = affine(image, matrix, fill=fill, sample=sample)
        for step in second:
            image = _recolored(image, step)
    return image


def _recolored(image: jax.Array, step: Chosen) -> jax.Array:
    """The image after one step, where that is no geometry."""
    result = image
    for number, operation in enumerate(step.operations):
        if isinstance(operation, Operation):
            changed = operation.function(image, _strength(operation, step, image))
            chosen = spread(step.number == number)
            result = select(chosen, kept_shape(changed, image), result)
    return result


def _matrix(step: Chosen, image: jax.Array) -> jax.Array:
    """The geometry of one step, and that of standing still where it is none."""
    still = jnp.eye(3, dtype=real_dtype(image))
    lead = image.shape[:-3]
    matrix = place_by_example(jnp.broadcast_to(still, (*lead, 3, 3)), image)
    for number, warp in enumerate(step.operations):
        if isinstance(warp, Warp):
            moved = warp.matrix(image, _strength(warp, step, image))
            moved = place_by_example(jnp.broadcast_to(strength(moved, image), matrix.shape), image)
            chosen = jnp.broadcast_to((step.number == number)[..., None, None], matrix.shape)
            matrix = jnp.where(chosen, moved, matrix)
    return matrix


def _strength(operation: Operation | Warp, step: Chosen, image: jax.Array) -> jax.Array:
    """How strongly an operation acts, for each example."""
    low, high = strength(operation.low, image), strength(operation.high, image)
    value = low + (high - low) * step.level
    value = value * step.sign if operation.signed else value
    return place_by_example(jnp.broadcast_to(value, image.shape[:-3]), image)


def die(key: jax.Array, image: jax.Array, sides: int) -> jax.Array:
    """An integer from 0 to ``sides - 1`` for each example."""
    return jnp.floor(uniform(key, image) * sides).astype(jnp.int32)


def sign(key: jax.Array, image: jax.Array) -> jax.Array:
    """1 or -1 for each example."""
    return 1 - 2 * die(key, image, 2).astype(real_dtype(image))
