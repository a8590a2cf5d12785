"""The decay of known optimizers, measured from their steps, and reproduced by ours."""

import json
import pathlib

import jax.numpy as jnp
import numpy as np
import optax

from jaxreg import penalties, transforms
from tests.helpers import few
from tests.transforms.helpers import trajectory, updated

RATE, WEIGHT, STEPS = 0.1, 0.2, 12
REFERENCES = pathlib.Path(__file__).parents[1] / "references"
TORCH = json.loads((REFERENCES / "adamw_torch.json").read_text())
KERAS = json.loads((REFERENCES / "decay_keras.json").read_text())


def coupled(optimizer, rate=RATE, weight=WEIGHT):
    return optax.chain(optimizer, transforms.decoupled_decay(weight, learning_rate=rate, mask=None))


def independent(optimizer, weight=WEIGHT):
    return optax.chain(optimizer, transforms.independent_decay(weight, mask=None))


def through_the_gradient(optimizer, weight=WEIGHT):
    return optax.chain(transforms.add_penalty_gradient(penalties.l2, weight), optimizer)


def lamb_of_parts():
    return optax.chain(
        optax.scale_by_adam(eps=1e-6),
        transforms.add_penalty_gradient(penalties.l2, WEIGHT),
        optax.scale_by_trust_ratio(),
        optax.scale_by_learning_rate(RATE),
    )


# The optimizer of Optax, and ours that it equals.
OPTAX = {
    "adamw": (lambda d: optax.adamw(RATE, weight_decay=d), lambda: coupled(optax.adam(RATE))),
    "nadamw": (lambda d: optax.nadamw(RATE, weight_decay=d), lambda: coupled(optax.nadam(RATE))),
    "adamaxw": (lambda d: optax.adamaxw(RATE, weight_decay=d), lambda: coupled(optax.adamax(RATE))),
    "lion": (
        lambda d: optax.lion(RATE, weight_decay=d),
        lambda: coupled(optax.lion(RATE, weight_decay=0.0)),
    ),
    "adan": (lambda d: optax.adan(RATE, weight_decay=d), lambda: coupled(optax.adan(RATE))),
    "muon": (
        lambda d: optax.contrib.muon(RATE, weight_decay=d),
        lambda: coupled(optax.contrib.muon(RATE)),
    ),
    "adafactor": (
        lambda d: optax.adafactor(RATE, weight_decay_rate=d),
        lambda: independent(optax.adafactor(RATE)),
    ),
    "sgd": (
        lambda d: optax.chain(optax.add_decayed_weights(d), optax.sgd(RATE, momentum=0.9)),
        lambda: through_the_gradient(optax.sgd(RATE, momentum=0.9)),
    ),
    "adadelta": (
        lambda d: optax.adadelta(RATE, weight_decay=d),
        lambda: through_the_gradient(optax.adadelta(RATE)),
    ),
    "lars": (
        lambda d: optax.lars(RATE, weight_decay=d),
        lambda: through_the_gradient(optax.lars(RATE)),
    ),
    "lamb": (lambda d: optax.lamb(RATE, weight_decay=d), lamb_of_parts),
}


def path_of(tx, start, gradients):
    """Parameters after each step."""
    return trajectory(tx, np.float32(start), np.float32(gradients))


def drawn():
    rng = np.random.default_rng(0)
    return rng.normal(size=(4, 3)), rng.normal(size=(STEPS, 4, 3))


def share(tx):
    """The share of each weight that one step with a gradient of zero removes."""
    w = np.float32([[3.0, 4.0]])
    return -np.asarray(updated(tx, np.zeros_like(w), w)) / w


@few("name", ["adamw", "nadamw", "adamaxw", "lion", "adan", "muon", "sgd"])
@few("weight", [0.2, 0.4])
def test_these_take_the_weight_times_the_learning_rate(name, weight):
    np.testing.assert_allclose(share(OPTAX[name][0](weight)), RATE * weight, rtol=1e-5)


@few("weight", [0.2, 0.4])
def test_adafactor_takes_the_weight_itself(weight):
    np.testing.assert_allclose(share(OPTAX["adafactor"][0](weight)), weight, rtol=1e-5)


@few(("name", "trust"), [("lamb", 1.0), ("lars", 0.001)])
def test_a_trust_ratio_takes_the_size_of_the_weight_away(name, trust):
    for weight in (0.2, 0.4):
        np.testing.assert_allclose(share(OPTAX[name][0](weight)), RATE * trust, rtol=1e-5)


@few("optimizer", [optax.adam, optax.adadelta], ids=lambda o: o.__name__)
def test_an_optimizer_that_divides_by_gradients_takes_what_it_takes_of_any(optimizer):
    small = share(through_the_gradient(optimizer(RATE), 0.2))
    large = share(through_the_gradient(optimizer(RATE), 0.4))
    np.testing.assert_allclose(small, large, rtol=1e-4)
    assert small.max() / small.min() > 1.2  # Its steps have one size, whatever the weight.


