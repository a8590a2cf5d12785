"""Cautious decay, and every decay behind masks and inside the wrappers of Optax."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen

from jaxreg import masks, transforms

RATE, WEIGHT = 0.1, 0.5
DECAYS = {
    "decoupled_decay": partial(transforms.decoupled_decay, WEIGHT, learning_rate=RATE),
    "independent_decay": partial(transforms.independent_decay, WEIGHT * RATE),
    "cautious_decay": partial(transforms.cautious_decay, WEIGHT, learning_rate=RATE),
}
every_decay = pytest.mark.parametrize("make", DECAYS.values(), ids=DECAYS.keys())


def one_step(tx, updates, params):
    return optax.apply_updates(params, tx.update(updates, tx.init(params), params)[0])


def trajectory(tx, params, gradients):
    """Parameters after each of some gradients."""

    def step(carry, gradient):
        params, state = carry
        updates, state = tx.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *gradients)
    path = jax.device_get(jax.lax.scan(step, (params, tx.init(params)), stacked)[1])
    return [jax.tree.map(lambda w, i=i: w[i], path) for i in range(len(gradients))]


# Cautious decay.


def cautious(w, u, rate=1.0, dtype=jnp.float32):
    """Update for some weights, which count as kernels."""
    tx = transforms.cautious_decay(WEIGHT, learning_rate=rate, mask=None)
    w, u = jnp.asarray(w, dtype), jnp.asarray(u, dtype)
    return tx.update(u, tx.init(w), w)[0]


def cautious_adamw(w, gradients):
    """Algorithm of Chen et al. for Adam in float64: the step is subtracted."""
    m = v = 0.0
    for t, g in enumerate(gradients, start=1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        u = m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        w = w - RATE * (u + WEIGHT * np.where(u * w >= 0, w, 0))
    return w


def test_the_algorithm_of_the_paper():
    rng = np.random.default_rng(0)
    start, gradients = rng.normal(size=(6, 5)), rng.normal(size=(20, 6, 5))
    tx = optax.chain(optax.adam(RATE), DECAYS["cautious_decay"]())
    path = trajectory(tx, jnp.asarray(start, jnp.float32), jnp.asarray(gradients, jnp.float32))
    expected = cautious_adamw(start, gradients)
    np.testing.assert_allclose(path[-1], expected, rtol=1e-4, atol=2e-5)
    always = optax.chain(optax.adam(RATE), DECAYS["decoupled_decay"]())
    others = trajectory(always, jnp.asarray(start, jnp.float32), jnp.asarray(gradients))
    assert abs(others[-1] - expected).max() > 0.1


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_it_decays_where_the_step_does_not_lead_away_from_zero(dtype):
    w = [2.0, 2.0, 2.0, -2.0, -2.0, -2.0, 0.0, 0.0, 0.0]
    u = [1.0, 0.0, -1.0, 1.0, -0.0, -1.0, 1.0, 0.0, -1.0]
    want = [1.0, -1.0, -2.0, 2.0, 1.0, -1.0, 1.0, 0.0, -1.0]
    updates = cautious(w, u, dtype=dtype)
    assert updates.dtype == dtype
    np.testing.assert_array_equal(np.asarray(updates, np.float32), want)


def test_numbers_whose_product_is_zero_keep_their_signs():
    updates = cautious([1e-30, 1e-30, -1e-30], [1e-30, -1e-30, -1e-30])
    np.testing.assert_allclose(updates, [1e-30, -1.5e-30, -1e-30], rtol=1e-6)


def test_infinite_steps_and_nan():
    np.testing.assert_array_equal(
        cautious([1.0, 1.0, 1.0], [jnp.inf, -jnp.inf, jnp.nan]), [jnp.inf, -jnp.inf, jnp.nan]
    )


def test_complex_weights_decay_where_the_step_shortens_them():
    w = jnp.array([1 + 1j, 1 + 1j, 1 + 1j, 0])
    u = jnp.array([-1 - 2j, 1 - 1.1j, 2 - 1j, 1j])  # shorter, nearly sideways, longer, from zero
    updates = cautious(w, u, dtype=jnp.complex64)
    np.testing.assert_allclose(updates, u - 0.5 * w * jnp.array([1, 1, 0, 0]), rtol=1e-6)


def test_without_a_step_it_is_the_decoupled_decay():
    w = jnp.sin(jnp.arange(12.0)).reshape(3, 4)
    actual, expected = (
        one_step(DECAYS[name](), jnp.zeros_like(w), w)
        for name in ("cautious_decay", "decoupled_decay")
    )
    np.testing.assert_array_equal(actual, expected)


def test_it_looks_at_the_steps_and_not_at_the_gradients():
    # Momentum still leads away from zero when the gradient has turned.
    w = jnp.full((1, 1), 1.0)
    tx = optax.chain(optax.sgd(RATE, momentum=0.9), DECAYS["cautious_decay"]())
    gradients = [jnp.full((1, 1), g) for g in (-1.0, 0.1, 0.5, 0.5)]
    path = [float(w[0, 0]) for w in trajectory(tx, w, gradients)]
    steps = RATE * np.array([1, 0.8, 0.22, -0.302])
    want = [1 + steps[0], 1 + steps[:2].sum(), 1 + steps[:3].sum()]
    np.testing.assert_allclose(path, [*want, want[-1] * (1 - RATE * WEIGHT) + steps[3]], rtol=1e-5)


# Every decay: what it selects, and the wrappers.


@every_decay
def test_biases_and_scales_stay_unless_they_are_asked_for(make):
    params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2), "norm": {"scale": jnp.ones((2, 2))}}
    params |= {"gamma": jnp.ones(2)}
    zeros = jax.tree.map(jnp.zeros_like, params)

    def decayed(mask):
        after = one_step(make(mask=mask), zeros, params)
        return [float(w.ravel()[0]) < 1 for w in jax.tree.leaves(after)]

    assert decayed(masks.kernels) == [False, False, True, False]
    assert decayed(masks.no_bias_or_norm) == [False, True, True, False]
    assert decayed(masks.match("norm")) == [False, False, False, True]
    assert decayed(None) == [True] * 4
    after = one_step(make(), zeros, params)
    assert [float(w.ravel()[0]) < 1 for w in jax.tree.leaves(after)] == decayed(masks.kernels)


@every_decay
@pytest.mark.parametrize("mask", [masks.kernels, masks.no_bias_or_norm, masks.match("kernel")])
def test_a_mask_that_became_a_schedule_is_named(make, mask):
    names = {k: v for k, v in make.keywords.items() if k == "learning_rate"}
    inject = optax.inject_hyperparams(make.func)
    with pytest.raises(TypeError, match=r"`mask` must be .*static_args"):
        inject(weight=WEIGHT, mask=mask, **names).init({"kernel": jnp.ones((2, 2))})
    tx = optax.inject_hyperparams(make.func, static_args=("mask",))(
        weight=WEIGHT, mask=mask, **names
    )
    w = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
    updates, _ = tx.update(jax.tree.map(jnp.zeros_like, w), tx.init(w), w)
    assert updates["kernel"].max() < 0
    np.testing.assert_array_equal(updates["bias"], 0)


@every_decay
def test_inside_multi_steps_it_acts_once_and_outside_at_every_call(make):
    w, zeros = jnp.ones((1, 1)), [jnp.zeros((1, 1))] * 6
    share = 1 - WEIGHT * RATE
    inside = optax.MultiSteps(optax.chain(optax.sgd(RATE), make()), 3).gradient_transformation()
    outside = optax.chain(optax.MultiSteps(optax.sgd(RATE), 3).gradient_transformation(), make())
    path = [float(w[0, 0]) for w in trajectory(inside, w, zeros)]
    np.testing.assert_allclose(path, [1, 1, share, share, share, share**2], rtol=1e-6)
    path = [float(w[0, 0]) for w in trajectory(outside, w, zeros)]
    np.testing.assert_allclose(path, share ** np.arange(1, 7), rtol=1e-6)


@every_decay
def test_a_schedule_counts_the_steps_of_the_optimizer_and_not_the_calls(make):
    falling = optax.piecewise_constant_schedule(WEIGHT * RATE, {1: 0.0})
    options = {"learning_rate": 1.0} if "learning_rate" in make.keywords else {}
    decay = make.func(falling, **options)
    tx = optax.MultiSteps(optax.chain(optax.sgd(RATE), decay), 2).gradient_transformation()
    path = trajectory(tx, jnp.ones((1, 1)), [jnp.zeros((1, 1))] * 6)
    share = 1 - WEIGHT * RATE
    np.testing.assert_allclose([float(w[0, 0]) for w in path], [1, *[share] * 5], rtol=1e-6)


@every_decay
def test_one_nan_among_accumulated_gradients_is_skipped(make):
    # Skipped whole: moments, the count of schedules and the decay are as if it had not come.
    def steps(gradients):
        tx = optax.chain(optax.adam(RATE), make())
        skip = optax.MultiSteps(tx, 2, should_skip_update_fn=optax.skip_not_finite)
        return trajectory(skip.gradient_transformation(), jnp.ones((1, 2)), gradients)[-1]

    good = [jnp.array([[0.3, -0.2]]) * (i + 1) for i in range(4)]
    bad = jnp.array([[jnp.nan, 1.0]])
    np.testing.assert_array_equal(steps([good[0], bad, *good[1:3], bad, good[3]]), steps(good))


@every_decay
def test_a_step_with_nan_changes_nothing_behind_apply_if_finite(make):
    tx = optax.apply_if_finite(optax.chain(optax.adam(RATE), make()), 5)
    w, bad = jnp.ones((1, 2)), jnp.array([[jnp.nan, 1.0]])
    good = [jnp.array([[0.3, -0.2]]), jnp.array([[0.1, 0.4]])]
    with_bad, without = (trajectory(tx, w, g)[-1] for g in ([good[0], bad, good[1]], good))
    np.testing.assert_array_equal(with_bad, without)


@every_decay
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_narrow_parameters_do_not_stall(make, dtype):
    options = {"learning_rate": 1e-3} if "learning_rate" in make.keywords else {}
    decay = make.func(0.1 if options else 1e-4, **options)
    for tx, moves in ((decay, False), (transforms.compensate_rounding(decay), True)):
        w = trajectory(tx, jnp.ones((1, 1), dtype), [jnp.zeros((1, 1), dtype)] * 100)[-1]
        want = np.exp(-0.01) if moves else 1.0
        assert abs(float(w[0, 0]) - want) <= float(jnp.finfo(dtype).eps) / 2


@every_decay
def test_a_mask_of_another_tree_is_named(make):
    params = {"a": jnp.ones((1, 1)), "b": jnp.ones((1, 1))}
    for mask in ({"a": True}, lambda params: [True, False]):
        tx = make(mask=mask)
        with pytest.raises(ValueError, match=r"`mask` must have the tree of the parameters"):
            tx.update(params, tx.init(params), params)


@every_decay
@pytest.mark.parametrize("mask", [True, jnp.array(True)], ids=type)
def test_a_single_boolean_is_no_mask(make, mask):
    with pytest.raises(TypeError, match=r"`mask` must be a tree of booleans or a function.*None"):
        make(mask=mask)


@every_decay
def test_a_mask_may_be_a_prefix(make):
    params = {"a": [jnp.ones(1), jnp.ones(1)], "b": jnp.ones(1), "none": None}
    zeros = jax.tree.map(jnp.zeros_like, params)
    after = one_step(make(mask={"a": True, "b": False, "none": None}), zeros, params)
    assert [float(w[0]) < 1 for w in jax.tree.leaves(after)] == [True, True, False]


@every_decay
def test_masks_where_optax_shows_a_part_and_in_boxes(make):
    box = lambda w: linen.Partitioned(w, names=("x",) * w.ndim)  # noqa: E731
    params = {"a": {"kernel": box(jnp.ones((2, 2))), "bias": box(jnp.ones(2))}}
    params["b"] = jnp.ones((2, 2))
    zeros = jax.tree.map(jnp.zeros_like, params)
    for mask in (masks.kernels, masks.kernels(params)):
        tx = optax.masked(make(mask=mask), {"a": True, "b": False})
        after = one_step(tx, zeros, params)
        assert after["a"]["kernel"].value.max() < 1
        assert after["a"]["bias"].value.min() == after["b"].min() == 1


@every_decay
def test_integers_keys_and_absent_updates_stay_in_every_mask(make):
    params = {"count": jnp.array([[10, 20]]), "key": jax.random.key(0), "off": jnp.ones((1, 1))}
    updates = {"count": jnp.array([[0, 0]]), "key": np.zeros((), jax.dtypes.float0), "off": None}
    for mask in (masks.kernels, masks.no_bias_or_norm, masks.match("count|key|off"), None):
        tx = make(mask=mask)
        moved, _ = tx.update(updates, tx.init(params), params)
        np.testing.assert_array_equal(moved["count"], 0)
        assert moved["key"].dtype == jax.dtypes.float0
        assert moved["off"] is None
