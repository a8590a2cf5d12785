"""Averages, Lookahead, sharpness and centralization through what Optax users do with them."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import export
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxreg import masks, transforms

pytestmark = pytest.mark.slow


@dataclasses.dataclass(frozen=True)
class Wrapper:
    """An optimizer, as a function of an inner one and of strengths that may be traced."""

    build: Callable[..., Any]
    strengths: dict[str, float]
    factors: tuple[float, ...] = (0.25, 0.5, 1.0)
    needs_all: bool = False  # so that a mask can only be inside of it


def _exponential(inner, *, decay, initial_weight):
    average = transforms.exponential_average(decay, initial_weight=initial_weight)
    return optax.chain(inner, average)


def _equal(inner, *, start, period):
    return optax.chain(inner, transforms.stochastic_weight_average(start=start, period=period))


def _centralize(inner):
    return optax.chain(transforms.centralize(), inner)


WRAPPERS = {
    "exponential_average": Wrapper(_exponential, {"decay": 0.9, "initial_weight": 0.5}),
    "stochastic_weight_average": Wrapper(_equal, {"start": 1, "period": 1}, (1.0, 2.0, 3.0)),
    "lookahead": Wrapper(transforms.lookahead, {"period": 2, "step_size": 0.4}, (0.5, 1.0, 2.0)),
    "sam": Wrapper(transforms.sam, {"radius": 0.5}, needs_all=True),
    "asam": Wrapper(transforms.asam, {"radius": 0.8, "eta": 0.1}, needs_all=True),
    "centralize": Wrapper(_centralize, {}),
}
# What ASAM does other than SAM is in test_sharpness.py.
every_wrapper = pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=[pytest.mark.slow] * (name == "asam"), id=name)
        for name, case in WRAPPERS.items()
    ],
)
NARROW = [pytest.param(dtype, marks=pytest.mark.slow) for dtype in ("bfloat16", "float16")]
every_dtype = pytest.mark.parametrize("dtype", ["float32", *NARROW])
TOLERANCE = {"float32": 1e-6, "bfloat16": 2e-2, "float16": 2e-3}


def parameters(dtype="float32"):
    w = jnp.sin(jnp.arange(1.0, 8 * 4 + 1)).reshape(8, 4)
    return {"kernel": w.astype(dtype), "bias": w[0].astype(dtype)}


def slopes(params):
    """Gradients of a loss with a curvature, so that the point where they are taken matters."""

    def leaf(w):
        if jnp.issubdtype(w.dtype, jax.dtypes.prng_key) or w.dtype == bool:
            return np.zeros(w.shape, jax.dtypes.float0)
        if not jnp.issubdtype(w.dtype, jnp.inexact):
            return w
        wide = w.astype(jnp.promote_types(w.dtype, jnp.float32))
        return (2 * wide + 0.1 * jnp.cos(3 * wide)).astype(w.dtype)

    return jax.tree.map(leaf, params)


def base():
    return optax.sgd(0.1, momentum=0.5)


def take(tx, params, state, gradients=None):
    gradients = slopes(params) if gradients is None else gradients
    tx = optax.with_extra_args_support(tx)
    updates, state = tx.update(gradients, state, params, grad_fn=slopes)
    return optax.apply_updates(params, updates), state


def run(tx, params, steps=2):
    state = tx.init(params)
    for _ in range(steps):
        params, state = take(tx, params, state)
    return params, state


def built(case, factor=1, inner=None):
    strengths = {k: factor * v for k, v in case.strengths.items()}
    return case.build(base() if inner is None else inner, **strengths)


@every_wrapper
@every_dtype
def test_compiled_steps_equal_eager_ones(case, dtype):
    params = parameters(dtype)
    eager = run(built(case), params)
    compiled = jax.jit(lambda p: run(built(case), p))(params)
    chex.assert_trees_all_close(compiled, eager, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    chex.assert_trees_all_equal_shapes_and_dtypes(compiled[0], params)


@every_wrapper
@every_dtype
@pytest.mark.parametrize("wrap", [lambda v: v, jnp.float32], ids=["static", "array"])
def test_shapes_and_dtypes_of_updates_and_state_are_stable(case, dtype, wrap):
    tx = case.build(base(), **{k: wrap(v) for k, v in case.strengths.items()})
    params = parameters(dtype)
    state = tx.init(params)
    moved, after = take(tx, params, state)
    chex.assert_trees_all_equal_shapes_and_dtypes(moved, params)
    chex.assert_trees_all_equal_shapes_and_dtypes(after, state)


@every_wrapper
def test_a_scan_over_steps_is_a_loop(case):
    tx, params = built(case), parameters()
    (moved, state), _ = jax.lax.scan(
        lambda carry, _: (take(tx, *carry), None), (params, tx.init(params)), length=5
    )
    chex.assert_trees_all_close((moved, state), run(tx, params, 5), atol=1e-6)


@every_wrapper
def test_many_strengths_train_in_one_program(case):
    if not case.strengths:
        return
    chex.clear_trace_counter()
    factors = jnp.array(case.factors)

    @jax.jit
    @chex.assert_max_traces(n=1)
    def train(factors):
        return jax.vmap(lambda factor: run(built(case, factor), parameters(), 4))(factors)

    together = train(factors)
    train(factors / 2)
    for i, factor in enumerate(case.factors):
        alone = run(built(case, factor), parameters(), 4)
        chex.assert_trees_all_close(jax.tree.map(lambda a: a[i], together), alone, atol=1e-6)  # noqa: B023


@every_wrapper
def test_a_constant_schedule_is_its_constant(case):
    scheduled = {"decay", "step_size", "radius"}
    schedules = {
        k: optax.constant_schedule(v) if k in scheduled else v for k, v in case.strengths.items()
    }
    expected, _ = run(built(case), parameters())
    chex.assert_trees_all_equal(run(case.build(base(), **schedules), parameters())[0], expected)


def odd_leaves():
    return {
        **parameters(),
        "steps": jnp.arange(6).reshape(2, 3),
        "key": jax.random.key(0),
        "on": jnp.array([True, False]),
        "nothing": None,
        "empty": jnp.zeros((0, 3)),
        "scalar": jnp.float32(0.3),
        "spectrum": jnp.full((2, 2), 1 + 2j, jnp.complex64),
        "boxes": [jnp.ones((2, 2), jnp.bfloat16), (), {}],
    }


def only_floats():
    """Plain descent by 0.1 of what is floating-point, as Optax's own fail on keys."""

    def update(updates, state, params=None):
        del params

        def leaf(u):
            return -0.1 * u if jnp.issubdtype(jnp.result_type(u), jnp.inexact) else u

        return jax.tree.map(leaf, updates), state

    return optax.GradientTransformation(optax.init_empty_state, update)


