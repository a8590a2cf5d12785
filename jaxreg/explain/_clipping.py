"""Finds the clipping of gradients, by gradients so large that larger ones change nothing.

The updates and the new state of an optimizer with clipping are the same for all large gradients of
one direction. The length at which they begin to be the same, for directions of one weight, of one
leaf and of two, tells what is bounded.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from jaxreg._checks import is_floating
from jaxreg.explain import _trials
from jaxreg.explain._effects import Effect
from jaxreg.explain._trials import Trial, leaf_names

_KIND = "gradient clipping"
# Lengths of gradients are powers of eight, which all dtypes represent.
_BASE = 8.0
_LARGEST = 13
_SAME = 1e-6
# A smaller bound only keeps a division by the norm from failing.
_LEAST = 1e-5

Gradient = Callable[[str, np.ndarray], np.ndarray]  # of the name and the weights of a leaf
Response = dict[str, np.ndarray]


class _Leaves(NamedTuple):
    """A leaf that is clipped, and another one, best of another size."""

    first: str
    second: str | None


def find(trial: Trial) -> list[Effect]:
    """Returns the clipping of gradients, of the first kind that is found, with its bound."""
    leaves = _clipped_leaves(trial)
    if leaves is None:
        return []
    first = leaves.first
    relative = _find_bound(trial, _like_weights(first), factor=1.0)
    if np.isclose(_find_bound(trial, _like_weights(first), factor=4.0), 4 * relative, rtol=0.01):
        return [Effect(_KIND, relative, "largest norm relative to the weight")]
    whole = _find_bound(trial, _whole(first))
    if math.isnan(whole) or whole < _LEAST:
        return []
    single = _find_bound(trial, _single(first))
    is_scalar = np.size(leaf_names(trial.weights)[first]) == 1
    if np.isclose(single, whole, rtol=1e-3) and not is_scalar:
        return [Effect(_KIND, single, "largest absolute value")]
    return [_of_norm(trial, leaves, single, whole)]


def _of_norm(trial: Trial, leaves: _Leaves, single: float, whole: float) -> Effect:
    """Tells the norm that is bounded, from the bounds of one weight and of a whole leaf."""
    if leaves.second is None:
        return Effect(_KIND, single, "largest global norm")
    both = _find_bound(trial, _single(leaves.first, leaves.second))
    if np.isclose(both, single / math.sqrt(2), rtol=1e-3):
        return Effect(_KIND, single, "largest global norm")
    other = _find_bound(trial, _whole(leaves.second))
    if np.isclose(other, whole, rtol=1e-3):
        return Effect(_KIND, whole, "largest root mean square of a leaf")
    return Effect(_KIND, single, "largest norm of a leaf")


def _clipped_leaves(trial: Trial) -> _Leaves | None:
    """Returns leaves for which large gradients and larger ones have the same response."""
    weights = leaf_names(trial.weights)
    sizes = {name: np.size(w) for name, w in weights.items() if is_floating(w) and np.size(w)}
    none = _respond(trial, _everywhere, -math.inf, 1.0)
    near = _respond(trial, _everywhere, _LARGEST - 1, 1.0)
    far = _respond(trial, _everywhere, _LARGEST, 1.0)
    from_zero = _respond(trial, _everywhere, _LARGEST, 0.0)

    def is_projected(name: str) -> bool:
        # Where the weights end does not depend on where they begin.
        move = f"move/{name}"
        return _is_same(weights[name] + far[move], from_zero[move])

    def is_clipped(name: str) -> bool:
        own = [key for key in near if f"/{key}".endswith(f"/{name}")]
        # A frozen leaf never responds.
        responds = any(not _is_same(none[key], far[key]) for key in own)
        bounded = responds and all(_is_same(near[key], far[key]) for key in own)
        return bounded and not is_projected(name)

    ordered = sorted(sizes, key=lambda name: (-sizes[name], name))
    clipped = [name for name in ordered if is_clipped(name)]
    if not clipped:
        return None
    first, *others = clipped
    differing = [name for name in others if sizes[name] != sizes[first]]
    return _Leaves(first, (*differing, *others, None)[0])


def _everywhere(_: str, w: np.ndarray) -> np.ndarray:
    return np.ones_like(w)


def _whole(name: str) -> Gradient:
    return lambda own, w: np.full_like(w, own == name)


def _like_weights(name: str) -> Gradient:
    return lambda own, w: w if own == name else np.zeros_like(w)


def _single(*names: str) -> Gradient:
    def gradient(own: str, w: np.ndarray) -> np.ndarray:
        g = np.zeros_like(w)
        g.flat[0] = own in names
        return g

    return gradient


def _find_bound(trial: Trial, gradient: Gradient, factor: float = 0.0) -> float:
    """Returns the multiple of a gradient from which on the response is the same; NaN if none.

    Args:
      trial: The optimizer.
      gradient: Direction of the gradient.
      factor: Multiple of the weights. At 0 no penalty adds to the gradient.
    """

    def respond(exponent: float) -> Response:
        return _respond(trial, gradient, exponent, factor)

    none = _respond(trial, gradient, -math.inf, factor)
    last = respond(_LARGEST)
    low, high = -_LARGEST, _LARGEST
    if _are_same(respond(low), last) or not _are_same(respond(high - 1), last):
        return math.nan
    while high - low > 1:
        middle = (low + high) // 2
        if _are_same(respond(middle), last):
            high = middle
        else:
            low = middle
    return _refine(respond, low, none, last)


def _refine(
    respond: Callable[[float], Response], low: int, none: Response, last: Response
) -> float:
    """Follows the power law of a response to where it meets the last one; NaN if it does not."""
    near = respond(low)
    before = respond(low - 1)
    for key, end in last.items():
        start = none[key]
        changes = [float(np.sum(np.abs(r[key] - start))) for r in (before, near)]
        change = float(np.sum(np.abs(end - start)))
        if min(*changes, change) <= 0 or not math.isfinite(sum(changes) + change):
            continue
        power = math.log(changes[1] / changes[0], _BASE)
        if round(power) not in (1, 2) or abs(power - round(power)) > 1e-3:
            continue
        found = low + math.log(change / changes[1], _BASE) / round(power)
        step = math.log(1.01, _BASE)
        if _are_same(respond(found + step), last) and not _are_same(respond(found - step), last):
            return _BASE**found
    return math.nan


def _respond(trial: Trial, gradient: Gradient, exponent: float, factor: float) -> Response:
    """Returns the floating-point numbers of an update and of its state, for ``8**exponent``."""
    weights = _trials.scale(trial.weights, factor)
    length = _BASE**exponent if math.isfinite(exponent) else 0.0
    named = {
        name: gradient(name, np.asarray(w)) for name, w in leaf_names(trial.weights).items()
        if is_floating(w)
    }  # fmt: skip
    leaves = [named.get(name, g) for name, g in leaf_names(trial.zeros).items()]
    tree = jax.tree.unflatten(jax.tree.structure(trial.zeros), leaves)
    step = trial.take(_trials.scale(tree, length), weights)
    moves = {f"move/{name}": u for name, u in leaf_names(step.move).items()}
    states = {f"state/{name}": s for name, s in leaf_names(step.state).items()}
    both = {**moves, **states}
    return {name: np.asarray(leaf) for name, leaf in both.items() if is_floating(leaf)}


def _are_same(a: Response, b: Response) -> bool:
    return all(_is_same(a[key], b[key]) for key in b)


def _is_same(a: np.ndarray, b: np.ndarray) -> bool:
    """Returns whether two arrays agree, compared to their largest numbers."""
    largest = float(np.max(np.abs(b), initial=0.0))
    differs = np.abs(a - b) > _SAME * largest  # False for NaN.
    return not bool(np.any(differs))
