"""Effects of an optimizer as a whole: clipping, flat minima, averages and noise."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxreg import transforms
from jaxreg.explain import explain
from tests.helpers import few

pytestmark = pytest.mark.programs(24)

RATE = 1e-3
PARAMS = {"bias": np.zeros(4, np.float32), "kernel": np.ones((4, 6), np.float32)}
ADAM = optax.adam(RATE)
ADAMW = optax.adamw(RATE, weight_decay=0.1)
SGD = optax.sgd(0.1, momentum=0.9)


def find(optimizer, params=PARAMS):
    """Kinds, strengths and units at the whole optimizer."""
    found = explain(None, optimizer, params).effects
    return [tuple(e[1:]) for e in found if e.place == "optimizer"]


GLOBAL, VALUE = "largest global norm", "largest absolute value"
CLIPPED = {
    "global norm": (optax.chain(optax.clip_by_global_norm(0.7), ADAMW), 0.7, GLOBAL),
    "global norm of sgd": (optax.chain(optax.clip_by_global_norm(5.0), SGD), 5.0, GLOBAL),
    "of one group": (
        optax.partition({"a": optax.chain(optax.clip_by_global_norm(0.3), ADAM), "b": SGD},
                        {"bias": "b", "kernel": "a"}),
        0.3, GLOBAL,
    ),
    "value": (optax.chain(optax.clip(0.25), optax.rmsprop(RATE)), 0.25, VALUE),
    "leaf": (
        optax.chain(optax.clip_by_block_rms(0.4), ADAM), 0.4, "largest root mean square of a leaf"
    ),
    "relative": (
        optax.chain(optax.adaptive_grad_clip(0.02), SGD), 0.02,
        "largest norm relative to the weight",
    ),
    "accumulated": (
        optax.MultiSteps(optax.chain(optax.clip_by_global_norm(1.0), ADAMW), 3), 1.0, GLOBAL
    ),
    "behind a penalty": (
        optax.chain(optax.add_decayed_weights(0.1), optax.clip_by_global_norm(1e3), SGD),
        1e3, GLOBAL,
    ),
    "adagrad": (optax.chain(optax.clip_by_global_norm(2.0), optax.adagrad(RATE)), 2.0, GLOBAL),
    "injected": (
        optax.chain(
            optax.inject_hyperparams(optax.clip_by_global_norm)(optax.constant_schedule(0.5)), ADAM
        ),
        0.5, GLOBAL,
    ),
}  # fmt: skip


@few("name", CLIPPED)
def test_clipping_of_gradients(name):
    optimizer, bound, unit = CLIPPED[name]
    assert find(optimizer) == [("gradient clipping", pytest.approx(bound, rel=1e-3), unit)]


def clip_each(norm):
    """Clips the norm of each leaf, which no transformation of Optax does."""

    def clip(updates):
        norms = {name: np.sqrt(1e-300) + abs(u**2).sum() ** 0.5 for name, u in updates.items()}
        return {name: u * (norm / norms[name]).clip(0, 1) for name, u in updates.items()}

    return optax.stateless(lambda updates, _: clip(updates))


def test_clipping_of_one_s_own():
    clipped = ("gradient clipping", pytest.approx(0.6, rel=1e-3), "largest norm of a leaf")
    assert find(optax.chain(clip_each(0.6), SGD)) == [clipped]


def test_clipping_beside_a_frozen_leaf():
    """A leaf that never moves has the same response to all gradients, too."""
    labels = {"bias": "trained", "kernel": "frozen"}
    parts = optax.partition({"trained": SGD, "frozen": optax.set_to_zero()}, labels)
    clipped = ("gradient clipping", pytest.approx(0.3, rel=1e-3), GLOBAL)
    assert find(optax.chain(optax.clip_by_global_norm(0.3), parts)) == [clipped]


UNCLIPPED = {
    "adamw": ADAMW,
    "sign": optax.sign_sgd(RATE),
    "lion": optax.lion(RATE),
    "lars": optax.lars(RATE, weight_decay=0.1),
    "adafactor": optax.adafactor(RATE),
    "normalized": optax.chain(optax.normalize_by_update_norm(), optax.sgd(RATE)),
    "ema of the steps": optax.chain(ADAM, optax.ema(0.9)),
    "madgrad": optax.contrib.madgrad(RATE),
    "prodigy": optax.contrib.prodigy(),
    "skipped": optax.MultiSteps(
        ADAM, 1, should_skip_update_fn=lambda u, s, p: optax.skip_large_updates(u, s, p, 10.0)
    ),
}


@few("name", UNCLIPPED)
def test_optimizers_that_add_nothing(name):
    """Steps of a size that gradients do not change are not clipped, and copies no averages."""
    assert find(UNCLIPPED[name]) == []


NORMALIZED = optax.chain(optax.contrib.normalize(), optax.sgd(0.05))
SHARP = {
    "sam": (transforms.sam(ADAMW, 0.05), 0.05, "rho"),
    "asam": (transforms.asam(ADAMW, 0.5), 0.5, "rho, relative to the weights"),
    "optax.contrib.sam": (optax.contrib.sam(ADAMW, NORMALIZED), 0.05, "rho"),
    "opaque": (optax.contrib.sam(ADAMW, NORMALIZED, opaque_mode=True), 0.05, "rho"),
    "accumulated": (optax.MultiSteps(transforms.sam(ADAMW, 0.1), 2), 0.1, "rho"),
    "not normalized": (optax.contrib.sam(ADAMW, optax.sgd(0.05)), np.nan, "rho"),
}


@few("name", SHARP)
def test_sharpness_aware_minimization(name):
    optimizer, radius, unit = SHARP[name]
    kind, strength, own_unit = find(optimizer)[0]
    assert (kind, own_unit) == ("sharpness-aware minimization", unit)
    np.testing.assert_allclose(strength, radius, rtol=1e-3)


@pytest.mark.exhaustive
def test_a_callback_may_run_in_another_thread(monkeypatch):
    """XLA calls back from threads of its own, in which JAX may round floats to 32 bits."""
    call_back = jax.debug.callback

    def from_a_thread(function, tree):
        def run(tree):
            rounded = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), tree)
            function(rounded)

        def start(tree):
            thread = threading.Thread(target=run, args=(tree,))
            thread.start()
            thread.join()

        call_back(start, tree)

    monkeypatch.setattr(jax.debug, "callback", from_a_thread)
    optimizer, radius, unit = SHARP["sam"]
    (found,) = find(optimizer)
    assert found == ("sharpness-aware minimization", pytest.approx(radius), unit)


def test_a_radius_of_zero_does_nothing():
    assert find(transforms.sam(ADAMW, 0.0)) == []


def own_average(decay):
    """An average as one writes it oneself."""

    def update(updates, state, params):
        new = {n: decay * state[n] + (1 - decay) * (params[n] + u) for n, u in updates.items()}
        return updates, new

    return optax.GradientTransformation(lambda params: {n: +w for n, w in params.items()}, update)


DECAY = "decay per step"
AVERAGES = {
    "corrected": (transforms.exponential_average(0.999), 0.999, DECAY),
    "not corrected": (transforms.exponential_average(0.99, initial_weight=1.0), 0.99, DECAY),
    "nearly one": (transforms.exponential_average(0.99999), 0.99999, DECAY),
    "warmed up": (
        transforms.exponential_average(
            lambda t: (1 - 1 / (t + 1.0)).clip(0, 0.999),
            initial_weight=1.0,
        ),
        0.999, DECAY,
    ),
    "of one's own": (own_average(0.95), 0.95, DECAY),
    "equal": (
        transforms.stochastic_weight_average(start=10, period=3), np.nan, "equal weights"
    ),
    "late": (
        transforms.stochastic_weight_average(start=10**7, period=3), np.nan, "equal weights"
    ),
}  # fmt: skip


@few("name", AVERAGES)
def test_averages_of_the_weights(name):
    average, decay, unit = AVERAGES[name]
    [(kind, strength, own_unit)] = find(optax.chain(ADAMW, average))
    assert (kind, own_unit) == ("weight averaging", unit)
    np.testing.assert_allclose(1 - strength, 1 - decay, rtol=1e-2)


LOOKAHEADS = {
    "ours": transforms.lookahead(ADAMW, period=6, step_size=0.8),
    "every step": transforms.lookahead(ADAMW, period=1, step_size=0.8),
    "optax": optax.lookahead(ADAM, 6, 0.8),
}


@few("name", LOOKAHEADS)
def test_lookahead(name):
    want = ("lookahead", pytest.approx(0.8, rel=1e-2), "slow step size")
    assert find(LOOKAHEADS[name]) == [want]


def test_schedule_free_averaging():
    tx = optax.contrib.schedule_free(ADAMW, RATE, b1=0.95)
    assert find(tx) == [("schedule-free averaging", pytest.approx(0.95), "b1")]


def test_gradient_noise():
    """Its variance is eta in the first step; the learning rate scales its deviation."""
    [(kind, strength, unit)] = find(optax.noisy_sgd(0.1, eta=0.04, key=0))
    assert (kind, unit) == ("gradient noise", "standard deviation of a step without a gradient")
    assert strength == pytest.approx(0.1 * 0.2, rel=0.03)


def test_random_numbers_that_are_not_known():
    assert find(optax.contrib.sophia(RATE)) == [("unknown random numbers", pytest.approx(
        np.nan, nan_ok=True), "")]  # fmt: skip


def test_several_at_once():
    tx = optax.chain(optax.clip_by_global_norm(1.0), ADAMW, transforms.exponential_average(0.999))
    assert [kind for kind, _, _ in find(transforms.sam(tx, 0.05))] == [
        "gradient clipping", "sharpness-aware minimization", "weight averaging",
    ]  # fmt: skip
