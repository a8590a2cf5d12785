"""Helpers of the transformations: counts, strengths, multipliers, and steps in float32."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxreg.transforms import StepState, _steps
from tests.helpers import few

ONES = np.ones(2, np.float32)


def test_steps_are_counted_from_zero_without_overflow():
    @jax.jit
    def counts():
        start = _steps.init_state(ONES)
        last = StepState(jnp.int32(2**31 - 1))
        return start, _steps.next_state(start), _steps.next_state(last)

    start, second, last = counts()
    assert start.count.dtype == second.count.dtype == np.int32
    assert (start.count, second.count, last.count) == (0, 1, 2**31 - 1)


@pytest.mark.parametrize(
    "value", [0, 0.5, np.inf, np.float32(1), ONES, optax.constant_schedule(-1)]
)
def test_strengths_of_zero_arrays_and_schedules_pass(value):
    _steps.check_strength(value, "weight")


def test_traced_strengths_pass():
    jax.eval_shape(lambda w: _steps.check_strength(w, "weight"), np.float32(-1))


@pytest.mark.parametrize("value", [-1e-3, np.float32(-1), np.nan, -np.inf], ids=str)
def test_negative_strengths_are_named(value):
    with pytest.raises(ValueError, match=r"`weight` must be zero or positive, got"):
        _steps.check_strength(value, "weight")


def test_a_schedule_is_called_with_the_count():
    @jax.jit
    def strengths(count, traced):
        state = StepState(count)
        values = (lambda count: 2 * count, 3, np.float16(0.5), traced)
        return [_steps.strength_at(value, state) for value in values]

    found = strengths(np.int32(5), np.float32(0.1))
    assert {value.dtype for value in found} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(found, np.float32([10, 3, 0.5, 0.1]))


def test_a_strength_is_wide_where_float64_is_on():
    with jax.enable_x64(True):
        found = jax.eval_shape(lambda: _steps.strength_at(0.1, StepState(0)))
        assert found.dtype == np.float64


def test_missing_params_are_named():
    _steps.check_params(ONES, "lift")
    _steps.check_params({}, "lift")
    with pytest.raises(ValueError, match=r"`params` must be given to the update of `lift`, got No"):
        _steps.check_params(None, "lift")


def test_multipliers_are_a_tree_a_prefix_a_function_or_nothing():
    params = {"a": {"b": ONES, "c": ONES}, "d": ONES, "n": np.arange(2)}
    want = {"a": {"b": 0.5, "c": 0.5}, "d": 2, "n": 1}
    tree = {"a": 0.5, "d": 2, "n": 1}
    for given in (tree, lambda params: tree):
        assert _steps.multipliers_for(given, params) == want
    assert set(jax.tree.leaves(_steps.multipliers_for(None, params))) == {1.0}
    for wrong in ({**tree, "d": "twice"}, {**tree, "a": ONES}):
        with pytest.raises(TypeError, match=r"`multipliers` must be a tree of numbers, got .* for"):
            _steps.multipliers_for(wrong, params)
    with pytest.raises(ValueError, match="`multipliers` must have the tree structure of"):
        _steps.multipliers_for({"a": 0.5}, params)
    for single in (0.5, ONES, "half"):
        with pytest.raises(TypeError, match="`multipliers` must be a tree of numbers or a func"):
            _steps.check_multipliers(single)


@few("dtype", ["bfloat16", "complex64", "float16", "float32"])
def test_steps_are_computed_in_float32_and_rounded_once(dtype):
    """The parameter and its update are wide; the result has the update's dtype."""
    wide = np.complex64 if dtype == "complex64" else np.float32
    w = np.asarray([1, 100], dtype)
    u = np.float32([0.001, 0.3])
    seen = []

    def step(w, u, factor):
        seen.append((w.dtype, u.dtype))
        return factor * w * w + u

    map_steps = jax.jit(lambda u, w: _steps.map_steps(step, u, w, {"w": 3}))
    for given in (u.astype(dtype), u.astype(wide)):
        moved = map_steps({"w": given}, {"w": w})["w"]
        assert moved.dtype == given.dtype
        expected = (3 * w.astype(wide) ** 2 + given.astype(wide)).astype(given.dtype)
        np.testing.assert_array_equal(moved, expected)
    assert set(seen) == {(np.dtype(wide), np.dtype(wide))}


def test_float64_parameters_are_not_narrowed():
    with jax.enable_x64(True):
        step = lambda w, u: w + u  # noqa: E731
        moved = jax.jit(lambda u, w: _steps.map_steps(step, u, w))(np.full(1, 1e-12), np.ones(1))
        assert moved.dtype == np.float64
        np.testing.assert_array_equal(moved, 1 + 1e-12)


def test_absent_updates_and_other_leaves_stay():
    params = {
        "w": ONES,
        "off": ONES,
        "masked": optax.MaskedNode(),
        "n": np.array([3]),
        "none": None,
    }
    params |= {"key": jax.random.key(0), "on": np.array([True]), "left": ONES, "out": ONES}
    params |= {"act": jnp.tanh, "name": "float32"}
    updates = {**params, "off": None, "key": np.zeros((), jax.dtypes.float0)}
    rest = dict.fromkeys(params, 2.0)
    rest |= {"left": optax.MaskedNode(), "out": None}

    def step(w, u, factor):
        return -factor * u

    @jax.jit
    def map_steps():
        moved = _steps.map_steps(step, updates, params, rest)
        for name in ("off", "none", "n", "key", "on", "left", "out", "act", "name"):
            assert moved[name] is updates[name]
        assert isinstance(moved["masked"], optax.MaskedNode)
        return moved["w"]

    np.testing.assert_array_equal(map_steps(), [-2, -2])


def test_gradients_of_integers_become_zeros_that_can_be_added():
    """JAX gives integers and booleans gradients of float0, which nothing can be added to."""
    params = {"n": np.arange(3, dtype=np.int8), "on": np.array([True, False]), "w": ONES}
    updates = jax.tree.map(lambda w: np.zeros(w.shape, jax.dtypes.float0), params) | {"w": ONES}

    @jax.jit
    def step():
        moved = _steps.map_steps(lambda w, u: -u, updates, params)
        return moved, optax.apply_updates(params, moved)

    moved, after = step()
    for name in ("n", "on"):
        assert moved[name].dtype == params[name].dtype
        np.testing.assert_array_equal(after[name], params[name])
    key = jax.random.key(0)
    nothing = np.zeros((), jax.dtypes.float0)
    assert _steps.at_rest(nothing, key) is nothing
