"""The expected number of open gates: the logistic function of SciPy, torch, and saturation."""

import math

import jax
import numpy as np
from scipy.special import expit

from jaxreg import penalties
from tests.arrays import weights
from tests.helpers import few
from tests.penalties import helpers
from tests.penalties.helpers import TORCH, W, value_and_slope

l0 = value_and_slope(penalties.hard_concrete_l0)


@jax.jit
def traced_l0(log_alpha, temperature, low, high):
    return penalties.hard_concrete_l0(log_alpha, temperature=temperature, low=low, high=high)


def test_the_gates_are_counted():
    log_alpha = weights(4, 3, seed=1) * 3
    odds = np.float64(log_alpha)
    paper = expit(odds - 2 / 3 * math.log(0.1 / 1.1)).sum()
    np.testing.assert_allclose(l0(log_alpha)[0], paper, rtol=1e-6)
    expected = expit(odds - 0.5 * math.log(0.2 / 1.5)).sum()
    np.testing.assert_allclose(traced_l0(log_alpha, 0.5, -0.2, 1.5), expected, rtol=1e-6)
    static = jax.jit(lambda x: penalties.hard_concrete_l0(x, temperature=0.5, low=-0.2, high=1.5))
    np.testing.assert_allclose(static(log_alpha), expected, rtol=1e-6)


def test_the_count_equals_torch():
    expected = TORCH["penalties"]["hard_concrete_l0"]
    with jax.enable_x64(True):
        value, slope = l0(np.float64(TORCH["w"]))
    np.testing.assert_allclose(value, expected["value"], rtol=1e-13)
    np.testing.assert_allclose(slope, expected["gradient"], rtol=1e-11, atol=1e-12)


@few("size", [np.inf, 1e4, 1e30])
def test_saturated_gates_are_open_or_shut_and_have_no_derivative(size):
    value, slope = l0(np.array([[size, -size]], np.float32))
    assert value == 1
    np.testing.assert_array_equal(slope, [[0, 0]])


def test_strengths_outside_their_range_are_finite():
    assert np.isfinite(traced_l0(np.zeros((4, 3), np.float32), -1.0, 1.0, 0.0))


def test_a_diverged_parameter_shows():
    w = W.copy()
    w[1, 1] = np.nan
    assert np.isnan(l0(w)[0])


def test_float16_does_not_overflow():
    helpers.assert_wide_in_float16(penalties.hard_concrete_l0)


def test_no_gates_count_nothing():
    helpers.assert_empty_arrays_have_penalty_zero(penalties.hard_concrete_l0)


def test_wrong_parameters_are_named():
    helpers.assert_integers_and_booleans_raise(penalties.hard_concrete_l0)
    helpers.assert_complex_weights_raise(penalties.hard_concrete_l0)
