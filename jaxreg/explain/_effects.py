"""Infers the regularizers of a leaf, their strengths and order, from its probed response."""

from typing import NamedTuple

import numpy as np

from jaxreg.explain._probe import EXACT, SCALES, Probed, Response

_ONE = SCALES.index(1.0)
_LARGE = SCALES.index(1e6)
# Smaller moves, at weights near 1, are rounding errors of double precision.
_NOTHING = 1e-13

COUPLED = "coupled"
NOT_LAST = "not last"
SCALED_AFTER = "scaled after"
MINI_STEPS = "mini steps"


class Effect(NamedTuple):
    """A regularizer that acts on a leaf, and its strength."""

    kind: str
    strength: float
    unit: str


class Found(NamedTuple):
    """Regularizers that act on one leaf, and problems of the optimizer chain there."""

    effects: tuple[Effect, ...]
    problems: tuple[str, ...]


def of_leaf(response: Response, probed: Probed) -> Found:
    """Infers the regularizers that an optimizer applies to a leaf."""
    problems = (MINI_STEPS,) if abs(response.in_mini_step) > _NOTHING else ()
    if not any(np.any(move) for move in response.moves):
        effects = () if response.follows else (Effect("frozen", 1.0, "never moves"),)
        return Found(effects, problems)
    found = _of_moves(response, probed)
    return Found(found.effects, (*found.problems, *problems))


def of_penalty(response: Response) -> Found:
    """Infers the effect of a penalty in the loss on a leaf, from the gradient of the penalty."""
    if not any(np.any(move) for move in response.moves):
        return Found((), ())
    shares = response.shares
    if _is_even(response) and np.allclose(shares, shares[0], rtol=1e-3):
        return Found((Effect("L2 penalty", float(shares[_ONE]), "times the weight"),), ())
    pull = float(np.mean(np.abs(response.moves[_ONE])))
    return Found((Effect("penalty", pull, "mean gradient at weights near 1"),), ())


def _of_moves(response: Response, probed: Probed) -> Found:
    shares = response.shares
    fades = abs(response.after) < 0.01 * abs(response.before)
    if np.all(np.abs(shares[: SCALES.index(1e2) + 1] - 1) < EXACT) and not _rests(response):
        return Found(_in_metric(response, fades=fades), ())
    if fades and probed.is_bounded:
        size = float(np.mean(np.abs(response.moves[_ONE])))
        kind = "penalty through the optimizer's scaling"
        return Found((Effect(kind, size, "per step at first, less after gradients"),), (COUPLED,))
    if np.any(response.moves[_LARGE]) and _rests(response):
        return Found((_constraint(response, 0.0),), ())
    effects: list[Effect] = []
    problems: list[str] = []
    last = _last_free(shares)
    decay, threshold = _decay_and_threshold(response, shares, last)
    if abs(decay) > EXACT * abs(shares[last]) and abs(decay) > _NOTHING:
        even = threshold > _NOTHING or _is_even(response, last)
        kind = "decay" if even else "shrinks some weights"
        effects.append(Effect(kind, decay, "of the weight per step"))
    small = shares[1]
    smaller = shares[0]
    if threshold > _NOTHING:
        # The gradient of a norm pulls as much at smaller weights; a proximal step stops at zero.
        stops = abs(small - smaller) < EXACT * abs(small)
        kind = "proximal step to exact zeros" if stops else "gradient of an L1 or group penalty"
        effects.append(Effect(kind, threshold, "of each weight per step"))
        if stops and abs(smaller - 1) > EXACT:
            problems.append(NOT_LAST if smaller > 1 else SCALED_AFTER)
    elif abs(smaller - 1) < EXACT and shares[_ONE] < 0.5:
        effects.append(Effect("proximal step to exact zeros", _hard_zero(shares), "largest zero"))
    if last < len(shares) - 1:
        effects.append(_constraint(response, decay))
        if _wanders(response):
            problems.append(NOT_LAST if shares[-1] > 1 else SCALED_AFTER)
    if not effects:
        size = float(np.mean(np.abs(response.moves[_ONE])))
        effects.append(Effect("moves without a gradient", size, "per step"))
    return Found(tuple(effects), tuple(problems))


