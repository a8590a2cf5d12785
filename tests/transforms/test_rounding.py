"""Narrow parameters that do not lose small steps."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxreg import masks, proximal, transforms
from tests.helpers import few

NARROW = ["bfloat16", "float16"]
CHAINS = {
    "decay": lambda: transforms.independent_decay(1e-4),
    "prox": lambda: transforms.proximal(proximal.l1, 1e-4, 1.0),
    "decay and prox": lambda: optax.chain(
        transforms.independent_decay(1e-4), transforms.proximal(proximal.l1, 1e-4, 1.0)
    ),
    "four decays": lambda: optax.chain(*[transforms.independent_decay(1e-4)] * 4),
    "adamw": lambda: optax.chain(
        optax.adam(1e-4), transforms.decoupled_decay(1.0, learning_rate=1e-4)
    ),
    "masked": lambda: optax.masked(transforms.independent_decay(1e-4), masks.kernels),
}


@partial(jax.jit, static_argnums=(0, 2, 3))
def run(tx, w, steps, gradient=0.0):
    def step(_, carry):
        w, state = carry
        updates, state = tx.update(jnp.full_like(w, gradient), state, w)
        return optax.apply_updates(w, updates), state

    w = jnp.asarray(w)
    return jax.lax.fori_loop(0, steps, step, (w, tx.init(w)))[0]


@few("dtype", NARROW)
@few("steps", [1000, 10])
@few("name", CHAINS)
def test_narrow_parameters_follow_float32_ones_within_a_rounding(name, steps, dtype):
    start = np.linspace(0.3, 1.0, 6).reshape(2, 3).astype(dtype)
    expected = run(CHAINS[name](), start.astype(np.float32), steps)
    actual = run(transforms.compensate_rounding(CHAINS[name]()), start, steps)
    assert actual.dtype == dtype
    tolerance = float(jnp.finfo(dtype).eps) * 0.6
    np.testing.assert_allclose(np.float64(actual), expected, rtol=tolerance)


@few("name, factor", [("decay", 0.9999), ("four decays", 0.9999**4)])
@few("dtype", NARROW)
def test_the_state_holds_what_the_parameter_lacks(dtype, name, factor):
    """Their sum is the float32 value, after each step, within what float32 itself rounds."""
    start = np.linspace(0.3, 1.0, 6).reshape(2, 3).astype(dtype)
    tx = transforms.compensate_rounding(CHAINS[name]())

    @jax.jit
    def train(w):
        def step(carry, _):
            w, state = carry
            updates, state = tx.update(jnp.zeros_like(w), state, w)
            w = optax.apply_updates(w, updates)
            return (w, state), (w, state.lost)

        return jax.lax.scan(step, (w, tx.init(w)), length=200)[1]

    w, lost = train(start)
    assert lost.dtype == np.float32
    powers = factor ** np.arange(1, 201.0)[:, None, None]
    np.testing.assert_allclose(
        np.float64(w) + np.float64(lost), powers * np.float64(start), rtol=2e-5
    )
    assert (abs(np.float64(lost)) <= 0.5 * float(jnp.finfo(dtype).eps)).all()
    assert abs(np.asarray(lost)).max() > 0.1 * float(jnp.finfo(dtype).eps)


@few("dtype", NARROW)
def test_steps_in_one_program_without_a_loop_are_rounded_too(dtype):
    """The compiler drops a cast to bfloat16 and back, of which the compensation must not know."""
    tx = transforms.compensate_rounding(optax.sgd(1e-3))
    start = np.asarray([0.813, 0.13, -0.75], dtype)

    @jax.jit
    def steps(w):
        state = tx.init(w)
        for _ in range(20):
            updates, state = tx.update(2 * w, state, w)
            w = optax.apply_updates(w, updates)
        return w

    expected = np.asarray(start, np.float64) * 0.998**20
    np.testing.assert_allclose(np.asarray(steps(start), np.float64), expected, rtol=5e-3)


@few("name", ["decay", "adamw", "prox"])
def test_without_it_they_do_not_move(name):
    w = np.ones((2, 3), jnp.bfloat16)
    np.testing.assert_array_equal(run(CHAINS[name](), w, 100), 1)


def test_a_strength_of_zero_is_the_run_without_it():
    w = np.ones((2, 3), jnp.bfloat16)
    off = optax.chain(optax.sgd(1.0), transforms.independent_decay(0.0))
    for wrap in (lambda tx: tx, transforms.compensate_rounding):
        np.testing.assert_array_equal(
            run(wrap(off), w, 200, 1e-4), run(wrap(optax.sgd(1.0)), w, 200, 1e-4)
        )


def test_float32_parameters_pass_through_to_the_bit():
    w = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)
    bare = CHAINS["adamw"]()
    wrapped = transforms.compensate_rounding(CHAINS["adamw"]())
    np.testing.assert_array_equal(run(bare, w, 20, 0.1), run(wrapped, w, 20, 0.1))
    assert jax.eval_shape(wrapped.init, w).lost is None


@few("dtype", NARROW)
def test_exact_zeros_stay_exact(dtype):
    tx = transforms.compensate_rounding(transforms.proximal(proximal.l1, 1e-3, 1.0))
    w = np.full((4,), 0.05, dtype)
    np.testing.assert_array_equal(run(tx, w, 60), 0)


def test_subnormal_float16_weights_never_grow():
    tx = transforms.compensate_rounding(transforms.independent_decay(1e-3, mask=None))
    w = np.asarray([3e-5, -3e-5, 6e-8, 0.0], np.float16)
    assert (abs(np.float64(run(tx, w, 20))) <= abs(np.float64(w))).all()


def test_subnormal_float16_weights_shrink_as_float32_ones():
    """A reduction of precision alone would flush them to zero."""
    tx = transforms.compensate_rounding(transforms.independent_decay(1e-2, mask=None))
    w = np.asarray([3e-5, -3e-5, 6e-6, 1e-4], np.float16)
    after = np.float64(run(tx, w, 50))
    np.testing.assert_allclose(after, np.float64(w) * 0.99**50, atol=3.1e-8)


def test_odd_leaves_pass_through():
    w = np.ones((2, 2), jnp.bfloat16)
    wide = np.ones((2, 2), np.float32)
    params = {"w": w, "wide": wide, "n": np.arange(3), "none": None, "off": w}
    updates = {"w": w, "wide": wide, "n": np.arange(3), "none": None, "off": None}

    @jax.jit
    def step():
        tx = transforms.compensate_rounding(transforms.independent_decay(0.5, mask=None))
        moved, state = tx.update(updates, tx.init(params), params)
        assert moved["none"] is None
        assert moved["off"] is None
        assert state.lost["wide"] is None
        assert state.lost["n"] is None
        return moved, state

    moved, state = step()
    np.testing.assert_array_equal(moved["n"], updates["n"])
    np.testing.assert_array_equal(np.float32(moved["w"]), 0.5)
    np.testing.assert_array_equal(moved["wide"], 0.5)
    assert moved["w"].dtype == jnp.bfloat16
    assert moved["wide"].dtype == jnp.float32
    assert state.lost["w"].dtype == jnp.float32
    np.testing.assert_array_equal(state.lost["w"], 0)
    np.testing.assert_array_equal(state.lost["off"], 0)


def test_the_optimizer_sees_float32_and_other_arguments():
    seen = []

    def update(updates, state, params=None, *, value):
        seen.append((updates.dtype, params.dtype, value))
        return updates, state

    def init(params):
        seen.append(params.dtype)
        return optax.EmptyState()

    tx = transforms.compensate_rounding(optax.GradientTransformationExtraArgs(init, update))
    w = np.ones(2, np.float16)
    jax.eval_shape(lambda w: tx.update(w, tx.init(w), w, value=3)[0], w)
    assert seen == [np.float32, (np.float32, np.float32, 3)]


def test_missing_params_are_named():
    tx = transforms.compensate_rounding(optax.identity())
    w = np.ones(2, np.float32)
    with pytest.raises(ValueError, match="`params` must be given to the update of `compensate"):
        tx.update(w, tx.init(w))


# Floats of 8 bits.


@few("dtype", [jnp.float8_e4m3fn, jnp.float8_e5m2, jnp.float8_e4m3fnuz])
def test_parameters_of_8_bits_follow_float32_ones_within_a_rounding(dtype):
    """With gradients of their own dtype and of float32; and what they lack is in the state."""
    w = {"w": np.float32([1.0, -0.5, 3.0]).astype(dtype), "wide": np.ones(3, np.float32)}
    tx = transforms.compensate_rounding(optax.sgd(0.01))

    @jax.jit
    def train(w):
        found = []
        for kind in (dtype, jnp.float32):
            gradients = {"w": jnp.ones((30, 3), kind), "wide": jnp.ones((30, 3))}

            def step(carry, gradient):
                updates, state = tx.update(gradient, carry[1], carry[0])
                return (optax.apply_updates(carry[0], updates), state), None

            (params, state), _ = jax.lax.scan(step, (w, tx.init(w)), gradients)
            found.append((params, state.lost["w"]))
        return found

    for params, lost in train(w):
        assert params["w"].dtype == dtype
        exact = np.float64(w["w"]) - 0.3
        spacing = float(jnp.finfo(dtype).eps)
        np.testing.assert_allclose(np.float64(params["w"]), exact, atol=2 * spacing)
        np.testing.assert_allclose(np.float64(params["w"]) + lost, exact, atol=1e-5)
        np.testing.assert_allclose(params["wide"], 0.7, rtol=1e-5)


def test_scales_of_blocks_are_no_parameters():
    tx = transforms.compensate_rounding(optax.sgd(0.1))
    with pytest.raises(
        TypeError, match=r"`params` must have dtypes with negative .* float8_e8m0fnu"
    ):
        tx.init({"w": np.ones(2, jnp.float8_e8m0fnu)})
