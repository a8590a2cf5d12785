"""Penalties of activations: covariances of NumPy, torch, means over examples, edges."""

import jax
import numpy as np
import pytest

from jaxreg import penalties
from tests.arrays import normal, weights
from tests.penalties import helpers
from tests.penalties.helpers import TORCH, value_and_slope

decorrelation = value_and_slope(penalties.decorrelation)


def test_decorrelation_is_half_the_squared_covariances_of_numpy():
    x = normal(8, 4) + 5
    covariances = np.cov(x.T, bias=True)
    expected = (np.linalg.norm(covariances) ** 2 - np.linalg.norm(np.diag(covariances)) ** 2) / 2
    for shape in ((8, 4), (2, 4, 4)):
        value, _ = decorrelation(np.float32(x).reshape(shape))
        np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_decorrelation_equals_torch():
    expected = TORCH["penalties"]["decorrelation"]
    with jax.enable_x64(True):
        value, slope = decorrelation(np.float64(TORCH["w"]))
    np.testing.assert_allclose(value, expected["value"], rtol=1e-13)
    np.testing.assert_allclose(slope, expected["gradient"], rtol=1e-11, atol=1e-12)


def test_decorrelation_does_not_lose_small_covariances_in_large_variances():
    # The difference of the two norms, 1e8 of them, would lose all digits. These are powers of two,
    # which float32 holds and whose means it computes without a rounding.
    x = np.array([[1, 1], [-1, 1], [1, -1], [-1, -1]]) * 2.0**7 + [[0, 0], [0, 2.0**-13]] * 2
    covariances = np.cov(x.T, bias=True)
    value, _ = decorrelation(np.float32(x))
    np.testing.assert_allclose(value, covariances[0, 1] ** 2, rtol=1e-6)


def test_decorrelation_does_not_see_means_and_single_examples():
    x = weights(7, 4)
    np.testing.assert_allclose(decorrelation(x + 100)[0], decorrelation(x)[0], rtol=1e-3)
    assert decorrelation(x[:1])[0] == 0


def test_features_that_do_not_vary_have_derivatives_of_zero():
    for x in (np.ones((2, 3)), np.zeros((1, 3))):
        helpers.assert_slope_at(penalties.decorrelation, x, np.zeros_like(x))


def test_decorrelation_of_float16_does_not_overflow():
    helpers.assert_wide_in_float16(penalties.decorrelation)


def test_a_diverged_activation_shows():
    helpers.assert_diverged_weights_show(penalties.decorrelation)


def test_empty_arrays_have_penalty_zero():
    helpers.assert_empty_arrays_have_penalty_zero(penalties.decorrelation)


def test_wrong_activations_are_named():
    helpers.assert_integers_and_booleans_raise(penalties.decorrelation)
    helpers.assert_complex_weights_raise(penalties.decorrelation)
    for shape in ((), (3,)):
        with pytest.raises(ValueError, match=r"`x` must have axes \[batch, features\], got"):
            penalties.decorrelation(np.ones(shape, np.float32))


def test_the_activity_is_the_weighted_penalty_of_the_whole_batch():
    # Two traced weights and a static one, of sums and of means over examples.
    x = weights(5, 3)

    @jax.jit
    def values(x, weight):
        mean = penalties.per_example(penalties.l2)
        return (
            penalties.activity(x, penalty=penalties.l2, weight=weight),
            penalties.activity(x, penalty=penalties.l2, weight=0.5),
            penalties.activity(x, penalty=mean, weight=weight),
            penalties.activity(x, penalty=mean, weight=0),
        )

    half = np.sum(np.float64(x) ** 2) / 2
    for weight in (0.0, 3.0):
        expected = [weight * half, 0.5 * half, weight * half / 5, 0.0]
        np.testing.assert_allclose(values(x, weight), expected, rtol=1e-6)


def test_means_over_examples_take_penalties_of_one_example():
    # One factor of the penalty is the root of the size of an example, and not of the batch.
    x = weights(4, 2, 3)
    mean = jax.jit(penalties.per_example(lambda x: penalties.group_lasso(x, axis=(0, 1))))
    expected = np.sqrt(6) * np.linalg.norm(np.float64(x).reshape(4, 6), axis=1).mean()
    np.testing.assert_allclose(mean(x), expected, rtol=1e-6)
    np.testing.assert_allclose(mean(x[:1]), np.sqrt(6) * np.linalg.norm(x[0]), rtol=1e-6)
    value = mean(x[:0])
    assert (float(value), value.dtype) == (0.0, np.float32)


def test_wrong_arguments_of_activities_are_named():
    x = np.ones((2, 3), np.float32)
    with pytest.raises(ValueError, match=r"`weight` must be zero or positive, got -1.0"):
        penalties.activity(x, penalty=penalties.l1, weight=-1.0)
    with pytest.raises(ValueError, match=r"`weight` must be a single number, got shape \(3,\)"):
        penalties.activity(x, penalty=penalties.l1, weight=np.ones(3))
    with pytest.raises(TypeError, match=r"`x` must have a floating-point dtype, got int32"):
        penalties.activity(np.ones(3, np.int32), penalty=penalties.l1, weight=1.0)
    with pytest.raises(TypeError, match=r"`x` must have a floating-point dtype, got int32"):
        penalties.per_example(penalties.l1)(np.ones((2, 3), np.int32))
    with pytest.raises(ValueError, match=r"`x` must have axes \[batch, ...\], got a single"):
        penalties.per_example(penalties.l1)(np.float32(1))
