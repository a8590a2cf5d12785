"""The diagnosis of histories whose verdicts are known, and of histories that say nothing."""

import math
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.training import diagnosis
from jaxreg.training.diagnosis import Thresholds, Verdict, diagnose

NAN, INF = math.nan, math.inf


def decay(epochs, start, goal, time):
    """An exponential approach, as of a quadratic problem; ``time`` is a share of the run."""
    return goal + (start - goal) * np.exp(-np.arange(epochs) / (time * epochs))


def healthy(epochs):
    return decay(epochs, 1, 0.1, 0.15), decay(epochs, 1, 0.13, 0.15)


def healthy_power(epochs):
    train = (1 + np.arange(epochs) * 60 / epochs) ** -0.6
    return train, 1.04 * train + 0.01


def turning(epochs):
    """A validation loss with a minimum in the first third, as of a model that memorizes."""
    time = np.linspace(0, 1, epochs)
    return decay(epochs, 1, 0.01, 0.12), decay(epochs, 1, 0.3, 0.08) + 0.5 * time**1.5


def turning_slowly(epochs):
    time = np.linspace(0, 1, epochs)
    return decay(epochs, 1, 0.02, 0.2), 0.45 + 0.55 * (1 - time / 0.55) ** 2


def plateau(epochs):
    """A validation loss that stays far above the training loss without a minimum."""
    return decay(epochs, 1, 0.03, 0.12), decay(epochs, 1, 0.4, 0.12)


def low_plateau(epochs):
    return decay(epochs, 1, 0.02, 0.15), decay(epochs, 1, 0.13, 0.12)


def stuck(epochs):
    return decay(epochs, 1, 0.8, 0.2), decay(epochs, 1, 0.82, 0.2)


def flat(epochs):
    return np.full(epochs, 1.0), np.full(epochs, 1.01)


def hasty(epochs):
    line = np.linspace(1, 0.4, epochs)
    return line, line + 0.02


def burdened(epochs):
    """Dropout of so many units that training is far worse than evaluation."""
    return decay(epochs, 1, 0.7, 0.15), decay(epochs, 1, 0.55, 0.15)


def overtaken(epochs):
    """Decay that grows until it undoes what was learned."""
    lost = 0.2 * np.linspace(0, 1, epochs) ** 2
    return decay(epochs, 1, 0.2, 0.08) + lost, decay(epochs, 1, 0.22, 0.08) + lost


def oscillating(epochs):
    waves = 0.4 * (-1.0) ** np.arange(epochs) * np.linspace(0.5, 1, epochs)
    return 0.6 + waves, 0.65 + waves


def diverging(epochs):
    time = np.linspace(0, 1, epochs)
    curve = decay(epochs, 1, 0.2, 0.1) + 3 * np.maximum(time - 0.5, 0) ** 2
    return curve, curve + 0.02


def breaking(epochs):
    train, validation = (curve.copy() for curve in healthy(epochs))
    train[int(0.6 * epochs) :] = NAN
    validation[int(0.6 * epochs) :] = NAN
    return train, validation


def overflowing(epochs):
    train, validation = (curve.copy() for curve in healthy(epochs))
    train[-2] = INF
    return train, validation


def spiking(epochs):
    train, validation = (curve.copy() for curve in healthy(epochs))
    train[int(0.7 * epochs)] += 2.0
    return train, validation


FAMILIES = {
    healthy: Verdict.HEALTHY,
    healthy_power: Verdict.HEALTHY,
    turning: Verdict.OVERFITTING,
    turning_slowly: Verdict.OVERFITTING,
    plateau: Verdict.TOO_LITTLE,
    low_plateau: Verdict.TOO_LITTLE,
    stuck: Verdict.UNDERFITTING,
    flat: Verdict.UNDERFITTING,
    hasty: Verdict.UNDERFITTING,
    burdened: Verdict.TOO_MUCH,
    overtaken: Verdict.TOO_MUCH,
    oscillating: Verdict.UNSTABLE,
    diverging: Verdict.UNSTABLE,
    breaking: Verdict.UNSTABLE,
    overflowing: Verdict.UNSTABLE,
    spiking: Verdict.UNSTABLE,
}
# Epochs, loss at the start, noise.
LOOKS = ((12, 2.3, 0.0), (60, 1.0, 0.01), (60, 1e4, 0.02), (200, 1e-6, 0.01), (500, 0.69, 0.005))


def noisy(curve, amount, seed):
    return curve + amount * np.random.default_rng(seed).normal(size=curve.size)


@pytest.mark.parametrize("look", LOOKS, ids=str)
@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.__name__)
def test_verdicts_on_curves_of_every_kind(family, look):
    epochs, scale, amount = look
    train, validation = family(epochs)
    history = {
        "train_loss": scale * noisy(train, amount, 0),
        "validation_loss": scale * noisy(validation, amount, 1),
    }
    found = diagnose(history)
    assert found.verdict == FAMILIES[family], found
    assert any(character.isdigit() for reason in found.reasons for character in reason)
    assert found.changes


# Losses below the floor have no level and no scale: poor or scattered ones look like any others.
LEVELS = (stuck, burdened, overtaken, oscillating)


@pytest.mark.parametrize("shift", [-0.5, -5.0, -1e3])
@pytest.mark.parametrize("family", [f for f in FAMILIES if f not in LEVELS],
                         ids=lambda f: f.__name__)  # fmt: skip
def test_verdicts_on_negative_losses(family, shift):
    train, validation = (noisy(curve, 0.003, seed) for seed, curve in enumerate(family(80)))
    found = diagnose({"train_loss": train + shift, "validation_loss": validation + shift})
    assert found.verdict == FAMILIES[family], found
    same = diagnose({"train_loss": train + shift, "validation_loss": validation + shift},
                    floor=shift)  # fmt: skip
    assert same.verdict == FAMILIES[family], same
