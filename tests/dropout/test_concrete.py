"""Concrete dropout: the relaxed mask by its equation, its rate, its limits and its penalty."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from jaxreg import dropout
from tests.dropout.helpers import assert_same_bits, compiled, normal
from tests.helpers import few, residual_bytes

KEY = jax.random.key(50)


@jax.jit
def draw(x, logit, temperature):
    """Soft dropout at a traced logit and temperature."""
    return dropout.concrete_dropout(KEY, x, logit=logit, temperature=temperature)


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
    """The equation, in float64."""
    p = 1 / (1 + np.exp(-np.asarray(logit, np.float64)))
    z = scipy.special.expit((np.log(p / (1 - p)) + np.log(u / (1 - u))) / temperature)
    return np.asarray(x, np.float64) * (1 - z) / (1 - p)


def soft_drops(logit, temperature, size):
    """The soft drops z, read off the outputs for inputs of 1 - p."""
    x = np.full(size, scipy.special.expit(-logit), np.float32)
    return 1 - np.asarray(draw(x, logit, temperature), np.float64)


@few("temperature", [0.1, 0.05, 0.5, 1.0, 3.0])
@few("logit", [-1.0, -8.0, 0.0, 2.0, 6.0])
def test_it_is_the_equation(logit, temperature):
    x = normal((64, 32))

    @jax.jit
    def both(x, l_, t):
        function = partial(dropout.concrete_dropout, KEY, x, bits=numbered)
        return function(logit=l_, temperature=t), function(logit=logit, temperature=temperature)

    expected = naive(x, uniforms(x.shape), logit, temperature)
    for y in both(x, logit, temperature):
        np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-6)


def test_a_logit_for_each_feature():
    x = normal((5, 16, 8))
    for logit in (np.linspace(-3, 2, 8), np.linspace(-3, 2, 16)[:, None]):
        y = jax.jit(
            lambda logit: dropout.concrete_dropout(
                KEY, x, logit=logit, temperature=0.3, bits=numbered
            )
        )(logit.astype(np.float32))
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
    x = normal(2**16, seed=1)
    y = np.asarray(draw(x, logit_of(rate), 1e-4), np.float64)
    kept = np.isclose(y, x / (1 - rate), rtol=1e-4)
    assert np.mean(kept | (abs(y) < 1e-4 * abs(x))) > 0.998  # The others are still soft.
    assert abs(kept.mean() - (1 - rate)) <= 5 * math.sqrt(rate * (1 - rate) / x.size) + 2e-3


@few("rate", [0.1, 0.6])
def test_the_mean_over_masks_is_the_input_at_a_low_temperature(rate):
    x = normal(32, seed=1)
    keys = jax.random.split(KEY, 8192)
    function = partial(dropout.concrete_dropout, logit=logit_of(rate), temperature=0.01)
    samples = np.asarray(jax.jit(jax.vmap(function, (0, None)))(keys, x), np.float64)
    error = abs(x) * math.sqrt(rate / (1 - rate) / len(keys))
    # The relaxation has a bias of the order of the square of the temperature.
    np.testing.assert_array_less(abs(samples.mean(0) - x), 5 * error + 1e-3)


def test_gradients_are_those_of_the_equation():
    x = normal((16, 8))
    u = uniforms(x.shape)
    weights = np.cos(np.arange(x.size)).reshape(x.shape)

    def total(x, logit, temperature):
        y = dropout.concrete_dropout(KEY, x, logit=logit, temperature=temperature, bits=numbered)
        return jnp.sum(weights.astype(np.float32) * y)

    point = (0.4, 0.7)
    gradients = compiled(jax.grad(total, (0, 1, 2)), x, *point)

    def numerical(step):
        up = naive(x, u, *(np.array(point) + step))
        down = naive(x, u, *(np.array(point) - step))
        return np.sum(weights * (up - down)) / (2 * step.sum())

    np.testing.assert_allclose(gradients[0], weights * naive(x, u, *point) / x, rtol=1e-4)
    np.testing.assert_allclose(gradients[1], numerical(np.array([1e-5, 0])), rtol=1e-3)
    np.testing.assert_allclose(gradients[2], numerical(np.array([0, 1e-5])), rtol=1e-3)


def test_the_gradient_of_the_rate_is_that_of_the_expected_loss():
    """E (y - x)**2 of dropout is x**2 p / (1 - p); its derivative by the logit is x**2 exp(l)."""

    def total(logit):
        y = dropout.concrete_dropout(KEY, jnp.ones(2**17), logit=logit, temperature=0.05)
        return jnp.mean((y - 1) ** 2)

    np.testing.assert_allclose(compiled(jax.grad(total), -0.5), math.exp(-0.5), rtol=0.1)


@few("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_elements_with_a_logit_of_minus_infinity_are_left_as_they_are(dtype):
    tiny = float(jnp.finfo(dtype).smallest_subnormal)
    edges = np.array([tiny, -tiny, -0.0, np.inf, -np.inf, np.nan, 1 / 3, 2.0]).astype(dtype)
    y = np.asarray(draw(np.stack([edges, edges]), np.array([[-np.inf], [0.0]], np.float32), 0.1))
    assert_same_bits(y[0], edges)
    assert y[1].tobytes() != edges.tobytes()
    static = compiled(dropout.concrete_dropout, KEY, edges, logit=-math.inf, temperature=0.1)
    assert_same_bits(static, edges)


def test_values_and_gradients_are_finite_at_the_ends():
    def total(x, logit, temperature):
        return jnp.sum(dropout.concrete_dropout(KEY, x, logit=logit, temperature=temperature))

    x = np.concatenate([np.zeros(1), np.linspace(-2, 2, 1000)]).astype(np.float32)
    call = jax.jit(jax.value_and_grad(total, (0, 1, 2)))
    for logit in (-np.inf, -1e3, -20.0, 20.0, 1e3, np.inf):
        for temperature in (1e-9, 0.1, 1.0, 5.0):
            values = call(x, logit, temperature)
            assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(values))


def test_the_input_at_a_rate_of_zero_and_zeros_at_one():
    x = normal(10_000)
    for logit in (1e3, np.inf):
        np.testing.assert_array_equal(draw(np.ones_like(x), logit, 0.1), 0)
    np.testing.assert_array_equal(draw(x, -1e3, 0.1), x)


def test_a_logit_above_sixty_counts_as_sixty():
    """At a high temperature: there the share that stays is not zero, and the factor is huge."""
    x = np.ones(64, np.float32)
    largest = draw(x, 60.0, 60.0)
    assert np.isfinite(largest).all()
    assert (np.asarray(largest) > 1e20).all()
    for more in (61.0, 1e3, np.inf):
        np.testing.assert_array_equal(draw(x, more, 60.0), largest)


def test_a_share_may_be_smaller_than_float32_can_hold():
    """The kept share is below 1e-38 for most elements, its product with 1 / (1 - p) is not."""
    x = np.ones((64, 32), np.float32)
    y = compiled(dropout.concrete_dropout, KEY, x, logit=50.0, temperature=0.5, bits=numbered)
    u = uniforms(x.shape)
    drop = (50 + np.log(u / (1 - u))) / 0.5
    assert np.median(drop) > -math.log(np.finfo(np.float32).smallest_subnormal) - 4
    np.testing.assert_allclose(y, np.exp(50 - drop), rtol=1e-4)


def test_a_traced_temperature_is_clipped():
    x = np.ones(64, np.float32)
    for temperature in (-1.0, 0.0, 1e-7):
        np.testing.assert_array_equal(draw(x, 0.0, temperature), draw(x, 0.0, 1e-6))
    assert np.isnan(draw(x, 0.0, np.nan)).all()


@pytest.mark.parametrize("temperature", [0, -0.1, np.float32(-1), float("nan")])
def test_a_temperature_that_is_not_positive_raises(temperature):
    with pytest.raises(ValueError, match=r"`temperature` must be positive, got .*Gal et al"):
        dropout.concrete_dropout(KEY, np.ones(3, np.float32), logit=0.0, temperature=temperature)


@pytest.mark.parametrize("rate", [1e-6, 0.1, 0.5, 1 - 1e-6])
def test_a_rate_starts_at_its_logit(rate):
    logit = dropout.concrete_dropout_logit(rate)
    np.testing.assert_allclose(1 / (1 + math.exp(-logit)), rate, rtol=1e-12)


@pytest.mark.parametrize("rate", [0, 1, 0.0, 1.0, 1.5, -0.5, math.nan])
def test_a_rate_without_a_finite_logit_raises(rate):
    message = rf"`init_rate` must be a probability in \(0, 1\), got {rate}; .* small rate in place"
    with pytest.raises(ValueError, match=message):
        dropout.concrete_dropout_logit(rate)


@few("dtype", [jnp.bfloat16, jnp.float16])
def test_low_precision_is_float32_rounded_once(dtype):
    x = normal(4096, dtype, seed=1)
    full = draw(x.astype(np.float32), -1.0, 0.3)
    assert_same_bits(draw(x, -1.0, 0.3), np.asarray(full).astype(dtype))


def test_an_element_takes_one_logarithm_and_two_exponentials():
    x = np.ones(4096, np.float32)
    cost = draw.lower(x, 0.5, 0.1).compile().cost_analysis()
    assert cost["transcendentals"] < 3.1 * x.size


def test_the_backward_pass_holds_inputs_only():
    x = np.ones(4096, np.float32)
    pull = jax.jit(lambda *arguments: jax.vjp(draw, *arguments)[1])(x, 0.5, 0.1)
    assert sum(leaf.size for leaf in jax.tree.leaves(pull) if leaf.size > 2) == 4096
    assert residual_bytes(pull) <= 4 * 4096 + 64


@jax.jit
def computed(w, logit, weight, entropy_weight):
    """The penalty at traced strengths."""
    return dropout.concrete_dropout_penalty(
        w, logit=logit, weight=weight, entropy_weight=entropy_weight
    )


def penalty(w, logit, weight, entropy_weight):
    """The sum over inputs in float64, with the entropy of SciPy."""
    w = np.moveaxis(np.asarray(w, np.float64), -2, 0)
    rates = np.broadcast_to(scipy.special.expit(logit), w.shape[0])
    entropies = scipy.stats.entropy([rates, 1 - rates])
    squares = (w.reshape(len(w), -1) ** 2).sum(1)
    return weight * np.sum(squares / (1 - rates)) - entropy_weight * entropies.sum()


@pytest.mark.parametrize("shape", [(6, 4), (3, 2, 6, 4)])
@pytest.mark.parametrize("logits", [[-3.0, 0.0, 2.0], [np.linspace(-3, 3, 6)]], ids=["one", "each"])
def test_the_penalty_is_the_equation(shape, logits):
    w = normal(shape, seed=1)
    for logit in logits:
        for weights in ((0.3, 0.0), (0.0, 0.7), (0.3, 0.7)):
            actual = computed(w, np.asarray(logit, np.float32), *weights)
            np.testing.assert_allclose(actual, penalty(w, logit, *weights), rtol=1e-5)


def test_the_penalty_is_that_of_the_authors():
    """Their code for l = 0.1, tau = 2 and 1000 examples, written out for one weight."""
    weight = 0.1**2 / (2 * 1000)
    entropy_weight = 2 / (2 * 1000)
    p = 0.25
    expected = weight * 9 / 0.75 + entropy_weight * (p * math.log(p) + 0.75 * math.log(0.75))
    strengths = {"logit": logit_of(p), "weight": weight, "entropy_weight": entropy_weight}
    w = np.full((1, 1), 3, np.float32)
    actual = compiled(dropout.concrete_dropout_penalty, w, **strengths)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_the_penalty_is_finite_at_the_ends():
    w = np.ones((16, 8), np.float32)
    call = jax.jit(jax.value_and_grad(lambda w, logit: computed(w, logit, 1e-4, 1e-3), (0, 1)))
    for logit in (-np.inf, -1e3, -90.0, 50.0, 1e3, np.inf):
        values = call(w, logit)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(values))
        if logit < 0:
            np.testing.assert_allclose(values[0], 1e-4 * 128, rtol=1e-6)
        if logit >= 1e3:
            np.testing.assert_allclose(values[0], call(w, 60.0)[0], rtol=1e-6)


def test_the_entropy_pulls_the_rate_to_one_half_and_the_squares_pull_it_down():
    w = np.ones((4, 4), np.float32)
    slope = jax.jit(jax.grad(computed, 1))
    assert slope(w, -1.0, 0.0, 1.0) < 0 < slope(w, 1.0, 0.0, 1.0)
    assert slope(w, 0.0, 0.0, 1.0) == 0
    assert slope(w, 0.0, 1.0, 0.0) > 0


@few("dtype", [jnp.bfloat16, jnp.float32, jnp.float16])
def test_the_penalty_is_summed_in_float32(dtype):
    w = np.full((300, 200), 0.1).astype(dtype)
    actual = computed(w, 0.5, 1.0, 1.0)
    assert actual.dtype == jnp.float32
    np.testing.assert_allclose(actual, penalty(w, 0.5, 1.0, 1.0), rtol=1e-5)
    np.testing.assert_allclose(actual, computed(w.astype(np.float32), 0.5, 1.0, 1.0), rtol=1e-6)


@pytest.mark.parametrize("shape", [(), (3,)])
def test_the_penalty_of_less_than_a_matrix_raises(shape):
    with pytest.raises(ValueError, match=r"`w` must have axes \[\.\.\., in, out\], got shape"):
        dropout.concrete_dropout_penalty(
            np.ones(shape, np.float32), logit=0.0, weight=1.0, entropy_weight=1.0
        )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"logit": math.nan}, "`logit` must be .*nan"),
        ({"logit": np.ones(2, np.float32)}, "`logit` must broadcast"),
        ({"weight": -1.0}, "`weight` must be"),
        ({"weight": np.ones(2, np.float32)}, "`weight` must be a single number"),
        ({"entropy_weight": -1.0}, "`entropy_weight` must be"),
    ],
)
def test_wrong_arguments_of_the_penalty_raise(wrong, message):
    with pytest.raises(ValueError, match=message):
        dropout.concrete_dropout_penalty(
            np.ones((3, 4), np.float32), **{"logit": 0.0, "weight": 1, "entropy_weight": 1, **wrong}
        )


@pytest.mark.parametrize(
    ("wrong", "kind", "message"),
    [
        ({"logit": math.nan}, ValueError, "`logit` must be .*nan"),
        ({"logit": np.ones(2, np.float32)}, ValueError, "`logit` must broadcast"),
        ({"temperature": np.ones(3, np.float32)}, ValueError, "`temperature` must be a single"),
        ({"key": 3}, TypeError, "`key` must be a PRNG key"),
        ({"x": np.ones(3, np.int32)}, TypeError, "`x` must have a floating-point dtype"),
    ],
)
def test_wrong_arguments_raise(wrong, kind, message):
    right = {"key": KEY, "x": np.ones(3, np.float32), "logit": 0.0, "temperature": 0.1}
    with pytest.raises(kind, match=message):
        dropout.concrete_dropout(**(right | wrong))


def test_a_logit_for_each_element_of_sharded_data():
    """On an Explicit mesh a select wants its arguments sharded alike."""
    x = np.ones((16, 8), np.float32)
    logit = np.linspace(-2, 1, 128, dtype=np.float32).reshape(16, 8)
    mesh = jax.make_mesh((8,), ("device",), axis_types=(jax.sharding.AxisType.Explicit,))
    expected = draw(x, logit, 0.5)
    with jax.set_mesh(mesh):
        sharded = jax.device_put(x, jax.NamedSharding(mesh, jax.P("device")))
        np.testing.assert_allclose(draw(sharded, logit, 0.5), expected, rtol=1e-6)