@every_wrapper
def test_leaves_that_are_not_numbers_to_regularize_pass_through(case):
    params = odd_leaves()
    tx = optax.with_extra_args_support(built(case, inner=only_floats()))
    state = tx.init(params)
    update = jax.jit(lambda g, s, p: tx.update(g, s, p, grad_fn=slopes))
    for _ in range(2):
        gradients = slopes(params)
        moved, state = tx.update(gradients, state, params, grad_fn=slopes)
    assert moved["nothing"] is None
    np.testing.assert_array_equal(moved["steps"], gradients["steps"])
    assert moved["key"] is gradients["key"]
    assert moved["on"] is gradients["on"]
    assert moved["empty"].shape == (0, 3)
    assert moved["scalar"] != 0
    assert moved["boxes"][0].dtype == jnp.bfloat16
    for name, leaf in odd_leaves().items():
        if name not in ("key", "on", "nothing", "boxes"):
            assert moved[name].dtype == leaf.dtype
            assert np.isfinite(np.asarray(moved[name])).all()
    del params["key"], params["on"]  # Compiled functions take no float0 leaves.
    state = tx.init(params)
    chex.assert_tree_all_finite(update(slopes(params), state, params)[0])


@every_wrapper
def test_averages_hold_the_newest_of_other_leaves(case):
    params = odd_leaves()
    tx = built(case, inner=only_floats())
    state = tx.init(params)
    _, state = (
        tx.update(slopes(params), state, params, grad_fn=slopes)
        if case.needs_all
        else (tx.update(slopes(params), state, params))
    )
    if not any("average" in name for name in _fields(state)):
        return
    read = transforms.averaged(state, params)
    chex.assert_trees_all_equal_structs(read, params)
    np.testing.assert_array_equal(read["steps"], 2 * np.arange(6).reshape(2, 3))
    assert jax.random.key_data(read["key"]).tolist() == [0, 0]
    assert read["on"].tolist() == [True, False]
    assert read["spectrum"].dtype == jnp.complex64
    assert read["boxes"][0].dtype == jnp.bfloat16


