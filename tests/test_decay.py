"""Weight decay, and what every transformation owes to Optax: odd leaves, wrappers, errors."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx, traverse_util

from jaxreg import masks, penalties, projections, proximal, transforms

NARROW = [jnp.bfloat16, jnp.float16]
TRANSFORMATIONS = {
    "decoupled_decay": lambda: transforms.decoupled_decay(0.5, learning_rate=0.1, mask=None),
    "independent_decay": lambda: transforms.independent_decay(0.05, mask=None),
    "cautious_decay": lambda: transforms.cautious_decay(0.5, learning_rate=0.1, mask=None),
    "proximal": lambda: transforms.proximal(proximal.l1, 0.5, 0.1),
    "add_penalty_gradient": lambda: transforms.add_penalty_gradient(penalties.l2, 0.5),
    "project": lambda: transforms.project(partial(projections.max_norm, radius=0.5)),
}

every_transformation = pytest.mark.parametrize("name", list(TRANSFORMATIONS))
narrow = pytest.mark.parametrize("dtype", NARROW, ids=lambda d: jnp.dtype(d).name)


def example():
    rng = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(rng.normal(0, 1, shape), jnp.float32)  # noqa: E731
    return {"dense": {"kernel": draw(4, 3), "bias": draw(3)}, "norm": {"scale": draw(3)}}


def train(tx, params, steps=20):
    """Steps of an optimizer on gradients that depend on the parameters."""
    state = tx.init(params)

    @jax.jit
    def step(params, state):
        gradients = jax.tree.map(lambda w: jnp.sin(3 * w).astype(w.dtype), params)
        updates, state = tx.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    for _ in range(steps):
        params, state = step(params, state)
    return params


def assert_close(tree, other, tolerance=1e-6):
    close = partial(np.testing.assert_allclose, rtol=tolerance, atol=tolerance)
    jax.tree.map(close, tree, other)


def same_bits(tree, other):
    pairs = zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True)
    return all(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in pairs)


def one_step(tx, updates, params):
    return optax.apply_updates(params, tx.update(updates, tx.init(params), params)[0])


# The formulas.


def test_decoupled_decay_shrinks_by_the_learning_rate_times_the_weight():
    params = example()
    updates = jax.tree.map(jnp.cos, params)
    after = one_step(transforms.decoupled_decay(0.3, learning_rate=0.2), updates, params)
    kernel = np.asarray(params["dense"]["kernel"], np.float64)
    want = kernel + np.cos(kernel) - 0.2 * 0.3 * kernel
    np.testing.assert_allclose(after["dense"]["kernel"], want, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("rate", [1e-3, 0.1, 10.0])
def test_independent_decay_does_not_depend_on_the_learning_rate(rate):
    params = jnp.full((2, 2), 4.0)
    tx = optax.chain(optax.sgd(rate), transforms.independent_decay(0.25))
    np.testing.assert_allclose(one_step(tx, jnp.zeros((2, 2)), params), 3.0, rtol=1e-6)


def test_decay_after_adam_is_adamw():
    rate = optax.linear_schedule(0.05, 0.01, 15)
    ours = optax.chain(optax.adam(rate), transforms.decoupled_decay(0.3, learning_rate=rate))
    theirs = optax.adamw(rate, weight_decay=0.3, mask=masks.kernels)
    assert_close(train(ours, example()), train(theirs, example()))
    without = train(optax.adam(rate), example())["dense"]["kernel"]
    assert abs(train(ours, example())["dense"]["kernel"] - without).max() > 0.01


def test_decay_of_everything_is_the_default_of_optax():
    ours = optax.chain(
        optax.adam(0.05), transforms.decoupled_decay(0.3, learning_rate=0.05, mask=None)
    )
    assert_close(train(ours, example()), train(optax.adamw(0.05, weight_decay=0.3), example()))


@pytest.mark.parametrize("make", [
    lambda weight: transforms.independent_decay(weight),
    lambda weight: transforms.decoupled_decay(weight, learning_rate=1.0),
    lambda weight: transforms.decoupled_decay(1.0, learning_rate=weight),
    lambda weight: transforms.cautious_decay(weight, learning_rate=1.0),
    lambda weight: transforms.cautious_decay(1.0, learning_rate=weight),
], ids=["independent", "weight", "learning_rate", "cautious", "cautious_rate"])  # fmt: skip
def test_every_strength_may_be_a_schedule_a_number_or_an_array(make):
    schedule = optax.piecewise_constant_schedule(0.5, {1: 0.5, 2: 0.0})
    w, tx = jnp.full((1, 1), 8.0), make(schedule)
    state = tx.init(w)
    for want in (4.0, 3.0, 3.0):
        updates, state = tx.update(jnp.zeros((1, 1)), state, w)
        w = optax.apply_updates(w, updates)
        assert float(w[0, 0]) == want
    traced = jax.jit(lambda weight: one_step(make(weight), jnp.zeros((1, 1)), w))
    for weight in (0.5, 0.25):
        assert float(traced(weight)[0, 0]) == 3 - 3 * weight
        assert (
            float(one_step(make(jnp.float32(weight)), jnp.zeros((1, 1)), w)[0, 0]) == 3 - 3 * weight
        )


def test_a_schedule_at_zero_leaves_parameters_as_they_are():
    params, zero = example(), optax.constant_schedule(0.0)
    for tx in (
        optax.chain(optax.adam(zero), transforms.decoupled_decay(0.3, learning_rate=zero)),
        optax.chain(optax.sgd(zero), transforms.independent_decay(zero, mask=None)),
    ):
        assert same_bits(train(tx, params, 3), params)


# What decays by default.


class Model(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = linen.MultiHeadDotProductAttention(num_heads=2)(linen.Embed(7, 8)(x))
        x = linen.BatchNorm(use_running_average=False)(linen.LayerNorm()(x))
        return linen.Dense(3)(x)


def test_biases_and_scales_of_a_linen_model_do_not_decay():
    variables = jax.jit(Model().init)(jax.random.key(0), jnp.zeros((2, 5), jnp.int32))
    params = jax.tree.map(lambda w: w + 1, variables["params"])
    zeros = jax.tree.map(jnp.zeros_like, params)
    for tx in (
        transforms.decoupled_decay(0.5, learning_rate=0.2),
        transforms.independent_decay(0.1),
    ):
        after = traverse_util.flatten_dict(one_step(tx, zeros, params))
        for path, w in traverse_util.flatten_dict(params).items():
            share = 0.9 if path[-1] in ("kernel", "embedding") else 1.0
            np.testing.assert_allclose(after[path], share * np.asarray(w), rtol=1e-6)


def test_an_nnx_model_with_its_optimizer():
    rngs = nnx.Rngs(0)
    layers = [nnx.Linear(4, 4, rngs=rngs), nnx.BatchNorm(4, rngs=rngs), nnx.Linear(4, 2, rngs=rngs)]
    model = nnx.Sequential(*layers)
    tx = optax.chain(optax.sgd(0.1), transforms.independent_decay(0.1))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    before = jax.tree.map(jnp.array, nnx.to_pure_dict(nnx.state(model, nnx.Param)))
    gradients = jax.tree.map(jnp.zeros_like, nnx.state(model, nnx.Param))
    optimizer.update(model, gradients)
    after = nnx.to_pure_dict(nnx.state(model, nnx.Param))

    def check(path, w, v):
        share = 0.9 if path[-1].key == "kernel" else 1.0
        np.testing.assert_allclose(v, share * w, rtol=1e-6)

    jax.tree_util.tree_map_with_path(check, before, after)


def test_a_mask_of_ones_own():
    mask = {"dense": {"kernel": False, "bias": True}, "norm": {"scale": False}}
    params = example()
    for given in (mask, lambda params: mask):
        tx = transforms.independent_decay(0.5, mask=given)
        after = one_step(tx, jax.tree.map(jnp.zeros_like, params), params)
        np.testing.assert_array_equal(after["dense"]["bias"], params["dense"]["bias"] / 2)
        assert same_bits(after["dense"]["kernel"], params["dense"]["kernel"])
        assert same_bits(after["norm"], params["norm"])


# Narrow parameters.


@narrow
@pytest.mark.parametrize(
    ("jit", "tx"),
    [
        (lambda f: f, transforms.independent_decay(1e-4)),
        (jax.jit, transforms.independent_decay(1e-4)),
        (jax.jit, transforms.decoupled_decay(0.1, learning_rate=1e-3)),
    ],
    ids=["eager", "independent", "decoupled"],
)
def test_small_decays_reach_narrow_parameters(dtype, jit, tx):
    w = jnp.array([[1.0, -1.0, 0.3, 0.0]], dtype)
    tx = transforms.compensate_rounding(tx)
    state, update = tx.init(w), jit(tx.update)
    for _ in range(1000):
        updates, state = update(jnp.zeros_like(w), state, w)
        assert updates.dtype == dtype
        w = optax.apply_updates(w, updates)
    want = np.exp(-0.1) * np.array([[1.0, -1.0, float(jnp.asarray(0.3, dtype)), 0]])
    np.testing.assert_allclose(
        np.asarray(w, np.float64), want, atol=float(jnp.finfo(dtype).eps) / 2
    )


@narrow
def test_narrow_training_follows_the_float32_one(dtype):
    # Within one update loop too, where a compiler may keep more bits than the dtype has.
    tx = transforms.compensate_rounding(
        optax.chain(optax.sgd(1e-2), transforms.independent_decay(1e-3, mask=None))
    )

    def loop(w):
        def body(_, carry):
            w, state = carry
            updates, state = tx.update(-jnp.ones_like(w), state, w)
            return optax.apply_updates(w, updates), state

        return jax.lax.fori_loop(0, 200, body, (w, tx.init(w)))[0]

    w = jnp.array([0.5, 2.0, -1.0])
    after = np.asarray(jax.jit(loop)(w.astype(dtype)), np.float64)
    np.testing.assert_allclose(after, jax.jit(loop)(w), rtol=4 * float(jnp.finfo(dtype).eps))


@pytest.mark.parametrize("size", [3e-5, 1e-6, 6e-8])
def test_subnormal_float16_weights_never_grow(size):
    w = jnp.full((1, 2), size, jnp.float16)
    tx = transforms.compensate_rounding(transforms.independent_decay(1e-4))
    state, start = tx.init(w), w
    for _ in range(20):
        updates, state = tx.update(jnp.zeros_like(w), state, w)
        w = optax.apply_updates(w, updates)
    assert (w <= start).all()


# Leaves that are not weights.


@every_transformation
def test_leaves_that_are_not_weights_pass_through(name):
    params = {
        "w": jnp.full((2, 2), 3.0),
        "count": jnp.array([10, 20], jnp.int32),
        "flag": jnp.array(True),
        "key": jax.random.key(0),
        "none": None,
        "empty": {},
        "scalar": jnp.float32(2.0),
        "hollow": jnp.zeros((0, 3)),
    }
    nothing = np.zeros((2,), jax.dtypes.float0)
    updates = {
        "w": jnp.zeros((2, 2)),
        "count": nothing,
        "flag": np.zeros((), jax.dtypes.float0),
        "key": np.zeros((), jax.dtypes.float0),
        "none": None,
        "empty": {},
        "scalar": jnp.float32(0.0),
        "hollow": jnp.zeros((0, 3)),
    }
    tx = TRANSFORMATIONS[name]()
    new, state = tx.update(updates, tx.init(params), params)
    new, _ = tx.update(new, state, params)
    assert jax.tree.structure(new) == jax.tree.structure(updates)
    for leaf in ("count", "flag", "key"):
        assert new[leaf].dtype == jax.dtypes.float0
    assert new["hollow"].shape == (0, 3)
    assert new["w"].any()
    assert new["scalar"] != 0
    zeros = jnp.zeros(2, jnp.int32)
    counts, _ = tx.update({"n": zeros}, tx.init({"n": params["count"]}), {"n": params["count"]})
    np.testing.assert_array_equal(counts["n"], zeros)


@every_transformation
def test_an_absent_update_stays_absent(name):
    # As in optax.add_decayed_weights: the parameter is frozen.
    params, tx = {"frozen": jnp.ones(2), "w": jnp.ones(2)}, TRANSFORMATIONS[name]()
    new, _ = tx.update({"frozen": None, "w": jnp.zeros(2)}, tx.init(params), params)
    assert new["frozen"] is None
    assert new["w"].shape == (2,)


# Wrappers of Optax.


@every_transformation
def test_masked_and_partition(name):
    params = example()
    masked = optax.masked(TRANSFORMATIONS[name](), masks.kernels)
    labels = {"dense": {"kernel": "on", "bias": "off"}, "norm": {"scale": "off"}}
    parts = optax.partition({"on": TRANSFORMATIONS[name](), "off": optax.identity()}, labels)
    zeros = jax.tree.map(jnp.zeros_like, params)
    after = one_step(masked, zeros, params)
    assert same_bits(after, one_step(parts, zeros, params))
    assert same_bits(after["norm"], params["norm"])
    assert abs(after["dense"]["kernel"] - params["dense"]["kernel"]).max() > 0.01


@every_transformation
def test_a_gradient_that_is_not_finite_changes_nothing(name):
    tx = optax.apply_if_finite(optax.chain(optax.adam(0.1), TRANSFORMATIONS[name]()), 5)
    params = example()
    _, state = tx.update(jax.tree.map(jnp.ones_like, params), tx.init(params), params)
    bad = jax.tree.map(lambda w: jnp.full_like(w, jnp.nan), params)
    updates, after = jax.jit(tx.update)(bad, state, params)
    assert same_bits(optax.apply_updates(params, updates), params)
    assert same_bits(after.inner_state, state.inner_state)


INJECTED = {
    "proximal": (("prox",), {"prox": proximal.l1, "weight": 0.5, "learning_rate": 1.0}),
    "add_penalty_gradient": (("penalty",), {"penalty": penalties.l2, "weight": 0.5}),
    "decoupled_decay": (("mask",), {"weight": 0.5, "learning_rate": 1.0}),
    "independent_decay": (("mask",), {"weight": 0.5}),
    "cautious_decay": (("mask",), {"weight": 0.5, "learning_rate": 1.0}),
}


@pytest.mark.parametrize("name", list(INJECTED))
def test_hyperparameters_can_be_injected(name):
    static, arguments = INJECTED[name]
    tx = optax.inject_hyperparams(getattr(transforms, name), static_args=static)(**arguments)
    w = jnp.full((2, 2), 4.0)
    state = tx.init(w)
    chex.clear_trace_counter()
    update = jax.jit(chex.assert_max_traces(tx.update, n=1))
    first, state = update(jnp.zeros_like(w), state, w)
    state.hyperparams["weight"] = jnp.float32(0.25)
    second, _ = update(jnp.zeros_like(w), state, w)
    assert abs(first).max() > 0
    np.testing.assert_allclose(second, first / 2, rtol=1e-6)


@every_transformation
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_donated_buffers(name, dtype):
    tx = optax.chain(optax.adam(0.1), TRANSFORMATIONS[name]())

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state):
        updates, state = tx.update(jax.tree.map(jnp.ones_like, params), state, params)
        return optax.apply_updates(params, updates), state

    params = jax.tree.map(lambda w: w.astype(dtype), example())
    state = tx.init(params)
    for _ in range(3):
        params, state = step(params, state)
    assert all(jnp.isfinite(w).all() for w in jax.tree.leaves(params))


# Errors.


@every_transformation
def test_an_update_without_parameters_raises(name):
    tx = TRANSFORMATIONS[name]()
    with pytest.raises(ValueError, match=rf"`params` must be given to the update of `{name}`"):
        tx.update(jnp.ones(2), tx.init(jnp.ones(2)))


@pytest.mark.parametrize("value", [-1e-3, np.float32(-1), np.nan], ids=str)
def test_negative_strengths_raise(value):
    for make in (
        lambda: transforms.decoupled_decay(value, learning_rate=0.1),
        lambda: transforms.cautious_decay(value, learning_rate=0.1),
        lambda: transforms.independent_decay(value),
        lambda: transforms.proximal(proximal.l1, value, 0.1),
        lambda: transforms.add_penalty_gradient(penalties.l2, value),
    ):
        with pytest.raises(ValueError, match=r"`weight` must be zero or positive, got"):
            make()
    for make in (
        lambda: transforms.decoupled_decay(0.1, learning_rate=value),
        lambda: transforms.cautious_decay(0.1, learning_rate=value),
        lambda: transforms.proximal(proximal.l1, 0.1, value),
    ):
        with pytest.raises(ValueError, match=r"`learning_rate` must be zero or positive, got"):
            make()


def test_a_mask_that_became_a_schedule_is_named():
    # Optax takes every callable argument for a schedule.
    tx = optax.inject_hyperparams(transforms.decoupled_decay)(weight=0.5, learning_rate=1.0)
    with pytest.raises(TypeError, match=r"`mask` must be .*static_args"):
        tx.init(jnp.ones((2, 2)))
