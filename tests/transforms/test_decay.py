"""Weight decay of every kind: formulas, masks, narrow parameters, and the wrappers of Optax."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx

from jaxreg import masks, transforms
from tests.helpers import few
from tests.transforms.helpers import (
    descend,
    one_step,
    same_bits,
    stepwise,
    trajectory,
    updated,
    zeros,
)

RATE, WEIGHT = 0.1, 0.5
SHARE = RATE * WEIGHT
DECAYS = {
    "decoupled_decay": partial(transforms.decoupled_decay, WEIGHT, learning_rate=RATE),
    "independent_decay": partial(transforms.independent_decay, SHARE),
    "cautious_decay": partial(transforms.cautious_decay, WEIGHT, learning_rate=RATE),
}
every_decay = pytest.mark.parametrize("make", DECAYS.values(), ids=DECAYS.keys())
some_decays = few("make", DECAYS.values(), ids=DECAYS.keys())
NARROW = ["bfloat16", "float16"]


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)


def example():
    return {"dense": {"kernel": draw(4, 3), "bias": draw(3)}, "norm": {"scale": draw(3, seed=1)}}


# Formulas.


def test_decoupled_decay_shrinks_by_the_learning_rate_times_the_weight():
    params = example()
    updates = jax.tree.map(np.cos, params)
    after = one_step(transforms.decoupled_decay(0.3, learning_rate=0.2), updates, params)
    kernel = np.asarray(params["dense"]["kernel"], np.float64)
    want = kernel + np.cos(kernel) - 0.2 * 0.3 * kernel
    np.testing.assert_allclose(after["dense"]["kernel"], want, rtol=1e-6, atol=1e-7)


@few("rate", [0.1, 1e-3, 10.0])
def test_independent_decay_does_not_depend_on_the_learning_rate(rate):
    w = np.full((2, 2), 4.0, np.float32)
    tx = optax.chain(optax.sgd(rate), transforms.independent_decay(0.25))
    np.testing.assert_allclose(one_step(tx, zeros(w), w), 3.0, rtol=1e-6)
    np.testing.assert_allclose(one_step(tx, np.ones_like(w), w), 3.0 - rate, rtol=1e-6)


def adamw(w, gradients, rates, weight, decayed=lambda step, w: w):
    """Weights after each step of Adam in float64, which decays before it moves them."""
    first = second = np.zeros_like(w)
    path = []
    for t, (g, rate) in enumerate(zip(gradients, rates, strict=True), start=1):
        first = 0.9 * first + 0.1 * g
        second = 0.999 * second + 0.001 * g**2
        step = first / (1 - 0.9**t) / (np.sqrt(second / (1 - 0.999**t)) + 1e-8)
        w = w - rate * (step + weight * decayed(step, w))
        path.append(w)
    return np.array(path)


START = draw(6, 5)
GRADIENTS = draw(20, 6, 5, seed=1)


@few("scheduled", [True, False])
def test_decay_after_adam_is_adamw(scheduled):
    rate = optax.linear_schedule(0.05, 0.01, 15) if scheduled else 0.05
    rates = 0.05 - 0.04 * np.minimum(np.arange(20) / 15, 1) if scheduled else [0.05] * 20
    tx = optax.chain(optax.adam(rate), transforms.decoupled_decay(0.3, learning_rate=rate))
    expected = adamw(np.float64(START), np.float64(GRADIENTS), rates, 0.3)
    np.testing.assert_allclose(trajectory(tx, START, GRADIENTS), expected, rtol=1e-4, atol=2e-5)
    without = adamw(np.float64(START), np.float64(GRADIENTS), rates, 0.0)
    assert abs(without - expected).max() > 0.01


# Each strength of each decay, the others being 1.
STRENGTHS = {
    "weight": lambda weight: transforms.decoupled_decay(weight, learning_rate=1.0),
    "learning_rate": lambda rate: transforms.decoupled_decay(1.0, learning_rate=rate),
    "independent": lambda weight: transforms.independent_decay(weight),
    "cautious": lambda weight: transforms.cautious_decay(weight, learning_rate=1.0),
    "cautious_rate": lambda rate: transforms.cautious_decay(1.0, learning_rate=rate),
}


@pytest.mark.parametrize("make", STRENGTHS.values(), ids=STRENGTHS)
def test_every_strength_may_be_a_schedule_a_number_or_an_array(make):
    schedule = optax.piecewise_constant_schedule(0.5, {1: 0.5, 2: 0.0})
    w = np.full((1, 1), 8.0, np.float32)

    @jax.jit
    def steps(traced):
        path, state = stepwise(make(schedule), w, np.zeros((3, 1, 1), np.float32))
        after = [one_step(make(weight), zeros(w), w) for weight in (0.25, jnp.float32(0.5), traced)]
        return path, state, after

    path, state, after = steps(0.75)
    np.testing.assert_array_equal(path[:, 0, 0], [4, 3, 3])
    assert state.count == 3
    np.testing.assert_array_equal(np.ravel(after), [6, 4, 2])


def test_a_schedule_at_zero_leaves_parameters_as_they_are():
    params = example()
    rest = optax.constant_schedule(0.0)

    @jax.jit
    def steps():
        gradient = partial(jax.tree.map, lambda w: jnp.sin(3 * w))
        decays = [
            transforms.decoupled_decay(0.3, learning_rate=rest),
            transforms.cautious_decay(0.3, learning_rate=rest),
            transforms.independent_decay(rest, mask=None),
        ]
        return [
            descend(optax.chain(optax.sgd(rest), decay), gradient, params, 3) for decay in decays
        ]

    for after in steps():
        assert same_bits(after, params)


@few("rate", [0.04, 0.01, 0.0025])
def test_what_is_left_of_an_unused_weight_depends_on_the_learning_rate_in_the_coupled_kind(rate):
    kinds = [
        (transforms.independent_decay(0.01, mask=None), 0.99**50),
        (transforms.decoupled_decay(1.0, learning_rate=rate, mask=None), (1 - rate) ** 50),
    ]
    for decay, want in kinds:
        tx = optax.chain(optax.adam(rate), decay)
        np.testing.assert_allclose(descend(tx, jnp.zeros_like, np.float32(1), 50), want, rtol=1e-5)


# Cautious decay.


def cautious(w, u, dtype=np.float32):
    """Update for some weights, which count as kernels."""
    tx = transforms.cautious_decay(WEIGHT, learning_rate=1.0, mask=None)
    return updated(tx, np.asarray(u, dtype), np.asarray(w, dtype))


def test_the_algorithm_of_cautious_decay():
    """Chen et al. subtract the step, so that its sign is the other one."""
    tx = optax.chain(optax.adam(RATE), DECAYS["cautious_decay"]())
    start = np.float64(START)
    gradients = np.float64(GRADIENTS)
    expected = adamw(
        start, gradients, [RATE] * 20, WEIGHT, lambda step, w: np.where(step * w >= 0, w, 0)
    )
    found = trajectory(tx, START, GRADIENTS)
    np.testing.assert_allclose(found[-1], expected[-1], rtol=1e-4, atol=2e-5)
    always = adamw(start, gradients, [RATE] * 20, WEIGHT)
    assert abs(always - expected)[-1].max() > 0.1


@few("dtype", [jnp.bfloat16, jnp.float32, jnp.float16])
def test_it_decays_where_the_step_does_not_lead_away_from_zero(dtype):
    w = [2.0, 2.0, 2.0, -2.0, -2.0, -2.0, 0.0, 0.0, 0.0]
    u = [1.0, 0.0, -1.0, 1.0, -0.0, -1.0, 1.0, 0.0, -1.0]
    want = [1.0, -1.0, -2.0, 2.0, 1.0, -1.0, 1.0, 0.0, -1.0]
    updates = cautious(w, u, dtype)
    assert updates.dtype == dtype
    np.testing.assert_array_equal(np.asarray(updates, np.float32), want)


def test_numbers_whose_product_is_zero_keep_their_signs():
    updates = cautious([1e-30, 1e-30, -1e-30], [1e-30, -1e-30, -1e-30])
    np.testing.assert_allclose(updates, [1e-30, -1.5e-30, -1e-30], rtol=1e-6)


def test_infinite_steps_and_nan():
    bad = [np.inf, -np.inf, np.nan]
    np.testing.assert_array_equal(cautious([1.0, 1.0, 1.0], bad), bad)


def test_complex_weights_decay_where_the_step_shortens_them():
    w = np.array([1 + 1j, 1 + 1j, 1 + 1j, 0])
    u = np.array([-1 - 2j, 1 - 1.1j, 2 - 1j, 1j])  # shorter, nearly sideways, longer, from zero
    updates = cautious(w, u, np.complex64)
    np.testing.assert_allclose(updates, u - 0.5 * w * np.array([1, 1, 0, 0]), rtol=1e-6)


def test_it_looks_at_the_steps_and_not_at_the_gradients():
    # Momentum still leads away from zero when the gradient has turned.
    tx = optax.chain(optax.sgd(RATE, momentum=0.9), DECAYS["cautious_decay"]())
    gradients = np.float32([-1.0, 0.1, 0.5, 0.5]).reshape(4, 1, 1)
    path = trajectory(tx, np.ones((1, 1), np.float32), gradients).ravel()
    steps = RATE * np.array([1, 0.8, 0.22, -0.302])
    want = [1 + steps[0], 1 + steps[:2].sum(), 1 + steps[:3].sum()]
    np.testing.assert_allclose(path, [*want, want[-1] * (1 - SHARE) + steps[3]], rtol=1e-5)


# Masks.


def decayed(tx, params):
    """Tells which leaves shrink, all of which hold ones, and that they do by the share."""
    after = jax.tree.leaves(one_step(tx, zeros(params), params))
    for w in after:
        assert np.isclose(w, 1 - SHARE).all() or (w == 1).all()
    return [bool(w.ravel()[0] < 1) for w in after]


@every_decay
def test_biases_and_scales_stay_unless_they_are_asked_for(make):
    matrix = np.ones((2, 2), np.float32)
    vector = np.ones(2, np.float32)
    params = {"bias": vector, "gamma": vector, "kernel": matrix, "norm": {"scale": matrix}}
    assert decayed(make(), params) == [False, False, True, False]
    assert decayed(make(mask=None), params) == [True] * 4
    assert decayed(make(mask=masks.match("norm")), params) == [False, False, False, True]


@some_decays
def test_masks_by_name_and_a_mask_of_ones_own(make):
    vector = np.ones(2, np.float32)
    params = {"a": {"kernel": vector, "bias": vector}, "b": [vector, vector], "none": None}
    assert decayed(make(mask=masks.no_bias_or_norm), params) == [False, True, True, True]
    tree = {"a": {"kernel": False, "bias": True}, "b": [False, True], "none": None}
    for mask in (tree, lambda params: tree):
        assert decayed(make(mask=mask), params) == [True, False, False, True]
    assert decayed(make(mask={"a": True, "b": False, "none": None}), params) == [
        True,
        True,
        False,
        False,
    ]


@some_decays
def test_masks_where_optax_shows_a_part_and_in_boxes(make):
    box = lambda w: linen.Partitioned(w, names=("x",) * w.ndim)  # noqa: E731
    matrix = np.ones((2, 2), np.float32)
    vector = np.ones(2, np.float32)
    params = {"a": {"bias": box(vector), "kernel": box(matrix)}, "b": matrix}
    for mask in (masks.kernels, masks.kernels(params)):
        tx = optax.masked(make(mask=mask), {"a": True, "b": False})
        assert decayed(tx, params) == [False, True, False]


@every_decay
def test_a_mask_that_became_a_schedule_is_named(make):
    # Optax takes every callable argument for a schedule.
    names = {k: v for k, v in make.keywords.items() if k == "learning_rate"}
    inject = optax.inject_hyperparams(make.func)
    w = {"kernel": np.ones((2, 2), np.float32), "bias": np.ones(2, np.float32)}
    for given in ({"mask": masks.match("kernel")}, {}):
        with pytest.raises(TypeError, match=r"`mask` must be .*static_args"):
            inject(weight=WEIGHT, **given, **names).init(w)
    inject = optax.inject_hyperparams(make.func, static_args=("mask",))
    updates = updated(inject(weight=WEIGHT, mask=masks.kernels, **names), zeros(w), w)
    assert updates["kernel"].max() < 0
    np.testing.assert_array_equal(updates["bias"], 0)


@every_decay
def test_a_mask_of_another_tree_is_named(make):
    params = {"a": np.ones((1, 1), np.float32), "b": np.ones((1, 1), np.float32)}
    for mask in ({"a": True}, lambda params: [True, False]):
        tx = make(mask=mask)
        with pytest.raises(ValueError, match=r"`mask` must have the tree structure of"):
            tx.update(params, tx.init(params), params)


@every_decay
@pytest.mark.parametrize("wrap", [bool, jnp.array])
def test_a_single_boolean_is_no_mask(make, wrap):
    with pytest.raises(TypeError, match=r"`mask` must be a tree of booleans or a function.*None"):
        make(mask=wrap(True))


class Model(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = linen.MultiHeadDotProductAttention(num_heads=2)(linen.Embed(7, 8)(x))
        x = linen.BatchNorm(use_running_average=False)(linen.LayerNorm()(x))
        return linen.Dense(3)(x)


def test_biases_and_scales_of_a_linen_model_do_not_decay():
    tokens = jnp.zeros((2, 5), jnp.int32)
    shapes = jax.eval_shape(Model().init, jax.random.key(0), tokens)["params"]
    params = jax.tree.map(lambda w: np.ones(w.shape, np.float32), shapes)
    paths, leaves = zip(
        *jax.tree.leaves_with_path(one_step(DECAYS["decoupled_decay"](), zeros(params), params)),
        strict=True,
    )
    names = [path[-1].key for path in paths]
    assert set(names) == {"kernel", "embedding", "bias", "scale"}
    for name, w in zip(names, leaves, strict=True):
        np.testing.assert_allclose(w, 0.95 if name in ("kernel", "embedding") else 1.0, rtol=1e-6)


class Pair(nnx.Module):
    def __init__(self):
        self.kernel = nnx.Param(np.ones((2, 3), np.float32))
        self.bias = nnx.Param(np.ones(3, np.float32))


def test_an_nnx_model_with_its_optimizer():
    model = Pair()
    tx = optax.chain(optax.sgd(0.1), transforms.independent_decay(0.1))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    rest = jax.tree.map(np.zeros_like, nnx.state(model, nnx.Param))
    nnx.jit(lambda model, optimizer: optimizer.update(model, rest))(model, optimizer)
    np.testing.assert_allclose(model.kernel[...], 0.9, rtol=1e-6)
    np.testing.assert_array_equal(model.bias[...], 1)


# Narrow parameters.


@some_decays
@few("dtype", NARROW)
def test_small_decays_reach_narrow_parameters_with_compensation_alone(make, dtype):
    options = {"learning_rate": 1e-3} if "learning_rate" in make.keywords else {}
    decay = make.func(0.1 if options else 1e-4, **options)
    w = np.array([[1.0, -1.0, 0.3, 0.0]], dtype)
    eps = float(jnp.finfo(dtype).eps)
    after = descend(transforms.compensate_rounding(decay), jnp.zeros_like, w, 1000)
    assert after.dtype == dtype
    np.testing.assert_allclose(np.float64(after), np.exp(-0.1) * np.float64(w), atol=eps / 2)
    assert same_bits(descend(decay, jnp.zeros_like, w[:, :2], 100), w[:, :2])


@few("dtype", NARROW)
def test_narrow_training_follows_the_float32_one(dtype):
    # Within one update loop too, where a compiler may keep more bits than the dtype has.
    chain = optax.chain(optax.sgd(1e-2), transforms.independent_decay(1e-3, mask=None))
    tx = transforms.compensate_rounding(chain)
    w = np.float32([0.5, 2.0, -1.0])
    after = descend(tx, lambda w: -jnp.ones_like(w), w.astype(dtype), 200)
    want = w * 0.999**200 + 0.01 * (1 - 0.999**200) / 0.001
    np.testing.assert_allclose(np.float64(after), want, rtol=4 * float(jnp.finfo(dtype).eps))


@few("size", [6e-8, 3e-5, 1e-6])
def test_subnormal_float16_weights_never_grow(size):
    w = np.full((1, 2), size, np.float16)
    tx = transforms.compensate_rounding(transforms.independent_decay(1e-4))
    assert (descend(tx, jnp.zeros_like, w, 20) <= w).all()


# Wrappers of Optax, and leaves that do not decay.

ONE = np.ones((1, 1), np.float32)
STILL = np.zeros((6, 1, 1), np.float32)  # gradients


@some_decays
def test_inside_multi_steps_it_acts_once_and_outside_at_every_call(make):
    inside = optax.MultiSteps(optax.chain(optax.sgd(RATE), make()), 3).gradient_transformation()
    outside = optax.chain(optax.MultiSteps(optax.sgd(RATE), 3).gradient_transformation(), make())
    keep = 1 - SHARE
    path = trajectory(inside, ONE, STILL).ravel()
    np.testing.assert_allclose(path, [1, 1, keep, keep, keep, keep**2], rtol=1e-6)
    path = trajectory(outside, ONE, STILL).ravel()
    np.testing.assert_allclose(path, keep ** np.arange(1, 7), rtol=1e-6)


@some_decays
def test_a_schedule_counts_the_steps_of_the_optimizer_and_not_the_calls(make):
    falling = optax.piecewise_constant_schedule(SHARE, {1: 0.0})
    options = {"learning_rate": 1.0} if "learning_rate" in make.keywords else {}
    decay = make.func(falling, **options)
    tx = optax.MultiSteps(optax.chain(optax.sgd(RATE), decay), 2).gradient_transformation()
    path = trajectory(tx, ONE, STILL).ravel()
    np.testing.assert_allclose(path, [1, *[1 - SHARE] * 5], rtol=1e-6)


@some_decays
def test_a_nan_is_skipped_as_if_it_had_not_come(make):
    """Moments, the count of schedules and the decay are those without it."""
    tx = optax.chain(optax.adam(RATE), make())
    accumulating = optax.MultiSteps(tx, 2, should_skip_update_fn=optax.skip_not_finite)
    accumulating = accumulating.gradient_transformation()
    good = np.float32([[[0.3, -0.2]]]) * np.arange(1, 5, dtype=np.float32)[:, None, None]
    bad = np.float32([[np.nan, 1]])
    w = np.ones((1, 2), np.float32)
    for skipping in (accumulating, optax.apply_if_finite(tx, 5)):
        with_bad = trajectory(skipping, w, np.stack([good[0], bad, *good[1:3], bad, good[3]]))
        np.testing.assert_array_equal(with_bad[1], with_bad[0])
        np.testing.assert_array_equal(with_bad[-1], trajectory(skipping, w, good)[-1])


@every_decay
def test_integers_keys_and_absent_updates_stay_in_every_mask(make):
    params = {"n": np.array([[10, 20]]), "key": jax.random.key(0), "off": ONE, "on": ONE}
    params |= {"none": None, "hollow": np.zeros((0, 3), np.float32)}
    nothing = np.zeros((), jax.dtypes.float0)
    updates = {**params, "n": np.array([[0, 0]]), "key": nothing, "off": None, "on": 0 * ONE}

    @jax.jit
    def step():
        for mask in (masks.kernels, masks.match("n|key|off"), None):
            tx = make(mask=mask)
            moved, _ = tx.update(updates, tx.init(params), params)
            assert moved["key"] is nothing
            assert moved["off"] is None
            assert moved["none"] is None
            assert moved["n"] is updates["n"]
        return moved["on"], moved["hollow"]

    moved, hollow = step()
    np.testing.assert_allclose(moved, -SHARE)
    assert hollow.shape == (0, 3)


# Errors.


@pytest.mark.parametrize("value", [-1e-3, np.float32(-1), np.nan], ids=str)
@every_decay
def test_negative_strengths_are_named(make, value):
    with pytest.raises(ValueError, match=r"`weight` must be zero or positive, got"):
        make.func(value, **make.keywords)
    if "learning_rate" in make.keywords:
        with pytest.raises(ValueError, match=r"`learning_rate` must be zero or positive, got"):
            make.func(0.1, learning_rate=value)


@every_decay
def test_missing_params_are_named(make):
    name = make.func.__name__
    with pytest.raises(ValueError, match=rf"`params` must be given to the update of `{name}`, got"):
        make().update(ONE, make().init(ONE))
