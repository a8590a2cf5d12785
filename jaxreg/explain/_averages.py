"""Finds averages of the weights in the state of an optimizer, by moving the weights.

A copy of the weights in a state is an average if it moves a part of the way toward new weights.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from jaxreg._checks import is_floating
from jaxreg.explain import _trials
from jaxreg.explain._effects import Effect
from jaxreg.explain._trials import PAIRED, Trial, leaf_names
from jaxreg.transforms import AverageState

_MOST_STEPS = 24
_EXACT = 1e-6

Copy = dict[str, np.ndarray]  # by the name of the parameter


class _Moved(NamedTuple):
    """Move of a copy of the weights in a step."""

    part: float  # of the way to the new weights; NaN if it moves elsewhere
    inner: float  # of the way to the weights before the step
    is_joined: bool  # whether the weights return to the copy, as in lookahead


def find(trial: Trial) -> list[Effect]:
    """Returns the averages of the weights that an optimizer keeps, with their strengths."""
    if trial.way is PAIRED:
        return [Effect("lookahead", _slow_step(trial), "slow step size")]
    state = trial.start(trial.weights)
    found = [_of_copy(trial, prefix) for prefix in _copies(trial, state)]
    effects = list(dict.fromkeys(effect for effect in found if effect is not None))
    if not effects and any(isinstance(s, AverageState) for s in _states(state, AverageState)):
        effects.append(_averaging(np.nan))
    kind = optax.contrib.ScheduleFreeState
    b1 = [float(np.asarray(s.b1)) for s in _states(state, kind) if isinstance(s, kind)]
    return effects + [Effect("schedule-free averaging", b, "b1") for b in dict.fromkeys(b1)]


def act_in_mini_steps(trial: Trial) -> bool:
    """Returns whether an average moves while gradients are only accumulated."""
    if trial.mini_steps == 1:
        return False
    before = trial.start(trial.weights)
    after = trial.wait(_trials.scale(trial.weights, 2.0), since=trial.weights).state
    names = [n for n, w in leaf_names(trial.weights).items() if is_floating(w)]
    pairs = [
        (_copy(before, prefix, names), _copy(after, prefix, names))
        for prefix in _copies(trial, before)
    ]
    return any(_length(_minus(new, old)) > _EXACT * _length(old) for old, new in pairs)


def _averaging(decay: float) -> Effect:
    return Effect(
        "weight averaging", decay, "equal weights" if np.isnan(decay) else "decay per step"
    )


def _states(state: Any, kind: type) -> list[Any]:
    return jax.tree.leaves(state, is_leaf=lambda s: isinstance(s, kind))


def _slow_step(trial: Trial) -> float:
    """Measures the slow step size of ``optax.lookahead``, whose slow weights are parameters."""
    slow = _trials.scale(trial.weights, 0.0)
    pair = optax.LookaheadParams(fast=trial.weights, slow=slow)
    state = trial.last_phase(trial.weights)
    updates = jax.jit(lambda s, p: trial.tx.update(trial.zeros, s, p)[0])(state, pair)
    return _part(leaf_names(updates.slow), leaf_names(trial.weights))


def _copies(trial: Trial, state: Any) -> Iterator[str]:
    """Yields the prefixes of names under which a state holds copies of the weights."""
    weights = leaf_names(trial.weights)
    leaves = leaf_names(state)
    prefixes: dict[str, None] = {}
    for name, leaf in leaves.items():
        for own, w in weights.items():
            if is_floating(w) and f"/{name}".endswith(f"/{own}") and _equal(leaf, w):
                prefixes.setdefault(name.removesuffix(own))
    yield from prefixes


def _equal(leaf: Any, w: Any) -> bool:
    same_shape = np.shape(leaf) == np.shape(w) and np.size(w) > 0
    return same_shape and is_floating(leaf) and np.allclose(leaf, w, rtol=1e-6)


def _of_copy(trial: Trial, prefix: str) -> Effect | None:
    """Returns the kind of average that a copy of the weights is; None if it is something else."""
    parts: list[float] = []
    for moved in _follow(trial, prefix):
        if np.isnan(moved.part):
            return None
        if moved.is_joined:
            return Effect("lookahead", moved.inner, "slow step size")
        parts.append(moved.part)
        if len(parts) > 2 and _EXACT < parts[-1] < 1 - _EXACT:
            return _averaging(_decay_of(parts))
    return None


def _decay_of(parts: list[float]) -> float:
    """Returns the decay of a running average from its first steps; NaN for equal weights."""
    inner = [part for part in parts if _EXACT < part < 1 - _EXACT]
    if len(inner) < 2 or abs(1 / inner[1] - 1 / inner[0] - 1) < 1e-7:
        return np.nan
    # With a corrected bias the first part is 1, and the second one 1 / (1 + decay).
    return 1 / inner[0] - 1 if parts[0] > 1 - _EXACT else 1 - inner[0]


def _follow(trial: Trial, prefix: str) -> Iterator[_Moved]:
    """Yields what steps without gradients do to a copy, while the weights jump."""
    state = trial.start(trial.weights, _trials.STEPS[-1])
    names = [n for n, w in leaf_names(trial.weights).items() if is_floating(w)]
    for number in range(_MOST_STEPS):
        signs = _trials.random_signs(trial.weights, 2 + number)
        weights = jax.tree.map(_add, trial.weights, signs)
        step = trial.take(trial.zeros, weights, state)
        old = _copy(state, prefix, names)
        new = _copy(step.state, prefix, names)
        here = {name: w for name, w in leaf_names(weights).items() if name in old}
        move = {name: np.asarray(u) for name, u in leaf_names(step.move).items() if name in old}
        yield _compare(old, new, here, move)
        state = step.state


def _compare(old: Copy, new: Copy, here: Copy, move: Copy) -> _Moved:
    """Compares a copy before and after a step of the weights."""
    change = _minus(new, old)
    jump = _minus(here, old)
    way = {name: jump[name] + move[name] for name in jump}
    part = _part(change, way)
    inner = _part(change, jump)
    is_straight = _distance(change, way, part) <= 1e-4 * _length(change)
    # The weights return to the copy, most of all because they were far from it.
    returns = _length(move) > 0 and _distance(move, jump, inner - 1) < 0.1 * _length(move)
    is_joined = part > 1 - _EXACT and returns and 0.001 < inner < 0.999
    return _Moved(part if is_straight else np.nan, inner, is_joined)


def _copy(state: Any, prefix: str, names: list[str]) -> Copy:
    leaves = leaf_names(state)
    return {n: np.asarray(leaves[prefix + n]) for n in names if prefix + n in leaves}


def _minus(a: Copy, b: Copy) -> Copy:
    return {name: a[name] - b[name] for name in b}


def _add(a: Any, b: Any) -> Any:
    return a + b if is_floating(a) else a


def _part(change: Copy, way: Copy) -> float:
    """Returns the part of a way that a change covers."""
    names = [name for name, w in way.items() if is_floating(w)]
    along = sum(float(np.vdot(way[n], change[n]).real) for n in names)
    length = sum(float(np.vdot(way[n], way[n]).real) for n in names)
    return along / length if length else 0.0


def _length(change: Copy) -> float:
    return float(np.sqrt(sum(float(np.sum(np.abs(c) ** 2)) for c in change.values())))


def _distance(change: Copy, way: Copy, part: float) -> float:
    """Returns how far a change ends from a part of a way."""
    return _length({name: change[name] - part * way[name] for name in change})
