"""The proximal step in a metric through what Optax users do with a transformation."""

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
from tests.metric_chains import (
    BUILDERS,
    RATE,
    gradients,
    parameters,
    preconditioned,
    run,
)

pytestmark = pytest.mark.slow

DTYPES = ["float32", "bfloat16", pytest.param("float16", marks=pytest.mark.slow)]
ROWS = pytest.param(("device", None), id="rows", marks=pytest.mark.slow)
every_builder = pytest.mark.parametrize("name", BUILDERS)


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
