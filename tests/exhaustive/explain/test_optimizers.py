"""The decay of every optimizer of Optax, against its formula."""

import jax
import numpy as np
import optax
import pytest

from jaxreg.explain import _trials, explain
from tests.explain.decays import COUPLED, DECAYS, PLAIN

PARAMS = {"bias": np.zeros(6, np.float32), "kernel": np.ones((5, 6), np.float32)}
CONFLICT = "L2 through the scaling of the optimizer"


def kernel(found):
    return {e.regularizer: e.strength for e in found.effects if e.place == "kernel"}


@pytest.mark.parametrize("name", DECAYS)
def test_decay_of_an_optimizer(name):
    optimizer, formula = DECAYS[name]
    found = explain(None, optimizer, PARAMS)
    conflicts = {conflict.what for conflict in found.conflicts}
    if formula is None:
        assert set(kernel(found)) == {COUPLED}
        assert conflicts == {CONFLICT}
        return
    # Where the strength depends on them, it is that at these weights and gradients.
    weights = _trials.weights_like(PARAMS)
    signs = _trials.random_signs(weights, 1)
    want = formula(weights["kernel"], signs["kernel"])
    assert kernel(found) == {"decay": pytest.approx(want, rel=1e-2)}
    assert not conflicts


@pytest.mark.parametrize("name", PLAIN)
def test_optimizers_without_decay(name):
    found = explain(None, PLAIN[name], PARAMS)
    assert set(kernel(found)) == {"none"}
    assert not found.conflicts


def test_yogi_moves_by_itself():
    """Its moments begin at 1e-6, with which the first step without a gradient has this size."""
    found = explain(None, optax.yogi(0.01), PARAMS)
    second = 1e-6 / (1 - 0.999)
    step = 0.01 * (0.9 * 1e-6 / (1 - 0.9)) / (np.sqrt(second) + 1e-3)
    assert kernel(found) == {"moves without a gradient": pytest.approx(step, rel=1e-3)}


@pytest.mark.parametrize("rates", ["adam", "dog"])
def test_a_learning_rate_of_the_whole_model_keeps_l2(rates):
    """DoG divides by the norm of all gradients: L2 remains a decay, as strong as its rate is."""
    inner = {"adam": optax.adam(0.01), "dog": optax.contrib.dog()}[rates]
    found = explain(None, optax.chain(optax.add_decayed_weights(0.1), inner), PARAMS)
    assert {c.what for c in found.conflicts} == ({CONFLICT} if rates == "adam" else set())
    if rates == "dog":
        weights = _trials.weights_like(PARAMS)
        signs = _trials.random_signs(weights, 1)
        moves = []
        for sign in (1, -1):
            gradient = jax.tree.map(lambda g, w, s=sign: s * g + 0.1 * w, signs, weights)
            reach = 1e-6 * (1 + optax.tree.norm(weights))
            moves.append(-reach / np.sqrt(optax.tree.norm(gradient, squared=True) + 1e-8))
            moves[-1] = moves[-1] * gradient["kernel"]
        w = weights["kernel"]
        want = -np.vdot(w, np.mean(moves, axis=0)) / np.vdot(w, w)
        assert kernel(found) == {"decay": pytest.approx(float(want), rel=1e-2)}
