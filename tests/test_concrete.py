"""Concrete dropout: the relaxed mask by its equation, its rate, its limits and its penalty."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from jaxreg import dropout

KEY = jax.random.key(50)
DTYPES = [jnp.float32, jnp.bfloat16, jnp.float16]


def logit_of(rate):
    return math.log(rate / (1 - rate))


def numbered(_key, shape, dtype):
    """Bits that NumPy can make too, spread over all words."""
    number = jnp.arange(math.prod(shape), dtype=jnp.uint32).reshape(shape)
    return (number * np.uint32(0x9E3779B9) + np.uint32(12345)).astype(dtype)


def uniforms(shape):
    """The uniform numbers that the function makes of those bits: odd multiples of 2**-24."""
    words = (np.arange(math.prod(shape), dtype=np.uint64) * 0x9E3779B9 + 12345) % 2**32
    return (words // 2**9 + 0.5).reshape(shape) * 2.0**-23


def naive(x, u, logit, temperature):
    """The equation as it stands, in float64."""
    p = 1 / (1 + np.exp(-np.asarray(logit, np.float64)))
    z = scipy.special.expit((np.log(p / (1 - p)) + np.log(u / (1 - u))) / temperature)
    return np.asarray(x, np.float64) * (1 - z) / (1 - p)


def soft_drops(logit, temperature, size):
    """The soft drops z, read off the outputs for inputs of 1 - p."""
    x = jnp.full(size, scipy.special.expit(-logit), jnp.float32)
    y = dropout.concrete_dropout(KEY, x, logit=logit, temperature=temperature)
    return 1 - np.asarray(y, np.float64)


@pytest.mark.parametrize("temperature", [0.05, 0.1, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("logit", [-8.0, -1.0, 0.0, 2.0, 6.0])
def test_it_is_the_equation(logit, temperature):
    x = np.random.default_rng(0).normal(size=(64, 32)).astype(np.float32)
    y = dropout.concrete_dropout(
        KEY, jnp.asarray(x), logit=logit, temperature=temperature, bits=numbered
    )
    expected = naive(x, uniforms(x.shape), logit, temperature)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-6)


def test_a_logit_for_each_feature():
    x = np.random.default_rng(0).normal(size=(5, 16, 8)).astype(np.float32)
    for logit in (np.linspace(-3, 2, 8), np.linspace(-3, 2, 16)[:, None]):
        y = dropout.concrete_dropout(
            KEY, jnp.asarray(x), logit=jnp.asarray(logit), temperature=0.3, bits=numbered
        )
        expected = naive(x, uniforms(x.shape), logit, 0.3)
        np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("temperature", [0.1, 1.0, 2.5])
@pytest.mark.parametrize("rate", [0.05, 0.5, 0.9])
def test_more_than_half_is_dropped_at_the_rate(rate, temperature):
    dropped = soft_drops(logit_of(rate), temperature, 2**17) > 0.5
    assert abs(dropped.mean() - rate) <= 5 * math.sqrt(rate * (1 - rate) / 2**17)


def test_soft_drops_are_logistic():
    """The logit of z is a logistic number: the logit of the rate, over the temperature."""
    z = soft_drops(-0.7, 0.8, 2**14)
    noise = scipy.special.logit(z) * 0.8 + 0.7
    assert scipy.stats.kstest(noise, "logistic").pvalue > 1e-4


@pytest.mark.parametrize("rate", [0.1, 0.6])
def test_a_low_temperature_is_dropout(rate):
    x = jax.random.normal(jax.random.key(1), (2**16,))
    y = dropout.concrete_dropout(KEY, x, logit=logit_of(rate), temperature=1e-4)
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    kept = np.isclose(y, x / (1 - rate), rtol=1e-4)
    assert np.mean(kept | (abs(y) < 1e-4 * abs(x))) > 0.998  # The others are still soft.
    assert abs(kept.mean() - (1 - rate)) <= 5 * math.sqrt(rate * (1 - rate) / x.size) + 2e-3


@pytest.mark.parametrize("rate", [0.1, 0.6])
def test_the_mean_over_masks_is_the_input_at_a_low_temperature(rate):
    x = jax.random.normal(jax.random.key(1), (32,))
    keys = jax.random.split(KEY, 8192)
    draw = jax.vmap(
        lambda key: dropout.concrete_dropout(key, x, logit=logit_of(rate), temperature=0.01)
    )
    samples = np.asarray(draw(keys), np.float64)
    error = abs(np.asarray(x)) * math.sqrt(rate / (1 - rate) / len(keys))
    # The relaxation has a bias of the order of the square of the temperature.
    np.testing.assert_array_less(abs(samples.mean(0) - np.asarray(x)), 5 * error + 1e-3)


def test_gradients_are_those_of_the_equation():
    x = np.random.default_rng(0).normal(size=(16, 8)).astype(np.float32)
    u = uniforms(x.shape)
    weights = np.cos(np.arange(x.size)).reshape(x.shape)

    def total(x, logit, temperature):
        y = dropout.concrete_dropout(KEY, x, logit=logit, temperature=temperature, bits=numbered)
        return jnp.sum(weights.astype(np.float32) * y)

    point = (0.4, 0.7)
    gradients = jax.grad(total, (0, 1, 2))(jnp.asarray(x), *point)

    def numerical(step):
        up, down = (naive(x, u, *(np.array(point) + sign * step)) for sign in (1, -1))
        return np.sum(weights * (up - down)) / (2 * step.sum())

    np.testing.assert_allclose(gradients[0], weights * naive(x, u, *point) / x, rtol=1e-4)
    np.testing.assert_allclose(gradients[1], numerical(np.array([1e-5, 0])), rtol=1e-3)
    np.testing.assert_allclose(gradients[2], numerical(np.array([0, 1e-5])), rtol=1e-3)


def test_the_gradient_of_the_rate_is_that_of_the_expected_loss():
    """E (y - x)**2 of dropout is x**2 p / (1 - p); its derivative by the logit is x**2 exp(l)."""
    logit, size = -0.5, 2**17

    def total(logit):
        y = dropout.concrete_dropout(KEY, jnp.ones(size), logit=logit, temperature=0.05)
        return jnp.mean((y - 1) ** 2)

    np.testing.assert_allclose(jax.grad(total)(logit), math.exp(logit), rtol=0.1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_elements_with_a_logit_of_minus_infinity_are_left_as_they_are(dtype, transform):
    tiny = float(jnp.finfo(dtype).smallest_subnormal)
    edges = np.array([tiny, -tiny, -0.0, np.inf, -np.inf, np.nan, 1 / 3, 2.0]).astype(dtype)
    x = jnp.asarray(np.stack([edges, edges]))
    draw = transform(lambda logit: dropout.concrete_dropout(KEY, x, logit=logit, temperature=0.1))
    y = draw(jnp.array([[-jnp.inf], [0.0]]))
    assert np.asarray(y[0]).tobytes() == edges.tobytes()
    assert np.asarray(y[1]).tobytes() != edges.tobytes()


@pytest.mark.parametrize("temperature", [1e-9, 0.1, 1.0, 5.0])
@pytest.mark.parametrize("logit", [-np.inf, -1e3, -20.0, 20.0, 1e3, np.inf])
def test_values_and_gradients_are_finite_at_the_ends(logit, temperature):
    def total(x, logit, temperature):
        return jnp.sum(dropout.concrete_dropout(KEY, x, logit=logit, temperature=temperature))

    x = jnp.concatenate([jnp.zeros(1), jnp.linspace(-2, 2, 1000)])
    values = jax.value_and_grad(total, (0, 1, 2))(x, jnp.float32(logit), jnp.float32(temperature))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(values))


@pytest.mark.parametrize("logit", [1e3, np.inf])
def test_a_rate_of_one_gives_zeros(logit):
    y = dropout.concrete_dropout(KEY, jnp.ones(10_000), logit=logit, temperature=0.1)
    np.testing.assert_array_equal(y, 0)


def test_a_rate_of_zero_gives_the_input():
    x = jax.random.normal(KEY, (10_000,))
    y = dropout.concrete_dropout(KEY, x, logit=-1e3, temperature=0.1)
    np.testing.assert_array_equal(y, x)


def test_a_traced_temperature_is_clipped():
    draw = jax.jit(lambda t: dropout.concrete_dropout(KEY, jnp.ones(64), logit=0.0, temperature=t))
    for temperature in (-1.0, 0.0, 1e-7):
        np.testing.assert_array_equal(draw(temperature), draw(1e-6))
    assert np.isnan(draw(np.nan)).all()


@pytest.mark.parametrize("temperature", [0, -0.1, np.float32(-1), float("nan")])
def test_a_temperature_that_is_not_positive_raises(temperature):
    with pytest.raises(ValueError, match=r"`temperature` must be positive, got .*the paper has"):
        dropout.concrete_dropout(KEY, jnp.ones(3), logit=0.0, temperature=temperature)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_low_precision_is_float32_rounded_once(dtype):
    x = jax.random.normal(jax.random.key(1), (4096,)).astype(dtype)
    low, full = (
        dropout.concrete_dropout(KEY, a, logit=-1.0, temperature=0.3)
        for a in (x, x.astype(jnp.float32))
    )
    np.testing.assert_array_equal(low, full.astype(dtype))


def test_the_backward_pass_holds_inputs_only():
    x = jnp.ones(4096)

    def draw(x, logit, temperature):
        return dropout.concrete_dropout(KEY, x, logit=logit, temperature=temperature)

    pull = jax.vjp(draw, x, 0.5, 0.1)[1]
    assert sum(leaf.size for leaf in jax.tree.leaves(pull) if leaf.size > 2) == 4096


def penalty(w, logit, weight, entropy_weight):
    """The sum over inputs in float64, with the entropy of SciPy."""
    w = np.moveaxis(np.asarray(w, np.float64), -2, 0)
    rates = np.broadcast_to(scipy.special.expit(logit), w.shape[0])
    entropies = scipy.stats.entropy([rates, 1 - rates])
    squares = (w.reshape(len(w), -1) ** 2).sum(1)
    return weight * np.sum(squares / (1 - rates)) - entropy_weight * entropies.sum()


@pytest.mark.parametrize("shape", [(6, 4), (3, 2, 6, 4)])
@pytest.mark.parametrize("logit", [-3.0, 0.0, 2.0, np.linspace(-3, 3, 6)])
def test_the_penalty_is_the_equation(shape, logit):
    w = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    for weight, entropy_weight in ((0.3, 0.0), (0.0, 0.7), (0.3, 0.7)):
        actual = dropout.concrete_dropout_penalty(
            jnp.asarray(w), logit=jnp.asarray(logit), weight=weight, entropy_weight=entropy_weight
        )
        expected = penalty(w, logit, weight, entropy_weight)
        np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_the_penalty_is_that_of_the_authors():
    """Their code for l = 0.1, tau = 2 and 1000 examples, written out for one weight."""
    weight, entropy_weight = 0.1**2 / (2 * 1000), 2 / (2 * 1000)
    p = 0.25
    expected = weight * 9 / 0.75 + entropy_weight * (p * math.log(p) + 0.75 * math.log(0.75))
    actual = dropout.concrete_dropout_penalty(
        jnp.full((1, 1), 3.0), logit=logit_of(p), weight=weight, entropy_weight=entropy_weight
    )
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


@pytest.mark.parametrize("logit", [-np.inf, -1e3, -90.0, 50.0, 1e3, np.inf])
def test_the_penalty_is_finite_at_the_ends(logit):
    def total(w, logit):
        return dropout.concrete_dropout_penalty(w, logit=logit, weight=1e-4, entropy_weight=1e-3)

    w = jnp.ones((16, 8))
    values = jax.value_and_grad(total, (0, 1))(w, jnp.float32(logit))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(values))
    if logit < 0:
        np.testing.assert_allclose(values[0], 1e-4 * 128, rtol=1e-6)


def test_the_entropy_pulls_the_rate_to_one_half_and_the_squares_pull_it_down():
    w = jnp.ones((4, 4))

    def slope(logit, weight, entropy_weight):
        return jax.grad(
            lambda logit: dropout.concrete_dropout_penalty(
                w, logit=logit, weight=weight, entropy_weight=entropy_weight
            )
        )(logit)

    assert slope(-1.0, 0.0, 1.0) < 0 < slope(1.0, 0.0, 1.0)
    assert slope(0.0, 0.0, 1.0) == 0
    assert slope(0.0, 1.0, 0.0) > 0


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_penalty_is_summed_in_float32(dtype):
    w = jnp.full((300, 200), 0.1).astype(dtype)
    strengths = {"logit": 0.5, "weight": 1.0, "entropy_weight": 1.0}
    actual = dropout.concrete_dropout_penalty(w, **strengths)
    assert actual.dtype == jnp.float32
    expected = dropout.concrete_dropout_penalty(w.astype(jnp.float32), **strengths)
    np.testing.assert_allclose(actual, expected, rtol=1e-6)


@pytest.mark.parametrize("shape", [(), (3,)])
def test_the_penalty_of_less_than_a_matrix_raises(shape):
    with pytest.raises(ValueError, match=r"`w` must have the axes \[\.\.\., in, out\], got shape"):
        dropout.concrete_dropout_penalty(jnp.ones(shape), logit=0.0, weight=1.0, entropy_weight=1.0)


@pytest.mark.parametrize(
    "function",
    [
        lambda x, value: dropout.concrete_dropout(KEY, x, logit=value, temperature=0.5),
        lambda x, value: dropout.variational_dropout(KEY, x, log_alpha=value),
    ],
    ids=["concrete_dropout", "variational_dropout"],
)
def test_a_strength_for_each_element_of_sharded_data(function):
    """On an Explicit mesh a select wants its arguments sharded alike."""
    x, value = jnp.ones((16, 8)), jnp.linspace(-2.0, 1.0, 128).reshape(16, 8)
    mesh = jax.make_mesh((8,), ("device",), axis_types=(jax.sharding.AxisType.Explicit,))
    expected = jax.jit(function)(x, value)
    with jax.set_mesh(mesh):
        sharded = jax.device_put(x, jax.NamedSharding(mesh, jax.P("device")))
        np.testing.assert_allclose(jax.jit(function)(sharded, value), expected, rtol=1e-6)
