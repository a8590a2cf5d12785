"""Histories of losses with known verdicts."""

import math

import numpy as np

from jaxreg.diagnosis import Verdict

NAN, INF = math.nan, math.inf


def decay(epochs, start, goal, time):
    """An exponential approach, as in a quadratic problem; ``time`` is a share of the run."""
    return goal + (start - goal) * np.exp(-np.arange(epochs) / (time * epochs))


def healthy(epochs):
    return decay(epochs, 1, 0.1, 0.15), decay(epochs, 1, 0.13, 0.15)


def healthy_power(epochs):
    train = (1 + np.arange(epochs) * 60 / epochs) ** -0.6
    return train, 1.04 * train + 0.01


def hard(epochs):
    """A gap that is small beside a loss that label noise keeps high."""
    return decay(epochs, 1, 0.3, 0.15), decay(epochs, 1, 0.36, 0.15)


def drifting(epochs):
    """A rise of the validation loss that is less than 5% of its minimum."""
    time = np.linspace(0, 1, epochs)
    return decay(epochs, 1, 0.46, 0.05), decay(epochs, 1, 0.475, 0.04) + 0.029 * time**2


def nearly_done(epochs):
    """A loss that still falls at full speed, and is already low."""
    line = np.linspace(1, 0.1, epochs)
    return line, line + 0.01


def turning(epochs):
    """A validation loss with a minimum in the first third: the model memorizes."""
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
    """Decay that grows until it undoes the learning."""
    lost = 0.2 * np.linspace(0, 1, epochs) ** 2
    return decay(epochs, 1, 0.2, 0.08) + lost, decay(epochs, 1, 0.22, 0.08) + lost


def oscillating(epochs):
    waves = 0.4 * (-1.0) ** np.arange(epochs) * np.linspace(0.5, 1, epochs)
    return 0.6 + waves, 0.65 + waves


def rattling(epochs):
    """Losses that scatter, in steps too small to count as jumps."""
    waves = 0.12 * (-1.0) ** np.arange(epochs)
    train = decay(epochs, 1, 0.3, 0.15)
    return train + waves, train + 0.03 - waves


def diverging(epochs):
    time = np.linspace(0, 1, epochs)
    curve = decay(epochs, 1, 0.2, 0.1) + 3 * np.maximum(time - 0.5, 0) ** 2
    return curve, curve + 0.02


def breaking(epochs):
    train, validation = healthy(epochs)
    train[int(0.6 * epochs) :] = NAN
    validation[int(0.6 * epochs) :] = NAN
    return train, validation


def overflowing(epochs):
    train, validation = healthy(epochs)
    train[-2] = INF
    return train, validation


def spiking(epochs):
    train, validation = healthy(epochs)
    train[int(0.7 * epochs)] += 2.0
    return train, validation


FAMILIES = {
    healthy: Verdict.HEALTHY,
    healthy_power: Verdict.HEALTHY,
    hard: Verdict.HEALTHY,
    nearly_done: Verdict.HEALTHY,
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
    rattling: Verdict.UNSTABLE,
    diverging: Verdict.UNSTABLE,
    breaking: Verdict.UNSTABLE,
    overflowing: Verdict.UNSTABLE,
    spiking: Verdict.UNSTABLE,
}
