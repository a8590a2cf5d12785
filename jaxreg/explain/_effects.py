"""Infers the regularizers of a leaf, their strengths and order, from its probed response."""

import itertools
from typing import NamedTuple

import numpy as np

from jaxreg.explain._curves import EXACT, NOTHING, Curve, Fit
from jaxreg.explain._probe import Probed, Response, is_uneven

_LARGE = 1e6
# A proximal step takes at least this share of the smallest weights, if something scales it later.
_LEAST_OF_ALL = 0.01

COUPLED = "coupled"
NOT_LAST = "not last"
SCALED_AFTER = "scaled after"
MINI_STEPS = "mini steps"

_OF_WEIGHT = "of the weight per step"
_WHERE_IT_SHRINKS = "of the weight per step that does not enlarge it"
_NEAR_ONE = "of the weight per step, at weights and gradients near 1"
_OF_EACH = "of each weight per step"
_IN_METRIC = "of each weight in a first step with gradients of size 1"


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
    problems = (MINI_STEPS,) if abs(response.in_mini_step) > NOTHING else ()
    if not response.rest.moves:
        effects = _of_rest(response, probed)
        return Found(effects, problems)
    found = _of_moves(response)
    return Found(found.effects, (*found.problems, *problems))


def of_penalty(response: Response) -> Found:
    """Infers the effect of a penalty in the loss on a leaf, from the gradient of the penalty."""
    curve = response.rest
    if not curve.moves:
        return Found((), ())
    shares = curve.shares
    one = curve.at(1.0)
    if curve.is_even(one) and np.allclose(shares, shares[0], rtol=1e-3):
        return Found((Effect("L2 penalty", float(shares[one]), "times the weight"),), ())
    return Found((Effect("penalty", _size(curve), "mean gradient at weights near 1"),), ())


def _size(curve: Curve) -> float:
    """Returns the mean size of the moves at weights near 1."""
    return float(np.mean(np.abs(curve.move(1.0))))


def _of_rest(response: Response, probed: Probed) -> tuple[Effect, ...]:
    """Returns the effects on a leaf that no update pulls anywhere."""
    if np.any(response.drift) and not probed.trial.is_random:
        size = float(np.mean(np.abs(response.drift)))
        return (Effect("moves without a gradient", size, "per step"),)
    if response.follows or np.any(response.drift):
        return ()
    return (Effect("frozen", 1.0, "never moves"),)


def _of_moves(response: Response) -> Found:
    rest = response.rest
    if _rests(response):
        return Found((_constraint(rest, 0.0),), ())
    smaller, small = rest.shares[:2]
    # The gradient of a norm pulls as much at smaller weights; a proximal step stops at zero.
    stops = abs(small - smaller) < EXACT * abs(small)
    ends_in_zeros = stops and smaller > _LEAST_OF_ALL
    still = rest.fit()
    busy = response.busy.fit()
    in_metric = ends_in_zeros and _is_in_metric(still, busy)
    takes_most = rest.shares[rest.at(1.0)] > 0.5  # as a hard threshold in a metric does
    if is_uneven(response.pulls) and not in_metric and not takes_most:
        kind = "penalty through the optimizer's scaling"
        unit = "per step at first, less after gradients"
        return Found((Effect(kind, _size(rest), unit),), (COUPLED,))
    curve, fit = (response.busy, busy) if in_metric else (rest, still)
    effects = _pulls(response, fit, stops=stops, in_metric=in_metric, to_zeros=ends_in_zeros)
    problems: list[str] = []
    if ends_in_zeros and abs(smaller - 1) > EXACT and _has_zeros(effects):
        problems.append(NOT_LAST if smaller > 1 else SCALED_AFTER)
    if curve.is_bounded:
        effects.append(_constraint(curve, 0.0 if fit is None else fit.decay))
        if curve.wanders:
            problems.append(NOT_LAST if curve.shares[-1] > 1 else SCALED_AFTER)
    if not effects:
        effects.append(Effect("moves without a gradient", _size(rest), "per step"))
    return Found(tuple(effects), tuple(problems))


