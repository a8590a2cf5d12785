"""What a recipe is: a program as people train it, and what `explain` has to say about it."""

from dataclasses import dataclass, field
from functools import partial

import jax
import numpy as np
from flax import nnx

NOTHING = float("nan")
KEY = jax.random.wrap_key_data(np.zeros(2, np.uint32))
RNG = np.random.default_rng(0)
PER_STEP = "of the weight per step"

# Conflicts and notes, by their first line.
COUPLED = "L2 through the scaling of the optimizer"
SCALES = "decay on biases or scales of norms"
INVARIANT = "decay on weights before a norm"
SKIPS = "stochastic depth before batch norm"
SOFT = "label smoothing of targets that are soft already"


@dataclass(frozen=True)
class Recipe:
    """Arguments of `explain`, and everything that it has to find."""

    arguments: tuple
    effects: list  # (place, regularizer, strength, unit)
    conflicts: dict = field(default_factory=dict)  # places by the first line
    notes: dict = field(default_factory=dict)
    options: dict = field(default_factory=dict)


def split(places):
    """A list of places; a text holds them between blanks."""
    return places.split() if isinstance(places, str) else list(places)


def on(places, regularizer, strength=NOTHING, unit=""):
    """The same effect at each place."""
    return [(place, regularizer, strength, unit) for place in split(places)]


def none(places):
    return on(places, "none")


def decay(places, strength):
    return on(places, "decay", strength, PER_STEP)


def inside(modules, *leaves):
    """Names of leaves below each module."""
    return [f"{module}/{leaf}" for module in split(modules) for leaf in leaves]


def draw(name, shape, dtype):
    """Values as at the start of training: random weights, and zeros and ones elsewhere."""
    if jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key):
        return KEY
    if not np.issubdtype(dtype, np.floating):
        return np.zeros(shape, dtype)
    if name in ("bias", "mean"):
        return np.zeros(shape, dtype)
    if name in ("scale", "var"):
        return np.ones(shape, dtype)
    return RNG.normal(size=shape).astype(dtype)


def variables_of(module, *inputs, **mode):
    """Variables of a Linen module, drawn without a compiled program."""
    init = partial(module.init, **mode)
    shapes = jax.eval_shape(init, {"params": KEY, "dropout": KEY}, *inputs)
    fill = lambda path, leaf: draw(path[-1].key, leaf.shape, leaf.dtype)  # noqa: E731
    return jax.tree_util.tree_map_with_path(fill, shapes)


def nnx_model(make):
    """The NNX module that `make` returns, with NumPy arrays as from a file."""
    graph, state = nnx.split(nnx.eval_shape(make))
    flat = {
        path: variable.replace(draw(path[-1], variable.shape, variable.dtype))
        for path, variable in nnx.to_flat_state(state)
    }
    return nnx.merge(graph, nnx.from_flat_state(flat))


def rows(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def tokens(*shape):
    return RNG.integers(0, 8, size=shape).astype(np.int32)


def mixed_labels(classes=8, share=0.8):
    """Labels of four examples, each mixed with another class."""
    hard = np.eye(classes, dtype=np.float32)[np.arange(4)]
    return share * hard + (1 - share) * hard[::-1]
