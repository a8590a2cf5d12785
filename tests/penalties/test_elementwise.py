"""Penalties of single weights: closed forms, wide sums, kinks, and what scikit-learn minimizes."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import ElasticNet

from jaxreg import penalties
from tests.arrays import NARROW, normal, weights
from tests.helpers import few
from tests.penalties import helpers
from tests.penalties.helpers import TORCH, value_and_slope

ELASTIC_NET = partial(penalties.elastic_net, l1=0.5, l2=2.0)


def from_zero(w):
    return penalties.distance(w, jnp.zeros_like(w))


PENALTIES = {
    "l1": penalties.l1,
    "l2": penalties.l2,
    "elastic_net": ELASTIC_NET,
    "distance": from_zero,
}
# Where a penalty has no derivative: the subgradient nearest to zero.
KINKS = {
    "l1": ([[0.0, -0.0, 3.0], [1e-30, -1e-30, 0.0]], [[0, 0, 1], [1, -1, 0]]),
    "l2": ([[0.0, -0.0, 3.0], [1e-30, -2.0, 0.0]], [[0, 0, 3], [0, -2, 0]]),
    "elastic_net": ([[0.0, -2.0, -0.0], [0, 0, 1]], [[0, -4.5, 0], [0, 0, 2.5]]),
    "distance": (np.zeros((2, 3)), np.zeros((2, 3))),
}
every_penalty = pytest.mark.parametrize("name", PENALTIES)
l1_and_l2 = pytest.mark.parametrize("name", ["l1", "l2"])


def naive_l1(w):
    return math.fsum(abs(float(v)) for v in np.ravel(w))


def naive_l2(w):
    return math.fsum(float(v) ** 2 for v in np.ravel(w)) / 2


NAIVE = {"l1": naive_l1, "l2": naive_l2}


@l1_and_l2
@few("shape", [(5, 6), (), (0,), (7,), (2, 3, 4)], ids=str)
def test_values_and_gradients_are_the_closed_forms(name, shape):
    w = weights(*shape, scale=3.0)
    value, slope = value_and_slope(PENALTIES[name])(w)
    assert (value.shape, value.dtype) == ((), np.float32)
    np.testing.assert_allclose(value, NAIVE[name](w), rtol=1e-6)
    np.testing.assert_allclose(slope, np.sign(w) if name == "l1" else w, rtol=1e-6)


@l1_and_l2
def test_values_are_the_closed_forms_in_float64(name):
    w = normal(40, 5, seed=1)
    with jax.enable_x64(True):
        value = jax.jit(PENALTIES[name])(w)
    assert value.dtype == np.float64
    np.testing.assert_allclose(value, NAIVE[name](w), rtol=1e-14)


def test_l2_is_half_of_the_keras_penalty_of_the_same_weight():
    # keras.regularizers.L2(0.01)(w) is 0.01 * sum(w ** 2).
    w, weight = weights(5, 6, scale=3.0), 0.01
    keras = weight * np.sum(np.square(w, dtype=np.float64))
    ours, _ = value_and_slope(penalties.l2)(w)
    np.testing.assert_allclose(2 * weight * np.float64(ours), keras, rtol=1e-6)


@every_penalty
def test_the_gradient_at_a_kink_is_the_subgradient_nearest_to_zero(name):
    helpers.assert_slope_at(PENALTIES[name], *KINKS[name])


@l1_and_l2
@few("dtype", NARROW, ids=str)
def test_narrow_zeros_have_value_and_derivatives_zero(name, dtype):
    def derivatives(w):
        return (*jax.jvp(PENALTIES[name], (w,), (jnp.ones_like(w),)), jax.grad(PENALTIES[name])(w))

    derivatives = jax.jit(derivatives)
    for zero in (0.0, -0.0):
        for derivative in derivatives(np.full((3, 2), zero, dtype)):
            np.testing.assert_array_equal(np.asarray(derivative, np.float32), 0)


@few("dtype", reversed(NARROW), ids=str)
def test_squares_of_narrow_weights_do_not_overflow(dtype):
    # 300 ** 2 is above the largest float16, 65504.
    w = np.full(10_000, 300.0, dtype)
    value, slope = value_and_slope(penalties.l2)(w)
    assert value.dtype == np.float32
    np.testing.assert_allclose(value, 10_000 * 300.0**2 / 2, rtol=1e-6)
    np.testing.assert_array_equal(slope, w)


@l1_and_l2
@few("dtype", reversed(NARROW), ids=str)
def test_narrow_weights_are_summed_wide(name, dtype):
    # A bfloat16 sum of ones stops at 256, a float16 one at 2048.
    value, _ = value_and_slope(PENALTIES[name])(np.ones(10_000, dtype))
    np.testing.assert_allclose(value, NAIVE[name](np.ones(10_000)), rtol=1e-6)


def test_squares_of_tiny_float16_weights_do_not_vanish():
    w = np.full(10_000, 1e-4, np.float16)
    value, _ = value_and_slope(penalties.l2)(w)
    np.testing.assert_allclose(value, naive_l2(np.asarray(w, np.float64)), rtol=1e-5)


def test_squares_that_overflow_leave_the_gradient():
    for name in ("l2", "elastic_net", "distance"):
        value, slope = value_and_slope(PENALTIES[name])(np.full((4, 3), -1e30, np.float32))
        assert value == np.inf
        np.testing.assert_allclose(slope, -2e30 if name == "elastic_net" else -1e30, rtol=1e-6)
        value, slope = value_and_slope(PENALTIES[name])(np.full((4, 3), 1e-30, np.float32))
        assert np.isfinite(value)
        want = 0.5 if name == "elastic_net" else 1e-30
        np.testing.assert_allclose(slope, np.full((4, 3), want), rtol=1e-6)


def test_l1_is_exact_at_any_size():
    helpers.assert_exact_at_any_size(penalties.l1)


@every_penalty
def test_float16_does_not_overflow(name):
    helpers.assert_wide_in_float16(PENALTIES[name])


@every_penalty
def test_a_diverged_weight_shows(name):
    helpers.assert_diverged_weights_show(PENALTIES[name])


@every_penalty
def test_empty_arrays_have_penalty_zero(name):
    helpers.assert_empty_arrays_have_penalty_zero(PENALTIES[name])


@every_penalty
def test_integers_and_booleans_raise(name):
    helpers.assert_integers_and_booleans_raise(PENALTIES[name])
    with pytest.raises(TypeError, match=r"`w` must be an array, got float"):
        PENALTIES["l2" if name == "distance" else name](1.0)


@every_penalty
def test_complex_weights_count_by_their_size(name):
    helpers.assert_complex_weights_count_by_their_size(PENALTIES[name])


def test_complex_weights_have_the_values_of_their_magnitudes():
    w = np.array([3.0 + 4.0j, -5.0j], np.complex64)
    for name, expected in (("l1", 10.0), ("l2", 25.0), ("elastic_net", 55.0), ("distance", 25.0)):
        np.testing.assert_allclose(value_and_slope(PENALTIES[name])(w)[0], expected, rtol=1e-6)


@jax.jit
def elastic_net(w, l1, l2):
    return penalties.elastic_net(w, l1=l1, l2=l2)


def test_the_elastic_net_is_the_weighted_sum():
    w = normal(5, 4)
    for l1, l2 in ((0.3, 0.7), (0.0, 1.0), (1.0, 0.0)):
        expected = l1 * np.abs(w).sum() + l2 * (w**2).sum() / 2
        np.testing.assert_allclose(elastic_net(np.float32(w), l1, l2), expected, rtol=1e-6)
    # A weight of zero is none, where the squares overflow too.
    assert elastic_net(np.full((5, 4), 1e30, np.float32), 0.0, 0.0) == 0


def test_the_elastic_net_equals_torch():
    expected = TORCH["penalties"]["elastic_net"]
    ours = value_and_slope(partial(penalties.elastic_net, l1=0.3, l2=0.7))
    with jax.enable_x64(True):
        value, slope = ours(np.float64(TORCH["w"]))
    np.testing.assert_allclose(value, expected["value"], rtol=1e-13)
    np.testing.assert_allclose(slope, expected["gradient"], rtol=1e-11, atol=1e-12)


def test_the_elastic_net_weighs_weights_by_themselves():
    w = normal(5, 4)
    l1 = np.linspace(0, 1, 4, dtype=np.float32)
    l2 = np.linspace(1, 0, 5, dtype=np.float32)[:, None]
    expected = (l1 * np.abs(w)).sum() + (l2 * w**2).sum() / 2
    np.testing.assert_allclose(elastic_net(np.float32(w), l1, l2), expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["l1", "l2"])
def test_wrong_weights_of_the_elastic_net_are_named(name):
    good = {"l1": 0.5, "l2": 0.5}
    w = np.ones((2, 3), np.float32)
    with pytest.raises(ValueError, match=rf"`{name}` must be zero or positive, got -1.0"):
        penalties.elastic_net(w, **good | {name: -1.0})
    with pytest.raises(ValueError, match=rf"`{name}` must broadcast to shape \(2, 3\)"):
        penalties.elastic_net(w, **good | {name: np.ones(2)})


def test_the_elastic_net_is_the_penalty_of_scikit_learn():
    # Optimality of scikit-learn's solution: 0 is a subgradient of its loss and our penalty.
    x = normal(30, 6)
    y = normal(30, seed=1)
    alpha, ratio = 0.1, 0.4
    w = ElasticNet(alpha=alpha, l1_ratio=ratio, fit_intercept=False, tol=1e-12).fit(x, y).coef_
    assert 0 < (w == 0).sum() < 6

    def penalty(w):
        return penalties.elastic_net(w, l1=alpha * ratio, l2=alpha * (1 - ratio))

    with jax.enable_x64(True):
        slope = jax.device_get(jax.jit(jax.grad(penalty))(w))
    slope = x.T @ (x @ w - y) / len(y) + slope
    assert np.abs(slope[w != 0]).max() < 1e-8
    assert np.abs(slope[w == 0]).max() <= alpha * ratio


distance = jax.jit(jax.value_and_grad(penalties.distance, (0, 1)))


def test_the_distance_of_one_array():
    w = normal(5, 4)
    start = normal(5, 4, seed=1)
    value, slopes = distance(np.float32(w), np.float32(start))
    np.testing.assert_allclose(value, ((w - start) ** 2).sum() / 2, rtol=1e-6)
    np.testing.assert_allclose(slopes[0], w - start, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(slopes[1], start - w, rtol=1e-5, atol=1e-6)


def test_the_distance_from_a_start_of_another_dtype():
    # In bfloat16 256 and 257 are one number.
    w = np.full(3, 256.0, jnp.bfloat16)
    start = np.full(3, 257.0, np.float32)
    with jax.numpy_dtype_promotion("strict"):
        value, _ = distance(w, start)
        other, _ = distance(start, w)
    assert (float(value), value.dtype) == (1.5, np.float32)
    assert (float(other), other.dtype) == (1.5, np.float32)


def test_a_start_that_does_not_fit_is_named():
    w = np.ones((2, 3), np.float32)
    with pytest.raises(ValueError, match=r"`start` must have the same shape as `w`, \(2, 3\), got"):
        penalties.distance(w, np.ones(3, np.float32))
    with pytest.raises(TypeError, match=r"`start` must have a floating-point dtype, got int32"):
        penalties.distance(w, np.ones((2, 3), np.int32))
