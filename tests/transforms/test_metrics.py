"""Proximal steps in the metric of an adaptive optimizer."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxreg import masks, proximal, transforms
from tests.helpers import few
from tests.transforms.helpers import (
    METRIC_CHAINS,
    RATE,
    one_step,
    parameters,
    preconditioned,
    stepwise,
    trajectory,
    updated,
)

GRADIENTS = np.random.default_rng(0).normal(0, 1, (4, 5)).astype(np.float32)
GRADIENTS[:, 4] *= 1e-3


# Without momentum the update of an adaptive optimizer is the gradient divided by the metric.
ADAM = partial(optax.adam, b1=0.0)
RMS = optax.rmsprop
CENTERED = partial(optax.rmsprop, centered=True)
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


@few("name", PAIRS)
def test_the_metric_is_what_the_optimizer_divides_by(name):
    inner, metric = PAIRS[name]
    params = {"w": np.zeros(5, np.float32)}

    @jax.jit
    def steps(gradients):
        state = inner.init(params)
        found = []
        for gradient in gradients:
            updates, state = inner.update({"w": gradient}, state, params)
            found.append((updates["w"], metric(state)["w"]))
        return found

    for gradient, (update, d) in zip(GRADIENTS, steps(GRADIENTS), strict=True):
        assert d.dtype == np.float32
        np.testing.assert_allclose(-update * d / RATE, gradient, rtol=3e-5)


# Each metric with all its constants, and its formula in float64 after the gradients of GRADIENTS.
B2 = 0.7
WEIGHTS = (1 - B2) * B2 ** np.arange(3, -1, -1.0)
SECOND = WEIGHTS @ np.float64(GRADIENTS) ** 2
FIRST = WEIGHTS @ np.float64(GRADIENTS)
LEFT = 1 - B2**4  # sum of the weights
FORMULAS = {
    "adam": (
        optax.adam(RATE, b1=0.8, b2=B2),
        transforms.adam_metric(b2=B2, eps=0.2, eps_root=0.3),
        np.sqrt(SECOND / LEFT + 0.3) + 0.2,
    ),
    "rmsprop": (
        optax.rmsprop(RATE, decay=B2),
        transforms.rmsprop_metric(decay=B2, eps=0.3, eps_outside=0.2),
        np.sqrt(SECOND + 0.3) + 0.2,
    ),
    "rmsprop, corrected": (
        optax.rmsprop(RATE, decay=B2, bias_correction=True),
        transforms.rmsprop_metric(decay=B2, eps=0.3, eps_outside=0.2),
        np.sqrt(SECOND / LEFT + 0.3) + 0.2,
    ),
    "rmsprop, centered": (
        optax.rmsprop(RATE, decay=B2, centered=True),
        transforms.rmsprop_metric(decay=B2, eps=0.3, eps_outside=0.2),
        np.sqrt(SECOND - FIRST**2 + 0.3) + 0.2,
    ),
    "rmsprop, centered and corrected": (
        optax.rmsprop(RATE, decay=B2, centered=True, bias_correction=True),
        transforms.rmsprop_metric(decay=B2, eps=0.3, eps_outside=0.2),
        np.sqrt(SECOND / LEFT - (FIRST / LEFT) ** 2 + 0.3) + 0.2,
    ),
    "adagrad": (
        optax.adagrad(RATE, initial_accumulator_value=0.5),
        transforms.adagrad_metric(eps=0.3),
        np.sqrt(0.5 + (np.float64(GRADIENTS) ** 2).sum(0) + 0.3),
    ),
}


def test_the_metrics_are_their_formulas():
    @jax.jit
    def metrics():
        w = jnp.zeros(5)
        found = {}
        for name, (inner, metric, _) in FORMULAS.items():
            found[name] = metric(stepwise(inner, w, GRADIENTS)[1])
        return found

    for name, d in metrics().items():
        np.testing.assert_allclose(d, FORMULAS[name][2], rtol=1e-5, err_msg=name)


def test_a_variance_that_rounding_made_negative_is_zero():
    inner = optax.rmsprop(RATE, decay=B2, centered=True, bias_correction=True)
    metric = transforms.rmsprop_metric(decay=B2, eps=0.0)
    gradients = np.float32([np.linspace(0.1, 0.7, 50)] * 9)
    d = jax.jit(lambda w: metric(stepwise(inner, w, gradients)[1]))(np.zeros(50, np.float32))
    assert (d == 0).any()
    np.testing.assert_allclose(d, 0, atol=1e-3)


def test_the_defaults_of_the_metrics_are_those_of_the_optimizers():
    """Tiny gradients, at which each constant counts."""
    tiny = np.float32([[1e-8, 3e-8, -2e-4, 0.0]])
    chains = {
        "adam": (optax.adam(RATE, b1=0.0), transforms.adam_metric()),
        "rmsprop": (optax.rmsprop(RATE), transforms.rmsprop_metric()),
        "adagrad": (optax.adagrad(RATE), transforms.adagrad_metric()),
    }

    @jax.jit
    def steps():
        found = []
        for inner, metric in chains.values():
            updates, state = inner.update(tiny[0], inner.init(tiny[0]), tiny[0])
            found.append((updates, metric(state)))
        return found

    for updates, d in steps():
        np.testing.assert_allclose(-updates * d / RATE, tiny[0], rtol=1e-4)


def soft(w, threshold):
    return np.sign(w) * np.maximum(np.abs(w) - threshold, 0)


def test_the_step_is_the_soft_threshold_divided_by_the_metric():
    rates = [0.5, 0.25, 0.25, 0.0]
    weights = [0.3, 0.3, 0.6, 0.6]
    rate = optax.piecewise_constant_schedule(0.5, {1: 0.5, 3: 0.0})
    weight = optax.piecewise_constant_schedule(0.3, {2: 2.0})
    tx = preconditioned(
        optax.adam(rate, b2=0.9), weight=weight, rate=rate, metric=transforms.adam_metric(b2=0.9)
    )
    want = np.array([1.0, -1.0, 0.5, -2.0, 0.3])
    path = trajectory(tx, np.float32(want), GRADIENTS)
    first = second = np.zeros(5)
    for step, gradient in enumerate(np.float64(GRADIENTS)):
        first = 0.9 * first + 0.1 * gradient
        second = 0.9 * second + 0.1 * gradient**2
        d = np.sqrt(second / (1 - 0.9 ** (step + 1))) + 1e-8
        moved = want - rates[step] * first / (1 - 0.9 ** (step + 1)) / d
        want = soft(moved, rates[step] * weights[step] / d)
        np.testing.assert_allclose(path[step], want, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(path[step] == 0, want == 0)
    assert 0 < (want == 0).sum() < 5
    np.testing.assert_array_equal(path[3], path[2])  # The last learning rate is 0.


TWO = np.float32([1.0, 0.01])
ONES = np.ones(2, np.float32)


def test_the_constants_of_the_metric_may_be_traced():
    @jax.jit
    def steps(b2, eps):
        found = []
        for constants in ({"b2": b2, "eps": eps}, {"b2": 0.9, "eps": 1e-3}):
            inner = optax.adam(RATE, **constants)
            tx = preconditioned(inner, metric=transforms.adam_metric(**constants))
            found.append(stepwise(tx, TWO, GRADIENTS[:, :2])[0])
        return found

    traced, static = steps(0.9, 1e-3)
    np.testing.assert_allclose(traced, static, atol=1e-6)


def test_parameters_without_a_metric_keep_their_update():
    params = {"w": TWO, "b": TWO}
    inner = optax.partition(
        {"on": optax.adam(RATE), "off": optax.sgd(RATE)}, {"w": "on", "b": "off"}
    )
    after = one_step(preconditioned(inner, weight=1.0), {"w": ONES, "b": ONES}, params)
    np.testing.assert_array_equal(after["b"], TWO - np.float32(RATE))
    np.testing.assert_allclose(after["w"], [0.8, 0], atol=1e-5)


@few(
    "mask",
    [
        masks.kernels,
        {"layer": {"kernel": True, "bias": False}, "head": False},
        {"layer": {"kernel": np.array(True), "bias": np.array(False)}, "head": False},
    ],
    ids=["function", "prefix", "arrays"],
)
def test_a_mask_is_for_the_proximal_step_alone(mask):
    params = {"layer": parameters(), "head": {"bias": np.ones(3, np.float32)}}
    gradients = jax.tree.map(lambda w: np.cos([w] * 3), params)
    after = trajectory(preconditioned(mask=mask, weight=3.0), params, gradients)
    alone = trajectory(optax.adam(RATE), params, gradients)
    everywhere = trajectory(preconditioned(weight=3.0), params, gradients)
    chex.assert_trees_all_equal(after["head"], alone["head"])
    np.testing.assert_array_equal(after["layer"]["bias"], alone["layer"]["bias"])
    np.testing.assert_array_equal(after["layer"]["kernel"], everywhere["layer"]["kernel"])
    assert (after["layer"]["kernel"] == 0).any()


def test_a_mask_is_a_function_of_the_parameters():
    params = {"new": jnp.asarray(TWO[::-1]), "old": jnp.asarray(TWO[::-1])}
    tx = preconditioned(weight=1.0, mask=lambda p: {k: p[k] is params["new"] for k in p})

    @jax.jit
    def step():
        gradients = {"new": ONES, "old": ONES}
        return tx.update(gradients, tx.init(params), params)[0]

    updates = step()
    np.testing.assert_allclose(updates["new"], [-0.01, -0.2], rtol=1e-5)
    np.testing.assert_allclose(updates["old"], [-0.1, -0.1], rtol=1e-5)


@few(
    ("inner", "gradient"),
    [
        (optax.MultiSteps(optax.adam(RATE), 3).gradient_transformation(), 1.0),
        (optax.apply_if_finite(optax.adam(RATE), 3), np.nan),
    ],
    ids=["accumulates", "skips"],
)
def test_an_optimizer_that_has_not_moved_yet_holds_the_weights(inner, gradient):
    # Inside, where the docstring says that these wrappers do not belong, nothing collapses.
    updates = updated(preconditioned(inner), np.float32([gradient] * 2), np.float32([1.0, -2.0]))
    np.testing.assert_array_equal(updates, 0)


@few("dtype", ["bfloat16", "float16"])
def test_small_steps_reach_narrow_parameters(dtype):
    chain = METRIC_CHAINS["adagrad"](0.5, 1e-4)
    w = parameters(dtype)["kernel"]
    gradients = np.cos([w] * 20).astype(dtype)
    want = trajectory(chain, w.astype(np.float32), gradients.astype(np.float32))
    found = trajectory(transforms.compensate_rounding(chain), w, gradients)
    assert found.dtype == dtype
    rounding = float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(np.float32(found), want, atol=rounding)


def test_weights_without_a_gradient_go_to_zero_with_adam_and_stay_with_adagrad():
    w = np.float32([5.0, 5.0])
    gradient = np.float32([0.0, 1.0])
    after = one_step(preconditioned(weight=0.01), gradient, w)
    np.testing.assert_allclose(after, [0, 4.899], rtol=1e-4)
    inner = optax.adagrad(RATE, initial_accumulator_value=0.0, eps=0.0)
    adagrad = preconditioned(inner, weight=0.01, metric=transforms.adagrad_metric(eps=0.0))
    np.testing.assert_allclose(one_step(adagrad, gradient, w), [5, 4.899], rtol=1e-4)


@few("prox", [proximal.l1, proximal.l2, proximal.group_lasso, proximal.l0])
def test_a_metric_of_zero_takes_the_minimum_of_the_penalty(prox):
    w = np.float32([[3.0], [-4.0]])
    cases = {(0.0, 0.5): [0, 0], (np.inf, 0.5): [3, -4], (0.0, 0.0): [3, -4]}

    @jax.jit
    def steps():
        found = []
        for d, weight in cases:
            metric = lambda _, d=d: jnp.full((2, 1), d)  # noqa: E731
            tx = preconditioned(optax.sgd(1.0), prox, weight, 1.0, metric=metric)
            found.append(one_step(tx, np.zeros_like(w), w))
        return found

    for after, want in zip(steps(), cases.values(), strict=True):
        np.testing.assert_array_equal(after[:, 0], want)


def test_a_metric_of_your_own():
    inner = optax.amsgrad(RATE, b1=0.0)
    tx = preconditioned(inner, metric=lambda s: jax.tree.map(jnp.sqrt, optax.tree.get(s, "nu_max")))
    gradient = np.float64(GRADIENTS[0])
    d = abs(gradient)
    updates = updated(tx, GRADIENTS[0], np.zeros(5, np.float32))
    want = soft(-RATE * gradient / d, RATE * 0.5 / d)
    np.testing.assert_allclose(updates, want, rtol=1e-4, atol=1e-6)


def test_the_metric_of_complex_parameters_is_real():
    w = np.array([3.0 + 4.0j, 1e-3j], np.complex64)
    chains = {
        "adam": (optax.adam(RATE, b1=0.0), transforms.adam_metric()),
        "rmsprop": (
            optax.rmsprop(RATE, decay=0.5, bias_correction=True),
            transforms.rmsprop_metric(decay=0.5),
        ),
        "adagrad": (
            optax.adagrad(RATE, initial_accumulator_value=0.0),
            transforms.adagrad_metric(eps=0.0),
        ),
    }

    @jax.jit
    def steps():
        found = {}
        for name, (inner, metric) in chains.items():
            tx = preconditioned(inner, weight=5.0, metric=metric)
            found[name] = (metric(stepwise(inner, w, w[None])[1]), one_step(tx, w, w))
        return found

    for name, (d, landed) in steps().items():
        assert d.dtype == np.float32, name
        np.testing.assert_allclose(d, [5, 1e-3], rtol=1e-2 if name == "rmsprop" else 1e-4)
        # The step is 0.1 along the phase, and the penalty takes 0.1 * 5 / 5 of it.
        np.testing.assert_allclose(landed[0], (3 + 4j) * 4.8 / 5, rtol=1e-4)
        assert landed[1] == 0


def test_extra_arguments_reach_the_optimizer():
    def scaled(updates, state, params=None, *, factor):
        del params
        return optax.tree.scale(-factor, updates), state

    inner = optax.GradientTransformationExtraArgs(optax.init_empty_state, scaled)
    tx = preconditioned(inner, metric=lambda _: ONES)

    @jax.jit
    def step():
        none = preconditioned(optax.scale_by_adam())  # It takes none.
        none.update(ONES, none.init(ONES), ONES, factor=0.25)
        return tx.update(ONES, tx.init(ONES), ONES, factor=0.25)[0]

    np.testing.assert_allclose(step(), [-0.3, -0.3], rtol=1e-6)


def test_the_state_counts_steps_and_keeps_its_types():
    tx = preconditioned(weight=jnp.float32(0.5))
    params = {"kernel": parameters("bfloat16")["kernel"], "bias": parameters()["bias"]}

    @jax.jit
    def step():
        state = tx.init(params)
        updates, after = tx.update(params, state, params)
        chex.assert_trees_all_equal_shapes_and_dtypes(updates, params)
        chex.assert_trees_all_equal_shapes_and_dtypes(after, state)
        return state.step.count, after.step.count

    np.testing.assert_array_equal(step(), [0, 1])


def test_missing_updates_stay_missing():
    params = {"w": ONES, "b": ONES, "n": np.array([2, 3])}
    tx = preconditioned(optax.identity(), rate=1.0, metric=lambda _: params)

    @jax.jit
    def step():
        updates = {"w": 0 * ONES, "b": None, "n": np.array([0, 1])}
        moved, _ = tx.update(updates, tx.init(params), params)
        assert moved["b"] is None
        assert moved["n"] is updates["n"]
        return moved["w"]

    np.testing.assert_array_equal(step(), [-0.5, -0.5])


def test_strengths_are_injected_past_the_functions():
    names = ("inner", "prox", "metric", "mask")
    inject = optax.inject_hyperparams(transforms.preconditioned_proximal, static_args=names)
    metric = transforms.adam_metric()
    tx = inject(optax.adam(RATE), proximal.l1, weight=0.5, learning_rate=RATE, metric=metric)
    np.testing.assert_allclose(
        one_step(tx, ONES, TWO), one_step(preconditioned(), ONES, TWO), rtol=1e-6
    )


@few("off", ["rate", "weight"])
@few("name", METRIC_CHAINS)
@few("dtype", ["float32", "bfloat16", "float16"])
def test_zero_is_the_optimizer_alone_to_the_bit(name, off, dtype):
    params = parameters(dtype)
    gradients = jax.tree.map(lambda w: np.cos(w, dtype=np.float32).astype(dtype), params)
    if off == "rate":
        # In float16 Optax's Adam divides by an epsilon of 0; no gradient here is.
        tx = METRIC_CHAINS[name](3.0, optax.constant_schedule(0.0))
        chex.assert_trees_all_equal(one_step(tx, gradients, params), params)
    else:
        inner = {"rmsprop": optax.rmsprop, "adagrad": optax.adagrad}.get(name, optax.adam)
        moved = updated(METRIC_CHAINS[name](jnp.float32(0), RATE), gradients, params)
        chex.assert_trees_all_close(moved, updated(inner(RATE), gradients, params), atol=2e-7)


@pytest.mark.parametrize("inner", [optax.lion(RATE), optax.sgd(RATE, momentum=0.9)])
@pytest.mark.parametrize("name", ["adam", "rmsprop", "adagrad"])
def test_an_optimizer_of_another_kind_is_named(inner, name):
    metric = getattr(transforms, f"{name}_metric")()
    state = jax.eval_shape(inner.init, ONES)
    with pytest.raises(ValueError, match=r"`metric` is for (Ad|RMS)\w+, .* got 0;"):
        metric(state)
    assert "Lion and other sign methods have no metric" in " ".join(
        transforms.preconditioned_proximal.__doc__.split()
    )


def refused(tx, params, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(partial(updated, tx), params, params)


def test_two_optimizers_under_one_metric_are_named():
    parts = {"on": optax.adam(0.1), "off": optax.adam(0.2)}
    tx = preconditioned(optax.partition(parts, {"w": "on", "b": "off"}))
    message = r"`metric` is for Adam, .* got 2; .*parti"
    refused(tx, {"w": ONES, "b": ONES}, message)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"`weight` must be zero or positive, got -1"):
        preconditioned(weight=-1.0)
    with pytest.raises(ValueError, match=r"`learning_rate` must be zero or positive, got -0.1"):
        preconditioned(optax.adam(0.1), rate=-0.1)
    with pytest.raises(TypeError, match=r"`mask` must be a tree of booleans .* got True"):
        preconditioned(mask=True)
    params = {"w": np.ones(3, np.float32)}
    tx = preconditioned(metric=lambda _: {"v": jnp.ones(3)})
    refused(tx, params, r"`metric` must return a tree .* got PyTreeDef")
    tx = preconditioned(metric=lambda _: {"w": jnp.ones(2)})
    refused(tx, params, r"`metric` must broadcast to shape \(3,\), got")
    tx = preconditioned(prox=proximal.nuclear)
    matrix = np.ones((2, 3), np.float32)
    refused(tx, matrix, r"`step` must be a single number.*transforms\.proxi")
    with pytest.raises(ValueError, match=r"`params` must be given to the update of `precond"):
        tx.update(matrix, optax.EmptyState())


@few("name", ["adam", "rmsprop", "adagrad"])
def test_counters_among_the_parameters_have_no_metric(name):
    """Optax keeps moments of integers too, in which there is nothing to divide by."""
    params = {"w": np.ones(2, np.float32), "n": np.arange(3), "none": None}
    inner, metric = {
        "adam": (optax.scale_by_adam(), transforms.adam_metric()),
        "rmsprop": (optax.scale_by_rms(), transforms.rmsprop_metric()),
        "adagrad": (optax.scale_by_rss(0.0), transforms.adagrad_metric()),
    }[name]
    found = jax.eval_shape(lambda: metric(inner.init(params)))
    assert found["w"].shape == (2,)
    assert found["n"] is None
    still = optax.GradientTransformation(inner.init, lambda u, state, params=None: (u, state))
    tx = preconditioned(still, weight=0.5, metric=metric)

    @jax.jit
    def step():
        updates, _ = tx.update(params, tx.init(params), params)
        return updates["n"]

    np.testing.assert_array_equal(step(), params["n"])
