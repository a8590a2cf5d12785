"""What a policy has decided for each example, carried out.

A processor goes from example to example and computes what is chosen for each. Other devices do not
branch for every example: there, under ``jax.vmap`` and where a batch may be spread over devices,
all operations of a step are computed for all examples and one result of each is kept. The
geometries among them are matrices, of which the chosen one is kept before anything is resampled,
and two steps in a row take one resampling: colors of the first, geometry of both, colors of the
second.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg._numerics import as_strength, real_dtype
from jaxreg._sharding import is_spread, vary_with
from jaxreg.augment._filling import filling
from jaxreg.augment._shared import kept_shape, place_by_example, select, spread, uniform
from jaxreg.augment.geometry import affine
from jaxreg.augment.matrices import chain
from jaxreg.augment.operations import Operation, Warp
from jaxreg.augment.sampling import Sampler

Operations = Sequence[Operation | Warp]
Choices = Sequence[tuple[jax.Array, Sequence[jax.Array]]]


class Chosen(NamedTuple):
    """What one step does to each example: arrays of its leading axes.

    ``number`` is the position of an operation, or of none of them, and ``strengths`` are those that
    each operation has if it is chosen.
    """

    operations: Operations
    number: jax.Array
    strengths: Sequence[jax.Array]


def any_of(key: jax.Array, image: jax.Array, operations: Operations, level: jax.Array) -> Chosen:
    """One of some operations for each example, in one of its directions."""
    if not len(operations):
        raise ValueError("`operations` must hold at least one operation, got none.")
    number_key, sign_key = jax.random.split(key)
    number = die(number_key, image, len(operations))
    return decided(image, operations, number, level, sign(sign_key, image))


def decided(
    image: jax.Array, operations: Operations, number: jax.Array, level: jax.Array, sign: jax.Array
) -> Chosen:
    """The operation of this number for each example, at a level in ``[0, 1]``, with a sign."""

    def strength_of(operation: Operation | Warp) -> jax.Array:
        low, high = as_strength(operation.low, image), as_strength(operation.high, image)
        value = low + (high - low) * jnp.clip(level, 0, 1)
        value = value * sign if operation.signed else value
        return place_by_example(jnp.broadcast_to(value, image.shape[:-3]), image)

    return Chosen(operations, number, [strength_of(operation) for operation in operations])


def augmented(
    image: jax.Array, steps: Sequence[Chosen], fill: ArrayLike, sample: Sampler
) -> jax.Array:
    """The image after all steps, of which each resampling takes two."""
    fill = _fill_of_colors(fill, image)
    # Their ranges may be traced. Without them, equal operations are one entry among the compiled.
    operations = tuple(
        tuple(operation._replace(low=0.0, high=0.0) for operation in step.operations)
        for step in steps
    )
    try:
        hash(operations)
    except TypeError as error:
        raise TypeError(
            f"`operations` must hold functions that can be hashed, got one that cannot ({error}); "
            "wrap it in a function or in functools.partial."
        ) from None
    choices = [(step.number, list(step.strengths)) for step in steps]
    return _carried_out(image, choices, fill, operations=operations, sample=sample)


def _fill_of_colors(fill: ArrayLike, image: jax.Array) -> jax.Array:
    """The value beyond the border; where there is opacity, one number for colors leaves it at 1."""
    value = filling(fill, image, image.shape[-1:])
    channels = image.shape[-1]
    if value.ndim or channels not in (2, 4):
        return value
    return jnp.where(jnp.arange(channels) < channels - 1, value, jnp.ones_like(value))


@partial(jax.jit, static_argnames=("operations", "sample"))
def _carried_out(
    image: jax.Array,
    choices: Choices,
    fill: ArrayLike,
    *,
    operations: Sequence[Operations],
    sample: Sampler,
) -> jax.Array:
    """The image after all steps, in the form that suits the device."""
    # All branches have to agree on what differs between the devices of a `shard_map`.
    image = vary_with(image, (choices, fill))
    after = partial(_after, operations=operations, sample=sample)
    at_once = partial(after, recolored=_recolored, warped=_warped)
    if is_spread(image):
        return at_once(image, choices, fill)
    alone = partial(after, recolored=_recolored_alone, warped=_warped_alone)
    in_turn = partial(_in_turn, alone)
    return jax.lax.platform_dependent(image, choices, fill, cpu=in_turn, default=at_once)


def _in_turn(
    alone: Callable[..., jax.Array], image: jax.Array, choices: Choices, fill: ArrayLike
) -> jax.Array:
    """A function of one image and its choices, for one example after the other."""
    lead = image.shape[:-3]
    examples = jax.tree.map(
        lambda value: value.reshape(math.prod(lead), *value.shape[len(lead) :]), (image, choices)
    )
    return jax.lax.map(lambda example: alone(*example, fill), examples).reshape(image.shape)


def _after(
    image: jax.Array,
    choices: Choices,
    fill: ArrayLike,
    *,
    operations: Sequence[Operations],
    sample: Sampler,
    recolored: Callable[..., jax.Array],
    warped: Callable[..., jax.Array],
) -> jax.Array:
    """The image after all steps, by functions that carry out the colors and the geometry of one."""
    steps = [Chosen(own, *choice) for own, choice in zip(operations, choices, strict=True)]
    for start in range(0, len(steps), 2):
        two = steps[start : start + 2]
        image = recolored(image, two[0])
        image = warped(image, two, fill, sample)
        for step in two[1:]:
            image = recolored(image, step)
    return image


def _recolored(image: jax.Array, step: Chosen) -> jax.Array:
    """The images after one step, where that is no geometry."""
    result = image
    for number, function in _recoloring(step):
        result = select(spread(step.number == number), function(image), result)
    # Without it XLA computes a step anew for each pixel that the next one reads around a pixel.
    return jax.lax.optimization_barrier(result)


def _recolored_alone(image: jax.Array, step: Chosen) -> jax.Array:
    """One image after one step, of which it computes no more than is chosen."""
    branch = jnp.zeros_like(step.number)
    branches: list[Callable[[jax.Array], jax.Array]] = [lambda image: image]
    for number, function in _recoloring(step):
        branch = jnp.where(step.number == number, len(branches), branch)
        branches.append(function)
    return jax.lax.switch(branch, branches, image)


def _recoloring(step: Chosen) -> list[tuple[int, Callable[[jax.Array], jax.Array]]]:
    """Those of a step that are no geometries: their numbers and what they do."""

    def recolor(image: jax.Array, operation: Operation, value: jax.Array) -> jax.Array:
        return vary_with(kept_shape(operation.function(image, value), image), image)

    return [
        (number, partial(recolor, operation=operation, value=value))
        for number, (operation, value) in enumerate(
            zip(step.operations, step.strengths, strict=True)
        )
        if isinstance(operation, Operation)
    ]


def _warped(
    image: jax.Array, steps: Sequence[Chosen], fill: ArrayLike, sample: Sampler
) -> jax.Array:
    """The images after the geometries of some steps, as one geometry."""
    if not any(isinstance(one, Warp) for step in steps for one in step.operations):
        return image
    matrix = chain(*(_matrix(step, image) for step in steps))
    return affine(image, matrix, fill=fill, sample=sample)


def _warped_alone(
    image: jax.Array, steps: Sequence[Chosen], fill: ArrayLike, sample: Sampler
) -> jax.Array:
    """One image after the geometries of some steps, if any is chosen."""
    chosen = [
        step.number == number
        for step in steps
        for number, one in enumerate(step.operations)
        if isinstance(one, Warp)
    ]
    if not chosen:
        return image
    return jax.lax.cond(
        jnp.any(jnp.stack(chosen)),
        lambda image: _warped(image, steps, fill, sample),
        lambda image: image,
        image,
    )


def _matrix(step: Chosen, image: jax.Array) -> jax.Array:
    """The geometry of one step, and that of standing still where it is none."""
    still = jnp.eye(3, dtype=real_dtype(image))
    lead = image.shape[:-3]
    matrix = place_by_example(jnp.broadcast_to(still, (*lead, 3, 3)), image)
    for number, (warp, value) in enumerate(zip(step.operations, step.strengths, strict=True)):
        if isinstance(warp, Warp):
            moved = as_strength(warp.matrix(image, value), image)
            moved = place_by_example(jnp.broadcast_to(moved, matrix.shape), image)
            chosen = jnp.broadcast_to((step.number == number)[..., None, None], matrix.shape)
            matrix = jnp.where(chosen, moved, matrix)
    return matrix


def die(key: jax.Array, image: jax.Array, sides: int) -> jax.Array:
    """An integer from 0 to ``sides - 1`` for each example."""
    return jnp.floor(uniform(key, image) * sides).astype(jnp.int32)


def sign(key: jax.Array, image: jax.Array) -> jax.Array:
    """1 or -1 for each example."""
    return 1 - 2 * die(key, image, 2).astype(real_dtype(image))
