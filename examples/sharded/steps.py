"""The training step: masked tokens, losses, accumulated gradients and the optimizer, on a mesh."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxreg import masks, projections, targets, transforms
from jaxreg.augment import text
from sharded import model_linen, model_nnx
from sharded.settings import Settings

MODELS = {"linen": model_linen, "nnx": model_nnx}

# Logical axes of the weights, and the axes of the mesh over which they are spread: every kernel is
# split over `data` (fully sharded) and over `model` (tensor parallel).
RULES = (
    ("embed", "data"),
    ("heads", "model"),
    ("hidden", "model"),
    ("vocabulary", "model"),
    ("length", None),
    ("layers", None),
)


class State(NamedTuple):
    """Everything that the next step depends on, besides the settings."""

    step: jax.Array  # Number of the next step, which is the position in the data.
    params: Any
    opt_state: Any


class Program(NamedTuple):
    """The compiled functions of a run."""

    init: Callable[[], State]
    train: Callable[[State, jax.Array], tuple[State, jax.Array]]  # The loss is the second result.
    evaluate: Callable[[State, jax.Array], targets.SumAndCount]
    shardings: State


def make_mesh(data: int, model: int) -> Mesh:
    """Makes a mesh of all devices."""
    if data * model != jax.device_count():
        raise ValueError(
            f"`mesh` must have {jax.device_count()} devices, got {data},{model}; choose two sizes "
            "with this product."
        )
    return jax.make_mesh((data, model), ("data", "model"), axis_types=(AxisType.Auto,) * 2)


def make_optimizer(settings: Settings) -> optax.GradientTransformationExtraArgs:
    """Chains the optimizer, decay, a bound of norms and an average, all inside SAM."""
    stacked = masks.match("blocks")  # The layers of the scan are bounded one by one.
    kernels = partial(masks.kernels, stacked=stacked)
    rate = optax.warmup_constant_schedule(0.0, settings.learning_rate, settings.warmup)
    adam = settings.optimizer == "adam"
    chain = [
        optax.adam(rate) if adam else optax.sgd(rate, momentum=0.9),
        transforms.decoupled_decay(settings.decay, learning_rate=rate, mask=kernels),
    ]
    if settings.max_norm < math.inf:
        ball = partial(projections.max_norm, radius=settings.max_norm)
        units = masks.all_of(kernels, masks.negate(masks.match("tokens|positions")))
        chain.append(optax.masked(transforms.project(ball, stacked=stacked), units))
    chain.append(transforms.exponential_average(settings.average))
    return transforms.sam(optax.chain(*chain), settings.sam)


def mask_tokens(settings: Settings, key: jax.Array, tokens: jax.Array) -> text.Masked:
    """Chooses the tokens to predict; the labels of the others are -1 and do not count."""
    last = settings.vocabulary - 1
    replacement = text.Replacement(mask_id=last, vocabulary_size=last)
    return text.token_masking(key, tokens, rate=settings.masking, replacement=replacement)


def loss(
    settings: Settings, params: Any, tokens: jax.Array, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Returns the sum of the losses of a micro-batch, and the number of tokens to predict."""
    mask_key, dropout_key = jax.random.split(key)
    masked = mask_tokens(settings, mask_key, tokens)
    model = MODELS[settings.framework]
    logits = model.apply(settings, params, masked.tokens, dropout_key)
    return targets.smoothed_cross_entropy(
        logits, masked.labels, alpha=settings.smoothing, reduce=targets.sum_and_count
    )


def gradient(
    settings: Settings, params: Any, batch: jax.Array, key: jax.Array
) -> tuple[jax.Array, Any]:
    """Returns the mean loss of all micro-batches, and its gradient.

    Sums and counts are added up and divided once, since micro-batches differ in their counts.
    """
    slope = jax.value_and_grad(partial(loss, settings), has_aux=True)

    def add(sums: Any, inputs: tuple[jax.Array, jax.Array]) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, sums, slope(params, *inputs)), None

    keys = jax.random.split(key, settings.accumulate)
    zero = jnp.zeros(())
    start = ((zero, zero), jax.tree.map(jnp.zeros_like, params))
    ((total, count), sums), _ = jax.lax.scan(add, start, (batch, keys))
    number = jnp.maximum(count, 1)
    return total / number, jax.tree.map(lambda g: g / number, sums)


def train(settings: Settings, state: State, batch: jax.Array) -> tuple[State, jax.Array]:
    """Takes a step; its masks depend on the seed and its number only."""
    key = jax.random.fold_in(jax.random.key(settings.seed), state.step)
    value, grads = gradient(settings, state.params, batch, key)
    updates, opt_state = make_optimizer(settings).update(
        grads,
        state.opt_state,
        state.params,
        # SAM's second gradient, with the masks of the first.
        grad_fn=lambda params: gradient(settings, params, batch, key)[1],
    )
    return State(state.step + 1, optax.apply_updates(state.params, updates), opt_state), value


def evaluate(settings: Settings, state: State, batch: jax.Array) -> targets.SumAndCount:
    """Counts the masked tokens that the averaged weights predict, and all masked tokens."""
    params = transforms.read_average(state.opt_state, state.params)
    tokens = batch.reshape(-1, settings.length)
    masked = mask_tokens(settings, jax.random.key(settings.seed), tokens)
    logits = MODELS[settings.framework].apply(settings, params, masked.tokens)
    right = logits.argmax(-1) == masked.labels
    return targets.SumAndCount(jnp.sum(right), jnp.sum(masked.labels >= 0))


def start(settings: Settings) -> State:
    """Returns the state before the first step."""
    params = MODELS[settings.framework].init(settings, jax.random.key(settings.seed))
    return State(jnp.zeros((), jnp.int32), params, make_optimizer(settings).init(params))


def make_shardings(settings: Settings, mesh: Mesh) -> State:
    """Spreads the parameters by the rules, and the states of the optimizer like parameters."""
    specs = MODELS[settings.framework].partition_specs(settings, RULES)
    params = jax.tree.map(partial(NamedSharding, mesh), specs)
    whole = NamedSharding(mesh, PartitionSpec())
    opt_state = optax.tree_utils.tree_map_params(
        make_optimizer(settings),
        lambda _, sharding: sharding,
        jax.eval_shape(partial(start, settings)).opt_state,
        params,
        transform_non_params=lambda _: whole,
    )
    return State(whole, params, opt_state)


def compile_for(settings: Settings, mesh: Mesh) -> Program:
    """Returns the functions of a run; they are compiled at their first call."""
    shardings = make_shardings(settings, mesh)
    whole = NamedSharding(mesh, PartitionSpec())
    return Program(
        init=jax.jit(partial(start, settings), out_shardings=shardings),
        train=jax.jit(partial(train, settings), donate_argnums=0, out_shardings=(shardings, whole)),
        evaluate=jax.jit(partial(evaluate, settings), out_shardings=whole),
        shardings=shardings,
    )
