"""Information against SciPy and float64 NumPy, the papers' equations, and edge cases."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special
import scipy.stats

from jaxreg import information, noise
from tests.helpers import residual_bytes

CATEGORICAL = [
    jax.jit(lambda z: information.categorical_kl(z, z[::-1])),
    jax.jit(lambda z: information.symmetric_kl(z, z[::-1])),
    jax.jit(information.confidence_penalty),
]
gaussian_kl = jax.jit(information.gaussian_kl)
sample_gaussian = jax.jit(information.sample_gaussian, static_argnames="bits")
MEASURES = [jax.jit(information.categorical_kl), jax.jit(information.symmetric_kl)]


def value_and_grad(function, argnums=0):
    return jax.jit(jax.value_and_grad(function, argnums))


def normals(shape, *, seed=0, scale=1.0):
    return np.random.default_rng(seed).normal(0, scale, shape)


def single(*arrays):
    return [jnp.asarray(a, jnp.float32) for a in arrays]


# Gaussian latents.


def integrated_kl(mean, log_var):
    """Divergence of one normal distribution from the standard one, by quadrature."""
    p, q = scipy.stats.norm(mean, np.exp(log_var / 2)), scipy.stats.norm()
    return p.expect(lambda z: p.logpdf(z) - q.logpdf(z))


@pytest.mark.parametrize("log_var", [-4.0, -1.0, 0.0, 1.5])
@pytest.mark.parametrize("mean", [-2.0, 0.0, 0.5])
def test_gaussian_kl_is_the_integral(mean, log_var):
    found = gaussian_kl(jnp.array([mean]), jnp.array([log_var]))
    np.testing.assert_allclose(found, integrated_kl(mean, log_var), rtol=1e-5, atol=1e-6)


def test_gaussian_kl_sums_over_the_last_axis_alone():
    mean, log_var = normals((2, 3, 4)), normals((2, 3, 4), seed=1)
    want = (mean**2 + np.exp(log_var) - 1 - log_var).sum(-1) / 2
    found = gaussian_kl(*single(mean, log_var))
    np.testing.assert_allclose(found, want, rtol=1e-5)
    each = gaussian_kl(*(a[..., None] for a in single(mean, log_var)))
    assert each.shape == mean.shape
    np.testing.assert_allclose(each.sum(-1), want, rtol=1e-5)


def test_log_var_may_be_one_number_or_one_for_each_latent():
    mean, log_var = single(normals((5, 3)), [-1.0, 0.0, 0.7])
    key = jax.random.key(0)
    for short, full in ((log_var, jnp.tile(log_var, (5, 1))), (-1.0, jnp.full((5, 3), -1.0))):
        for function in (gaussian_kl, lambda m, v: sample_gaussian(key, m, v)):
            np.testing.assert_allclose(function(mean, short), function(mean, full), rtol=1e-6)


def test_gaussian_kl_is_never_negative_and_zero_at_the_prior():
    log_var = jnp.linspace(-2.0, 2.0, 100_001)[:, None]
    assert (gaussian_kl(jnp.zeros_like(log_var), log_var) >= 0).all()
    value, pullback = jax.vjp(information.gaussian_kl, jnp.zeros(3), jnp.zeros(3))
    assert value == 0
    np.testing.assert_array_equal(pullback(jnp.ones(())), np.zeros((2, 3)))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("log_var", [-jnp.inf, -1e4, -90.0, 16.6, 17.0, 90.0, 1e4, jnp.inf])
def test_extreme_log_variances(log_var, dtype):
    """Finite values for finite ones, and gradients that lead back, in every dtype."""
    log_var = jnp.full((1, 2), log_var, dtype)
    mean = jnp.ones((1, 2), dtype)
    finite = np.isfinite(np.asarray(log_var, np.float32)).all()
    value, gradients = value_and_grad(lambda m, v: gaussian_kl(m, v).sum(), argnums=(0, 1))(
        mean, log_var
    )
    assert np.isfinite(value) if finite else value == np.inf
    assert value.dtype == jnp.float32
    np.testing.assert_array_equal(np.asarray(gradients[0], np.float32), np.ones((1, 2)))
    # Float16 has no room for the gradient at the largest variances.
    slope = np.asarray(gradients[1], np.float32)
    assert (np.isfinite(slope) | (dtype == jnp.float16)).all()
    assert (np.sign(slope) == np.sign(np.asarray(log_var, np.float32))).all()


def test_the_tangent_meets_the_exponential():
    at = 24 * np.log(2)
    log_var = jnp.float32([at - 0.5, at, at + 2])[:, None]
    values = gaussian_kl(jnp.zeros((3, 1)), log_var)
    want = [np.expm1(at - 0.5) - at + 0.5, np.expm1(at) - at, np.expm1(at) * 3 - at]
    np.testing.assert_allclose(values, np.array(want) / 2, rtol=1e-5)
    slopes = jax.grad(lambda v: gaussian_kl(jnp.zeros((3, 1)), v).sum())(log_var)
    want = np.expm1([at - 0.5, at, at])[:, None] / 2
    np.testing.assert_allclose(slopes, want, rtol=1e-5)


def test_samples_have_the_mean_and_the_variance():
    n, mean, log_var = 200_000, jnp.array([-1.0, 3.0]), jnp.array([-2.0, 1.0])
    z = sample_gaussian(jax.random.key(1), jnp.tile(mean, (n, 1)), log_var)
    z, variance = np.asarray(z, np.float64), np.exp(np.asarray(log_var, np.float64))
    error = np.sqrt(variance / n)
    np.testing.assert_array_less(abs(z.mean(0) - mean), 5 * error)
    np.testing.assert_array_less(abs(z.var(0) / variance - 1), 5 * np.sqrt(2 / n))
    assert scipy.stats.kstest((z[:, 0] + 1) / np.sqrt(variance[0]), "norm").pvalue > 1e-6
    assert abs(np.corrcoef(z.T)[0, 1]) < 5 / np.sqrt(n)


def test_the_noise_is_that_of_gaussian_noise_and_of_a_source_of_ones_own():
    key, mean, log_var = jax.random.key(2), *single(normals((4, 5)), normals((4, 5), seed=1))
    found = sample_gaussian(key, mean, log_var)
    want = noise.gaussian_noise(key, mean, stddev=jnp.exp(log_var / 2))
    np.testing.assert_allclose(found, want, rtol=1e-6)
    other = sample_gaussian(key, mean, log_var, bits=jax.random.bits)
    assert (other != found).all()


def test_gradients_of_a_sample_are_those_of_its_equation():
    key, mean, log_var = jax.random.key(3), *single(normals((4, 5)), normals((4, 5), seed=1))
    z, pullback = jax.vjp(lambda m, v: sample_gaussian(key, m, v), mean, log_var)
    of_mean, of_log_var = pullback(jnp.ones_like(z))
    np.testing.assert_array_equal(of_mean, np.ones((4, 5)))
    np.testing.assert_allclose(of_log_var, (z - mean) / 2, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_no_variance_is_the_identity_and_much_is_finite(dtype):
    mean = jnp.asarray([0.0, -0.0, 1e-40, jnp.inf, -3.0], dtype)
    for nothing in (-jnp.inf, jnp.full(5, -jnp.inf)):
        z = sample_gaussian(jax.random.key(0), mean, nothing)
        assert z.dtype == dtype
        assert np.asarray(z).tobytes() == np.asarray(mean).tobytes()
    mean = jnp.zeros(10_000, dtype)
    z, slope = value_and_grad(
        lambda v: sample_gaussian(jax.random.key(0), mean, v).max().astype(jnp.float32)
    )(jnp.full(10_000, jnp.inf))
    assert z > 4096
    assert np.isfinite(z)
    np.testing.assert_array_equal(slope, np.zeros(10_000))


def test_the_backward_pass_keeps_no_noise():
    mean, log_var = single(normals((64, 64)), normals((64, 64), seed=1))
    key = jax.random.key(0)
    _, pull = jax.vjp(lambda v: information.sample_gaussian(key, mean, v), log_var)
    assert residual_bytes(pull) <= log_var.nbytes + 16


# Categorical distributions.


def probabilities(logits):
    return scipy.special.softmax(np.asarray(logits, np.float64), -1)


@pytest.mark.parametrize("scale", [0.1, 3.0, 30.0])
@pytest.mark.parametrize("shape", [(5,), (4, 2), (2, 3, 7), (3, 1)], ids=str)
def test_categorical_measures_are_those_of_scipy(shape, scale):
    z, other = normals(shape, scale=scale), normals(shape, seed=1, scale=scale)
    p, q = probabilities(z), probabilities(other)
    forward, backward = scipy.stats.entropy(p, q, axis=-1), scipy.stats.entropy(q, p, axis=-1)
    near = {"rtol": 1e-5, "atol": 1e-6}
    z, other = single(z, other)
    np.testing.assert_allclose(information.categorical_kl(z, other), forward, **near)
    np.testing.assert_allclose(information.categorical_kl(other, z), backward, **near)
    mean = (forward + backward) / 2
    np.testing.assert_allclose(information.symmetric_kl(z, other), mean, **near)
    entropy = scipy.stats.entropy(p, axis=-1)
    np.testing.assert_allclose(information.confidence_penalty(z), -entropy, **near)


def test_a_divergence_is_the_cross_entropy_less_the_entropy():
    z, other = single(normals((6, 5)), normals((6, 5), seed=1))
    cross = optax.softmax_cross_entropy(other, jax.nn.softmax(z))
    want = cross + information.confidence_penalty(z)
    np.testing.assert_allclose(information.categorical_kl(z, other), want, rtol=1e-5)


def test_excluded_classes_contribute_nothing():
    """Row 52: torch and Optax give NaN for 0 * inf."""
    z, other = single(normals((6, 4)), normals((6, 4), seed=1))
    without = jnp.full((6, 1), -jnp.inf)
    wide_z, wide_other = jnp.hstack([z, without]), jnp.hstack([other, without])
    for measure in MEASURES:
        value, pullback = jax.vjp(measure, wide_z, wide_other)
        narrow, narrow_pullback = jax.vjp(measure, z, other)
        np.testing.assert_allclose(value, narrow, rtol=1e-6)
        for found, want in zip(pullback(jnp.ones(6)), narrow_pullback(jnp.ones(6)), strict=True):
            np.testing.assert_allclose(found[:, :4], want, atol=1e-6)
            np.testing.assert_array_equal(found[:, 4], np.zeros(6))
    value, pullback = jax.vjp(information.confidence_penalty, wide_z)
    np.testing.assert_allclose(value, information.confidence_penalty(z), rtol=1e-6)
    np.testing.assert_array_equal(pullback(jnp.ones(6))[0][:, 4], np.zeros(6))
    # Excluded by p alone, a class still counts in q.
    found = information.categorical_kl(wide_z, jnp.hstack([other, jnp.ones((6, 1))]))
    p, q = probabilities(wide_z), probabilities(jnp.hstack([other, jnp.ones((6, 1))]))
    np.testing.assert_allclose(found, scipy.stats.entropy(p, q, axis=-1), rtol=1e-5)


@pytest.mark.parametrize("function", CATEGORICAL)
def test_nan_is_not_hidden(function):
    value = function(jnp.array([[0.0, 1.0, jnp.nan], [0.0, 1.0, 2.0]]))
    assert np.isnan(value[0])
    # The other row has the NaN in its second distribution.
    assert np.isnan(value[1]) or function is CATEGORICAL[2]


def test_a_class_that_q_excludes_costs_infinity_with_a_finite_gradient():
    p, q = jnp.zeros((2, 3)), jnp.array([[0.0, 1.0, -jnp.inf], [0.0, 1.0, 2.0]])
    for measure in MEASURES:
        value, pullback = jax.vjp(measure, p, q)
        assert value[0] == np.inf
        assert np.isfinite(value[1])
        for gradient in pullback(jnp.ones(2)):
            assert np.isfinite(gradient).all()
    assert information.symmetric_kl(q, p)[0] == np.inf


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("function", CATEGORICAL)
def test_probabilities_that_underflow(function, dtype):
    z = jnp.asarray([[0.0, -1e4, 5e4], [1e4, 2.0, -6e4]], dtype)
    value, pullback = jax.vjp(function, z)
    assert value.dtype == jnp.float32
    assert np.isfinite(value).all()
    (gradient,) = pullback(jnp.ones(2))
    assert np.isfinite(np.asarray(gradient, np.float32)).all()


@pytest.mark.parametrize("function", CATEGORICAL)
@pytest.mark.parametrize("shape", [(0, 3), (1, 3), (4, 1), (0, 1)], ids=str)
def test_an_empty_batch_a_batch_of_one_and_a_single_class(function, shape):
    value, pullback = jax.vjp(function, jnp.full(shape, 2.0))
    assert value.shape == shape[:1]
    assert np.isfinite(value).all()
    assert shape[1] > 1 or (value == 0).all()
    np.testing.assert_allclose(pullback(jnp.ones(shape[:1]))[0], np.zeros(shape), atol=1e-7)


def test_symmetric_kl_of_near_distributions_is_exact_and_positive():
    z = normals((50, 10))
    step = 1e-3 * normals((50, 10), seed=1)
    p, q = probabilities(z), probabilities(z + step)
    with jax.enable_x64(True):
        exact = information.symmetric_kl(jnp.asarray(z), jnp.asarray(z + step))
        np.testing.assert_allclose(exact, ((p - q) * np.log(p / q)).sum(-1) / 2, rtol=1e-9)
    z, moved = single(z, z + step)
    found = information.symmetric_kl(z, moved)
    assert (found > 0).all()
    np.testing.assert_allclose(found, exact, rtol=2e-3)


@pytest.mark.parametrize("measure", MEASURES)
def test_second_derivatives_where_the_distributions_are_equal(measure):
    """There the divergence is one half of the Fisher metric, in each of its arguments."""
    z = jnp.asarray(normals(4), jnp.float32)
    p = probabilities(z)
    fisher = np.diag(p) - np.outer(p, p)
    np.testing.assert_allclose(jax.hessian(measure, 0)(z, z), fisher, atol=1e-6)
    np.testing.assert_allclose(jax.hessian(measure, 1)(z, z), fisher, atol=1e-6)


def test_two_dtypes_are_compared_in_the_wider():
    z = jnp.asarray(normals((3, 4)), jnp.bfloat16)
    for measure in MEASURES:
        value = measure(z, z.astype(jnp.float32))
        np.testing.assert_array_equal(value, np.zeros(3))
        with jax.enable_x64(True):
            assert measure(z, jnp.asarray(z, jnp.float64)).dtype == jnp.float64
            assert measure(jnp.asarray(z, jnp.float64), z).dtype == jnp.float64


@pytest.mark.parametrize("function", [information.categorical_kl, information.symmetric_kl])
def test_wrong_logits_raise(function):
    with pytest.raises(ValueError, match=r"`logits_q` must have the shape of `logits_p`, \(2, 3\)"):
        function(jnp.zeros((2, 3)), jnp.zeros((3, 2)))
    for shape in [(), (2, 0)]:
        with pytest.raises(ValueError, match=r"`logits_p` .* with at least one class, got shape"):
            function(jnp.zeros(shape), jnp.zeros(shape))
    with pytest.raises(TypeError, match=r"`logits_q` must have a real dtype, got complex64"):
        function(jnp.zeros(2), jnp.zeros(2, jnp.complex64))
