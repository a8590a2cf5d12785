"""What penalties do beyond the contract: closed forms, wide sums, kinks, and sums over trees."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

from jaxreg import masks, penalties

NARROW = [jnp.bfloat16, jnp.float16]
EVERY_PENALTY = [penalties.l1, penalties.l2]

every_penalty = pytest.mark.parametrize("penalty", EVERY_PENALTY, ids=lambda p: p.__name__)
every_shape = pytest.mark.parametrize("shape", [(), (0,), (7,), (3, 5), (2, 3, 4)], ids=str)
narrow = pytest.mark.parametrize("dtype", NARROW, ids=lambda d: jnp.dtype(d).name)


def naive_l1(w):
    return math.fsum(abs(float(v)) for v in np.ravel(w))


def naive_l2(w):
    return math.fsum(float(v) ** 2 for v in np.ravel(w)) / 2


NAIVE = {penalties.l1: naive_l1, penalties.l2: naive_l2}


def weights(shape, seed=0, scale=3.0):
    return np.random.default_rng(seed).normal(0, scale, shape).astype(np.float32)


@every_penalty
@every_shape
def test_value_is_the_closed_form(penalty, shape):
    w = weights(shape)
    np.testing.assert_allclose(penalty(jnp.asarray(w)), NAIVE[penalty](w), rtol=1e-6)


@every_penalty
def test_value_is_the_closed_form_in_float64(penalty):
    with jax.enable_x64(True):
        w = np.random.default_rng(1).normal(0, 1, (40, 5))
        value = penalty(jnp.asarray(w))
        assert value.dtype == jnp.float64
        np.testing.assert_allclose(value, NAIVE[penalty](w), rtol=1e-14)


def test_a_hand_computed_example():
    w = jnp.array([[3.0, -4.0], [0.0, 12.0]])
    assert float(penalties.l1(w)) == 19.0
    assert float(penalties.l2(w)) == 84.5


def test_l2_is_half_of_the_keras_penalty_of_the_same_weight():
    # keras.regularizers.L2(0.01)(w) is 0.01 * sum(w ** 2).
    w, weight = weights((4, 6)), 0.01
    keras = weight * np.sum(np.square(w, dtype=np.float64))
    np.testing.assert_allclose(2 * weight * penalties.l2(jnp.asarray(w)), keras, rtol=1e-6)


def test_gradients_are_the_sign_and_the_weights():
    w = weights((5, 6))
    w[0, 0] = 0.0
    np.testing.assert_array_equal(jax.grad(penalties.l1)(jnp.asarray(w)), np.sign(w))
    np.testing.assert_allclose(jax.grad(penalties.l2)(jnp.asarray(w)), w, rtol=1e-6)


@every_penalty
@pytest.mark.parametrize("zero", [0.0, -0.0])
@pytest.mark.parametrize("dtype", [jnp.float32, *NARROW], ids=lambda d: jnp.dtype(d).name)
def test_zero_has_value_and_derivatives_zero(penalty, zero, dtype):
    w = jnp.full((3, 2), zero, dtype)
    assert penalty(w) == 0
    np.testing.assert_array_equal(jax.grad(penalty)(w), np.zeros((3, 2)))
    _, tangent = jax.jvp(penalty, (w,), (jnp.ones_like(w),))
    assert tangent == 0


@narrow
def test_squares_of_narrow_weights_do_not_overflow(dtype):
    # 300 ** 2 is above the largest float16, 65504.
    w = jnp.full((100,), 300.0, dtype)
    value = penalties.l2(w)
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, 100 * 300.0**2 / 2, rtol=1e-6)
    np.testing.assert_array_equal(jax.grad(penalties.l2)(w), w)


@narrow
@every_penalty
def test_narrow_weights_are_summed_wide(dtype, penalty):
    # A bfloat16 sum of ones stops at 256, a float16 one at 2048.
    w = jnp.ones((10_000,), dtype)
    np.testing.assert_allclose(penalty(w), NAIVE[penalty](np.ones(10_000)), rtol=1e-6)


def test_squares_of_tiny_float16_weights_do_not_vanish():
    w = jnp.full((10,), 1e-4, jnp.float16)
    np.testing.assert_allclose(penalties.l2(w), naive_l2(np.asarray(w, np.float64)), rtol=1e-5)


def test_complex_weights_are_penalized_by_their_size():
    w = jnp.array([3.0 + 4.0j, -5.0j], jnp.complex64)
    assert penalties.l1(w).dtype == penalties.l2(w).dtype == jnp.float32
    np.testing.assert_allclose(penalties.l1(w), 10.0, rtol=1e-6)
    np.testing.assert_allclose(penalties.l2(w), 25.0, rtol=1e-6)


@every_penalty
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_a_diverged_weight_shows(penalty, value):
    assert not np.isfinite(penalty(jnp.array([1.0, value])))


@every_penalty
def test_integer_weights_raise(penalty):
    with pytest.raises(TypeError, match=r"`w` must have a floating-point dtype, got int32"):
        penalty(jnp.arange(3))
    with pytest.raises(TypeError, match=r"`w` must be an array, got float"):
        penalty(1.0)


# Sums over trees.


def tree():
    return {
        "dense": {"kernel": jnp.full((2, 3), 2.0), "bias": jnp.full((3,), 5.0)},
        "list": [jnp.full((1, 4), -1.0), jnp.array(7.0)],
    }


@pytest.mark.parametrize(("penalty", "want"), [(penalties.l1, 38.0), (penalties.l2, 76.0)])
def test_total_sums_every_leaf(penalty, want):
    # 6 twos, 3 fives, 4 minus ones and a seven.
    value = penalties.total(tree(), penalty)
    assert (value.shape, value.dtype) == ((), jnp.float32)
    assert float(value) == want


def test_total_with_a_callable_mask_and_with_its_tree():
    by_function = penalties.total(tree(), penalties.l1, masks.kernels)
    by_tree = penalties.total(tree(), penalties.l1, masks.kernels(tree()))
    assert float(by_function) == float(by_tree) == 16.0


def test_total_with_a_hand_written_mask():
    mask = {"dense": {"kernel": False, "bias": True}, "list": [False, True]}
    assert float(penalties.total(tree(), penalties.l1, mask)) == 22.0
    assert float(penalties.total(tree(), penalties.l1, jax.tree.map(lambda _: False, tree()))) == 0


@pytest.mark.parametrize(
    "mask",
    [
        {"dense": {"kernel": True}, "list": [True, True]},
        {"dense": {"kernel": True, "bias": True}, "list": [True]},
        lambda params: jax.tree.leaves(params),
        True,
    ],
    ids=["missing", "short", "function", "bool"],
)
def test_total_raises_for_a_mask_of_another_structure(mask):
    with pytest.raises(ValueError, match=r"`mask` must have the tree structure of `params`"):
        penalties.total(tree(), penalties.l1, mask)


def test_total_of_a_masked_weight_has_no_gradient():
    gradient = jax.grad(lambda p: penalties.total(p, penalties.l2, masks.kernels))(tree())
    np.testing.assert_array_equal(gradient["dense"]["bias"], np.zeros(3))
    np.testing.assert_array_equal(gradient["dense"]["kernel"], np.full((2, 3), 2.0))


@pytest.mark.parametrize("params", [{}, [], None, (), {"a": {}}], ids=str)
def test_total_of_nothing_is_zero(params):
    value = penalties.total(params, penalties.l2)
    assert (value.shape, value.dtype, float(value)) == ((), jnp.float32, 0.0)


@pytest.mark.parametrize(
    "leaf",
    [jnp.arange(4), np.arange(4), 3, True, jnp.array(True), jax.random.key(0), None],
    ids=["int32", "numpy", "int", "bool", "array bool", "key", "none"],
)
def test_total_passes_over_leaves_that_are_not_weights(leaf):
    params = {"w": jnp.array([3.0, 4.0]), "other": leaf}
    for mask in (None, jax.tree.map(lambda _: True, params)):
        assert float(penalties.total(params, penalties.l2, mask)) == 12.5


def test_total_of_mixed_dtypes_is_summed_in_float32():
    params = [jnp.full((10,), 300.0, d) for d in (jnp.float16, jnp.bfloat16, jnp.float32)]
    value = penalties.total(params, penalties.l2)
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, 3 * 10 * 300.0**2 / 2, rtol=1e-6)


def test_total_of_linen_parameters():
    variables = linen.Dense(3).init(jax.random.key(0), jnp.ones((1, 2)))
    params = jax.tree.map(lambda w: w + 1, variables["params"])
    want = naive_l2(params["kernel"])
    np.testing.assert_allclose(
        penalties.total(params, penalties.l2, masks.kernels), want, rtol=1e-6
    )
    both = want + naive_l2(params["bias"])
    np.testing.assert_allclose(penalties.total(params, penalties.l2), both, rtol=1e-6)


def test_total_of_an_nnx_state_and_its_gradient():
    model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    state = nnx.state(model)
    want = naive_l1(model.kernel[...])
    np.testing.assert_allclose(penalties.total(state, penalties.l1, masks.kernels), want, rtol=1e-6)

    def loss(model):
        return penalties.total(nnx.state(model, nnx.Param), penalties.l1, masks.kernels)

    gradient = nnx.grad(loss)(model)
    np.testing.assert_array_equal(gradient["kernel"][...], np.sign(model.kernel[...]))
    np.testing.assert_array_equal(gradient["bias"][...], np.zeros(3))


def test_total_of_an_nnx_state_passes_over_its_random_streams():
    model = nnx.Sequential(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), nnx.Dropout(0.5, rngs=nnx.Rngs(1)))
    want = naive_l2(model.layers[0].kernel[...]) + naive_l2(model.layers[0].bias[...])
    np.testing.assert_allclose(penalties.total(nnx.state(model), penalties.l2), want, rtol=1e-6)


def test_total_takes_a_penalty_of_ones_own():
    assert float(penalties.total(tree(), lambda w: jnp.max(jnp.abs(w)))) == 2 + 5 + 1 + 7
