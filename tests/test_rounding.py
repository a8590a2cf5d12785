"""Narrow parameters that do not lose small steps."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxreg import masks, proximal, transforms

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


def run(tx, w, steps, gradient=0.0):
    @jax.jit
    def many(w):
        def body(carry, _):
            w, state = carry
            updates, state = tx.update(jnp.full_like(w, gradient), state, w)
            return (optax.apply_updates(w, updates), state), None

        return jax.lax.scan(body, (w, tx.init(w)), length=steps)[0][0]

    return np.asarray(many(w), np.float64)


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("steps", [10, 1000])
@pytest.mark.parametrize("name", CHAINS)
def test_narrow_parameters_follow_float32_ones_within_a_rounding(name, steps, dtype):
    w = jnp.linspace(0.3, 1.0, 6).reshape(2, 3)
    start = w.astype(dtype)
    expected = run(CHAINS[name](), start.astype(jnp.float32), steps)
    actual = run(transforms.compensate_rounding(CHAINS[name]()), start, steps)
    np.testing.assert_allclose(actual, expected, rtol=float(jnp.finfo(dtype).eps) * 0.6)


@pytest.mark.parametrize("dtype", NARROW)
def test_steps_in_one_program_without_a_loop_are_rounded_too(dtype):
    """The compiler drops a cast to bfloat16 and back, of which the compensation must not know."""
    tx = transforms.compensate_rounding(optax.sgd(1e-3))
    start = jnp.array([0.813, 0.13, -0.75], dtype)

    @jax.jit
    def steps(w):
        state = tx.init(w)
        for _ in range(20):
            updates, state = tx.update(2 * w, state, w)
            w = optax.apply_updates(w, updates)
        return w

    expected = np.asarray(start, np.float64) * 0.998**20
    np.testing.assert_allclose(np.asarray(steps(start), np.float64), expected, rtol=5e-3)


def test_without_it_they_do_not_move():
    w = jnp.ones((2, 3), jnp.bfloat16)
    for name in ("decay", "prox", "adamw"):
        np.testing.assert_array_equal(run(CHAINS[name](), w, 100), 1)


def test_a_strength_of_zero_is_the_run_without_it():
    w = jnp.ones((2, 3), jnp.bfloat16)
    off = optax.chain(optax.sgd(1.0), transforms.independent_decay(0.0))
    for wrap in (lambda tx: tx, transforms.compensate_rounding):
        np.testing.assert_array_equal(
            run(wrap(off), w, 200, 1e-4), run(wrap(optax.sgd(1.0)), w, 200, 1e-4)
        )


def test_float32_parameters_pass_through_to_the_bit():
    w = jnp.linspace(-1, 1, 6).reshape(2, 3)
    bare, wrapped = CHAINS["adamw"](), transforms.compensate_rounding(CHAINS["adamw"]())
    np.testing.assert_array_equal(run(bare, w, 20, 0.1), run(wrapped, w, 20, 0.1))
    assert wrapped.init(w).lost is None


@pytest.mark.parametrize("dtype", NARROW)
def test_exact_zeros_stay_exact(dtype):
    tx = transforms.compensate_rounding(transforms.proximal(proximal.l1, 1e-3, 1.0))
    w = jnp.full((4,), 0.05, dtype)
    np.testing.assert_array_equal(run(tx, w, 60), 0)


def test_subnormal_float16_weights_never_grow():
    tx = transforms.compensate_rounding(transforms.independent_decay(1e-3, mask=None))
    w = jnp.array([3e-5, -3e-5, 6e-8, 0.0], jnp.float16)
    assert (abs(run(tx, w, 20)) <= abs(np.asarray(w, np.float64))).all()


def test_odd_leaves_pass_through():
    params = {"w": jnp.ones((2, 2), jnp.bfloat16), "n": jnp.arange(3), "none": None}
    updates = {"w": jnp.zeros((2, 2), jnp.bfloat16), "n": jnp.arange(3), "none": None}
    tx = transforms.compensate_rounding(transforms.independent_decay(0.5))
    moved, state = tx.update(updates, tx.init(params), params)
    np.testing.assert_array_equal(moved["n"], updates["n"])
    assert moved["none"] is None
    assert state.lost["w"].dtype == jnp.float32
    updates["w"] = None
    tx = transforms.compensate_rounding(transforms.independent_decay(0.5, mask=None))
    assert tx.update(updates, tx.init(params), params)[0]["w"] is None


def test_missing_params_are_named():
    tx = transforms.compensate_rounding(optax.sgd(0.1))
    w = jnp.ones(2)
    with pytest.raises(ValueError, match="`params` must be given to the update of `compensate"):
        tx.update(w, tx.init(w))
