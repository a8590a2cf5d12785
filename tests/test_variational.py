"""Variational dropout: noise whose variance is learned, and the divergence that goes with it."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats

from jaxreg import dropout

KEY = jax.random.key(40)
DTYPES = [jnp.float32, jnp.bfloat16, jnp.float16]
LARGEST = 24 * math.log(2)


def weights():
    """Means of weights and logarithms of their variances."""
    keys = jax.random.split(jax.random.key(41))
    return jax.random.normal(keys[0], (6, 4)), jax.random.uniform(keys[1], (6, 4), minval=-4)


def wide(*arrays):
    return tuple(np.asarray(a, np.float64) for a in arrays)


def assert_moments(samples, mean, stddev):
    """Means and standard deviations along the first axis, within five standard errors."""
    samples, n = np.asarray(samples, np.float64), len(samples)
    np.testing.assert_array_less(abs(samples.mean(0) - mean), 5 * stddev / math.sqrt(n) + 1e-6)
    np.testing.assert_array_less(abs(samples.std(0) - stddev), 5 * stddev / math.sqrt(2 * n) + 1e-6)


def test_the_noise_is_gaussian_with_variance_alpha():
    log_alpha = np.array([-2.0, 0.0, 1.5])
    x = jnp.array([1.0, -2.0, 0.5])
    keys = jax.random.split(KEY, 2**15)
    draw = jax.vmap(lambda key: dropout.variational_dropout(key, x, log_alpha=log_alpha))
    samples = draw(keys)
    assert_moments(samples, *wide(x, abs(x) * np.exp(log_alpha / 2)))
    normal = (np.asarray(samples) / x - 1) / np.exp(log_alpha / 2)
    assert all(scipy.stats.kstest(column, "norm").pvalue > 1e-4 for column in normal.T)
    correlation = np.corrcoef(normal.T) - np.eye(3)
    assert abs(correlation).max() <= 5 / math.sqrt(len(keys))


def test_it_is_gaussian_dropout_of_the_rate():
    x = jax.random.normal(jax.random.key(1), (512,))
    y = dropout.variational_dropout(KEY, x, log_alpha=math.log(0.3 / 0.7))
    np.testing.assert_allclose(y, dropout.gaussian_dropout(KEY, x, rate=0.3), rtol=1e-5)


def test_the_gradient_of_log_alpha_is_the_reparametrized_one():
    x = jax.random.normal(jax.random.key(1), (64, 8))
    log_alpha = jnp.linspace(-3.0, 1.0, 8)

    def total(log_alpha):
        y = dropout.variational_dropout(KEY, x, log_alpha=log_alpha)
        return jnp.sum(y**2), y

    gradient, y = jax.grad(total, has_aux=True)(log_alpha)
    x, y = wide(x, y)
    np.testing.assert_allclose(gradient, np.sum(2 * y * (y - x) / 2, axis=0), rtol=1e-4)


@pytest.mark.parametrize("dtype", DTYPES)
def test_elements_without_noise_are_left_as_they_are_to_the_bit(dtype):
    tiny = float(jnp.finfo(dtype).smallest_subnormal)
    x = np.array([[tiny, -tiny, -0.0, np.inf, -np.inf, np.nan, 1 / 3, 2.0]]).astype(dtype)
    x = jnp.asarray(np.concatenate([x, x]))
    log_alpha = jnp.array([[-jnp.inf], [0.0]])
    y = jax.jit(lambda a: dropout.variational_dropout(KEY, x, log_alpha=a))(log_alpha)
    assert np.asarray(y[0]).tobytes() == np.asarray(x[0]).tobytes()
    assert float(y[1, -1]) != 2


@pytest.mark.parametrize("log_alpha", [-np.inf, -1e3, -200.0, 17.0, 1e3])
def test_values_and_gradients_are_finite_at_the_ends(log_alpha):
    def total(x, log_alpha):
        return jnp.sum(dropout.variational_dropout(KEY, x, log_alpha=log_alpha))

    x = jnp.array([0.0, 1.0, -2.0])
    values = jax.value_and_grad(total, (0, 1))(x, jnp.float32(log_alpha))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(values))


def test_more_than_the_largest_log_alpha_counts_as_that():
    largest = dropout.variational_dropout(KEY, jnp.ones(64), log_alpha=LARGEST)
    for more in (20.0, jnp.float32(1e3), jnp.inf * jnp.ones(())):
        y = dropout.variational_dropout(KEY, jnp.ones(64), log_alpha=more)
        np.testing.assert_allclose(y, largest, rtol=1e-5)
    # As gaussian dropout at the largest rate below 1.
    gaussian = dropout.gaussian_dropout(KEY, jnp.ones(64), rate=jnp.float32(1))
    np.testing.assert_allclose(largest, gaussian, rtol=1e-4)


def test_the_backward_pass_holds_inputs_only():
    x, log_alpha = jnp.ones(4096), jnp.zeros(4096)
    pull = jax.vjp(lambda x, a: dropout.variational_dropout(KEY, x, log_alpha=a), x, log_alpha)[1]
    sizes = [leaf.size for leaf in jax.tree.leaves(pull) if leaf.size > 1]
    assert sum(sizes) <= 2 * 4096


def divergence(log_alpha):
    """The integral by quadrature, with the constant for which it ends at 0 as alpha grows."""
    deviation = math.exp(log_alpha / 2)
    pole = -1 / deviation  # The noise at which a weight changes its sign.

    def density(noise):
        return math.exp(-noise * noise / 2) / math.sqrt(2 * math.pi)

    # The quadrature takes the logarithm of the distance from an end as a weight of its own.
    above = scipy.integrate.quad(density, pole, max(14, pole + 28), weight="alg-loga", wvar=(0, 0))
    below = scipy.integrate.quad(density, min(-14, pole - 28), pole, weight="alg-logb", wvar=(0, 0))
    expectation = log_alpha / 2 + above[0] + below[0]
    constant = (scipy.special.digamma(0.5) + math.log(2)) / 2  # E log |noise|
    return expectation - log_alpha / 2 - constant


def test_it_is_the_integral_within_the_error_stated():
    points = np.linspace(-8, 8, 81)
    exact = np.array([divergence(a) for a in points])
    actual = jax.vmap(dropout.variational_dropout_kl)(jnp.asarray(points, jnp.float32)[:, None])
    deviation = abs(np.asarray(actual, np.float64) - exact)
    assert deviation.max() <= 0.0094
    # At both ends the formula is the right one, not just a near one.
    assert deviation[0] <= 1e-3
    assert deviation[-1] <= 1e-6


def test_it_is_the_formula_of_the_paper():
    k1, k2, k3 = 0.63576, 1.87320, 1.48695
    log_alpha = np.random.default_rng(0).uniform(-9, 9, (50, 20))
    terms = k1 * scipy.special.expit(k2 + k3 * log_alpha) - 0.5 * np.log1p(np.exp(-log_alpha))
    actual = dropout.variational_dropout_kl(jnp.asarray(log_alpha, jnp.float32))
    np.testing.assert_allclose(actual, -np.sum(terms - k1), rtol=1e-5)


def test_it_keeps_its_digits_where_it_is_small():
    """Written as in the paper it is a multiple of 6e-8 in float32."""
    actual = jax.vmap(dropout.variational_dropout_kl)(jnp.array([[14.0], [20.0], [40.0]]))
    exact = np.exp(-np.array([14.0, 20.0, 40.0])) / 2
    exact += 0.63576 * scipy.special.expit(-1.8732 - 1.48695 * np.array([14.0, 20.0, 40.0]))
    np.testing.assert_allclose(actual, exact, rtol=1e-4)
    assert (np.asarray(actual) > 0).all()


@pytest.mark.parametrize(
    ("log_alpha", "value", "slope"),
    [
        (-np.inf, np.inf, -0.5),
        (-1e3, 500.63576, -0.5),
        (1e3, 0.0, 0.0),
        (np.inf, 0.0, 0.0),
    ],
)
def test_the_divergence_at_its_ends(log_alpha, value, slope):
    at = jnp.full(1, log_alpha)
    np.testing.assert_allclose(dropout.variational_dropout_kl(at), value, rtol=1e-6)
    gradient = jax.grad(dropout.variational_dropout_kl)(at)
    np.testing.assert_array_equal(gradient, slope)
    assert np.isfinite(jax.hessian(dropout.variational_dropout_kl)(at)).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_it_falls_and_is_summed_in_float32(dtype):
    log_alpha = jnp.linspace(-8, 8, 1001).astype(dtype)
    assert (jax.grad(dropout.variational_dropout_kl)(log_alpha) < 0).all()
    actual = dropout.variational_dropout_kl(log_alpha)
    assert actual.dtype == jnp.float32
    expected = dropout.variational_dropout_kl(log_alpha.astype(jnp.float32))
    np.testing.assert_allclose(actual, expected, rtol=1e-6)
    assert dropout.variational_dropout_kl(jnp.zeros((0, 3), dtype)) == 0


@pytest.mark.parametrize("dtype", DTYPES)
def test_it_is_the_logarithm_of_the_relative_variance(dtype):
    kernel, log_variance = weights()
    kernel = kernel.astype(dtype)
    theta, log_sigma2 = wide(kernel, log_variance)
    expected = np.log(np.exp(log_sigma2) / (theta**2 + 1e-8))
    actual = dropout.variational_log_alpha(kernel, log_variance)
    assert actual.dtype == dtype
    eps = float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(*wide(actual), expected, rtol=eps, atol=4e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_are_finite_and_at_most_1e4(dtype):
    kernel = jnp.array([0.0, 1e-30, 1e-7, 1e-4, -1e-4, 1e-3, 1e4]).astype(dtype)
    value, pull = jax.vjp(dropout.variational_log_alpha, kernel, jnp.zeros(7))
    gradients = wide(*pull(jnp.ones_like(value)))
    assert np.isfinite(wide(value)).all()
    assert abs(gradients[0]).max() <= 1.01e4
    np.testing.assert_array_equal(gradients[1], 1)


def test_one_variance_serves_many_weights():
    kernel = weights()[0]
    for log_variance in (-1.5, jnp.array([-1.0, -2.0, -3.0, 0.0])):
        full = jnp.broadcast_to(jnp.asarray(log_variance), kernel.shape)
        for function in (dropout.variational_log_alpha, dropout.variational_prune):
            np.testing.assert_array_equal(function(kernel, log_variance), function(kernel, full))