def _in_metric(response: Response, *, fades: bool) -> tuple[Effect, ...]:
    """Returns the effects on a leaf with a proximal step in the optimizer's metric."""
    others = np.flatnonzero(np.abs(response.shares - 1) >= EXACT)
    zeros = SCALES[int(others[0]) - 1 if others.size else -1]
    effects = [Effect("proximal step to exact zeros", zeros, "largest zero without a gradient")]
    # After large gradients the threshold is negligible.
    decay = response.after if fades and abs(response.after) > 10 * _NOTHING else 0.0
    if decay:
        effects.insert(0, Effect("decay", decay, "of the weight per step"))
    if _last_free(response.shares) < len(SCALES) - 1:
        effects.append(_constraint(response, decay))
    return tuple(effects)


def _rests(response: Response) -> bool:
    """Tells whether a second update leaves the leaf unchanged, as after a projection."""
    again = np.abs(response.again).max()
    landing = np.abs(_landing(response, _LARGE)).max()
    return bool(again <= 1e-8 * landing and again <= EXACT * np.abs(response.moves[_LARGE]).max())


def _last_free(shares: np.ndarray) -> int:
    """Returns the index of the last scale before the share rises, as under a constraint."""
    rising = np.flatnonzero(np.diff(shares) > 1e-9 + EXACT * np.abs(shares[:-1]))
    return int(rising[0]) if rising.size else len(shares) - 1


def _decay_and_threshold(response: Response, shares: np.ndarray, last: int) -> tuple[float, float]:
    """Fits ``c(s) = a + b / s`` to the shares at the two largest unconstrained scales.

    Returns:
      The decay ``a``, and the threshold per weight that follows from ``b``.
    """
    if last == 0:
        return 0.0, 0.0
    # At the largest scales a threshold is lost in rounding.
    high = min(last, SCALES.index(1e2))
    low_share = shares[high - 1]
    high_share = shares[high]
    slope = (low_share - high_share) / 9
    decay = high_share - slope
    w = response.weights
    per_weight = slope * SCALES[high] * float(np.vdot(w, w).real) / float(np.sum(np.abs(w)))
    return float(decay), float(per_weight) if slope > EXACT * abs(high_share) else 0.0


def _is_even(response: Response, at: int = _ONE) -> bool:
    """Tells whether an update removes the same fraction of every weight."""
    at = min(at, SCALES.index(1e2))
    moved = response.moves[at] / (SCALES[at] * response.weights)
    spread = float(np.max(np.abs(moved - np.mean(moved))))
    return spread <= max(1e-3 * float(np.max(np.abs(moved))), 1e-12)


def _hard_zero(shares: np.ndarray) -> float:
    """Returns the largest probed scale at which the weights become zero."""
    return SCALES[int(np.flatnonzero(np.abs(shares - 1) < EXACT)[-1])]


def _landing(response: Response, at: int) -> np.ndarray:
    return SCALES[at] * response.weights + response.moves[at]


def _wanders(response: Response) -> bool:
    """Tells whether weights ten times as large end elsewhere, unlike after a final projection."""
    near = _landing(response, _LARGE)
    far = _landing(response, _LARGE + 1)
    return float(np.abs(far - near).max()) > 1e-3 * float(np.abs(near).max())


def _constraint(response: Response, decay: float) -> Effect:
    """Returns the projection of large weights as an effect, with a later ``decay`` undone."""
    landing = _landing(response, _LARGE)
    if _wanders(response):
        landing = landing + decay * SCALES[_LARGE] * response.weights
    if np.abs(landing).max() > 1e3 and np.all(landing):
        return Effect("projection", float(response.shares[_LARGE]), "of the part outside")
    if np.abs(landing).max() > 1e3:
        return Effect("projection", float(np.mean(landing == 0)), "of the weights to zero")
    axes = tuple(range(max(landing.ndim - 1, 1))) if landing.ndim else ()
    norms = np.sqrt(np.sum(np.abs(landing) ** 2, axis=axes))
    return Effect("projection", float(np.max(norms)), "largest norm of a unit")