def _fields(state):
    """Names of the fields of all named tuples in a state."""
    names = jax.tree_util.tree_leaves_with_path(state)
    return {getattr(key, "name", "") for path, _ in names for key in path}


@every_wrapper
def test_every_leaf_keeps_its_own_dtype(case):
    mixed = {"wide": parameters(), "narrow": parameters("bfloat16")}
    wide = {"wide": parameters(), "narrow": parameters()}
    moved, _ = run(built(case), mixed)
    chex.assert_trees_all_equal_shapes_and_dtypes(moved, mixed)
    expected, _ = run(built(case), wide)
    chex.assert_trees_all_close(moved["wide"], expected["wide"], atol=2e-3)
    narrow = jax.tree.map(lambda a: a.astype(jnp.float32), moved["narrow"])
    chex.assert_trees_all_close(narrow, expected["narrow"], atol=2e-2)


@every_wrapper
@every_dtype
def test_parameters_and_state_may_be_donated(case, dtype):
    tx = built(case)

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state):
        return take(tx, params, state)

    params = {**parameters(dtype), "steps": jnp.arange(3)}
    state = tx.init(params)
    for _ in range(2):
        params, state = step(params, state)
    expected, _ = jax.jit(lambda p: run(tx, p))({**parameters(dtype), "steps": jnp.arange(3)})
    chex.assert_trees_all_close(params, expected, atol=TOLERANCE[dtype])


@every_wrapper
def test_eager_updates_may_be_donated_too(case):
    tx, params = built(case), {**parameters(), "steps": jnp.arange(3)}
    params, state = take(tx, params, tx.init(params))
    jax.jit(lambda p, s: take(tx, p, s), donate_argnums=(0, 1))(params, state)


@every_wrapper
def test_accumulated_gradients_take_one_step_in_k(case):
    tx, params = built(case), parameters()
    accumulating = optax.MultiSteps(tx, every_k_schedule=2)
    state, moved = accumulating.init(params), params
    for part in (0.5, 1.5, 0.5, 1.5):
        before = moved
        shares = jax.tree.map(lambda g: part * g, slopes(before))  # noqa: B023
        updates, state = accumulating.update(shares, state, moved, grad_fn=slopes)
        moved = optax.apply_updates(moved, updates)
        if part == 0.5:
            chex.assert_trees_all_equal(moved, before)
    expected, inner = run(tx, params, steps=2)
    chex.assert_trees_all_close((moved, state.inner_opt_state), (expected, inner), atol=1e-6)


@every_wrapper
def test_a_step_with_nan_gradients_can_be_skipped(case):
    params = parameters()
    tx = optax.apply_if_finite(built(case), max_consecutive_errors=3)
    params, state = take(tx, params, tx.init(params))
    bad = jax.tree.map(lambda w: jnp.full_like(w, jnp.nan), params)
    moved, after = take(tx, params, state, bad)
    chex.assert_trees_all_equal(moved, params)
    chex.assert_trees_all_equal(after.inner_state, state.inner_state)


@every_wrapper
def test_injected_strengths_may_change_without_a_new_trace(case):
    if not case.strengths:
        return
    injected = optax.inject_hyperparams(partial(case.build, base()))(**case.strengths)
    params = parameters()
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def step(params, state):
        return take(injected, params, state)

    state = injected.init(params)
    moved, after = step(params, state)
    chex.assert_trees_all_equal_shapes_and_dtypes(after, state)
    expected, _ = run(built(case), params, 1)
    chex.assert_trees_all_close(moved, expected, atol=1e-6)
    name = next(iter(case.strengths))
    after.hyperparams[name] = 2 * after.hyperparams[name]
    step(moved, after)


