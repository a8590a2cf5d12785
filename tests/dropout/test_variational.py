"""Variational dropout: learned noise, its divergence, and the sparse layer that comes of it."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats

from jaxreg import dropout
from tests.dropout.helpers import assert_same_bits, compiled, normal
from tests.helpers import few

KEY = jax.random.key(40)
DTYPES = [jnp.bfloat16, jnp.float32, jnp.float16]
LARGEST = 24 * math.log(2)
divergence_of = jax.jit(dropout.variational_dropout_kl)
divergences_of = jax.jit(jax.vmap(dropout.variational_dropout_kl))
log_alpha_of = jax.jit(dropout.variational_log_alpha)
dense = jax.jit(dropout.variational_dense)
dense_inference = jax.jit(dropout.variational_dense_inference)


@jax.jit
def draw(x, log_alpha):
    return dropout.variational_dropout(KEY, x, log_alpha=log_alpha)


def layer(dtype=np.float32, inputs=6, outputs=4):
    """Inputs for three examples, means and logarithms of variances, biases."""
    generator = np.random.default_rng(41)
    x = generator.normal(size=(3, inputs)).astype(dtype)
    kernel = generator.normal(size=(inputs, outputs)).astype(np.float32) / 2
    log_var = generator.uniform(-4, 0, (inputs, outputs)).astype(np.float32)
    return x, kernel, log_var, generator.normal(size=outputs).astype(np.float32)


def wide(*arrays):
    return tuple(np.asarray(a, np.float64) for a in arrays)


def assert_moments(samples, mean, stddev):
    """Means and standard deviations along the first axis, within five standard errors."""
    samples = np.asarray(samples, np.float64)
    n = len(samples)
    np.testing.assert_array_less(abs(samples.mean(0) - mean), 5 * stddev / math.sqrt(n) + 1e-6)
    np.testing.assert_array_less(abs(samples.std(0) - stddev), 5 * stddev / math.sqrt(2 * n) + 1e-6)


def test_the_noise_is_gaussian_with_variance_alpha():
    log_alpha = np.array([-2.0, 0.0, 1.5], np.float32)
    x = np.array([1.0, -2.0, 0.5], np.float32)
    keys = jax.random.split(KEY, 2**15)
    function = partial(dropout.variational_dropout, x=x, log_alpha=log_alpha)
    samples = np.asarray(jax.jit(jax.vmap(function))(keys))
    assert_moments(samples, *wide(x, abs(x) * np.exp(log_alpha / 2)))
    standard = (samples / x - 1) / np.exp(log_alpha / 2)
    assert all(scipy.stats.kstest(column, "norm").pvalue > 1e-4 for column in standard.T)
    correlation = np.corrcoef(standard.T) - np.eye(3)
    assert abs(correlation).max() <= 5 / math.sqrt(len(keys))


def test_it_is_gaussian_dropout_of_the_rate():
    x = normal(512)
    rate = 0.3
    log_alpha = math.log(rate / (1 - rate))
    gaussian = compiled(dropout.gaussian_dropout, KEY, x, rate=rate)
    np.testing.assert_allclose(draw(x, log_alpha), gaussian, rtol=1e-5)
    static = compiled(dropout.variational_dropout, KEY, x, log_alpha=log_alpha)
    np.testing.assert_allclose(static, gaussian, rtol=1e-5)


def test_gradients_are_the_reparametrized_ones():
    x = normal((64, 8))

    def total(x, log_alpha):
        y = draw(x, log_alpha)
        return jnp.sum(y**2), y

    log_alpha = np.linspace(-3, 1, 8, dtype=np.float32)
    gradients, y = compiled(jax.grad(total, (0, 1), has_aux=True), x, log_alpha)
    x, y = wide(x, y)
    np.testing.assert_allclose(gradients[0], 2 * y * y / x, rtol=1e-4)
    np.testing.assert_allclose(gradients[1], np.sum(2 * y * (y - x) / 2, axis=0), rtol=1e-4)


@few("dtype", DTYPES)
def test_elements_without_noise_are_left_as_they_are_to_the_bit(dtype):
    tiny = float(jnp.finfo(dtype).smallest_subnormal)
    x = np.tile([tiny, -tiny, -0.0, np.inf, -np.inf, np.nan, 1 / 3, 2.0], (2, 1)).astype(dtype)
    y = draw(x, np.array([[-np.inf], [0.0]], np.float32))
    assert_same_bits(np.asarray(y)[0], x[0])
    assert float(np.asarray(y)[1, -1]) != 2
    static = compiled(dropout.variational_dropout, KEY, x, log_alpha=-math.inf)
    assert_same_bits(static, x)


@few("dtype", [jnp.bfloat16, jnp.float16])
def test_low_precision_is_float32_rounded_once(dtype):
    x = normal(512, dtype)
    full = np.asarray(draw(x.astype(np.float32), -1.0))
    assert_same_bits(draw(x, -1.0), full.astype(dtype))


def test_values_and_gradients_are_finite_at_the_ends():
    slope = jax.jit(jax.value_and_grad(lambda x, a: jnp.sum(draw(x, a)), (0, 1)))
    x = np.array([0.0, 1.0, -2.0], np.float32)
    for log_alpha in (-np.inf, -1e3, -200.0, 17.0, 1e3):
        values = slope(x, np.float32(log_alpha))
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(values))


def test_more_than_the_largest_log_alpha_counts_as_that():
    x = np.ones(64, np.float32)
    largest = draw(x, LARGEST)
    assert (np.asarray(draw(x, 16.5)) != largest).all()
    for more in (20.0, 1e3, np.inf):
        np.testing.assert_allclose(draw(x, more), largest, rtol=1e-5)
    # As gaussian dropout at the largest rate below 1.
    gaussian = jax.jit(lambda rate: dropout.gaussian_dropout(KEY, x, rate=rate))(1.0)
    np.testing.assert_allclose(largest, gaussian, rtol=1e-4)


def test_the_backward_pass_holds_inputs_only():
    x = np.ones(4096, np.float32)
    pull = jax.jit(lambda x, a: jax.vjp(draw, x, a)[1])(x, 0 * x)
    sizes = [leaf.size for leaf in jax.tree.leaves(pull) if leaf.size > 1]
    assert sum(sizes) <= 2 * 4096


@pytest.mark.parametrize(
    ("wrong", "kind", "message"),
    [
        ({"log_alpha": math.nan}, ValueError, "`log_alpha` must be below infinity, got nan"),
        ({"log_alpha": math.inf}, ValueError, "`log_alpha` must be below infinity, got inf"),
        ({"log_alpha": np.ones(2, np.float32)}, ValueError, "`log_alpha` must broadcast"),
        ({"key": 3}, TypeError, "`key` must be a PRNG key"),
        ({"x": np.ones(3, np.int32)}, TypeError, "`x` must have a floating-point dtype"),
    ],
)
def test_wrong_arguments_raise(wrong, kind, message):
    right = {"key": KEY, "x": np.ones(3, np.float32), "log_alpha": 0.0}
    with pytest.raises(kind, match=message):
        dropout.variational_dropout(**(right | wrong))


def test_a_log_alpha_for_each_element_of_sharded_data():
    """On an Explicit mesh a select wants its arguments sharded alike."""
    x = np.ones((16, 8), np.float32)
    log_alpha = np.linspace(-2, 1, 128, dtype=np.float32).reshape(16, 8)
    mesh = jax.make_mesh((8,), ("device",), axis_types=(jax.sharding.AxisType.Explicit,))
    expected = draw(x, log_alpha)
    with jax.set_mesh(mesh):
        sharded = jax.device_put(x, jax.NamedSharding(mesh, jax.P("device")))
        np.testing.assert_allclose(draw(sharded, log_alpha), expected, rtol=1e-6)


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


def test_the_divergence_is_the_integral_within_the_error_stated():
    points = np.linspace(-8, 8, 81)
    exact = np.array([divergence(a) for a in points])
    deviation = abs(np.asarray(divergences_of(points.astype(np.float32)), np.float64) - exact)
    assert deviation.max() <= 0.0094
    # At both ends the formula is the right one, not just a near one.
    assert deviation[0] <= 1e-3
    assert deviation[-1] <= 1e-6


def test_the_divergence_is_the_formula_of_the_paper():
    k1, k2, k3 = 0.63576, 1.87320, 1.48695
    log_alpha = np.random.default_rng(0).uniform(-9, 9, (50, 20))
    terms = k1 * scipy.special.expit(k2 + k3 * log_alpha) - 0.5 * np.log1p(np.exp(-log_alpha))
    actual = divergence_of(log_alpha.astype(np.float32))
    np.testing.assert_allclose(actual, -np.sum(terms - k1), rtol=1e-5)


def test_the_divergence_keeps_its_digits_where_it_is_small():
    """Written as in the paper it is a multiple of 6e-8 in float32."""
    log_alpha = np.array([14.0, 20.0, 40.0])
    actual = np.asarray(divergences_of(log_alpha.astype(np.float32)))
    exact = np.exp(-log_alpha) / 2 + 0.63576 * scipy.special.expit(-1.8732 - 1.48695 * log_alpha)
    np.testing.assert_allclose(actual, exact, rtol=1e-4)
    assert (actual > 0).all()


def test_the_divergence_at_its_ends():
    def derivatives(log_alpha):
        slope = jax.grad(dropout.variational_dropout_kl)
        return (
            dropout.variational_dropout_kl(log_alpha),
            slope(log_alpha),
            jax.grad(slope)(log_alpha),
        )

    log_alpha = np.array([-np.inf, -1e3, 1e3, np.inf], np.float32)
    value, slope, curvature = compiled(jax.vmap(derivatives), log_alpha)
    np.testing.assert_allclose(value, [np.inf, 500.63576, 0, 0], rtol=1e-6)
    np.testing.assert_array_equal(slope, [-0.5, -0.5, 0, 0])
    assert np.isfinite(curvature).all()


@few("dtype", DTYPES)
def test_the_divergence_falls_and_is_summed_in_float32(dtype):
    log_alpha = np.linspace(-8, 8, 1001).astype(dtype)
    actual, slope = compiled(jax.value_and_grad(dropout.variational_dropout_kl), log_alpha)
    assert (np.asarray(slope, np.float32) < 0).all()
    assert actual.dtype == jnp.float32
    np.testing.assert_allclose(actual, divergence_of(log_alpha.astype(np.float32)), rtol=1e-6)
    assert divergence_of(np.zeros((0, 3), dtype)) == 0


@few("dtype", DTYPES)
def test_log_alpha_is_the_logarithm_of_the_relative_variance(dtype):
    _, kernel, log_var, _ = layer()
    kernel = kernel.astype(dtype)
    theta, log_sigma2 = wide(kernel, log_var)
    expected = np.log(np.exp(log_sigma2) / (theta**2 + 1e-8))
    actual = log_alpha_of(kernel, log_var)
    assert actual.dtype == dtype
    eps = float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(*wide(actual), expected, rtol=eps, atol=4e-6)


@few("dtype", [jnp.float16, jnp.float32, jnp.bfloat16])
def test_log_alpha_and_its_gradients_are_finite_near_zero(dtype):
    kernel = np.array([0.0, 1e-30, 1e-7, 1e-4, -1e-4, 1e-3, 1e4]).astype(dtype)

    def pulled(kernel, log_var):
        value, pull = jax.vjp(dropout.variational_log_alpha, kernel, log_var)
        return value, *pull(jnp.ones_like(value))

    value, to_kernel, to_variance = wide(*compiled(pulled, kernel, np.zeros(7, np.float32)))
    theta = kernel.astype(np.float64)
    eps = float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(value, -np.log(theta**2 + 1e-8), rtol=eps, atol=1e-5)
    assert np.isfinite(to_kernel).all()
    assert abs(to_kernel).max() <= 1.01e4
    np.testing.assert_array_equal(to_variance, 1)


def test_one_variance_serves_many_weights():
    _, kernel, log_var, _ = layer()
    for few_of_them in (-1.5, log_var[0]):
        full = np.broadcast_to(np.float32(few_of_them), kernel.shape)
        for function in (dropout.variational_log_alpha, dropout.variational_prune):
            call = partial(compiled, function, kernel)
            np.testing.assert_array_equal(call(log_var=few_of_them), call(log_var=full))


def test_moments_are_those_of_a_layer_with_sampled_weights():
    """By the equation, and by weights that NumPy draws."""
    x, kernel, log_var, bias = layer()
    keys = jax.random.split(KEY, 2**15)
    function = partial(dropout.variational_dense, bias=bias)
    mapped = jax.jit(jax.vmap(function, (0, None, None, None)))
    samples = np.asarray(mapped(keys, x, kernel, log_var), np.float64)
    inputs, means, log_sigma2, offset = wide(x, kernel, log_var, bias)
    variance = inputs**2 @ np.exp(log_sigma2)
    assert_moments(samples, inputs @ means + offset, np.sqrt(variance))
    shape = (2**15, *means.shape)
    weights = np.random.default_rng(0).normal(means, np.exp(log_sigma2 / 2), shape)
    reference = np.einsum("ni,sij->snj", inputs, weights) + offset
    error = reference.std(0) * math.sqrt(2 / len(keys))  # The reference has an error of its own.
    np.testing.assert_array_less(abs(samples.mean(0) - reference.mean(0)), 5 * error)
    bound = 5 * error / math.sqrt(2)
    np.testing.assert_array_less(abs(samples.std(0) - reference.std(0)), bound)


def test_examples_and_outputs_have_noise_of_their_own():
    x, kernel, log_var, _ = layer()
    x = np.broadcast_to(x[0], x.shape)
    keys = jax.random.split(KEY, 2**13)
    mapped = jax.jit(jax.vmap(dropout.variational_dense, (0, None, None, None)))
    samples = np.asarray(mapped(keys, x, kernel, log_var)).reshape(len(keys), -1)
    correlation = np.corrcoef(samples.T) - np.eye(samples.shape[1])
    assert abs(correlation).max() <= 5 / math.sqrt(len(keys))


def test_gradients_are_those_of_the_equation_for_the_noise_drawn():
    arguments = layer()

    def total(x, kernel, log_var, bias):
        y = dropout.variational_dense(KEY, x, kernel, log_var, bias=bias)
        return jnp.sum(jnp.sin(y)), y

    gradients, y = compiled(jax.grad(total, (0, 1, 2, 3), has_aux=True), *arguments)
    x, kernel, log_var, bias, y = wide(*arguments, y)
    sigma2 = np.exp(log_var)
    dy = np.cos(y)
    stddev = np.sqrt(x**2 @ sigma2)
    noise = (y - x @ kernel - bias) / stddev
    dvariance = dy * noise / (2 * stddev)
    expected = (
        dy @ kernel.T + 2 * x * (dvariance @ sigma2.T),
        x.T @ dy,
        (x**2).T @ dvariance * sigma2,
        dy.sum(0),
    )
    for actual, reference in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(actual, reference, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", DTYPES)
def test_leading_axes(dtype):
    x, kernel, log_var, bias = layer(dtype)
    for shape in ((6,), (3, 6), (2, 5, 6), (0, 6)):
        arguments = (np.resize(x, shape), kernel, log_var)
        with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
            y = jax.eval_shape(partial(dropout.variational_dense, bias=bias), KEY, *arguments)
            inference = partial(dropout.variational_dense_inference, bias=bias)
            mean = jax.eval_shape(inference, *arguments)
        assert y.shape == mean.shape == (*shape[:-1], 4)
        assert y.dtype == mean.dtype == dtype


@few("dtype", DTYPES)
def test_inputs_of_zero_have_no_noise_and_finite_gradients(dtype):
    x, kernel, log_var, bias = layer(dtype)
    x[1] = 0

    def total(x, kernel, log_var):
        y = dropout.variational_dense(KEY, x, kernel, log_var, bias=bias)
        return jnp.sum(y.astype(jnp.float32) ** 2), y

    slope = jax.grad(total, (0, 1, 2), has_aux=True)
    gradients, y = compiled(slope, x, kernel, log_var)
    np.testing.assert_array_equal(np.asarray(y)[1], bias.astype(dtype))
    assert all(np.isfinite(*wide(g)).all() for g in gradients)


def test_the_layer_is_finite_at_the_ends_of_the_variance():
    """Without noise it is the product; beyond 16.6 the variance is the largest there is."""
    x, kernel, _, _ = layer()
    x[0] = 0

    def total(*arguments):
        y = dropout.variational_dense(KEY, *arguments)
        return jnp.sum(y), y

    slope = jax.jit(jax.value_and_grad(total, (0, 1, 2), has_aux=True))
    found = {}
    for log_var in (-np.inf, -1e3, LARGEST, 1e3, np.inf):
        values = slope(x, kernel, np.full(kernel.shape, log_var, np.float32))
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(values))
        found[log_var] = values[0][1]
        if log_var < 0:
            np.testing.assert_allclose(values[0][1], x @ kernel, rtol=1e-5, atol=1e-6)
    for log_var in (1e3, np.inf):
        np.testing.assert_allclose(found[log_var], found[LARGEST], rtol=1e-4)


def test_nan_is_not_taken_for_no_noise():
    x = np.ones(6, np.float32)
    assert np.isnan(dense(KEY, x, np.ones((6, 4), np.float32), np.float32(np.nan))).all()


@few("dtype", [jnp.float16, jnp.bfloat16])
def test_low_precision_has_the_noise_of_float32(dtype):
    """Large inputs and small variances: float16 holds neither the squares nor the variances."""
    x = 300 * layer(dtype, inputs=64)[0]
    zeros = np.zeros((64, 50), np.float32)
    low, full = wide(*(dense(KEY, a, zeros, -18.0) for a in (x, x.astype(np.float32))))
    assert abs(full).max() > 0.3
    np.testing.assert_allclose(low, full, rtol=2 * float(jnp.finfo(dtype).eps))


def test_sums_are_accumulated_in_float32():
    """A sum of 257 ones is no number of bfloat16."""
    x = np.ones((1, 257), jnp.bfloat16)
    zeros = np.zeros((257, 1000), np.float32)
    bias = np.full(1000, -256, np.float32)
    means = dense_inference(x, 1 + zeros, -30.0, bias=bias)
    np.testing.assert_array_equal(np.asarray(means, np.float32), 1)
    low = dense(KEY, x, zeros, 0.0)
    full = dense(KEY, x.astype(np.float32), zeros, 0.0)
    assert_same_bits(low, np.asarray(full).astype(jnp.bfloat16))


def test_the_backward_pass_holds_the_variances_of_the_outputs():
    """Four gradients take four products of matrices beside two; none is computed again."""
    shapes = ((128, 64), (64, 32), (64, 32))
    arguments = [np.ones(shape, np.float32) for shape in shapes]
    call = partial(dropout.variational_dense, KEY)
    pull = jax.jit(lambda *arguments: jax.vjp(call, *arguments)[1])(*arguments)
    sizes = sorted(leaf.size for leaf in jax.tree.leaves(pull) if leaf.size > 1)
    assert sizes == sorted([128 * 64, 64 * 32, 64 * 32, 128 * 32])
    slope = jax.jit(jax.grad(lambda *arguments: jnp.sum(call(*arguments) ** 2), (0, 1, 2)))
    text = slope.lower(*arguments).compile().as_text()
    assert len([line for line in text.splitlines() if " dot(" in line]) == 6


@pytest.mark.parametrize("name", ["random", "inference"])
def test_wrong_layers_raise(name):
    def call(x, kernel, log_var=0.0, **options):
        if name == "random":
            return dropout.variational_dense(KEY, x, kernel, log_var, **options)
        return dropout.variational_dense_inference(x, kernel, log_var, **options)

    def ones(*shape, dtype=np.float32):
        return np.ones(shape, dtype)

    for x, kernel in (((2, 3), (4, 5)), ((2, 3), (3,)), ((2, 3), (2, 3, 4)), ((), (1, 2))):
        with pytest.raises(ValueError, match=r"`kernel` .* \[in, out\] and `x` axes \[\.\.\., i"):
            call(ones(*x), ones(*kernel))
    with pytest.raises(ValueError, match=r"`log_var` must broadcast .*\(3, 4\).*\(3,\)"):
        call(ones(2, 3), ones(3, 4), ones(3))
    with pytest.raises(ValueError, match=r"`log_var` must be a number, got nan; pass one, or -inf"):
        call(ones(2, 3), ones(3, 4), float("nan"))
    with pytest.raises(ValueError, match=r"`bias` must broadcast"):
        call(ones(2, 3), ones(3, 4), bias=ones(3))
    with pytest.raises(TypeError, match=r"`kernel` must have a floating-point dtype"):
        call(ones(2, 3), ones(3, 4, dtype=np.int32))
    with pytest.raises(TypeError, match=r"`x` must have a real dtype, got complex64"):
        call(ones(2, 3, dtype=np.complex64), ones(3, 4))
    with pytest.raises(TypeError, match=r"`kernel` must have a real dtype, got complex64"):
        call(ones(2, 3), ones(3, 4, dtype=np.complex64))


def test_wrong_keys_parameters_and_thresholds_raise():
    x = np.ones((2, 3), np.float32)
    with pytest.raises(TypeError, match="`key` must be a PRNG key, got int 3"):
        dropout.variational_dense(3, x, x.T, 0.0)
    with pytest.raises(TypeError, match="`log_alpha` must have a real dtype"):
        dropout.variational_dropout_kl(x.astype(np.complex64))
    for function in (dropout.variational_prune, dropout.variational_log_alpha):
        with pytest.raises(TypeError, match="`kernel` must have a real dtype"):
            function(x.astype(np.complex64), 0.0)
        with pytest.raises(ValueError, match="`log_var` must broadcast"):
            function(x, np.ones(2, np.float32))
    for call in (
        lambda: dropout.variational_prune(x, 0.0, threshold=math.nan),
        lambda: dropout.variational_dense_inference(x, x.T, 0.0, threshold=math.nan),
    ):
        with pytest.raises(ValueError, match="`threshold` must be"):
            call()


@few("threshold", [0.5, 3.0, -1.0])
def test_noisy_weights_become_zero(threshold):
    _, kernel, log_var, _ = layer(inputs=50)
    theta, log_sigma2 = wide(kernel, log_var)
    noisy = np.exp(log_sigma2) > math.exp(threshold) * theta**2
    assert 0 < noisy.mean() < 1
    for wrap in (float, jnp.float32):
        pruned = compiled(dropout.variational_prune, kernel, log_var, threshold=wrap(threshold))
        np.testing.assert_array_equal(pruned, np.where(noisy, 0, kernel))


def test_the_default_threshold_is_three():
    kernel = np.exp(-np.array([2.98, 3.02], np.float32) / 2)
    pruned = jax.jit(dropout.variational_prune)(kernel, 0.0)
    np.testing.assert_array_equal(pruned, [kernel[0], 0])
    mean = dense_inference(np.ones(2, np.float32), kernel[:, None], 0.0)
    np.testing.assert_array_equal(mean, kernel[:1])


def test_a_weight_at_the_threshold_stays():
    def prune(kernel, log_var):
        log_alpha = dropout.variational_log_alpha(kernel, log_var)
        return dropout.variational_prune(kernel, log_var, threshold=log_alpha[0])

    kernel = np.ones(3, np.float32)
    np.testing.assert_array_equal(compiled(prune, kernel, 2.0), kernel)


def test_low_precision_weights_are_compared_in_float32():
    """In bfloat16 a logarithm of 2.99 and one of 3.01 are both 3."""
    log_var = np.array([2.995, 3.004], np.float32)
    pruned = jax.jit(dropout.variational_prune)(np.ones(2, jnp.bfloat16), log_var)
    np.testing.assert_array_equal(np.asarray(pruned, np.float32), [1, 0])


def test_inference_is_the_product_with_pruned_weights():
    x, kernel, log_var, bias = layer(inputs=50)
    inference = partial(dropout.variational_dense_inference, bias=bias, threshold=0.5)
    theta, log_sigma2 = wide(kernel, log_var)
    pruned = np.where(np.exp(log_sigma2) > math.exp(0.5) * theta**2, 0, theta)
    actual = compiled(inference, x, kernel, log_var)
    np.testing.assert_allclose(actual, x @ pruned + bias, rtol=1e-5, atol=1e-5)


def test_gradients_go_to_the_weights_that_stay():
    def total(kernel):
        return jnp.sum(dropout.variational_dense_inference(jnp.ones(2), kernel, -1.0))

    gradient = compiled(jax.grad(total), np.array([[2.0], [0.01]], np.float32))
    np.testing.assert_array_equal(gradient, [[1], [0]])
