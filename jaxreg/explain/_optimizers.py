"""Finds what a whole optimizer does to regularize: clipping, flat minima, averages and noise."""

import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg._checks import is_floating
from jaxreg.explain import _averages, _clipping, _trials
from jaxreg.explain._effects import Effect
from jaxreg.explain._trials import Trial

_SHARPNESS = "sharpness-aware minimization"
# Random numbers for a standard deviation with an error of 0.5%.
_SAMPLES = 20_000
_MOST_REPEATS = 400


def of_optimizer(optimizer: Any, params: Any) -> list[Effect]:
    """Returns what an optimizer does as a whole, with strengths that are measured by trying.

    Args:
      optimizer: Optax transformation, ``optax.MultiSteps``, or an object that holds one as ``tx``.
      params: Tree of parameters; only their shapes and dtypes are used.
    """
    with jax.enable_x64(True), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tx = getattr(optimizer, "tx", optimizer)
        return of_trial(Trial(tx, _trials.weights_like(params)))


def of_trial(trial: Trial) -> list[Effect]:
    """Returns what a tried optimizer does as a whole."""
    with jax.enable_x64(True), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [
            *_clipping.find(trial),
            *_find_sharpness(trial),
            *_averages.find(trial),
            *_find_noise(trial),
        ]


def _find_sharpness(trial: Trial) -> list[Effect]:
    """Finds gradients at a perturbed point, and steps uphill."""
    if trial.asks:
        return _of_points(trial)
    return _of_ascent(trial) if trial.has_cycles else []


def _of_points(trial: Trial) -> list[Effect]:
    """Measures how far from the parameters an optimizer asks for a gradient."""
    ask = _asking(trial)
    far = _trials.scale(trial.weights, 1e6)
    near_way = ask(trial.signs, trial.weights)
    more_way = ask(_trials.scale(trial.signs, 4.0), trial.weights)
    far_way = ask(trial.signs, far)
    if near_way is None or more_way is None or far_way is None:
        return [Effect(_SHARPNESS, np.nan, "rho")]
    radius = _norm(near_way)
    if radius == 0:
        return []
    if not np.isclose(radius, _norm(more_way), rtol=1e-3):
        return [Effect(_SHARPNESS, np.nan, "rho")]
    # Adding a small perturbation to large weights rounds it.
    if np.isclose(radius, _norm(far_way), rtol=1e-3):
        return [Effect(_SHARPNESS, radius, "rho")]
    relative = jax.tree.map(_quotient, far_way, far)
    return [Effect(_SHARPNESS, _norm(relative), "rho, relative to the weights")]


def _asking(trial: Trial) -> Callable[[Any, Any], Any]:
    """Returns the function from a gradient and weights to the way to where it asks for another.

    The function returns None where an update does not ask.
    """
    points: list[Any] = []

    def tell(params: Any) -> None:
        jax.debug.callback(points.append, jax.tree.map(_words, params))

    @jax.jit
    def update(gradient: Any, state: Any, weights: Any) -> Any:
        return trial.call(gradient, state, weights, tell).move

    def ask(gradient: Any, weights: Any) -> Any:
        points.clear()
        jax.block_until_ready(update(gradient, trial.start(weights), weights))
        jax.effects_barrier()
        if not points:
            return None
        return jax.tree.map(_difference, jax.tree.map(_numbers, points[-1], weights), weights)

    return ask


def _words(w: Any) -> Any:
    """Returns float64 numbers as pairs of words, which no thread of a callback rounds."""
    is_wide = jnp.result_type(w) == jnp.float64
    return jax.lax.bitcast_convert_type(w, jnp.uint32) if is_wide else w


def _numbers(words: Any, like: Any) -> Any:
    """Returns the numbers of :func:`_words`."""
    if np.ndim(words) == np.ndim(like):
        return words
    return np.ascontiguousarray(words).view(np.float64).reshape(np.shape(like))


def _of_ascent(trial: Trial) -> list[Effect]:
    """Measures the steps of an optimizer that first goes uphill, and then back and down."""
    move = trial.begin(trial.signs, trial.weights)
    more = trial.begin(_trials.scale(trial.signs, 4.0), trial.weights)
    slope = sum(jax.tree.leaves(jax.tree.map(_product, move, trial.signs)))
    if not slope > 0:
        return []
    size = _norm(move)
    return [Effect(_SHARPNESS, size if np.isclose(size, _norm(more)) else np.nan, "rho")]


def _find_noise(trial: Trial) -> list[Effect]:
    """Measures random steps without a gradient; other random numbers are unknown."""
    if not trial.is_random:
        return []
    weights = _trials.scale(trial.weights, 0.0)
    count = sum(np.size(w) for w in jax.tree.leaves(weights) if is_floating(w))
    first = trial.start(weights)
    state = first
    squares = []
    for _ in range(min(-(-_SAMPLES // max(count, 1)), _MOST_REPEATS)):
        step = trial.take(trial.zeros, weights, _trials.with_keys(first, state))
        squares.append(_norm(step.move) ** 2 / count)
        state = step.state
        if squares[0] == 0:
            break
    if np.ptp(squares) == 0:
        return [Effect("unknown random numbers", np.nan, "")]
    unit = "standard deviation of a step without a gradient"
    return [Effect("gradient noise", float(np.sqrt(np.mean(squares))), unit)]


def _norm(tree: Any) -> float:
    squares = [np.sum(np.abs(x) ** 2) for x in jax.tree.leaves(tree) if is_floating(x)]
    return float(np.sqrt(sum(squares)))


def _difference(a: Any, b: Any) -> Any:
    return np.asarray(a) - np.asarray(b) if is_floating(b) else 0.0


def _quotient(a: Any, b: Any) -> Any:
    return np.asarray(a) / np.abs(b) if is_floating(b) else 0.0


def _product(a: Any, b: Any) -> float:
    return float(np.vdot(np.asarray(a), np.asarray(b)).real) if is_floating(b) else 0.0
