"""MC dropout of a trained network, on rows that it has not seen."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_diabetes

from jaxreg import dropout
from jaxreg.training import ensembles

MEMBERS = (1, 2, 4, 8, 16, 32)
GROUPS, SAMPLES = 200, 100


def network(params, key, x):
    hidden = jax.nn.relu(x @ params["a"] + params["b"])
    return dropout.dropout(key, hidden, rate=0.5) @ params["c"]


def train(key, x, y):
    a_key, c_key, key = jax.random.split(key, 3)
    width = x.shape[1]
    params = {
        "a": jax.random.normal(a_key, (width, 32)) / math.sqrt(width),
        "b": jnp.zeros(32),
        "c": jax.random.normal(c_key, (32,)) / math.sqrt(32),
    }

    def step(params, key):
        def loss(params):
            return jnp.mean((network(params, key, x) - y) ** 2)

        return jax.tree.map(lambda w, g: w - 0.05 * g, params, jax.grad(loss)(params)), None

    return jax.lax.scan(step, params, jax.random.split(key, 400))[0]


def measure(params, key, x, y, members):
    """Mean error of averages of new samples, over independent groups, and its standard error."""
    keys = jax.random.split(key, (GROUPS, members))
    samples = jax.vmap(jax.vmap(lambda key: network(params, key, x)))(keys)
    errors = jnp.mean((jnp.mean(samples, axis=1) - y) ** 2, axis=1)
    return jnp.mean(errors), jnp.std(errors, ddof=1) / math.sqrt(GROUPS)


@jax.jit
def prediction_and_measurement(key):
    rows, values = load_diabetes(return_X_y=True)
    x = jnp.float32(rows) * math.sqrt(len(rows))
    y = jnp.float32(values)
    y = (y - jnp.mean(y)) / jnp.std(y)
    train_key, estimate_key, *keys = jax.random.split(key, 2 + len(MEMBERS))
    params = train(train_key, x[:200], y[:200])
    x, y = x[200:], y[200:]
    estimate_keys = jax.random.split(estimate_key, SAMPLES)
    samples = jax.vmap(lambda key: network(params, key, x))(estimate_keys)
    moments = ensembles.error_moments(samples, y)
    predicted = ensembles.predicted_mse(samples, y, members=jnp.array(MEMBERS))
    groups = [measure(params, k, x, y, n) for k, n in zip(keys, MEMBERS, strict=True)]
    return moments, predicted, jnp.array(groups).T


def test_predicted_and_measured_error_of_mc_dropout_agree_within_standard_errors():
    moments, predicted, (error, standard_error) = prediction_and_measurement(jax.random.key(0))
    together = np.hypot(predicted.standard_error, standard_error)
    np.testing.assert_array_less(abs(predicted.value - error), 3 * together)
    # The errors of a few percent tell these apart from formulas that leave one term out.
    assert (together < 0.03 * error).all()
    v, c = moments.variance.value, moments.covariance.value
    assert v > 1.1 * c  # The masks matter, and 32 of them gain nearly all there is to gain.
    k = np.array(MEMBERS)
    for wrong in (v / k, v + 0 * k, v / k + c):
        assert (abs(wrong - error) > 5 * together).sum() >= 4
