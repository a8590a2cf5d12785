"""Wrappers of the optimizer, around gradient descent in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxreg import transforms
from jaxreg.study import arms
from jaxreg.study.arms.row import Wrapper, call

RATE, STEPS = 0.1, 7
KERNEL = np.sin(np.arange(1.0, 13.0, dtype=np.float32)).reshape(3, 4)
WRAPPERS = {arm.name: arm.acts for arm in arms.acting(Wrapper)}
STRENGTHS = {"adaptive_l1": 0.02, "lookahead": 0.3, "average_steps": 4.0, "asam": 0.5, "sam": 0.5}


def gradient(params):
    return jax.tree.map(lambda w: jnp.cos(3 * w), params)


def descend(w, steps=STEPS, at=lambda w, g: w):
    """Points of gradient descent in NumPy, with gradients at another point."""
    path = [np.float64(w)]
    for _ in range(steps):
        now = path[-1]
        path.append(now - RATE * np.cos(3 * at(now, np.cos(3 * now))))
    return path


@pytest.fixture(scope="module")
def trained():
    """Newest parameters and, where it keeps one, the average of every wrapper."""

    def train(name, acts, params):
        # A metric is of Adam; the others are simple around gradient descent.
        inner = optax.adam(RATE) if name == "adaptive_l1" else optax.sgd(RATE)
        values = {"inner": inner, "strength": STRENGTHS[name], "learning_rate": RATE}
        tx = optax.with_extra_args_support(call(acts.function, values))

        def step(carry, _):
            now, state = carry
            updates, state = tx.update(gradient(now), state, now, grad_fn=gradient)
            return (optax.apply_updates(now, updates), state), None

        (now, state), _ = jax.lax.scan(step, (params, tx.init(params)), length=STEPS)
        own = state
        for key in acts.path:
            own = getattr(own, key) if isinstance(key, str) else own[key]
        average = transforms.read_average(own, now) if acts.averages else own
        return now, average

    run = jax.jit(lambda params: {n: train(n, acts, params) for n, acts in WRAPPERS.items()})
    return jax.device_get(run({"kernel": KERNEL}))


def test_a_running_average_looks_back_on_its_steps(trained):
    newest, average = trained["average_steps"]
    path = descend(KERNEL)
    np.testing.assert_allclose(newest["kernel"], path[-1], rtol=1e-4, atol=1e-5)
    weights = 0.75 ** np.arange(STEPS)[::-1]
    want = np.tensordot(weights / weights.sum(), path[1:], 1)
    np.testing.assert_allclose(average["kernel"], want, rtol=1e-4, atol=1e-5)


def test_slow_weights_follow_every_fifth_step(trained):
    newest, slow = trained["lookahead"]
    want = KERNEL + 0.3 * (descend(KERNEL, 5)[-1] - KERNEL)
    np.testing.assert_allclose(slow["kernel"], want, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(newest["kernel"], descend(want, 2)[-1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["sam", "asam"])
def test_gradients_are_taken_at_the_worst_point(name, trained):
    def worst(w, g):
        scale = abs(w) + 0.01 if name == "asam" else 1
        return w + 0.5 * scale**2 * g / np.sqrt(((scale * g) ** 2).sum())

    newest, _ = trained[name]
    np.testing.assert_allclose(newest["kernel"], descend(KERNEL, at=worst)[-1], rtol=1e-3)
    assert WRAPPERS[name].needs_gradients


def test_l1_in_the_metric_of_adam_is_larger_where_gradients_were_small(trained):
    """Adam in NumPy, with a threshold that is divided by the root of the second moment."""
    w = np.float64(KERNEL)
    first = 0.0
    second = 0.0
    for count in range(1, STEPS + 1):
        g = np.cos(3 * w)
        first = 0.9 * first + 0.1 * g
        second = 0.999 * second + 0.001 * g**2
        metric = np.sqrt(second / (1 - 0.999**count)) + 1e-8
        w = w - RATE * first / (1 - 0.9**count) / metric
        w = np.sign(w) * np.maximum(abs(w) - RATE * 0.02 / metric, 0)
    np.testing.assert_allclose(trained["adaptive_l1"][0]["kernel"], w, rtol=1e-3, atol=1e-4)
    # Its path leads to the state of Adam.
    assert isinstance(trained["adaptive_l1"][1][0], optax.ScaleByAdamState)


def test_only_averages_are_evaluated():
    averages = {name for name, acts in WRAPPERS.items() if acts.averages}
    gradients = {name for name, acts in WRAPPERS.items() if acts.needs_gradients}
    assert (averages, gradients) == ({"lookahead", "average_steps"}, {"sam", "asam"})
