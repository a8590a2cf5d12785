"""Hard concrete gates: their equation, their distribution, and the penalty that counts them."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import _bits, dropout, penalties
from tests.dropout.helpers import assert_same_bits, compiled
from tests.helpers import few

KEY = jax.random.key(0)
COUNT = 100_000
HEAT, LOW, HIGH = 2 / 3, -0.1, 1.1
LOG_ALPHAS = (-4.0, -1.5, 0.0, 2.0, 5.0)


@jax.jit
def draw(log_alpha):
    """Gates with the strengths of the paper."""
    return dropout.hard_concrete(KEY, log_alpha)


@jax.jit
def drawn_with(log_alpha, temperature, low, high):
    """Gates with traced strengths."""
    return dropout.hard_concrete(KEY, log_alpha, temperature=temperature, low=low, high=high)


@jax.jit
def inference(log_alpha):
    return dropout.hard_concrete_inference(log_alpha)


def full(log_alpha):
    return np.full(COUNT, log_alpha, np.float32)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def probability_below(x, log_alpha, heat=HEAT, low=LOW, high=HIGH):
    """Equation 4 of the paper and its appendix: the distribution before it is cut."""
    share = (x - low) / (high - low)
    return sigmoid(heat * math.log(share / (1 - share)) - log_alpha)


def test_gates_are_the_equation():
    log_alpha = np.linspace(-3, 3, 50)

    @jax.jit
    def both(log_alpha, temperature, low, high):
        def gates(temperature, low, high):
            return dropout.hard_concrete(
                KEY, log_alpha, temperature=temperature, low=low, high=high
            )

        u = _bits.uniform(KEY, (50,), like=log_alpha)
        return u, (gates(temperature, low, high), gates(0.5, -0.2, 1.5))

    u, found = both(log_alpha.astype(np.float32), 0.5, -0.2, 1.5)
    u = np.asarray(u, np.float64)
    s = sigmoid((np.log(u) - np.log(1 - u) + log_alpha) / 0.5)
    expected = np.clip(s * (1.5 - -0.2) + -0.2, 0, 1)
    for gates in found:
        np.testing.assert_allclose(gates, expected, rtol=1e-5, atol=1e-6)
    assert 0 < (expected == 0).sum() < 50
    assert 0 < (expected == 1).sum() < 50


@pytest.mark.parametrize("log_alpha", LOG_ALPHAS)
def test_the_distribution_of_gates(log_alpha):
    gates = np.asarray(draw(full(log_alpha)))
    for actual, expected in (
        ((gates == 0).mean(), probability_below(0, log_alpha)),
        ((gates <= 0.3).mean(), probability_below(0.3, log_alpha)),
        ((gates < 1).mean(), probability_below(1, log_alpha)),
    ):
        error = math.sqrt(expected * (1 - expected) / COUNT)
        np.testing.assert_allclose(actual, expected, atol=5 * error + 1e-9)
    assert ((gates >= 0) & (gates <= 1)).all()


@few("log_alpha", LOG_ALPHAS)
def test_the_penalty_is_the_share_of_open_gates(log_alpha):
    expected = float(compiled(penalties.hard_concrete_l0, full(log_alpha))) / COUNT
    np.testing.assert_allclose(expected, 1 - probability_below(0, log_alpha), rtol=1e-5)
    error = math.sqrt(expected * (1 - expected) / COUNT)
    np.testing.assert_allclose((draw(full(log_alpha)) != 0).mean(), expected, atol=5 * error)


def test_the_penalty_is_the_share_with_other_strengths():
    zero = np.zeros(1, np.float32)
    strengths = {"temperature": 0.3, "low": -0.5, "high": 1.2}
    expected = float(compiled(penalties.hard_concrete_l0, zero, **strengths))
    share = (np.asarray(drawn_with(full(0), *strengths.values())) != 0).mean()
    np.testing.assert_allclose(share, expected, atol=5 * math.sqrt(0.25 / COUNT))
    # The penalty with the paper's strengths is another number, by far.
    assert abs(share - float(compiled(penalties.hard_concrete_l0, zero))) > 0.05


def test_gates_of_evaluation_are_the_equation():
    log_alpha = np.linspace(-5, 5, 21)
    gates = inference(log_alpha.astype(np.float32))
    expected = np.clip(sigmoid(log_alpha) * 1.2 - 0.1, 0, 1)
    np.testing.assert_allclose(gates, expected, rtol=1e-5, atol=1e-6)
    assert gates[0] == 0
    assert gates[-1] == 1
    other = compiled(
        dropout.hard_concrete_inference, log_alpha.astype(np.float32), low=-0.5, high=1.2
    )
    expected = np.clip(sigmoid(log_alpha) * 1.7 - 0.5, 0, 1)
    np.testing.assert_allclose(other, expected, rtol=1e-5, atol=1e-6)


@few("dtype", [jnp.bfloat16, jnp.float16], ids=["bfloat16", "float16"])
def test_narrow_gates_are_rounded_once(dtype):
    log_alpha = np.linspace(-3, 3, 100).astype(dtype)
    for gates in (draw, inference):
        wide = np.asarray(gates(log_alpha.astype(np.float32)))
        assert_same_bits(gates(log_alpha), wide.astype(dtype))


def test_gates_at_the_ends():
    for gates in (inference, draw):
        slope = jax.jit(jax.value_and_grad(lambda a, gates=gates: gates(a).sum()))
        for size in (100.0, 1e30, np.inf):
            ends = np.array([size, -size], np.float32)
            value, gradient = slope(ends)
            assert value == 1
            np.testing.assert_array_equal(gates(ends), [1, 0])
            np.testing.assert_array_equal(gradient, [0, 0])


def test_traced_strengths_out_of_range_are_brought_into_it():
    """Cold, from 0 to 1, gates are a coin; each strength is brought into its range by itself."""
    zeros = np.zeros(1000, np.float32)
    wild = np.asarray(drawn_with(zeros, -1.0, 0.5, 0.2))
    assert set(np.unique(wild)) == {0.0, 1.0}
    np.testing.assert_allclose(wild.mean(), 0.5, atol=5 * math.sqrt(0.25 / 1000))
    for wrong, right in (
        ((0.0, LOW, HIGH), (1e-6, LOW, HIGH)),
        ((0.5, 0.3, HIGH), (0.5, -(2.0**-126), HIGH)),
        ((0.5, LOW, 0.3), (0.5, LOW, 1.0)),
    ):
        expected = drawn_with(zeros, *right)
        np.testing.assert_array_equal(drawn_with(zeros, *wrong), expected)


def test_complex_and_integer_parameters_raise():
    for function in (
        penalties.hard_concrete_l0,
        dropout.hard_concrete_inference,
        lambda a: dropout.hard_concrete(KEY, a),
    ):
        with pytest.raises(TypeError, match=r"`log_alpha` must have a real dtype, got complex64"):
            function(np.zeros(3, np.complex64))
        with pytest.raises(TypeError, match=r"`log_alpha` must have a floating-point dtype"):
            function(np.zeros(3, np.int32))


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("temperature", (0, -0.5, math.nan), "`temperature` must be positive, got .* use 2/3"),
        ("low", (0, 0.1, math.nan), r"`low` must be negative, got .* use -0\.1"),
        ("high", (1, 0.9, math.nan), r"`high` must be greater than 1, got .* use 1\.1"),
        ("temperature", (np.ones(2, np.float32),), "`temperature` must be a single number"),
        ("low", (np.ones(2, np.float32),), "`low` must be a single number"),
        ("high", (np.ones(2, np.float32),), "`high` must be a single number"),
    ],
)
def test_strengths_out_of_range_raise(name, values, message):
    log_alpha = np.zeros(3, np.float32)
    for value in values:
        with pytest.raises(ValueError, match=message):
            dropout.hard_concrete(KEY, log_alpha, **{name: value})
        if name != "temperature":
            with pytest.raises(ValueError, match=message):
                dropout.hard_concrete_inference(log_alpha, **{name: value})


def test_a_wrong_key_raises():
    with pytest.raises(TypeError, match="`key` must be a PRNG key, got int 3"):
        dropout.hard_concrete(3, np.zeros(3, np.float32))


def test_the_forward_and_backward_pass_see_the_same_gates():
    def pulled(log_alpha):
        gates, pull = jax.vjp(draw, log_alpha)
        return gates, pull(jnp.ones(200))[0]

    found = compiled(pulled, np.linspace(-2, 2, 200, dtype=np.float32))
    gates, slope = [np.asarray(a, np.float64) for a in found]
    inside = (gates > 0) & (gates < 1)
    np.testing.assert_array_equal(slope[~inside], 0)
    s = (gates - LOW) / (HIGH - LOW)
    expected = (HIGH - LOW) * s * (1 - s) / HEAT
    np.testing.assert_allclose(slope[inside], expected[inside], rtol=1e-4)
