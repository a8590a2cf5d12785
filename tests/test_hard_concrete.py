"""Hard concrete gates: their equation, their distribution, and the penalty that counts them."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import _bits, dropout, penalties

KEY = jax.random.key(0)
COUNT = 100_000
HEAT, LOW, HIGH = 2 / 3, -0.1, 1.1
LOG_ALPHAS = (-4.0, -1.5, 0.0, 2.0, 5.0)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def probability_below(x, log_alpha):
    """Equation 4 of the paper and its appendix: the distribution before it is cut."""
    share = (x - LOW) / (HIGH - LOW)
    return sigmoid(HEAT * math.log(share / (1 - share)) - log_alpha)


def draw(log_alpha, count=COUNT, **strengths):
    return np.asarray(dropout.hard_concrete(KEY, jnp.full(count, log_alpha), **strengths))


def test_gates_are_the_equation():
    log_alpha = np.linspace(-3, 3, 50)
    u = np.asarray(_bits.uniform(KEY, (50,), like=jnp.zeros(50)), np.float64)
    s = sigmoid((np.log(u) - np.log(1 - u) + log_alpha) / 0.5)
    expected = np.clip(s * (1.5 - -0.2) + -0.2, 0, 1)
    gates = dropout.hard_concrete(
        KEY, jnp.asarray(log_alpha, jnp.float32), temperature=0.5, low=-0.2, high=1.5
    )
    np.testing.assert_allclose(gates, expected, rtol=1e-5, atol=1e-6)
    assert 0 < (expected == 0).sum() < 50
    assert 0 < (expected == 1).sum() < 50


@pytest.mark.parametrize("log_alpha", LOG_ALPHAS)
def test_the_distribution_of_gates(log_alpha):
    gates = draw(log_alpha)
    for actual, expected in (
        ((gates == 0).mean(), probability_below(0, log_alpha)),
        ((gates <= 0.3).mean(), probability_below(0.3, log_alpha)),
        ((gates < 1).mean(), probability_below(1, log_alpha)),
    ):
        error = math.sqrt(expected * (1 - expected) / COUNT)
        np.testing.assert_allclose(actual, expected, atol=5 * error + 1e-9)
    assert ((gates >= 0) & (gates <= 1)).all()


@pytest.mark.parametrize("log_alpha", LOG_ALPHAS)
def test_the_penalty_is_the_share_of_open_gates(log_alpha):
    expected = float(penalties.hard_concrete_l0(jnp.full(COUNT, log_alpha))) / COUNT
    error = math.sqrt(expected * (1 - expected) / COUNT)
    np.testing.assert_allclose((draw(log_alpha) != 0).mean(), expected, atol=5 * error)


def test_the_penalty_is_the_share_with_other_strengths():
    strengths = {"temperature": 0.3, "low": -0.5, "high": 1.2}
    expected = float(penalties.hard_concrete_l0(jnp.zeros(1), **strengths))
    actual = (draw(0.0, **strengths) != 0).mean()
    np.testing.assert_allclose(actual, expected, atol=5 * math.sqrt(0.25 / COUNT))
    # The penalty with the paper's strengths is another number, by far.
    assert abs(actual - float(penalties.hard_concrete_l0(jnp.zeros(1)))) > 0.05


def test_gates_of_evaluation_are_the_equation():
    log_alpha = np.linspace(-5, 5, 21)
    expected = np.clip(sigmoid(log_alpha) * 1.2 - 0.1, 0, 1)
    gates = dropout.hard_concrete_inference(jnp.asarray(log_alpha, jnp.float32))
    np.testing.assert_allclose(gates, expected, rtol=1e-5, atol=1e-6)
    assert gates[0] == 0
    assert gates[-1] == 1


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16], ids=str)
def test_narrow_gates_are_rounded_once(dtype):
    log_alpha = jnp.linspace(-3, 3, 100).astype(dtype)
    wide = dropout.hard_concrete(KEY, log_alpha.astype(jnp.float32))
    np.testing.assert_array_equal(dropout.hard_concrete(KEY, log_alpha), wide.astype(dtype))
    wide = dropout.hard_concrete_inference(log_alpha.astype(jnp.float32))
    np.testing.assert_array_equal(dropout.hard_concrete_inference(log_alpha), wide.astype(dtype))


@pytest.mark.parametrize("size", [100.0, 1e30, np.inf])
def test_gates_at_the_ends(size):
    for gates in (dropout.hard_concrete_inference, lambda a: dropout.hard_concrete(KEY, a)):
        value, slope = jax.value_and_grad(lambda a, g=gates: g(a).sum())(jnp.array([size, -size]))
        assert value == 1
        np.testing.assert_array_equal(gates(jnp.array([size, -size])), [1, 0])
        np.testing.assert_array_equal(slope, [0, 0])


def test_traced_strengths_out_of_range_are_brought_into_it():
    def gates(temperature, low, high):
        return dropout.hard_concrete(
            KEY, jnp.zeros(1000), temperature=temperature, low=low, high=high
        )

    wild = jax.jit(gates)(jnp.float32(-1), jnp.float32(0.5), jnp.float32(0.2))
    # Cold, from 0 to 1: a coin.
    assert set(np.unique(wild)) == {0.0, 1.0}
    np.testing.assert_allclose(wild.mean(), 0.5, atol=5 * math.sqrt(0.25 / 1000))


def test_complex_and_integer_parameters_raise():
    for function in (
        penalties.hard_concrete_l0,
        dropout.hard_concrete_inference,
        lambda a: dropout.hard_concrete(KEY, a),
    ):
        with pytest.raises(TypeError, match=r"`log_alpha` must have a real dtype, got complex64"):
            function(jnp.zeros(3, jnp.complex64))
        with pytest.raises(TypeError, match=r"`log_alpha` must have a floating-point dtype"):
            function(jnp.zeros(3, jnp.int32))


def test_the_forward_and_backward_pass_see_the_same_gates():
    log_alpha = jnp.linspace(-2, 2, 200)
    gates, pull_back = jax.vjp(lambda a: dropout.hard_concrete(KEY, a), log_alpha)
    (slope,) = pull_back(jnp.ones(200))
    inside = (gates > 0) & (gates < 1)
    np.testing.assert_array_equal(slope[~inside], 0)
    s = (np.asarray(gates, np.float64) - LOW) / (HIGH - LOW)
    expected = (HIGH - LOW) * s * (1 - s) / HEAT
    np.testing.assert_allclose(slope[inside], expected[inside], rtol=1e-4)


def test_gates_learn_which_inputs_matter():
    """A regression in which three inputs of eight count, of which L0 keeps those three."""
    x = jax.random.normal(jax.random.key(1), (200, 8))
    w = jnp.array([2.0, -3.0, 1.5, 0, 0, 0, 0, 0])
    y = x @ w + 0.1 * jax.random.normal(jax.random.key(2), (200,))

    def loss(params, key):
        gates = dropout.hard_concrete(key, params["log_alpha"])
        errors = jnp.mean((y - x @ (params["w"] * gates)) ** 2)
        return errors + 0.05 * penalties.hard_concrete_l0(params["log_alpha"])

    @jax.jit
    def train(params):
        def step(params, key):
            slope = jax.grad(loss)(params, key)
            rates = {"w": 0.05, "log_alpha": 1.0}
            return jax.tree.map(lambda p, g, r: p - r * g, params, slope, rates), None

        return jax.lax.scan(step, params, jax.random.split(KEY, 4000))[0]

    trained = train({"w": jnp.zeros(8) + 0.5, "log_alpha": jnp.full(8, 2.0)})
    gates = dropout.hard_concrete_inference(trained["log_alpha"])
    np.testing.assert_array_equal(gates[:3], 1)
    np.testing.assert_array_equal(gates[3:], 0)
