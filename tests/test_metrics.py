"""Proximal steps in the metric of an adaptive optimizer."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import export
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxreg import masks, proximal, transforms

RATE = 0.1
DTYPES = ["float32", "bfloat16", pytest.param("float16", marks=pytest.mark.slow)]
ROWS = pytest.param(("device", None), id="rows", marks=pytest.mark.slow)
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


def preconditioned(inner=None, prox=proximal.l1, weight=0.5, rate=RATE, metric=None, mask=None):
    inner = optax.adam(rate) if inner is None else inner
    metric = transforms.adam_metric() if metric is None else metric
    return transforms.preconditioned_proximal(inner, prox, weight, rate, metric=metric, mask=mask)


BUILDERS = {
    "adam": lambda w, r: preconditioned(optax.adam(r), weight=w, rate=r),
    "rmsprop": lambda w, r: preconditioned(
        optax.rmsprop(r), weight=w, rate=r, metric=transforms.rmsprop_metric()
    ),
    "adagrad": lambda w, r: preconditioned(
        optax.adagrad(r), weight=w, rate=r, metric=transforms.adagrad_metric()
    ),
    "adam, groups": lambda w, r: preconditioned(
        optax.adam(r), lambda v, threshold: by_columns(v, threshold), w, r
    ),
}
every_builder = pytest.mark.parametrize("name", BUILDERS)


def by_columns(w, threshold):
    """Group lasso of matrices; vectors have no groups."""
    return proximal.group_lasso(w, threshold=threshold) if jnp.ndim(w) > 1 else w


def parameters(dtype="float32"):
    w = jnp.sin(jnp.arange(1.0, 8 * 4 + 1)).reshape(8, 4)
    return {"kernel": w.astype(dtype), "bias": w[0].astype(dtype)}


def gradients(params):
    return jax.tree.map(lambda w: jnp.cos(w.astype(jnp.float32)).astype(w.dtype), params)


def run(tx, params, steps=3):
    state = tx.init(params)
    for _ in range(steps):
        updates, state = tx.update(gradients(params), state, params)
        params = optax.apply_updates(params, updates)
    return params, state


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


@every_builder
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("off", ["rate", "weight"])
def test_zero_is_the_optimizer_alone_to_the_bit(name, off, dtype):
    params = parameters(dtype)
    inner = {"rmsprop": optax.rmsprop, "adagrad": optax.adagrad}.get(name, optax.adam)
    if off == "rate":
        # In float16 Optax's Adam divides by an epsilon of 0; no gradient here is.
        after, _ = run(BUILDERS[name](3.0, optax.constant_schedule(0.0)), params)
        chex.assert_trees_all_equal(after, params)
    else:
        tx = BUILDERS[name](jnp.float32(0), RATE)
        moved = tx.update(gradients(params), tx.init(params), params)[0]
        alone = inner(RATE).update(gradients(params), inner(RATE).init(params), params)[0]
        chex.assert_trees_all_close(moved, alone, atol=2e-7)


@every_builder
@pytest.mark.parametrize("dtype", DTYPES)
def test_compiled_steps_equal_eager_ones(name, dtype):
    tx = BUILDERS[name](3.0, RATE)
    eager, _ = run(tx, parameters(dtype))
    compiled, _ = jax.jit(lambda p: run(tx, p))(parameters(dtype))
    tolerance = {"float32": 1e-6, "bfloat16": 2e-2, "float16": 2e-3}[dtype]
    chex.assert_trees_all_close(compiled, eager, atol=tolerance)
    chex.assert_trees_all_equal_shapes_and_dtypes(compiled, parameters(dtype))
    chex.assert_trees_all_equal(
        *(jax.tree.map(lambda w: w == 0, tree) for tree in (compiled, eager))
    )
    assert any((w == 0).any() for w in jax.tree.leaves(eager))


@every_builder
def test_the_state_keeps_its_shapes_and_types(name):
    tx = BUILDERS[name](jnp.float32(0.5), RATE)
    params = {"kernel": parameters("bfloat16")["kernel"], "bias": parameters()["bias"]}
    state = tx.init(params)
    updates, after = tx.update(gradients(params), state, params)
    chex.assert_trees_all_equal_shapes_and_dtypes(updates, params)
    chex.assert_trees_all_equal_shapes_and_dtypes(after, state)
    assert (after.step.count, state.step.count) == (1, 0)


@every_builder
def test_a_scan_over_steps_is_a_loop(name):
    tx = BUILDERS[name](0.5, RATE)

    def step(carry, _):
        params, state = carry
        updates, state = tx.update(gradients(params), state, params)
        return (optax.apply_updates(params, updates), state), None

    start = parameters(), tx.init(parameters())
    (params, _), _ = jax.lax.scan(step, start, length=3)
    chex.assert_trees_all_close(params, run(tx, parameters())[0], atol=1e-6)


@every_builder
def test_many_strengths_train_in_one_program(name):
    factors = jnp.linspace(0.25, 1.0, 4)
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def train(factors):
        return jax.vmap(lambda f: run(BUILDERS[name](f * 0.5, f * RATE), parameters())[0])(factors)

    together = train(factors)
    train(factors / 2)
    for i, f in enumerate(map(float, factors)):
        alone, _ = run(BUILDERS[name](f * 0.5, f * RATE), parameters())
        chex.assert_trees_all_close(jax.tree.map(lambda a: a[i], together), alone, atol=1e-6)  # noqa: B023


def test_the_constants_of_the_metric_may_be_traced():
    @jax.jit
    def step(b2, eps):
        metric = transforms.adam_metric(b2=b2, eps=eps)
        return run(preconditioned(optax.adam(RATE, b2=b2, eps=eps), metric=metric), parameters())[0]

    metric = transforms.adam_metric(b2=0.9, eps=1e-3)
    want, _ = run(preconditioned(optax.adam(RATE, b2=0.9, eps=1e-3), metric=metric), parameters())
    chex.assert_trees_all_close(step(0.9, 1e-3), want, atol=1e-6)


def test_leaves_that_are_not_numbers_to_regularize_pass_through():
    params = {
        **parameters(),
        "steps": jnp.arange(6).reshape(2, 3),
        "key": jax.random.key(0),
        "nothing": None,
        "empty": jnp.zeros((0, 3)),
        "scalar": jnp.float32(0.3),
        "spectrum": jnp.array([[3.0 + 4.0j, 1e-3j]], jnp.complex64),
    }
    updates = {**gradients(parameters()), **{k: params[k] for k in [*params][2:]}}
    updates["key"] = np.zeros((), jax.dtypes.float0)
    # Adam takes no counters and no keys; the metric leaves out what it does.
    inner = optax.masked(
        optax.adam(RATE, b1=0.0),
        {k: k not in ("steps", "key") for k in params},
    )
    tx = preconditioned(inner, weight=5.0)
    moved, _ = tx.update(updates, tx.init(params), params)
    assert moved["nothing"] is None
    assert moved["steps"] is updates["steps"]
    assert moved["key"] is updates["key"]
    assert moved["empty"].shape == (0, 3)
    # Adam moves 0.3 by 0.1, and the penalty, divided by a metric of 0.3, reaches zero.
    assert params["scalar"] + moved["scalar"] == 0
    # The metric is |g|: 5 by 0.1 of Adam and 0.1 * 5 / 5 of the penalty, along the phase.
    landed = params["spectrum"] + moved["spectrum"]
    np.testing.assert_allclose(landed[0, 0], (3 + 4j) * 4.8 / 5, rtol=1e-4)
    assert landed[0, 1] == 0


def test_missing_updates_stay_missing():
    params = {"w": jnp.ones(2), "b": jnp.ones(2)}
    tx = preconditioned(optax.sgd(1.0), rate=1.0, metric=lambda _: params)
    moved, _ = tx.update({"w": jnp.zeros(2), "b": None}, tx.init(params), params)
    assert moved["b"] is None
    np.testing.assert_array_equal(moved["w"], [-0.5, -0.5])


def test_parameters_without_a_metric_keep_their_update():
    params = {"w": jnp.array([1.0, 0.01]), "b": jnp.array([1.0, 0.01])}
    inner = two_groups(optax.adam(RATE))
    tx = preconditioned(inner, weight=1.0)
    grads = jax.tree.map(jnp.ones_like, params)
    moved, _ = tx.update(grads, tx.init(params), params)
    alone, _ = inner.update(grads, inner.init(params), params)
    np.testing.assert_array_equal(moved["b"], alone["b"])
    np.testing.assert_allclose(params["w"] + moved["w"], [0.8, 0], atol=1e-5)


@every_builder
def test_it_composes_with_masks_and_partitions(name):
    tx = BUILDERS[name](0.5, RATE)
    both, _ = run(tx, parameters())
    masked, _ = run(optax.masked(tx, masks.kernels), parameters())
    np.testing.assert_allclose(masked["kernel"], both["kernel"], atol=1e-6)
    labels = {"kernel": "on", "bias": "off"}
    split, _ = run(optax.partition({"on": tx, "off": optax.sgd(RATE)}, labels), parameters())
    np.testing.assert_allclose(split["kernel"], both["kernel"], atol=1e-6)
    plain, _ = run(optax.sgd(RATE), parameters())
    np.testing.assert_array_equal(split["bias"], plain["bias"])


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


@every_builder
def test_gradient_accumulation_takes_one_step_per_k_gradients(name):
    tx = optax.MultiSteps(BUILDERS[name](0.5, RATE), 3).gradient_transformation()
    params = parameters()
    state, update, fixed = tx.init(params), jax.jit(tx.update), gradients(params)
    inner = BUILDERS[name](0.5, RATE)
    want, inner_state = params, inner.init(params)
    for step in range(1, 7):
        updates, state = update(fixed, state, params)
        params = optax.apply_updates(params, updates)
        if step % 3 == 0:
            updates, inner_state = inner.update(fixed, inner_state, want)
            want = optax.apply_updates(want, updates)
        chex.assert_trees_all_close(params, want, atol=1e-6)


@every_builder
def test_a_step_with_nan_gradients_can_be_skipped(name):
    params = parameters()
    tx = optax.apply_if_finite(BUILDERS[name](0.5, RATE), max_consecutive_errors=3)
    bad = jax.tree.map(lambda w: jnp.full_like(w, jnp.nan), params)
    updates, state = tx.update(bad, tx.init(params), params)
    chex.assert_trees_all_equal(optax.apply_updates(params, updates), params)
    chex.assert_trees_all_equal(state.inner_state, tx.init(params).inner_state)


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


def test_hyperparameters_can_be_injected():
    def make(learning_rate, weight):
        return preconditioned(optax.adam(learning_rate), weight=weight, rate=learning_rate)

    tx = optax.inject_hyperparams(make)(learning_rate=RATE, weight=0.5)
    chex.assert_trees_all_close(
        run(tx, parameters())[0], run(BUILDERS["adam"](0.5, RATE), parameters())[0], atol=1e-6
    )
    state = tx.init(parameters())
    state.hyperparams["learning_rate"] = jnp.float32(0)
    updates, _ = tx.update(gradients(parameters()), state, parameters())
    chex.assert_trees_all_equal(optax.apply_updates(parameters(), updates), parameters())
    lift = optax.inject_hyperparams(
        transforms.preconditioned_proximal, static_args=("inner", "prox", "metric", "mask")
    )
    tx = lift(
        optax.adam(RATE), proximal.l1, weight=0.5, learning_rate=RATE,
        metric=transforms.adam_metric(),
    )  # fmt: skip
    chex.assert_trees_all_close(
        run(tx, parameters())[0], run(BUILDERS["adam"](0.5, RATE), parameters())[0], atol=1e-6
    )


def test_donated_parameters_are_not_in_the_state():
    tx = BUILDERS["adam"](0.5, RATE)

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state):
        updates, state = tx.update(gradients(params), state, params)
        return optax.apply_updates(params, updates), state

    params = jax.tree.map(jnp.copy, parameters())
    carry = params, tx.init(params)
    for _ in range(3):
        carry = step(*carry)
    chex.assert_trees_all_close(carry[0], run(tx, parameters())[0], atol=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_small_steps_reach_narrow_parameters(dtype):
    tx = transforms.compensate_rounding(BUILDERS["adagrad"](0.5, 1e-4))
    start = parameters(dtype)
    want, _ = run(BUILDERS["adagrad"](0.5, 1e-4), jax.tree.map(jnp.float32, start), 20)
    after, _ = run(tx, start, 20)
    rounding = float(jnp.finfo(dtype).eps)
    chex.assert_trees_all_close(jax.tree.map(jnp.float32, after), want, atol=rounding)


@every_builder
@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
@pytest.mark.parametrize("spec", [ROWS, pytest.param((None, "device"), id="columns")])
def test_sharded_parameters_take_the_same_steps(name, axis_type, spec):
    def wide(params):
        return {"kernel": jnp.tile(params["kernel"], (1, 2)), "bias": params["bias"]}

    tx = BUILDERS[name](0.5, RATE)
    expected, _ = run(tx, wide(parameters()))
    mesh = jax.make_mesh((8,), ("device",), axis_types=(axis_type,))
    with jax.set_mesh(mesh):
        specs = {"kernel": PartitionSpec(*spec), "bias": PartitionSpec()}
        params = {
            k: jax.device_put(w, NamedSharding(mesh, specs[k]))
            for k, w in wide(parameters()).items()
        }
        actual, _ = jax.jit(lambda p: run(tx, p))(params)
        assert actual["kernel"].sharding.is_equivalent_to(params["kernel"].sharding, ndim=2)
    chex.assert_trees_all_close(jax.device_get(actual), jax.device_get(expected), atol=1e-6)


@every_builder
def test_it_lowers_for_every_platform(name):
    step = jax.jit(lambda p: run(BUILDERS[name](0.5, RATE), p, steps=1)[0])
    exported = export.export(step, platforms=("cpu", "cuda", "tpu"))(parameters())
    assert "callback" not in exported.mlir_module()


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