@few("name", OPTAX)
def test_the_conversion_takes_the_same_path(name):
    theirs, ours = OPTAX[name]
    start, gradients = drawn()
    expected = path_of(theirs(WEIGHT), start, gradients)
    np.testing.assert_allclose(path_of(ours(), start, gradients), expected, rtol=2e-5, atol=2e-6)
    without = path_of(theirs(0.0), start, gradients)
    assert abs(without - expected).max() > 1e-5


# Torch and Keras.


def falling(step):
    return jnp.asarray(TORCH["rates"], jnp.float32)[step]


@few("name", ["AdamW", "Adam", "SGD"])
def test_the_optimizers_of_torch(name):
    ours = {
        "AdamW": coupled(optax.adam(falling), falling, TORCH["weight"]),
        "Adam": through_the_gradient(optax.adam(falling), TORCH["weight"]),
        "SGD": through_the_gradient(optax.sgd(falling, momentum=0.9), TORCH["weight"]),
    }
    assert ours.keys() == TORCH["paths"].keys()
    actual = path_of(ours[name], TORCH["start"], TORCH["gradients"])
    # In float32 the bias corrections of Adam are off by 1e-5.
    np.testing.assert_allclose(actual, TORCH["paths"][name], rtol=1e-4, atol=1e-5)


@few("name", ["SGD", "AdamW", "Adam"])
def test_every_optimizer_of_keras_decays_as_adamw(name):
    rate, weight = KERAS["rate"], KERAS["weight"]
    inner = {"AdamW": optax.adam(rate, eps=1e-7), "SGD": optax.sgd(rate)}
    inner["Adam"] = inner["AdamW"]
    assert inner.keys() == KERAS["paths"].keys()
    actual = path_of(coupled(inner[name], rate, weight), KERAS["start"], KERAS["gradients"])
    np.testing.assert_allclose(actual, KERAS["paths"][name], rtol=1e-4, atol=1e-5)


# Formulas of timm, big_vision and MosaicML: Adam in float64 with a share of its own.


def adam_with_shares(start, gradients, rates, shares):
    """Weights after each step that decay by the share of the step before Adam moves them."""
    w = np.array(start)
    m = v = 0.0
    path = []
    for t, (g, rate, taken) in enumerate(zip(gradients, rates, shares, strict=True), start=1):
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g**2
        step = m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        w = w * (1 - taken) - rate * step
        path.append(w)
    return np.array(path)


WARM = optax.warmup_cosine_decay_schedule(0.01, RATE, 3, STEPS, 0.005)
RATES = np.array(  # of WARM, in float64
    [
        0.01 + (RATE - 0.01) * t / 3
        if t < 3
        else 0.005 + (RATE - 0.005) * (1 + np.cos(np.pi * (t - 3) / (STEPS - 3))) / 2
        for t in range(STEPS)
    ]
)
FORMULAS = {
    "torch, default of timm": (
        RATES * WEIGHT,
        lambda: transforms.decoupled_decay(WEIGHT, learning_rate=WARM, mask=None),
    ),
    "corrected_weight_decay of timm": (
        RATES**2 / RATE * WEIGHT,
        lambda: transforms.decoupled_decay(
            lambda t: WEIGHT * WARM(t) / RATE, learning_rate=WARM, mask=None
        ),
    ),
    "wd of big_vision, DecoupledAdamW of MosaicML": (
        RATES / RATE * WEIGHT,
        lambda: transforms.independent_decay(lambda t: WEIGHT * WARM(t) / RATE, mask=None),
    ),
    "the same, coupled": (
        RATES / RATE * WEIGHT,
        lambda: transforms.decoupled_decay(WEIGHT / RATE, learning_rate=WARM, mask=None),
    ),
    "no schedule at all": (
        np.full(STEPS, WEIGHT),
        lambda: transforms.independent_decay(WEIGHT, mask=None),
    ),
}


@few("name", FORMULAS)
def test_kinds_that_differ_in_their_schedule(name):
    shares, decay = FORMULAS[name]
    start, gradients = drawn()
    expected = adam_with_shares(start, gradients, RATES, shares)
    actual = path_of(optax.chain(optax.adam(WARM), decay()), start, gradients)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)
    others = [s for s, _ in FORMULAS.values() if abs(s - shares).max() > 1e-9]
    for other in others:
        distance = abs(adam_with_shares(start, gradients, RATES, other) - expected).max()
        assert distance > 1e-3


def big_vision(rate, weight):
    """Its order of Optax's parts: the rate, the decay, then the schedule from 0 to 1 over both."""
    return optax.chain(
        optax.scale_by_adam(),
        optax.scale(rate),
        optax.add_decayed_weights(weight),
        optax.scale_by_schedule(lambda t: WARM(t) / RATE),
        optax.scale(-1.0),
    )


@few("rate", [0.03, 0.3])
def test_the_chain_of_big_vision_does_not_know_the_base_rate(rate):
    start, gradients = drawn()
    expected = path_of(big_vision(rate, WEIGHT), start, gradients)
    ours = optax.chain(
        optax.adam(lambda t: rate * WARM(t) / RATE),
        transforms.independent_decay(lambda t: WEIGHT * WARM(t) / RATE, mask=None),
    )
    np.testing.assert_allclose(path_of(ours, start, gradients), expected, rtol=1e-5, atol=1e-6)
