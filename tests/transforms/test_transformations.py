"""Every transformation through what Optax users do with one."""

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

from jaxreg import masks, transforms
from tests import cases
from tests.helpers import few
from tests.transforms.helpers import parameters
from tests.transforms.optimizers import OPTIMIZERS, run, scan, slopes, take

every_optimizer = pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
some_optimizers = few("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
# Those in which the step of one leaf does not depend on the others.
LEAF_BY_LEAF = {name: make for name, make in OPTIMIZERS.items() if not make.needs_all}
every_transformation = pytest.mark.parametrize("case", cases.TRANSFORMATIONS, ids=lambda c: c.name)
DTYPES = ("bfloat16", "float32", "float16")
TOLERANCE = {"float32": 1e-6, "bfloat16": 2e-2, "float16": 2e-3}
FACTORS = np.float32([1.0, 0.5])


@every_optimizer
def test_steps_are_the_same_in_loops_and_for_traced_mapped_and_scheduled_strengths(make):
    @jax.jit
    def ways(factors):
        params = parameters()
        constant = {k: optax.constant_schedule(make.strengths[k]) for k in make.scheduled}
        injected = optax.inject_hyperparams(partial(make.build, make.inner))(**make.strengths)
        return {
            "plain": run(make(), params),
            "weak": run(make(0.5), params)[0],
            "scanned": scan(make(), params),
            "mapped": jax.vmap(lambda factor: scan(make(factor), params)[0])(factors),
            "scheduled": scan(make(**constant), params)[0],
            "injected": scan(injected, params)[0],
        }

    found = ways(FACTORS)
    close = partial(chex.assert_trees_all_close, atol=1e-6)
    close(found["scanned"], found["plain"])
    close(found["scheduled"], found["plain"][0])
    close(found["injected"], found["plain"][0])
    close(jax.tree.map(lambda w: w[0], found["mapped"]), found["plain"][0])
    close(jax.tree.map(lambda w: w[1], found["mapped"]), found["weak"])


@every_optimizer
def test_shapes_and_dtypes_of_updates_and_state_are_stable(make):
    traced = {k: jnp.asarray(v, jnp.float32) for k, v in make.strengths.items()}
    params = {dtype: parameters(dtype) for dtype in DTYPES}

    def step(params, strengths):
        for tx in (make(), make(**strengths)):
            state = tx.init(params)
            moved, after = take(tx, params, state)
            chex.assert_trees_all_equal_shapes_and_dtypes(moved, params)
            chex.assert_trees_all_equal_shapes_and_dtypes(after, state)

    jax.eval_shape(step, params, traced)


@some_optimizers
@few("dtype", DTYPES)
@pytest.mark.programs(60)  # The steps that are not compiled are the point of it.
def test_compiled_steps_equal_eager_ones(make, dtype):
    eager = run(make(), parameters(dtype), 2)
    compiled = jax.jit(lambda p: run(make(), p, 2))(parameters(dtype))
    chex.assert_trees_all_close(compiled, eager, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    chex.assert_trees_all_equal_shapes_and_dtypes(compiled[0], parameters(dtype))


@every_transformation
def test_off_leaves_updates_to_the_bit(case):
    params = parameters()
    updates = jax.tree.map(np.cos, params)
    resting = jax.tree.map(np.zeros_like, params)

    @jax.jit
    def steps(off):
        found = []
        for strengths in (case.off, off):
            tx = case.build(**{**case.strengths, **strengths})
            moved, _ = tx.update(updates, tx.init(params), params)
            rest, _ = tx.update(resting, tx.init(params), params)
            found.append((moved, optax.apply_updates(params, rest)))
        return found

    for moved, rested in steps({k: np.float32(v) for k, v in case.off.items()}):
        chex.assert_trees_all_close(moved, updates, atol=1e-7)
        chex.assert_trees_all_equal(rested, params)


@every_transformation
def test_negative_strengths_are_named(case):
    name = next(iter(case.strengths))
    with pytest.raises(ValueError, match=rf"`{name}` must be zero or positive, got -1"):
        jax.eval_shape(lambda p: run(case.build(**{**case.strengths, name: -1.0}), p), parameters())


NEED_PARAMS = {name: make for name, make in OPTIMIZERS.items() if name != "centralize"}


@pytest.mark.parametrize("make", NEED_PARAMS.values(), ids=NEED_PARAMS)
def test_missing_params_are_named(make):
    tx = optax.with_extra_args_support(make(inner=optax.identity()))

    def step(params):
        return tx.update(params, tx.init(params), grad_fn=slopes)

    with pytest.raises(ValueError, match=r"`params` must be given to the update of `\w+`, got No"):
        jax.eval_shape(step, parameters())


def odd_leaves():
    return {
        **parameters(),
        "steps": np.arange(6, dtype=np.int32).reshape(2, 3),
        "key": jax.random.key(0),
        "on": np.array([True, False]),
        "nothing": None,
        "empty": np.zeros((0, 3), np.float32),
        "scalar": jnp.float32(0.3),
        "spectrum": np.full((2, 2), 1 + 2j, np.complex64),
        "boxes": [np.ones((2, 2), jnp.bfloat16), (), {}],
    }


def only_floats():
    """Plain descent by 0.1 of what is floating-point, as Optax's own fail on keys."""

    def update(updates, state, params=None):
        del params

        def leaf(u):
            return -0.1 * u if jnp.issubdtype(jnp.result_type(u), jnp.inexact) else u

        return jax.tree.map(leaf, updates), state

    return optax.GradientTransformation(optax.init_empty_state, update)


# The optimizers with a metric take no keys and no counters; test_metrics.py leaves them out.
WITHOUT_METRIC = {k: v for k, v in OPTIMIZERS.items() if not k.startswith("preconditioned")}


@few("make", WITHOUT_METRIC.values(), ids=WITHOUT_METRIC)
def test_leaves_that_are_not_numbers_to_regularize_pass_through(make):
    params = odd_leaves()
    tx = optax.with_extra_args_support(make(inner=only_floats()))

    @jax.jit
    def step():
        state = tx.init(params)
        for _ in range(2):
            gradients = slopes(params)
            moved, state = tx.update(gradients, state, params, grad_fn=slopes)
        assert moved.pop("nothing") is None
        assert moved.pop("key") is gradients["key"]
        moved.pop("on")
        return moved

    moved = step()
    np.testing.assert_array_equal(moved["steps"], params["steps"])
    assert moved["empty"].shape == (0, 3)
    assert moved["scalar"] != 0
    assert moved["boxes"][0].dtype == jnp.bfloat16
    chex.assert_tree_all_finite(moved)
    for name in ("steps", "empty", "scalar", "spectrum", "kernel", "bias"):
        assert moved[name].dtype == params[name].dtype


@few("make", WITHOUT_METRIC.values(), ids=WITHOUT_METRIC)
def test_gradients_of_integers_leave_counters_where_they_are(make):
    """JAX gives them the dtype float0, which ``optax.apply_updates`` cannot add."""
    params = {**parameters(), "steps": np.arange(3, dtype=np.int32), "on": np.array([True])}
    tx = optax.with_extra_args_support(make(inner=only_floats()))

    @jax.jit
    def step(params):
        slope = jax.grad(lambda p: jnp.sum(jnp.sin(p["kernel"])) + p["bias"][0], allow_int=True)
        updates, _ = tx.update(slope(params), tx.init(params), params, grad_fn=slope)
        return optax.apply_updates(params, updates)

    after = step(params)
    for name in ("steps", "on"):
        assert after[name].dtype == params[name].dtype
        np.testing.assert_array_equal(after[name], params[name])
    assert (after["kernel"] != params["kernel"]).any()


LABELS = {"kernel": "on", "bias": "off"}


@few("make", LEAF_BY_LEAF.values(), ids=LEAF_BY_LEAF)
def test_masks_and_partitions_leave_the_other_parameters_alone(make):
    plain = optax.sgd(0.1)

    @jax.jit
    def ways(params):
        split = optax.partition({"on": make(), "off": plain}, LABELS)
        masked = optax.masked(make(), masks.kernels)
        alone, _ = run(make(), {"kernel": params["kernel"]})
        rest, _ = run(plain, {"bias": params["bias"]})
        return run(split, params)[0], run(masked, params)[0], alone | rest

    split, masked, expected = ways(parameters())
    chex.assert_trees_all_close(split, expected, atol=1e-6)
    chex.assert_trees_all_close(masked["kernel"], expected["kernel"], atol=1e-6)


@few("name", ["sam", "asam"])
def test_masks_and_partitions_go_inside_of_what_needs_all_parameters(name):
    make = OPTIMIZERS[name]

    @jax.jit
    def ways(params):
        parts = optax.partition({"on": make.inner, "off": optax.set_to_zero()}, LABELS)
        frozen = optax.masked(optax.set_to_zero(), {"kernel": False, "bias": True})
        frozen = make(inner=optax.chain(frozen, make.inner))
        return run(make(inner=parts), params)[0], run(frozen, params)[0]

    split, masked = ways(parameters())
    chex.assert_trees_all_close(split, masked, atol=1e-6)
    np.testing.assert_array_equal(split["bias"], parameters()["bias"])
    assert abs(split["kernel"] - parameters()["kernel"]).max() > 0.01
    with pytest.raises(ValueError, match="`params` must be all parameters in the update of"):
        jax.eval_shape(partial(run, optax.masked(make(), masks.kernels)), parameters())


@some_optimizers
def test_a_step_with_nan_gradients_can_be_skipped(make):
    tx = optax.apply_if_finite(make(), max_consecutive_errors=3)

    @jax.jit
    def steps():
        params, state = run(tx, parameters(), 1)
        bad = jax.tree.map(lambda w: jnp.full_like(w, jnp.nan), params)
        return (params, state), take(tx, params, state, bad)

    (params, state), (moved, after) = steps()
    chex.assert_trees_all_equal(moved, params)
    chex.assert_trees_all_equal(after.inner_state, state.inner_state)


@some_optimizers
def test_accumulated_gradients_take_one_step_in_k(make):
    tx = make()

    @jax.jit
    def ways(params):
        accumulating = optax.MultiSteps(tx, every_k_schedule=2)
        state = accumulating.init(params)
        path = [params]
        for part in (0.5, 1.5, 0.5, 1.5):
            shares = jax.tree.map(lambda g, part=part: part * g, slopes(path[-1]))
            updates, state = accumulating.update(shares, state, path[-1], grad_fn=slopes)
            path.append(optax.apply_updates(path[-1], updates))
        return path, state.inner_opt_state, run(tx, params, 2)

    path, state, expected = ways(parameters())
    chex.assert_trees_all_equal(path[1], path[0])
    chex.assert_trees_all_equal(path[3], path[2])
    chex.assert_trees_all_close((path[4], state), expected, atol=1e-6)


# Those whose strengths may be learned or searched for.
WITH_STRENGTHS = {name: make for name, make in OPTIMIZERS.items() if make.strengths}
some_with_strengths = few("make", WITH_STRENGTHS.values(), ids=WITH_STRENGTHS)


@some_with_strengths
def test_injected_strengths_may_change_without_a_new_trace(make):
    injected = optax.inject_hyperparams(partial(make.build, make.inner))(**make.strengths)
    params = parameters()
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def step(params, state):
        return take(injected, params, state)

    state = jax.jit(injected.init)(params)
    moved, after = step(params, state)
    chex.assert_trees_all_equal_shapes_and_dtypes(after, state)
    name = next(iter(make.strengths))
    after.hyperparams[name] = 2 * after.hyperparams[name]
    step(moved, after)
    expected, _ = jax.jit(lambda p: run(make(), p, 1))(params)
    chex.assert_trees_all_close(moved, expected, atol=1e-6)


@few("name", ["sam", "lookahead", "asam"])
def test_an_injected_inner_optimizer_is_static(name):
    make = OPTIMIZERS[name]
    injected = optax.inject_hyperparams(make.build, static_args=("inner",))
    tx = injected(inner=make.inner, **make.strengths)
    moved, expected = jax.jit(lambda p: (run(tx, p)[0], run(make(), p)[0]))(parameters())
    chex.assert_trees_all_close(moved, expected, atol=1e-6)


@some_optimizers
@few("dtype", DTYPES)
def test_parameters_and_state_may_be_donated(make, dtype):
    tx = make()
    step = jax.jit(partial(take, tx), donate_argnums=(0, 1))
    params = jax.tree.map(jnp.copy, parameters(dtype))
    state = jax.jit(tx.init)(params)
    for _ in range(2):
        params, state = step(params, state)
    expected, _ = jax.jit(lambda p: run(tx, p, 2))(parameters(dtype))
    chex.assert_trees_all_close(params, expected, atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])


@few("make", LEAF_BY_LEAF.values(), ids=LEAF_BY_LEAF)
def test_every_leaf_takes_its_own_steps_in_its_own_dtype(make):
    @jax.jit
    def ways(wide, narrow):
        both, _ = run(make(), {"wide": wide, "narrow": narrow})
        return both, {"wide": run(make(), wide)[0], "narrow": run(make(), narrow)[0]}

    mixed, alone = ways(parameters(), parameters("bfloat16"))
    chex.assert_trees_all_close(mixed["wide"], alone["wide"], atol=1e-6)
    chex.assert_trees_all_close(mixed["narrow"], alone["narrow"], atol=1e-2)
    chex.assert_trees_all_equal_shapes_and_dtypes(mixed, alone)


@some_optimizers
def test_a_state_of_nnx_takes_the_same_steps(make):
    pure = parameters()
    state = nnx.State({name: nnx.Param(leaf) for name, leaf in pure.items()})

    @jax.jit
    def ways(state, pure):
        tx = optax.with_extra_args_support(make())
        nudge = lambda tree: jax.tree.map(lambda w: 0.1 * jnp.cos(w), tree)  # noqa: E731
        found = []
        for params in (state, pure):
            updates, _ = tx.update(nudge(params), tx.init(params), params, grad_fn=nudge)
            found.append(optax.apply_updates(params, updates))
        return found

    after, expected = ways(state, pure)
    assert isinstance(after, nnx.State)
    chex.assert_trees_all_close(nnx.to_pure_dict(after), expected, atol=1e-6)


@some_optimizers
def test_narrow_parameters_with_compensation_follow_wide_ones(make):
    narrow = parameters("bfloat16")
    wide = jax.tree.map(lambda a: a.astype(np.float32), narrow)
    tx = make(inner=optax.sgd(1e-3))

    @jax.jit
    def ways():
        return scan(transforms.compensate_rounding(tx), narrow, 20)[0], scan(tx, wide, 20)[0]

    moved, expected = ways()
    for name, leaf in expected.items():
        actual = np.asarray(moved[name], np.float32)
        # Their gradients are of rounded parameters: small weights are what is left of larger ones.
        np.testing.assert_allclose(actual, leaf, rtol=5e-3, atol=1e-3)


@pytest.mark.exhaustive
@some_optimizers
@few("axis_type", [AxisType.Explicit, AxisType.Auto], ids=["explicit", "auto"])
@few("spec", [("device", None), (None, "device")], ids=["rows", "columns"])
def test_sharded_parameters_take_the_same_steps(make, axis_type, spec):
    params = jax.tree.map(lambda w: np.concatenate([w] * 2, axis=-1), parameters())
    step = jax.jit(lambda p: run(make(), p, 2))
    mesh = jax.make_mesh((8,), ("device",), axis_types=(axis_type,))
    sharding = NamedSharding(mesh, PartitionSpec(*spec))
    with jax.set_mesh(mesh):
        placed = {
            "kernel": jax.device_put(params["kernel"], sharding),
            "bias": jax.device_put(params["bias"], NamedSharding(mesh, PartitionSpec())),
        }
        moved, state = step(placed)
        for leaf in jax.tree.leaves((moved, state)):
            if leaf.shape == params["kernel"].shape:
                assert leaf.sharding.is_equivalent_to(sharding, ndim=2)
        actual = jax.device_get((moved, state))
    chex.assert_trees_all_close(actual, jax.device_get(step(params)), atol=1e-6)


@every_optimizer
def test_it_lowers_for_every_platform(make):
    step = jax.jit(lambda p: run(make(), p, steps=1))
    exported = export.export(step, platforms=("cpu", "cuda", "tpu"))(parameters())
    assert "callback" not in exported.mlir_module()