def _pulls(
    response: Response, fit: Fit | None, *, stops: bool, in_metric: bool, to_zeros: bool
) -> list[Effect]:
    """Returns the decay of a leaf, and what takes the same from all of its weights."""
    rest = response.rest
    threshold = 0.0 if fit is None else fit.threshold
    if threshold > NOTHING and stops and not to_zeros:
        # The learning rate of the whole model depends on the size of its weights.
        return [Effect("decay", _busy_share(response), _NEAR_ONE)]
    decay = _decay(response, fit, in_metric=in_metric)
    effects = [] if decay is None else [decay]
    if threshold > NOTHING and to_zeros:
        unit = _IN_METRIC if in_metric else _OF_EACH
        effects.append(Effect("proximal step to exact zeros", threshold, unit))
    elif threshold > NOTHING:
        effects.append(Effect("gradient of an L1 or group penalty", threshold, _OF_EACH))
    elif to_zeros and rest.shares[rest.at(1.0)] < 0.5 * rest.shares[0]:
        effects.append(Effect("proximal step to exact zeros", _hard_zero(rest), "largest zero"))
    elif to_zeros and _busy_share(response) < 0.5 * rest.shares[0] and decay is None:
        unit = "largest zero without a gradient"
        effects.append(Effect("proximal step to exact zeros", _hard_zero(rest), unit))
    return effects


def _busy_share(response: Response) -> float:
    """Returns the share that is removed from weights near 1, with gradients of size 1."""
    return float(response.busy.shares[response.busy.at(1.0)])


def _has_zeros(effects: list[Effect]) -> bool:
    return any(effect.kind == "proximal step to exact zeros" for effect in effects)


def _is_in_metric(still: Fit | None, busy: Fit | None) -> bool:
    """Returns whether a proximal step depends on the gradients, as in an optimizer's metric."""
    if busy is None or busy.threshold <= NOTHING:
        return False
    return still is None or not np.isclose(still.threshold, busy.threshold, rtol=0.01, atol=0.0)


def _decay(response: Response, fit: Fit | None, *, in_metric: bool) -> Effect | None:
    """Returns the decay of a leaf as an effect, with a strength that does not need rest."""
    if fit is None or fit.decay == 0:
        return None
    even = fit.threshold > NOTHING or response.rest.is_even(response.rest.last_free)
    kind = "decay" if even or in_metric else "shrinks some weights"
    rest = fit.decay
    # Where clipping bounds a pull, the strength is that below the bound.
    if in_metric or not np.allclose(response.rest.shares, rest, rtol=1e-3, atol=0.0):
        return Effect(kind, rest, _OF_WEIGHT)
    busy = response.busy.fit()
    if busy is None:
        return Effect(kind, _busy_share(response), _NEAR_ONE)
    if np.isclose(busy.decay, rest, rtol=1e-3, atol=0.0):
        return Effect(kind, rest, _OF_WEIGHT)
    # Half of the weights agree with a gradient of random signs, the others with its opposite.
    if np.isclose(2 * busy.decay, rest, rtol=1e-3, atol=0.0):
        return Effect(kind, rest, _WHERE_IT_SHRINKS)
    return Effect(kind, busy.decay, _NEAR_ONE)


def _rests(response: Response) -> bool:
    """Returns whether a second update leaves large weights unchanged, as after a projection."""
    move = np.abs(response.rest.move(_LARGE)).max()
    landing = np.abs(response.rest.landing(_LARGE)).max()
    again = np.abs(response.again).max()
    return bool(move > 0 and landing > 0 and again <= 1e-8 * landing and again <= EXACT * move)


def _hard_zero(curve: Curve) -> float:
    """Returns the largest probed scale at which the weights become zero."""
    shares = curve.shares
    return curve.scales[int(np.flatnonzero(np.abs(shares - shares[0]) < EXACT)[-1])]


def _constraint(curve: Curve, decay: float) -> Effect:
    """Returns the projection of large weights as an effect, with a later ``decay`` undone."""
    landing = curve.landing(_LARGE)
    if curve.wanders:
        landing = landing + decay * _LARGE * curve.weights
    if np.abs(landing).max() > 1e3 and np.all(landing):
        return Effect("projection", float(curve.shares[curve.at(_LARGE)]), "of the part outside")
    if np.abs(landing).max() > 1e3:
        return Effect("projection", float(np.mean(landing == 0)), "of the weights to zero")
    return _bound_of_units(landing)


def _bound_of_units(landing: np.ndarray) -> Effect:
    """Returns the bound that large weights meet: of each of them, or of the norms of their units.

    Units, whose axes are not known, are the smallest groups whose norms are all equal.
    """
    for count in range(landing.ndim):
        for axes in itertools.combinations(range(landing.ndim), count):
            norms = _norms(landing, axes)
            if np.allclose(norms, norms.max(), rtol=1e-3, atol=0.0):
                unit = "largest norm of a unit" if axes else "largest absolute value"
                return Effect("projection", float(norms.max()), unit)
    axes = tuple(range(max(landing.ndim - 1, 1))) if landing.ndim else ()
    return Effect("projection", float(_norms(landing, axes).max()), "largest norm of a unit")


def _norms(w: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    return np.sqrt(np.sum(np.abs(w) ** 2, axis=axes))
