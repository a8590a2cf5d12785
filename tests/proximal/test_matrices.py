"""The singular value step: optimality, clipped spectra in float64, repeated values, zeros."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from jaxreg import penalties, proximal
from tests.arrays import DTYPES, assert_derivatives, assert_finite, float64, weights
from tests.helpers import few
from tests.proximal import helpers
from tests.proximal.helpers import step

nuclear = step(proximal.nuclear)
every_dtype = few("dtype", DTYPES, ids=str)


@every_dtype
def test_a_step_of_zero_is_the_identity_to_the_bit(dtype):
    helpers.assert_identity_at_zero(proximal.nuclear, dtype)


@every_dtype
def test_zeros_stay_and_have_finite_derivatives(dtype):
    # Of a matrix that stays, what was zero is rounding.
    helpers.assert_finite_at_zeros(proximal.nuclear, dtype, slack=1e-6)


def test_steps_are_firmly_nonexpansive():
    helpers.assert_firmly_nonexpansive(proximal.nuclear)


def test_the_envelope_has_the_residual_as_its_gradient():
    helpers.assert_envelope(proximal.nuclear, penalties.nuclear)


def test_weights_of_any_size_make_the_same_step():
    helpers.assert_same_at_any_size(proximal.nuclear, np.float32(0.4))


def test_empty_weights_stay():
    helpers.assert_empty_weights_stay(proximal.nuclear)


LAYOUTS = [((4, 2, 3), (1, 2)), ((7, 5), -1), ((5, 7), -1), ((3, 3, 2, 5), -1)]


@few(("shape", "axis"), LAYOUTS, ids=str)
def test_singular_values_fall_by_the_threshold(shape, axis):
    w = weights(*shape)
    t = 3.0 if len(shape) == 4 else 1.5
    v = jax.jit(partial(proximal.nuclear, step=t, axis=axis))(w)
    assert (v.shape, v.dtype) == (shape, np.float32)
    outputs = 6 if axis == (1, 2) else shape[-1]
    left, values, right = np.linalg.svd(float64(w).reshape(-1, outputs), full_matrices=False)
    assert 0 < (values > t).sum() < len(values)
    want = (left * np.maximum(values - t, 0)) @ right
    np.testing.assert_allclose(v.reshape(want.shape), want, atol=1e-5)
    # The rank falls too, up to rounding.
    spectrum = np.linalg.svd(v.reshape(want.shape), compute_uv=False)
    np.testing.assert_array_equal(spectrum > 1e-5, values > t)


def test_the_last_axis_holds_the_outputs_unless_told():
    w = weights(3, 2, 4)
    left, values, right = np.linalg.svd(float64(w).reshape(6, 4), full_matrices=False)
    want = (left * np.maximum(values - 1.0, 0)) @ right
    np.testing.assert_allclose(nuclear(w, 1.0).reshape(6, 4), want, atol=1e-5)


@pytest.mark.parametrize("shape", [(7, 5), (5, 7)], ids=str)
def test_zero_lies_in_the_subdifferential_of_the_nuclear_norm(shape):
    # The residual is t times u v^T on the singular vectors that stay, and at most t elsewhere.
    w, t = weights(*shape), 1.5
    v = float64(nuclear(w, t))
    residual = w - v
    left, values, right = np.linalg.svd(v, full_matrices=False)
    rank = (values > 1e-5).sum()
    assert 0 < rank < len(values)
    assert np.linalg.norm(residual, 2) <= t * (1 + 1e-6)
    np.testing.assert_allclose(left[:, :rank].T @ residual, t * right[:rank], atol=1e-5)
    np.testing.assert_allclose(residual @ right[:rank].T, t * left[:, :rank], atol=1e-5)


def test_a_general_optimizer_finds_no_lower_objective():
    w, t = float64(weights(4, 3, seed=3)), 0.5

    def objective(v):
        v = v.reshape(w.shape)
        return ((v - w) ** 2).sum() / 2 + t * np.linalg.svd(v, compute_uv=False).sum()

    v = float64(nuclear(np.float32(w), t)).ravel()
    found = minimize(objective, w.ravel(), method="Powell", options={"xtol": 1e-9, "ftol": 1e-12})
    assert objective(v) <= found.fun + 1e-6
    nearby = [v + 1e-3 * weights(12, seed=seed) for seed in range(50)]
    assert objective(v) <= min(map(objective, nearby)) + 1e-6


def test_a_matrix_within_the_step_is_exactly_zero():
    for w in (weights(6, 5) / 100, np.eye(6, 5, dtype=np.float32)):
        np.testing.assert_array_equal(nuclear(w, 1.0), 0)
        np.testing.assert_array_equal(nuclear(w, np.inf), 0)
    above = nuclear(np.eye(6, 5, dtype=np.float32), 0.75)
    np.testing.assert_allclose(above, np.eye(6, 5) / 4, atol=1e-6)


def test_squares_that_overflow_float16_are_computed_wide():
    w = np.full((4, 2), 300.0, np.float16)
    np.testing.assert_allclose(nuclear(w, 100.0), 300 * (1 - 100 / 848.528) + 0 * w, rtol=2e-3)


def test_values_in_float64():
    w = float64(weights(6, 5))
    left, values, right = np.linalg.svd(w, full_matrices=False)
    with jax.enable_x64(True):
        v = nuclear(w, 1.1)
    np.testing.assert_allclose(v, (left * np.maximum(values - 1.1, 0)) @ right, atol=1e-13)


def test_a_diverged_matrix_shows():
    w = weights(6, 5)
    w[0, 1] = np.nan
    assert np.isnan(nuclear(w, 0.1)).any()


def test_negative_steps_that_are_traced_count_as_zero():
    w = weights(6, 5)
    np.testing.assert_array_equal(nuclear(w, -1.0), w)


REPEATED = {
    "one value within": [2.0, 2.0, 0.5],
    "orthogonal": [2.0, 2.0, 2.0],
    "rank one": [2.0, 0, 0],
    "zero": [0, 0, 0],
}


@few("kind", REPEATED)
def test_the_derivative_where_singular_values_repeat(kind):
    # Finite differences of the exact step, which no singular vector that is not unique disturbs.
    q, values = np.linalg.qr(np.random.default_rng(1).normal(0, 1, (5, 3)))[0], REPEATED[kind]
    w = q * values
    assert_derivatives(partial(proximal.nuclear, step=1.0), w)

    def slope(w):
        return jax.grad(lambda w: jnp.sum(proximal.nuclear(w, step=1.0) ** 2))(w)

    @jax.jit
    def others(w, t):
        second = jax.grad(lambda w: jnp.sum(slope(w) ** 2))(w)
        return jax.jacfwd(lambda t: proximal.nuclear(w, step=t))(t), second

    with jax.enable_x64(True):
        by_step, second = jax.device_get(others(w, 1.0))
    np.testing.assert_allclose(by_step, -q * (np.array(values) > 1), atol=1e-12)
    assert_finite(second)


def test_second_derivatives_where_singular_values_differ():
    w = float64(weights(5, 3, seed=2))
    values = np.linalg.svd(w, compute_uv=False)
    t = (values[1] + values[2]) / 2
    assert_derivatives(lambda w, t: proximal.nuclear(w, step=t), w, t, order=2)


def test_wrong_arguments_are_named():
    w = weights(6, 5)
    with pytest.raises(ValueError, match=r"`step` must be a single number, got .*\(6, 5\)"):
        proximal.nuclear(w, step=np.ones((6, 5)))
    with pytest.raises(ValueError, match=r"`step` must be zero or positive, got -1.0"):
        proximal.nuclear(w, step=-1.0)
    with pytest.raises(ValueError, match=r"`w` must have at least two axes, got shape \(6,\)"):
        proximal.nuclear(w[:, 0], step=1.0)
    with pytest.raises(ValueError, match=r"`axis` must lie in \[-2, 2\), got 2"):
        proximal.nuclear(w, step=1.0, axis=2)
    with pytest.raises(TypeError, match=r"`w` must have a real dtype, got complex64"):
        proximal.nuclear(w + 1j, step=1.0)
