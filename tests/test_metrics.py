"""Proximal steps in the metric of an adaptive optimizer."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxreg import masks, proximal, transforms
from tests.metric_chains import (
    BUILDERS,
    RATE,
    parameters,
    preconditioned,
    run,
)

GRADIENTS = np.random.default_rng(0).normal(0, 1, (4, 5)).astype(np.float32)
GRADIENTS[:, 4] *= 1e-3


def two_groups(inner):
    """An optimizer for some of the parameters, and plain steps for the others."""
    return optax.partition({"on": inner, "off": optax.sgd(RATE)}, {"w": "on", "b": "off"})


# Without momentum the update of an adaptive optimizer is the gradient divided by the metric.
ADAM = partial(optax.adam, b1=0.0)
RMS, CENTERED = optax.rmsprop, partial(optax.rmsprop, centered=True)
PAIRS = {
    "adam": (ADAM(RATE), transforms.adam_metric()),
    "adam, b2": (ADAM(RATE, b2=0.5, eps=0.1), transforms.adam_metric(b2=0.5, eps=0.1)),
    "adam, eps_root": (ADAM(RATE, eps_root=0.3), transforms.adam_metric(eps_root=0.3)),
    "adamw": (optax.adamw(RATE, b1=0.0, weight_decay=0.0), transforms.adam_metric()),
    "nadam": (optax.nadam(RATE, b1=0.0), transforms.adam_metric()),
    "yogi": (optax.yogi(RATE, b1=0.0), transforms.adam_metric(eps=1e-3)),
    "injected": (optax.inject_hyperparams(ADAM)(learning_rate=RATE), transforms.adam_metric()),
    "in a chain": (
        optax.chain(
            optax.clip(100.0), optax.chain(optax.scale_by_adam(b1=0.0)), optax.scale(-RATE)
        ),
        transforms.adam_metric(),
    ),
    "skipping": (optax.apply_if_finite(ADAM(RATE), 3), transforms.adam_metric()),
    "rmsprop": (RMS(RATE), transforms.rmsprop_metric()),
    "rmsprop, start": (RMS(RATE, decay=0.5, initial_scale=1.0), transforms.rmsprop_metric()),
    "rmsprop, eps": (RMS(RATE, eps=0.3), transforms.rmsprop_metric(eps=0.3)),
    "rmsprop, outside": (
        RMS(RATE, eps=0.3, eps_in_sqrt=False),
        transforms.rmsprop_metric(eps=0.0, eps_outside=0.3),
    ),
    "rmsprop, corrected": (
        RMS(RATE, decay=0.5, bias_correction=True),
        transforms.rmsprop_metric(decay=0.5),
    ),
    "centered": (CENTERED(RATE, eps=0.1), transforms.rmsprop_metric(eps=0.1)),
    "centered, corrected": (
        CENTERED(RATE, decay=0.5, eps=0.1, bias_correction=True),
        transforms.rmsprop_metric(decay=0.5, eps=0.1),
    ),
    "adagrad": (optax.adagrad(RATE), transforms.adagrad_metric()),
    "adagrad, start": (
        optax.adagrad(RATE, initial_accumulator_value=2.0, eps=0.3),
        transforms.adagrad_metric(eps=0.3),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_the_metric_is_what_the_optimizer_divides_by(name):
    inner, metric = PAIRS[name]
    params = {"w": jnp.zeros(5)}
    state, update = inner.init(params), jax.jit(inner.update)
    for gradient in GRADIENTS:
        updates, state = update({"w": jnp.asarray(gradient)}, state, params)
        d = jax.jit(metric)(state)["w"]
        assert d.dtype == jnp.float32
        np.testing.assert_allclose(-updates["w"] * d / RATE, gradient, rtol=3e-5)


def test_the_metric_of_adam_with_momentum_is_that_of_the_paper():
    inner, w = optax.adam(RATE, b1=0.8, b2=0.9), jnp.zeros(5)
    state, second = inner.init(w), np.zeros(5)
    for t, gradient in enumerate(GRADIENTS, 1):
        _, state = inner.update(jnp.asarray(gradient), state, w)
        second = 0.9 * second + 0.1 * np.float64(gradient) ** 2
        d = transforms.adam_metric(b2=0.9)(state)
        np.testing.assert_allclose(d, np.sqrt(second / (1 - 0.9**t)) + 1e-8, rtol=1e-5)


def test_the_step_is_the_soft_threshold_divided_by_the_metric():
    rate = optax.piecewise_constant_schedule(0.5, {1: 0.5, 3: 0.0})
    weight = optax.piecewise_constant_schedule(0.3, {2: 2.0})
    tx = preconditioned(
        optax.adam(rate, b2=0.9), weight=weight, rate=rate, metric=transforms.adam_metric(b2=0.9)
    )
    w = jnp.array([1.0, -1.0, 0.5, -2.0, 0.3])
    want, state = np.float64(w), tx.init(w)
    first, second = np.zeros(5), np.zeros(5)
    for step, gradient in enumerate(GRADIENTS):
        updates, state = tx.update(jnp.asarray(gradient), state, w)
        before, w = w, optax.apply_updates(w, updates)
        g = np.float64(gradient)
        first, second = 0.9 * first + 0.1 * g, 0.9 * second + 0.1 * g**2
        d = np.sqrt(second / (1 - 0.9 ** (step + 1))) + 1e-8
        moved = want - float(rate(step)) * first / (1 - 0.9 ** (step + 1)) / d
        cut = float(rate(step)) * float(weight(step)) / d
        want = np.sign(moved) * np.maximum(np.abs(moved) - cut, 0)
        np.testing.assert_allclose(w, want, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(w == 0, want == 0)
    assert 0 < (want == 0).sum() < 5
    np.testing.assert_array_equal(w, before)  # The last learning rate is 0.


def test_the_constants_of_the_metric_may_be_traced():
    @jax.jit
    def step(b2, eps):
        metric = transforms.adam_metric(b2=b2, eps=eps)
        return run(preconditioned(optax.adam(RATE, b2=b2, eps=eps), metric=metric), parameters())[0]

    metric = transforms.adam_metric(b2=0.9, eps=1e-3)
    want, _ = run(preconditioned(optax.adam(RATE, b2=0.9, eps=1e-3), metric=metric), parameters())
    chex.assert_trees_all_close(step(0.9, 1e-3), want, atol=1e-6)


def test_parameters_without_a_metric_keep_their_update():
    params = {"w": jnp.array([1.0, 0.01]), "b": jnp.array([1.0, 0.01])}
    inner = two_groups(optax.adam(RATE))
    tx = preconditioned(inner, weight=1.0)
    grads = jax.tree.map(jnp.ones_like, params)
    moved, _ = tx.update(grads, tx.init(params), params)
    alone, _ = inner.update(grads, inner.init(params), params)
    np.testing.assert_array_equal(moved["b"], alone["b"])
    np.testing.assert_allclose(params["w"] + moved["w"], [0.8, 0], atol=1e-5)


@pytest.mark.parametrize(
    "mask",
    [
        masks.kernels,
        {"layer": {"kernel": True, "bias": False}, "head": False},
        {"layer": {"kernel": jnp.array(True), "bias": jnp.array(False)}, "head": False},
    ],
    ids=["function", "prefix", "arrays"],
)
def test_a_mask_is_for_the_proximal_step_alone(mask):
    params = {"layer": parameters(), "head": {"bias": jnp.ones(3)}}
    after, _ = run(preconditioned(mask=mask, weight=3.0), params)
    alone, _ = run(optax.adam(RATE), params)
    everywhere, _ = run(preconditioned(weight=3.0), params)
    chex.assert_trees_all_equal(after["head"], alone["head"])
    np.testing.assert_array_equal(after["layer"]["bias"], alone["layer"]["bias"])
    np.testing.assert_array_equal(after["layer"]["kernel"], everywhere["layer"]["kernel"])
    assert (after["layer"]["kernel"] == 0).any()


def test_a_mask_is_a_function_of_the_parameters():
    params = {"new": jnp.array([0.01, 1.0]), "old": jnp.array([0.01, 1.0])}
    tx = preconditioned(weight=1.0, mask=lambda p: {k: p[k] is params["new"] for k in p})
    updates, _ = tx.update(jax.tree.map(jnp.ones_like, params), tx.init(params), params)
    np.testing.assert_allclose(updates["new"], [-0.01, -0.2], rtol=1e-5)
    np.testing.assert_allclose(updates["old"], [-0.1, -0.1], rtol=1e-5)


@pytest.mark.parametrize(
    ("inner", "gradient"),
    [
        (optax.MultiSteps(optax.adam(RATE), 3).gradient_transformation(), 1.0),
        (optax.apply_if_finite(optax.adam(RATE), 3), np.nan),
    ],
    ids=["accumulates", "skips"],
)
def test_an_optimizer_that_has_not_moved_yet_holds_the_weights(inner, gradient):
    # Inside, where the docstring says that these wrappers do not belong, nothing collapses.
    tx, w = preconditioned(inner), jnp.array([1.0, -2.0])
    updates, _ = jax.jit(tx.update)(jnp.full_like(w, gradient), tx.init(w), w)
    np.testing.assert_array_equal(updates, 0)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_small_steps_reach_narrow_parameters(dtype):
    tx = transforms.compensate_rounding(BUILDERS["adagrad"](0.5, 1e-4))
    start = parameters(dtype)
    want, _ = run(BUILDERS["adagrad"](0.5, 1e-4), jax.tree.map(jnp.float32, start), 20)
    after, _ = run(tx, start, 20)
    rounding = float(jnp.finfo(dtype).eps)
    chex.assert_trees_all_close(jax.tree.map(jnp.float32, after), want, atol=rounding)


def test_weights_without_a_gradient_go_to_zero_with_adam_and_stay_with_adagrad():
    w, gradient = jnp.array([5.0, 5.0]), jnp.array([0.0, 1.0])
    adam = preconditioned(weight=0.01)
    updates, _ = adam.update(gradient, adam.init(w), w)
    np.testing.assert_allclose(w + updates, [0, 4.899], rtol=1e-4)
    inner = optax.adagrad(RATE, initial_accumulator_value=0.0, eps=0.0)
    adagrad = preconditioned(inner, weight=0.01, metric=transforms.adagrad_metric(eps=0.0))
    updates, _ = adagrad.update(gradient, adagrad.init(w), w)
    np.testing.assert_allclose(w + updates, [5, 4.899], rtol=1e-4)


@pytest.mark.parametrize("prox", [proximal.l1, proximal.l2, proximal.group_lasso, proximal.l0])
def test_a_metric_of_zero_takes_the_minimum_of_the_penalty(prox):
    w = jnp.array([[3.0], [-4.0]])
    for d, weight, want in ((0.0, 0.5, [0, 0]), (jnp.inf, 0.5, [3, -4]), (0.0, 0.0, [3, -4])):
        tx = preconditioned(
            optax.sgd(1.0), prox, weight, 1.0, metric=lambda _, d=d: jnp.full((2, 1), d)
        )
        updates, _ = tx.update(jnp.zeros_like(w), tx.init(w), w)
        np.testing.assert_array_equal((w + updates)[:, 0], want)


def test_a_metric_of_your_own():
    inner = optax.amsgrad(RATE, b1=0.0)
    w = jnp.zeros(5)
    tx = preconditioned(inner, metric=lambda s: jax.tree.map(jnp.sqrt, optax.tree.get(s, "nu_max")))
    updates, _ = tx.update(jnp.asarray(GRADIENTS[0]), tx.init(w), w)
    d, gradient = abs(GRADIENTS[0]), GRADIENTS[0]
    want = proximal.l1(jnp.asarray(-RATE * gradient / d), threshold=RATE * 0.5 / d)
    np.testing.assert_allclose(updates, want, rtol=1e-4, atol=1e-6)


def test_extra_arguments_reach_the_optimizer():
    def scaled(updates, state, params=None, *, factor):
        del params
        return optax.tree.scale(-factor, updates), state

    inner = optax.GradientTransformationExtraArgs(optax.init_empty_state, scaled)
    w = jnp.ones(2)
    tx = preconditioned(inner, metric=lambda _: jnp.ones(2))
    updates, _ = tx.update(jnp.ones(2), tx.init(w), w, factor=0.25)
    np.testing.assert_allclose(updates, [-0.3, -0.3], rtol=1e-6)
    tx = preconditioned(optax.scale_by_adam())  # It takes none.
    tx.update(jnp.ones(2), tx.init(w), w, factor=0.25)


@pytest.mark.parametrize("inner", [optax.lion(RATE), optax.sgd(RATE, momentum=0.9)])
@pytest.mark.parametrize("name", ["adam", "rmsprop", "adagrad"])
def test_an_optimizer_of_another_kind_is_named(inner, name):
    metric, w = getattr(transforms, f"{name}_metric")(), jnp.ones(2)
    tx = preconditioned(inner, metric=metric)
    with pytest.raises(ValueError, match=r"`metric` must find one state of (Ad|RMS)\w+ .* got 0;"):
        tx.update(w, tx.init(w), w)
    assert "Lion and other sign methods have no metric" in " ".join(
        transforms.preconditioned_proximal.__doc__.split()
    )


def test_two_optimizers_under_one_metric_are_named():
    params = {"w": jnp.ones(2), "b": jnp.ones(2)}
    inner = optax.partition(
        {"on": optax.adam(0.1), "off": optax.adam(0.2)}, {"w": "on", "b": "off"}
    )
    tx = preconditioned(inner)
    with pytest.raises(ValueError, match=r"`metric` must find one state of Adam .* got 2; .*parti"):
        tx.update(params, tx.init(params), params)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"`weight` must be zero or positive, got -1"):
        preconditioned(weight=-1.0)
    with pytest.raises(ValueError, match=r"`learning_rate` must be zero or positive, got -0.1"):
        preconditioned(optax.adam(0.1), rate=-0.1)
    with pytest.raises(TypeError, match=r"`mask` must be a tree of booleans .* got True"):
        preconditioned(mask=True)
    params = {"w": jnp.ones(3)}
    tx = preconditioned(metric=lambda _: {"v": jnp.ones(3)})
    with pytest.raises(ValueError, match=r"`metric` must return a tree .* got PyTreeDef"):
        tx.update(params, tx.init(params), params)
    tx = preconditioned(metric=lambda _: {"w": jnp.ones(2)})
    with pytest.raises(ValueError, match=r"`metric` must broadcast to shape \(3,\), got"):
        tx.update(params, tx.init(params), params)
    with pytest.raises(ValueError, match=r"`params` must be given to the update of `precond"):
        tx.update(params, tx.init(params))
    tx = preconditioned(prox=proximal.nuclear)
    matrix = jnp.ones((2, 3))
    with pytest.raises(ValueError, match=r"`threshold` must be a single number.*transforms\.proxi"):
        tx.update(matrix, tx.init(matrix), matrix)
