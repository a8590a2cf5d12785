"""Steps of a policy, each of which applies one chosen operation to each example.

A CPU goes from example to example and computes only the chosen operation. Other devices do not
branch for every example. There, under ``jax.vmap``, and if a batch may be spread over devices, all
operations of a step are computed for all examples and one result of each is kept.

Warps are matrices, which are chosen before anything is resampled. Two steps in a row share one
resampling: colors of the first, warps of both, colors of the second.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg._numerics import as_strength, real_dtype
from jaxreg._sharding import is_spread, vary_with
from jaxreg.augment._draws import die, sign
from jaxreg.augment._filling import filling
from jaxreg.augment._images import append_axes, check_result, place_by_example, select
from jaxreg.augment.geometry import affine
from jaxreg.augment.matrices import chain
from jaxreg.augment.operations import Operation, Warp
from jaxreg.augment.sampling import Sampler

Operations = Sequence[Operation | Warp]


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("number", "strengths"),
    meta_fields=("operations",),
)
@dataclasses.dataclass(frozen=True)
class Choice:
    """The operation that one step applies to each example.

    Attributes:
      operations: The operations to choose from. ``strengths`` has the values, so their ranges of
        strengths are ignored.
      number: Index of the chosen operation, ``[...]``; an index out of range chooses none.
      strengths: Strength of each operation if it is chosen, ``[...]``.
    """

    operations: tuple[Operation | Warp, ...]
    number: jax.Array
    strengths: tuple[jax.Array, ...]


def draw_choice(
    key: jax.Array, image: jax.Array, operations: Operations, level: jax.Array
) -> Choice:
    """Draws an operation uniformly, and the sign of its strength, for each example."""
    if not len(operations):
        raise ValueError("`operations` must contain at least one operation, but is empty.")
    number_key, sign_key = jax.random.split(key)
    number = die(number_key, image, len(operations))
    return choose(image, operations, number, level, sign(sign_key, image))


def choose(
    image: jax.Array, operations: Operations, number: jax.Array, level: jax.Array, sign: jax.Array
) -> Choice:
    """Returns the choice of operation ``number`` and its strength at ``level`` for each example."""

    def strength_of(operation: Operation | Warp) -> jax.Array:
        low = as_strength(operation.low, image)
        high = as_strength(operation.high, image)
        value = low + (high - low) * jnp.clip(level, 0, 1)
        value = value * sign if operation.signed else value
        return place_by_example(jnp.broadcast_to(value, image.shape[:-3]), image)

    strengths = tuple(strength_of(operation) for operation in operations)
    # Ranges may be traced. Without them, equal operations share one compiled program.
    plain = tuple(operation._replace(low=0.0, high=0.0) for operation in operations)
    try:
        hash(plain)
    except TypeError as error:
        raise TypeError(
            f"`operations` must contain hashable functions, but one is not hashable ({error}); "
            "wrap it in a function or in functools.partial."
        ) from None
    return Choice(plain, number, strengths)


def apply(
    image: jax.Array, choices: Sequence[Choice], fill: ArrayLike, sample: Sampler
) -> jax.Array:
    """Applies the chosen operations in turn, resampling once for every two steps."""
    return _apply(image, list(choices), _fill_of_colors(fill, image), sample=sample)


def _fill_of_colors(fill: ArrayLike, image: jax.Array) -> jax.Array:
    """Returns ``fill`` as an array; a scalar applies to the colors, with an alpha of 1."""
    value = filling(fill, image, image.shape[-1:])
    channels = image.shape[-1]
    if value.ndim or channels not in (2, 4):
        return value
    return jnp.where(jnp.arange(channels) < channels - 1, value, jnp.ones_like(value))


@partial(jax.jit, static_argnames="sample")
def _apply(
    image: jax.Array, choices: list[Choice], fill: jax.Array, *, sample: Sampler
) -> jax.Array:
    # All branches have to agree on what differs between the devices of a `shard_map`.
    image = vary_with(image, (choices, fill))
    at_once = partial(_apply_by_two, recolor=_recolor_all, warp=partial(_warp, sample=sample))
    if is_spread(image):
        return at_once(image, choices, fill)
    alone = partial(
        _apply_by_two, recolor=_recolor_chosen, warp=partial(_warp_if_chosen, sample=sample)
    )

    def in_turn(image: jax.Array, choices: list[Choice], fill: jax.Array) -> jax.Array:
        lead = image.shape[:-3]
        examples = jax.tree.map(
            lambda value: value.reshape(math.prod(lead), *value.shape[len(lead) :]),
            (image, choices),
        )
        results = jax.lax.map(lambda example: alone(example[0], example[1], fill), examples)
        return results.reshape(image.shape)

    return jax.lax.platform_dependent(image, choices, fill, cpu=in_turn, default=at_once)


def _apply_by_two(
    image: jax.Array,
    choices: list[Choice],
    fill: jax.Array,
    *,
    recolor: Callable[[jax.Array, Choice], jax.Array],
    warp: Callable[[jax.Array, list[Choice], jax.Array], jax.Array],
) -> jax.Array:
    """Applies choices in pairs: the first's color operation, a joint warp, the second's colors."""
    for start in range(0, len(choices), 2):
        two = choices[start : start + 2]
        image = recolor(image, two[0])
        image = warp(image, two, fill)
        for choice in two[1:]:
            image = recolor(image, choice)
    return image


def _recolor_all(image: jax.Array, choice: Choice) -> jax.Array:
    """Computes every operation except warps for all images, and keeps the chosen results."""
    result = image
    for number, function in _recolorings(choice):
        result = select(append_axes(choice.number == number), function(image), result)
    # Without the barrier, XLA would recompute a step for each neighboring pixel that the next step
    # reads.
    return jax.lax.optimization_barrier(result)


def _recolor_chosen(image: jax.Array, choice: Choice) -> jax.Array:
    """Applies the chosen operation to a single image, unless it is a warp."""
    branch = jnp.zeros_like(choice.number)
    branches: list[Callable[[jax.Array], jax.Array]] = [lambda image: image]
    for number, function in _recolorings(choice):
        branch = jnp.where(choice.number == number, len(branches), branch)
        branches.append(function)
    return jax.lax.switch(branch, branches, image)


def _recolorings(choice: Choice) -> list[tuple[int, Callable[[jax.Array], jax.Array]]]:
    """Returns pairs ``(index, function of an image)``, one per operation that is not a warp."""

    def recolor(image: jax.Array, operation: Operation, value: jax.Array) -> jax.Array:
        return vary_with(check_result(operation.function(image, value), image), image)

    return [
        (number, partial(recolor, operation=operation, value=value))
        for number, (operation, value) in enumerate(
            zip(choice.operations, choice.strengths, strict=True)
        )
        if isinstance(operation, Operation)
    ]


def _warp(
    image: jax.Array, choices: list[Choice], fill: jax.Array, *, sample: Sampler
) -> jax.Array:
    """Composes the chosen warps of ``choices`` into one matrix, and applies it."""
    if not any(isinstance(one, Warp) for choice in choices for one in choice.operations):
        return image
    matrix = chain(*(_matrix(choice, image) for choice in choices))
    return affine(image, matrix, fill=fill, sample=sample)


def _warp_if_chosen(
    image: jax.Array, choices: list[Choice], fill: jax.Array, *, sample: Sampler
) -> jax.Array:
    """Warps a single image if ``choices`` chooses any warp; otherwise returns it unchanged."""
    is_warp = [
        choice.number == number
        for choice in choices
        for number, one in enumerate(choice.operations)
        if isinstance(one, Warp)
    ]
    if not is_warp:
        return image
    return jax.lax.cond(
        jnp.any(jnp.stack(is_warp)),
        lambda image: _warp(image, choices, fill, sample=sample),
        lambda image: image,
        image,
    )


def _matrix(choice: Choice, image: jax.Array) -> jax.Array:
    """Returns the matrix of the chosen warp, or the identity if no warp is chosen."""
    identity = jnp.eye(3, dtype=real_dtype(image))
    lead = image.shape[:-3]
    matrix = place_by_example(jnp.broadcast_to(identity, (*lead, 3, 3)), image)
    for number, (warp, value) in enumerate(zip(choice.operations, choice.strengths, strict=True)):
        if isinstance(warp, Warp):
            moved = as_strength(warp.matrix(image, value), image)
            moved = place_by_example(jnp.broadcast_to(moved, matrix.shape), image)
            is_chosen = jnp.broadcast_to((choice.number == number)[..., None, None], matrix.shape)
            matrix = jnp.where(is_chosen, moved, matrix)
    return matrix
