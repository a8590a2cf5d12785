"""Every transformation of ``cases.py`` through what Optax users do with one."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax import export
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxreg import masks, projections, proximal, transforms
from tests import cases

every_transformation = pytest.mark.parametrize("case", cases.TRANSFORMATIONS, ids=lambda c: c.name)
DTYPES = ("float32", "bfloat16", "float16")


def parameters(dtype="float32"):
    w = jnp.sin(jnp.arange(1.0, 8 * 4 + 1)).reshape(8, 4)
    return {"kernel": w.astype(dtype), "bias": w[0].astype(dtype)}


def gradients(params):
    return jax.tree.map(lambda w: (0.1 * jnp.cos(w.astype(jnp.float32))).astype(w.dtype), params)


def run(transformation, params, steps=3):
    """Parameters after some steps of SGD with the transformation behind it, and its last state."""
    tx = optax.chain(optax.sgd(0.1), transformation)
    state = tx.init(params)
    for _ in range(steps):
        updates, state = tx.update(gradients(params), state, params)
        params = optax.apply_updates(params, updates)
    return params, state


@every_transformation
@pytest.mark.parametrize("dtype", DTYPES)
def test_compiled_steps_equal_eager_ones(case, dtype):
    eager, _ = run(case.build(**case.strengths), parameters(dtype))
    compiled, _ = jax.jit(lambda p: run(case.build(**case.strengths), p))(parameters(dtype))
    tolerance = {"float32": 1e-6, "bfloat16": 2e-2, "float16": 2e-3}[dtype]
    chex.assert_trees_all_close(compiled, eager, atol=tolerance)
    chex.assert_trees_all_equal_shapes_and_dtypes(compiled, parameters(dtype))


@every_transformation
@pytest.mark.parametrize("dtype", DTYPES)
def test_shapes_and_dtypes_of_updates_and_state_are_stable(case, dtype):
    strengths = {k: jnp.asarray(v, jnp.float32) for k, v in case.strengths.items()}
    tx, params = case.build(**strengths), parameters(dtype)
    state = tx.init(params)
    updates, after = tx.update(gradients(params), state, params)
    chex.assert_trees_all_equal_shapes_and_dtypes(updates, params)
    chex.assert_trees_all_equal_shapes_and_dtypes(after, state)


@every_transformation
def test_a_scan_over_steps_is_a_loop(case):
    tx = optax.chain(optax.sgd(0.1), case.build(**case.strengths))

    def step(carry, _):
        params, state = carry
        updates, state = tx.update(gradients(params), state, params)
        return (optax.apply_updates(params, updates), state), None

    start = parameters(), tx.init(parameters())
    (params, _), _ = jax.lax.scan(step, start, length=3)
    expected, _ = run(case.build(**case.strengths), parameters())
    chex.assert_trees_all_close(params, expected, atol=1e-6)


@every_transformation
def test_many_strengths_train_in_one_program(case):
    factors = jnp.linspace(0.25, 1.0, 4)
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def train(factors):
        def one(factor):
            strengths = {k: v * factor for k, v in case.strengths.items()}
            return run(case.build(**strengths), parameters())[0]

        return jax.vmap(one)(factors)

    together = train(factors)
    train(factors / 2)
    for i, factor in enumerate(factors):
        strengths = {k: v * float(factor) for k, v in case.strengths.items()}
        alone, _ = run(case.build(**strengths), parameters())
        chex.assert_trees_all_close(jax.tree.map(lambda a: a[i], together), alone, atol=1e-6)  # noqa: B023


@every_transformation
@pytest.mark.parametrize("wrap", [float, jnp.float32], ids=["static", "array"])
def test_off_leaves_updates_to_the_bit(case, wrap):
    tx = case.build(**{**case.strengths, **{k: wrap(v) for k, v in case.off.items()}})
    params = parameters()
    updates = gradients(params)
    chex.assert_trees_all_close(tx.update(updates, tx.init(params), params)[0], updates, atol=1e-7)
    resting = jax.tree.map(jnp.zeros_like, params)
    moved, _ = tx.update(resting, tx.init(params), params)
    chex.assert_trees_all_equal(optax.apply_updates(params, moved), params)


# The strength of a projection is bound to its function and takes no schedule.
SCHEDULED = [case for case in cases.TRANSFORMATIONS if "radius" not in case.strengths]


@pytest.mark.parametrize("case", SCHEDULED, ids=lambda c: c.name)
def test_a_constant_schedule_is_its_constant(case):
    schedules = {k: optax.constant_schedule(v) for k, v in case.strengths.items()}
    expected, _ = run(case.build(**case.strengths), parameters())
    chex.assert_trees_all_equal(run(case.build(**schedules), parameters())[0], expected)


@every_transformation
def test_leaves_that_are_not_numbers_to_regularize_pass_through(case):
    params = {
        **parameters(),
        "steps": jnp.arange(6).reshape(2, 3),
        "key": jax.random.key(0),
        "nothing": None,
        "empty": jnp.zeros((0, 3)),
        "scalar": jnp.float32(0.3),
        "spectrum": jnp.ones((2, 2), jnp.complex64),
    }
    updates = {**gradients(parameters()), **{k: params[k] for k in [*params][2:]}}
    updates["key"] = np.zeros((), jax.dtypes.float0)
    tx = case.build(**case.strengths)
    moved, _ = tx.update(updates, tx.init(params), params)
    assert moved["nothing"] is None
    np.testing.assert_array_equal(moved["steps"], updates["steps"])
    assert moved["key"] is updates["key"]
    assert moved["empty"].shape == (0, 3)
    assert moved["spectrum"].dtype == jnp.complex64
    assert np.isfinite(np.asarray(moved["spectrum"])).all()


@every_transformation
def test_it_composes_with_wrappers(case):
    build = partial(case.build, **case.strengths)
    masked, _ = run(optax.masked(build(), masks.kernels), parameters())
    plain, _ = run(build(), parameters())
    bare, _ = run(optax.identity(), parameters())
    np.testing.assert_allclose(masked["kernel"], plain["kernel"], rtol=1e-6)
    np.testing.assert_array_equal(masked["bias"], bare["bias"])
    labels = {"kernel": "on", "bias": "off"}
    split, _ = run(optax.partition({"on": build(), "off": optax.identity()}, labels), parameters())
    chex.assert_trees_all_close(split, masked, rtol=1e-6)


@every_transformation
def test_a_step_with_nan_gradients_can_be_skipped(case):
    params = parameters()
    inner = optax.chain(optax.sgd(0.1), case.build(**case.strengths))
    tx = optax.apply_if_finite(inner, max_consecutive_errors=3)
    bad = jax.tree.map(lambda w: jnp.full_like(w, jnp.nan), params)
    updates, state = tx.update(bad, tx.init(params), params)
    chex.assert_trees_all_equal(optax.apply_updates(params, updates), params)
    chex.assert_trees_all_equal(state.inner_state, tx.init(params).inner_state)


@every_transformation
def test_accumulated_gradients_take_one_step_in_k(case):
    params, tx = parameters(), optax.chain(optax.sgd(0.1), case.build(**case.strengths))
    accumulating = optax.MultiSteps(tx, every_k_schedule=2)
    state, moved = accumulating.init(params), params
    for part in (0.5, 1.5, 0.5, 1.5):
        before = moved
        shares = jax.tree.map(lambda g: part * g, gradients(before))  # noqa: B023
        updates, state = accumulating.update(shares, state, moved)
        moved = optax.apply_updates(moved, updates)
        if part == 0.5:
            chex.assert_trees_all_equal(moved, before)
    expected, _ = run(case.build(**case.strengths), params, steps=2)
    chex.assert_trees_all_close(moved, expected, atol=1e-6)


@every_transformation
def test_injected_strengths_may_change_without_a_new_trace(case):
    injected = optax.inject_hyperparams(case.build)(**case.strengths)
    params = parameters()
    updates, state = gradients(params), injected.init(params)
    chex.clear_trace_counter()
    update = jax.jit(chex.assert_max_traces(injected.update, n=1))
    first, _ = update(updates, state, params)
    plain = case.build(**case.strengths)
    expected, _ = plain.update(updates, plain.init(params), params)
    chex.assert_trees_all_close(first, expected, atol=1e-6)
    state.hyperparams.update({k: jnp.float32(v) for k, v in case.off.items()})
    second, _ = update(updates, state, params)
    chex.assert_trees_all_close(second, updates, atol=1e-7)


@every_transformation
@pytest.mark.parametrize("dtype", DTYPES)
def test_parameters_and_state_may_be_donated(case, dtype):
    tx = optax.chain(optax.sgd(0.1), case.build(**case.strengths))

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state):
        updates, state = tx.update(gradients(params), state, params)
        return optax.apply_updates(params, updates), state

    params = parameters(dtype)
    state = tx.init(params)
    for _ in range(3):
        params, state = step(params, state)
    expected, _ = jax.jit(lambda p: run(case.build(**case.strengths), p))(parameters(dtype))
    tolerance = {"float32": 1e-6, "bfloat16": 2e-2, "float16": 2e-3}[dtype]
    chex.assert_trees_all_close(params, expected, atol=tolerance)


@every_transformation
def test_every_leaf_keeps_its_own_dtype(case):
    wide, narrow = parameters(), parameters("bfloat16")
    mixed, _ = run(case.build(**case.strengths), {"wide": wide, "narrow": narrow})
    alone = {
        "wide": run(case.build(**case.strengths), wide)[0],
        "narrow": run(case.build(**case.strengths), narrow)[0],
    }
    chex.assert_trees_all_equal(mixed, alone)
    chex.assert_trees_all_equal_shapes_and_dtypes(mixed, {"wide": wide, "narrow": narrow})


@every_transformation
def test_a_state_of_nnx_takes_the_same_steps(case):
    dense = nnx.state(nnx.Linear(4, 4, rngs=nnx.Rngs(0)), nnx.Param)
    for name, leaf in parameters().items():
        dense[name].set_value(leaf)
    updates = jax.tree.map(lambda g: -0.1 * g, gradients(dense))
    tx = case.build(**case.strengths)
    moved, _ = tx.update(updates, tx.init(dense), dense)
    expected, _ = run(case.build(**case.strengths), parameters(), steps=1)
    after = optax.apply_updates(dense, moved)
    assert isinstance(after, nnx.State)
    chex.assert_trees_all_close(nnx.to_pure_dict(after), expected, atol=1e-6)


@every_transformation
def test_missing_params_are_named(case):
    tx = case.build(**case.strengths)
    params = {"kernel": jnp.ones((2, 2))}
    message = r"`params` must be given to the update of `\w+`, got None"
    with pytest.raises(ValueError, match=message):
        tx.update(params, tx.init(params))


@every_transformation
def test_negative_strengths_are_named(case):
    name = next(iter(case.strengths))
    with pytest.raises(ValueError, match=rf"`{name}` must be zero or positive, got -1"):
        run(case.build(**{**case.strengths, name: -1.0}), parameters())


@every_transformation
@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
@pytest.mark.parametrize("spec", [("device", None), (None, "device")], ids=["rows", "columns"])
def test_sharded_parameters_take_the_same_steps(case, axis_type, spec):
    expected, _ = run(case.build(**case.strengths), parameters())
    mesh = jax.make_mesh((4,), ("device",), axis_types=(axis_type,), devices=jax.devices()[:4])
    with jax.set_mesh(mesh):
        params = {
            "kernel": jax.device_put(
                parameters()["kernel"], NamedSharding(mesh, PartitionSpec(*spec))
            ),
            "bias": jax.device_put(parameters()["bias"], NamedSharding(mesh, PartitionSpec())),
        }
        actual, _ = jax.jit(lambda p: run(case.build(**case.strengths), p))(params)
        assert actual["kernel"].sharding.is_equivalent_to(params["kernel"].sharding, ndim=2)
    chex.assert_trees_all_close(jax.device_get(actual), jax.device_get(expected), atol=1e-6)


@every_transformation
def test_it_lowers_for_every_platform(case):
    step = jax.jit(lambda p: run(case.build(**case.strengths), p, steps=1)[0])
    exported = export.export(step, platforms=("cpu", "cuda", "tpu"))(parameters())
    assert "callback" not in exported.mlir_module()


def test_decay_proximal_step_and_bound_cost_adam_no_memory():
    params = {f"layer_{i}": {"kernel": jnp.ones((64, 64)), "bias": jnp.ones(64)} for i in range(8)}

    def compiled(tx, after=lambda w: w):
        def step(params, state, grads):
            updates, state = tx.update(grads, state, params)
            return jax.tree.map(after, optax.apply_updates(params, updates)), state

        step = jax.jit(step, donate_argnums=(0, 1))
        return step.lower(params, tx.init(params), params).compile()

    def traffic(compiled):
        return compiled.cost_analysis()["bytes accessed"]

    def temporary(compiled):
        return compiled.memory_analysis().temp_size_in_bytes

    shrink = transforms.proximal(proximal.l1, 1e-3, 0.1)
    chain = optax.chain(
        optax.adam(0.1),
        transforms.decoupled_decay(0.1, learning_rate=0.1),
        optax.masked(shrink, masks.kernels),
    )
    adamw = compiled(optax.adamw(0.1, weight_decay=0.1, mask=masks.kernels))
    shrinking = compiled(chain)
    assert traffic(shrinking) <= 1.01 * traffic(adamw)
    assert temporary(shrinking) <= temporary(adamw) + 1024
    # In the chain, the bound would hold the step of every kernel until all of them are known.
    bounding = compiled(chain, lambda w: projections.max_norm(w, radius=3.0) if w.ndim > 1 else w)
    assert temporary(bounding) <= temporary(adamw) + 0.1 * 64 * 64 * 4 * 8