@every_wrapper
def test_an_injected_inner_optimizer_is_static(case):
    if "inner" not in case.build.__code__.co_varnames or not case.strengths:
        return
    injected = optax.inject_hyperparams(case.build, static_args=("inner",))
    moved, _ = run(injected(base(), **case.strengths), parameters())
    chex.assert_trees_all_close(moved, run(built(case), parameters())[0], atol=1e-6)


@every_wrapper
def test_it_composes_with_masks(case):
    frozen = {"kernel": "on", "bias": "off"}
    if case.needs_all:
        masked = built(case, inner=optax.masked(base(), masks.kernels))
        split = built(case, inner=optax.partition({"on": base(), "off": base()}, frozen))
        moved, _ = run(split, parameters())
        chex.assert_trees_all_close(moved, run(built(case), parameters())[0], atol=1e-6)
        with pytest.raises(ValueError, match="`params` must be all parameters in the update of"):
            run(optax.masked(built(case), masks.kernels), parameters())
        assert np.isfinite(run(masked, parameters())[0]["kernel"]).all()
        return
    masked, _ = run(optax.masked(built(case), masks.kernels), parameters())
    alone, _ = run(built(case), {"kernel": parameters()["kernel"]})
    chex.assert_trees_all_close(masked["kernel"], alone["kernel"], atol=1e-6)
    split = optax.partition({"on": built(case), "off": base()}, frozen)
    moved, _ = run(split, parameters())
    chex.assert_trees_all_close(moved["kernel"], alone["kernel"], atol=1e-6)
    chex.assert_trees_all_close(moved["bias"], run(base(), parameters())[0]["bias"], atol=1e-6)


@every_wrapper
def test_narrow_parameters_with_compensation_follow_wide_ones(case):
    narrow, wide = parameters("bfloat16"), parameters("bfloat16")
    wide = jax.tree.map(lambda a: a.astype(jnp.float32), wide)
    tx = built(case, inner=optax.sgd(1e-3))

    def many(tx, params):
        def body(_, carry):
            return take(tx, *carry)

        return jax.lax.fori_loop(0, 20, body, (params, tx.init(params)))[0]

    moved, expected = many(transforms.compensate_rounding(tx), narrow), many(tx, wide)
    for name, leaf in expected.items():
        actual = np.asarray(moved[name], np.float32)
        np.testing.assert_allclose(actual, leaf, rtol=5e-3, atol=1e-5)


MESHES = [pytest.param(AxisType.Auto, marks=pytest.mark.slow), AxisType.Explicit]
SPECS = [("device", None), pytest.param((None, "device"), marks=pytest.mark.slow)]


@every_wrapper
@pytest.mark.parametrize("axis_type", MESHES, ids=["auto", "explicit"])
@pytest.mark.parametrize("spec", SPECS, ids=["rows", "columns"])
def test_sharded_parameters_take_the_same_steps(case, axis_type, spec):
    tx, params = built(case), {"kernel": jnp.tile(parameters()["kernel"], (1, 2))}
    expected = run(tx, params)
    mesh = jax.make_mesh((8,), ("device",), axis_types=(axis_type,))
    with jax.set_mesh(mesh):
        sharding = NamedSharding(mesh, PartitionSpec(*spec))
        placed = jax.tree.map(lambda w: jax.device_put(w, sharding), params)
        state = tx.init(placed)
        actual = jax.jit(lambda p: run(tx, p))(placed)
        assert actual[0]["kernel"].sharding.is_equivalent_to(sharding, ndim=2)
        for leaf in jax.tree.leaves((state, actual[1])):
            if leaf.shape == params["kernel"].shape:
                assert leaf.sharding.is_equivalent_to(sharding, ndim=2)
        take(tx, placed, state)
    chex.assert_trees_all_close(jax.device_get(actual), jax.device_get(expected), atol=1e-6)


@every_wrapper
def test_missing_params_are_named(case):
    if case.build is _centralize:
        return
    tx, params = optax.with_extra_args_support(built(case)), parameters()
    with pytest.raises(ValueError, match=r"`params` must be given to the update of `\w+`, got No"):
        tx.update(params, tx.init(params), grad_fn=slopes)


@every_wrapper
def test_it_lowers_for_every_platform(case):
    step = jax.jit(lambda p: run(built(case), p, steps=1))
    exported = export.export(step, platforms=("cpu", "cuda", "tpu"))(parameters())
    assert "callback" not in exported.mlir_module()
