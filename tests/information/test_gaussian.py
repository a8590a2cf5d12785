"""Normal latents against quadrature, closed forms, SciPy and torch."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

from jaxreg import information, noise
from tests.helpers import few, residual_bytes
from tests.information.helpers import normals, single
from tests.normalization.helpers import assert_all_close, refuses, with_gradients

TORCH = json.loads(
    (pathlib.Path(__file__).parents[1] / "references" / "losses_torch.json").read_text()
)
KEY = jax.random.key(3)
LARGEST = 24 * np.log(2)
gaussian_kl = jax.jit(information.gaussian_kl)
sample_gaussian = jax.jit(information.sample_gaussian, static_argnames="bits")


def integrated_kl(mean, log_var):
    """Divergence of one normal distribution from the standard one, by quadrature."""
    p = scipy.stats.norm(mean, np.exp(log_var / 2))
    q = scipy.stats.norm()
    return p.expect(lambda z: p.logpdf(z) - q.logpdf(z))


def test_gaussian_kl_is_the_integral():
    for mean in (-2.0, 0.0, 0.5):
        for log_var in (-4.0, -1.0, 0.0, 1.5):
            found = gaussian_kl(np.array([mean], "f4"), np.array([log_var], "f4"))
            np.testing.assert_allclose(found, integrated_kl(mean, log_var), rtol=1e-5, atol=1e-6)


@few("dtype", [np.float64, np.float32])
def test_value_and_gradients_equal_those_of_torch(dtype):
    tolerance = 1e-12 if dtype == np.float64 else 2e-6
    with jax.enable_x64(dtype == np.float64):
        arrays = [np.array(TORCH[key], dtype) for key in ("mean", "log_var")]
        row = TORCH["gaussian_kl"]
        dy = np.ones(np.shape(row["value"]), dtype)
        value, gradients = with_gradients(information.gaussian_kl, dy, *arrays)
        assert value.dtype == dtype
        expected = row["value"], row["dmean"], row["dlog_var"]
        assert_all_close((value, *gradients), expected, rtol=tolerance, atol=tolerance)


def test_gaussian_kl_sums_over_the_last_axis_alone():
    mean = single(2, 3, 4)
    log_var = single(2, 3, 4, seed=1)
    expected = (mean**2 + np.exp(log_var) - 1 - log_var) / 2
    np.testing.assert_allclose(gaussian_kl(mean, log_var), expected.sum(-1), rtol=1e-5)
    each = gaussian_kl(mean[..., None], log_var[..., None])
    np.testing.assert_allclose(each, expected, rtol=1e-4, atol=1e-6)


@few("log_var", [np.array([-1.0, 0.0, 0.7], np.float32), -1.0], ids=["latents", "number"])
def test_log_var_may_be_one_number_or_one_for_each_latent(log_var):
    mean = single(5, 3)
    full = np.broadcast_to(np.float32(log_var), (5, 3))
    expected = (mean**2 + np.exp(full) - 1 - full).sum(-1) / 2
    found = jax.jit(lambda m: information.gaussian_kl(m, log_var))(mean)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    short = jax.jit(lambda m: information.sample_gaussian(KEY, m, log_var))(mean)
    np.testing.assert_allclose(short, sample_gaussian(KEY, mean, full), rtol=1e-6)


def test_gaussian_kl_is_never_negative_and_zero_at_the_prior():
    log_var = np.linspace(-2.0, 2.0, 100_001, dtype=np.float32)[:, None]
    assert (np.asarray(gaussian_kl(np.zeros_like(log_var), log_var)) >= 0).all()
    zeros = np.zeros(3, np.float32)
    value, gradients = with_gradients(information.gaussian_kl, np.float32(1), zeros, zeros)
    assert value == 0
    np.testing.assert_array_equal(gradients, np.zeros((2, 3)))


@few("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_extreme_log_variances(dtype):
    """Finite values for finite ones, and gradients that lead back, in every dtype."""
    run = jax.jit(jax.value_and_grad(lambda m, v: information.gaussian_kl(m, v).sum(), (0, 1)))
    for number in (-np.inf, -1e4, -90.0, 16.6, 17.0, 90.0, 1e4, np.inf):
        log_var = np.full((1, 2), number).astype(dtype)
        value, gradients = run(np.ones((1, 2), dtype), log_var)
        of_mean, slope = [np.asarray(g, np.float32) for g in gradients]
        assert np.isfinite(value) if np.isfinite(log_var.astype("f4")).all() else value == np.inf
        assert value.dtype == jnp.float32
        np.testing.assert_array_equal(of_mean, np.ones((1, 2)))
        # Float16 has no room for the gradient at the largest variances.
        assert (np.isfinite(slope) | (dtype == jnp.float16)).all()
        assert (np.sign(slope) == np.sign(number)).all()


def test_the_tangent_meets_the_exponential():
    log_var = np.array([[LARGEST - 0.5], [LARGEST], [LARGEST + 2]], np.float32)
    zeros, at = np.zeros((3, 1), "f4"), LARGEST
    values, (_, slopes) = with_gradients(information.gaussian_kl, np.ones(3, "f4"), zeros, log_var)
    want = [np.expm1(at - 0.5) - at + 0.5, np.expm1(at) - at, np.expm1(at) * 3 - at]
    np.testing.assert_allclose(values, np.array(want) / 2, rtol=1e-5)
    want = np.expm1([at - 0.5, at, at])[:, None] / 2
    np.testing.assert_allclose(slopes, want, rtol=1e-5)


# Samples.


def test_samples_have_the_mean_and_the_variance():
    n = 200_000
    mean = np.array([-1.0, 3.0], "f4")
    log_var = np.array([-2.0, 1.0], "f4")
    z = sample_gaussian(jax.random.key(1), np.tile(mean, (n, 1)), log_var)
    z = np.asarray(z, np.float64)
    variance = np.exp(log_var.astype(np.float64))
    np.testing.assert_array_less(abs(z.mean(0) - mean), 5 * np.sqrt(variance / n))
    np.testing.assert_array_less(abs(z.var(0) / variance - 1), 5 * np.sqrt(2 / n))
    assert scipy.stats.kstest((z[:, 0] + 1) / np.sqrt(variance[0]), "norm").pvalue > 1e-6
    assert abs(np.corrcoef(z.T)[0, 1]) < 5 / np.sqrt(n)


def test_a_sample_is_the_mean_and_gaussian_noise_times_the_deviation():
    """Its gradients equal the equation's."""
    mean = single(4, 5)
    log_var = single(4, 5, seed=1)
    drawn = jax.jit(lambda x: noise.gaussian_noise(KEY, x, stddev=1.0))(np.zeros((4, 5), "f4"))
    z, (of_mean, of_log_var) = with_gradients(
        lambda m, v: information.sample_gaussian(KEY, m, v), np.ones((4, 5), "f4"), mean, log_var
    )
    moved = np.exp(log_var / 2) * np.asarray(drawn)
    np.testing.assert_allclose(z, mean + moved, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(of_mean, np.ones((4, 5)))
    np.testing.assert_allclose(of_log_var, moved / 2, rtol=1e-4, atol=1e-6)
    other = sample_gaussian(KEY, mean, log_var, bits=jax.random.bits)
    assert (np.asarray(other) != np.asarray(z)).all()


@few("dtype", [jnp.float16, jnp.float32, jnp.bfloat16])
def test_no_variance_is_the_identity_and_much_is_finite(dtype):
    mean = np.array([0.0, -0.0, 1e-40, np.inf, -3.0]).astype(dtype)
    for nothing in (-np.inf, np.full(5, -np.inf, np.float32)):
        z = sample_gaussian(KEY, mean, nothing)
        assert z.dtype == dtype
        assert np.asarray(z).tobytes() == mean.tobytes()
    mean = np.zeros(10_000, dtype)

    def largest(v):
        return information.sample_gaussian(KEY, mean, v).max().astype(jnp.float32)

    z, slope = jax.jit(jax.value_and_grad(largest))(np.full(10_000, np.inf, np.float32))
    assert z > 4096
    assert np.isfinite(z)
    np.testing.assert_array_equal(slope, np.zeros(10_000))


def test_the_backward_pass_keeps_no_noise():
    mean = single(64, 64)
    log_var = single(64, 64, seed=1)

    @jax.jit
    def pullback(mean, log_var):
        return jax.vjp(lambda v: information.sample_gaussian(KEY, mean, v), log_var)[1]

    pull = pullback(mean, log_var)
    assert residual_bytes(pull) <= log_var.nbytes + 16


def test_wrong_arguments_raise():
    mean = np.asarray(normals(2, 3), np.float32)

    def sample(mean, log_var):
        return information.sample_gaussian(KEY, mean, log_var)

    for function in (information.gaussian_kl, sample):
        message = r"`log_var` must be a number, got nan; pass 0"
        refuses(ValueError, message, function, mean, float("nan"))
        message = r"`log_var` must broadcast to shape \(2, 3\)"
        refuses(ValueError, message, function, mean, np.zeros(2, "f4"))
        message = "`mean` must have a floating-point dtype"
        refuses(TypeError, message, function, np.ones((2, 3), int), 0.0)
    message = r"`mean` must have axes \[\.\.\., latent\], got a"
    refuses(ValueError, message, information.gaussian_kl, np.float32(0), 0.0)
    message = r"`key` must be a PRNG key"
    refuses(TypeError, message, information.sample_gaussian, 0, mean, 0.0)
