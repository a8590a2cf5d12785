"""Penalties of kernels as matrices: SciPy, torch, repeated and vanishing singular values."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from jaxreg import penalties
from tests.arrays import assert_derivatives, normal
from tests.helpers import few
from tests.penalties import helpers
from tests.penalties.helpers import TORCH, matrix, value_and_slope

PENALTIES = {
    "orthogonality": penalties.orthogonality,
    "spectral": penalties.spectral,
    "nuclear": penalties.nuclear,
}
# Where a penalty has no derivative: the subgradient nearest to zero.
KINKS = {
    "orthogonality": [
        (np.eye(3), np.zeros((3, 3))),
        (np.zeros((3, 3)), np.zeros((3, 3))),
        (np.eye(2, 4), np.zeros((2, 4))),
    ],
    "spectral": [
        (np.zeros((3, 3)), np.zeros((3, 3))),
        (np.eye(3), np.eye(3) / 3),
        (np.diag([2.0, 2.0, 1.0]), np.diag([0.5, 0.5, 0])),
        (-np.eye(2, 4), -np.eye(2, 4) / 2),
    ],
    "nuclear": [
        (np.zeros((3, 3)), np.zeros((3, 3))),
        (np.diag([3.0, 0, -2]), np.diag([1.0, 0, -1])),
        (np.ones((3, 3)), np.ones((3, 3)) / 3),
        (np.eye(3), np.eye(3)),
        (np.ones((2, 4)), np.ones((2, 4)) / np.sqrt(8)),
    ],
}
LAYOUTS = [((6, 2, 4), (-2, -1)), ((7, 4), -1), ((4, 7), -1), ((3, 3, 2, 5), -1), ((2, 5, 3), 1)]
every_penalty = pytest.mark.parametrize("name", PENALTIES)
every_layout = few(("shape", "axis"), LAYOUTS, ids=str)


@every_penalty
def test_the_gradient_at_a_kink_is_the_subgradient_nearest_to_zero(name):
    for at, slope in KINKS[name]:
        helpers.assert_slope_at(PENALTIES[name], at, slope)


@pytest.mark.parametrize("name", ["spectral", "nuclear"])
def test_sizes_of_1e30_and_its_inverse_are_exact(name):
    helpers.assert_exact_at_any_size(PENALTIES[name])


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
def test_wrong_arrays_are_named(name):
    helpers.assert_integers_and_booleans_raise(PENALTIES[name])
    for shape in ((), (3,)):
        with pytest.raises(ValueError, match=r"`w` must have at least two axes, got shape"):
            PENALTIES[name](np.ones(shape, np.float32))
    with pytest.raises(ValueError, match=r"`axis` must lie in \[-2, 2\), got 2"):
        PENALTIES[name](np.ones((2, 3), np.float32), axis=2)


@pytest.mark.parametrize("name", ["spectral", "nuclear"])
def test_complex_weights_have_no_singular_values_here(name):
    helpers.assert_complex_weights_raise(PENALTIES[name])


def test_complex_weights_count_by_their_size_in_the_orthogonality():
    helpers.assert_complex_weights_count_by_their_size(penalties.orthogonality)


@every_penalty
def test_values_and_gradients_equal_torch(name):
    expected = TORCH["penalties"][name]
    with jax.enable_x64(True):
        value, slope = value_and_slope(PENALTIES[name])(np.float64(TORCH["w"]))
    np.testing.assert_allclose(value, expected["value"], rtol=1e-13)
    np.testing.assert_allclose(slope, expected["gradient"], rtol=1e-11, atol=1e-12)


def test_torch_takes_another_subgradient_where_the_rank_is_deficient():
    # A swap for ones, and the identity for zeros; ours are [[.5, .5], [.5, .5]] and zeros.
    for kind, at in (("rank one", np.ones((2, 2))), ("zero", np.zeros((2, 2)))):
        theirs = np.asarray(TORCH["kinks"][f"nuclear at {kind}"])
        _, ours = value_and_slope(penalties.nuclear)(np.float32(at))
        assert np.linalg.norm(ours) < np.linalg.norm(theirs) - 0.1


def of_layout(penalty, shape, axis):
    w = normal(*shape)
    value = jax.jit(partial(penalty, axis=axis))(np.float32(w))
    return value, matrix(w, np.atleast_1d(axis) % len(shape))


@every_layout
def test_singular_values_are_those_of_scipy(shape, axis):
    largest, m = of_layout(penalties.spectral, shape, axis)
    total, _ = of_layout(penalties.nuclear, shape, axis)
    values = scipy.linalg.svdvals(m)
    np.testing.assert_allclose(largest, values[0], rtol=1e-6)
    np.testing.assert_allclose(total, values.sum(), rtol=1e-6)


@every_layout
def test_orthogonality_takes_the_smaller_gram_matrix(shape, axis):
    value, m = of_layout(penalties.orthogonality, shape, axis)
    columns, rows = m.T @ m, m @ m.T
    expected = ((columns - np.eye(len(columns))) ** 2).sum()
    other = ((rows - np.eye(len(rows))) ** 2).sum()
    np.testing.assert_allclose(value, min(expected, other), rtol=1e-5)
    # The double form of the paper is twice ours and a constant.
    constant = abs(len(rows) - len(columns))
    np.testing.assert_allclose(expected + other, 2 * float(value) + constant, rtol=1e-5)


@every_penalty
def test_the_last_axis_holds_the_outputs_unless_told(name):
    w = normal(3, 2, 4)
    m = matrix(w, (2,))
    values = scipy.linalg.svdvals(m)
    expected = {
        "orthogonality": ((m.T @ m - np.eye(4)) ** 2).sum(),
        "spectral": values[0],
        "nuclear": values.sum(),
    }[name]
    np.testing.assert_allclose(
        value_and_slope(PENALTIES[name])(np.float32(w))[0], expected, rtol=1e-5
    )


def test_orthogonality_is_zero_at_orthonormal_rows_and_columns():
    q = np.float32(np.linalg.qr(normal(7, 4))[0])
    rotation = np.complex64(scipy.linalg.expm(np.array([[0, 1j], [1j, 0]])))
    for w in (q, q.T, rotation):
        assert value_and_slope(penalties.orthogonality)(w)[0] < 1e-11


def test_spectral_has_the_gradient_of_the_first_pair():
    w = normal(6, 4)
    left, _, right = np.linalg.svd(w)
    _, slope = value_and_slope(penalties.spectral)(np.float32(w))
    np.testing.assert_allclose(slope, np.outer(left[:, 0], right[0]), atol=2e-6)


def test_spectral_is_exact_where_a_power_iteration_is_slow():
    # With a gap of 1 percent twenty steps of power iteration leave a third of the second vector.
    left = np.linalg.qr(normal(30, 30, seed=0))[0]
    right = np.linalg.qr(normal(30, 30, seed=1))[0]
    w = left * np.r_[1.0, 0.99, np.linspace(0.5, 0, 28)] @ right
    value, slope = value_and_slope(penalties.spectral)(np.float32(w))
    np.testing.assert_allclose(value, 1, rtol=1e-6)
    np.testing.assert_allclose(slope, np.outer(left[:, 0], right[0]), atol=1e-4)


def test_spectral_takes_the_mean_of_values_that_are_equal_up_to_rounding():
    # As from the orthogonal initializer: the gradient of one pair would be noise.
    q = np.float32(2 * np.linalg.qr(normal(30, 20))[0])
    assert len(np.unique(np.linalg.svd(np.float64(q))[1])) > 1
    value, slope = value_and_slope(penalties.spectral)(q)
    np.testing.assert_allclose(value, 2, rtol=1e-6)
    np.testing.assert_allclose(slope, q / 2 / 20, atol=1e-6)


def test_nuclear_pulls_to_low_rank():
    w = normal(6, 4)
    _, slope = value_and_slope(penalties.nuclear)(np.float32(w))
    np.testing.assert_allclose(slope, scipy.linalg.polar(w)[0], atol=1e-5)
    low = normal(6, 2) @ normal(2, 4, seed=1)
    _, slope = value_and_slope(penalties.nuclear)(np.float32(low))
    np.testing.assert_allclose(np.linalg.svd(slope)[1], [1, 1, 0, 0], atol=1e-5)


@few("shape", [(3, 5), (3, 3)], ids=str)
def test_the_nuclear_norm_has_second_derivatives_where_singular_values_repeat(shape):
    # All singular values are 1: the nuclear norm is smooth there, and JAX's rule gives NaN.
    assert_derivatives(penalties.nuclear, np.eye(*shape), order=2)


@pytest.mark.parametrize("name", ["spectral", "nuclear"])
def test_second_derivatives_along_matrices_of_one_rank(name):
    a = normal(6, 2, seed=6)
    b = normal(2, 5, seed=2)
    assert_derivatives(lambda a, b: PENALTIES[name](a @ b), a, b, order=2)


def cayley(skew):
    """A rotation."""
    one = jnp.eye(len(skew))
    return jnp.linalg.solve(one - skew, one + skew)


def test_the_mean_of_repeated_largest_values_has_second_derivatives():
    # Along matrices that keep the two largest values equal: rotations of one with a third one.
    turn = normal(2, 5, 5)
    diagonal = np.diag([2.0, 2.0, 1.0, 0.5, 0.0])

    def value(t):
        left, right = [cayley(t * (q - q.T)) for q in turn]
        return penalties.spectral((1 + t) * left @ diagonal @ right)

    assert_derivatives(value, np.float64(0.1), order=2)
