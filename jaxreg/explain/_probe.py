r"""Probes an optimizer for changes of the weights that do not follow the gradient.

An update with zero gradients at weights :math:`s w` moves them by :math:`D(s)`. It removes the
share :math:`c(s) = -\langle D(s), w \rangle / (s \langle w, w \rangle)`, measured over many orders
of magnitude of :math:`s`: decay removes the same share of all weights, a proximal step all of small
ones, a constraint nearly all of large ones, and the gradient of a norm far more than all of small
ones. The mean of the updates for a gradient and for its opposite tells the same in an optimizer
that is not at rest, which matters where the strength depends on the gradients. Nothing is read from
inside the transformations.
"""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxreg._checks import is_floating
from jaxreg.explain import _trials
from jaxreg.explain._curves import Curve, Sketch, share
from jaxreg.explain._trials import Trial, leaf_names

SCALES = tuple(10.0**exponent for exponent in range(-10, 8))
# With gradients of size 1, smaller weights are smaller than a step of the optimizer. Between that
# and the bound of a constraint there may be little room.
_BUSY_EXPONENTS = (-3, -2.5, -2, -1.5, -1, -0.5, 0, 1, 2, 3, 6, 7)
BUSY_SCALES = tuple(10.0**exponent for exponent in _BUSY_EXPONENTS)
_LARGE = 1e6
# Sizes of past gradients; values that are clipped to 1 still differ by 100.
_FEW, _MANY = 1e-2, 1e2
_PAST_STEPS = 3

__all__ = ["Probed", "Response", "leaf_names", "probe", "probe_penalty"]


class Response(NamedTuple):
    """Response of one leaf to probing updates."""

    rest: Curve  # without gradients
    busy: Curve  # mean for gradients of size 1 and their opposite, in a first step
    again: np.ndarray  # move of a second update at the scale 10^6, without gradients
    in_mini_step: float  # share removed while gradients are only accumulated
    pulls: tuple[float, float]  # shares removed after small, and after large, past gradients
    answers: tuple[float, float]  # parts of a gradient `w` that arrive then
    drift: np.ndarray  # move of zero weights without gradients
    follows: bool  # whether the gradient moves it
    couples: bool  # whether slices along its first axis depend on each other
    forgets: bool  # whether much more is removed from rows without a gradient

    @property
    def is_rescaled(self) -> bool:
        """Division of the gradients by the size of past ones, weight by weight."""
        return is_uneven(self.answers)


class Probed(NamedTuple):
    """Measurements of an optimizer, for each leaf and overall."""

    responses: dict[str, Response]  # by leaf, without None and integers
    trial: Trial

    @property
    def step(self) -> int:
        """The step of the schedules at which the optimizer was tried."""
        return self.trial.step

    @property
    def mini_steps(self) -> int:
        """The number of gradients that are accumulated to one step."""
        return self.trial.mini_steps

    @property
    def is_adaptive(self) -> bool:
        """Division of some leaf's gradients by the size of past ones."""
        return any(response.is_rescaled for response in self.responses.values())


def is_uneven(shares: tuple[float, float]) -> bool:
    """Returns whether shares after small and after large gradients differ by more than 10%."""
    few, many = shares
    return abs(few - many) > 0.1 * max(abs(few), abs(many)) > 1e-13


def probe(optimizer: Any, params: Any) -> Probed:
    """Measures the updates of an optimizer at random weights of the shapes of ``params``.

    Args:
      optimizer: Optax transformation, ``optax.MultiSteps``, or an object that holds one as ``tx``.
      params: Tree of parameters; only their shapes and dtypes are used.

    Raises:
      TypeError: ``optimizer`` is not an Optax transformation.
      ValueError: It takes no step with ``params``.
    """
    tx = getattr(optimizer, "tx", optimizer)
    if not (hasattr(tx, "init") and hasattr(tx, "update")):
        raise TypeError(
            f"`optimizer` must be an Optax transformation, got {type(optimizer).__name__}."
        )
    # In float64 a share of 1e-9 is above rounding; in narrow dtypes even decay would be lost in it.
    with jax.enable_x64(True), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _probe(Trial(tx, _trials.weights_like(params)))


def probe_penalty(penalty: Callable[[Any], Any], params: Any) -> dict[str, Response]:
    """Probes the gradient of a penalty as the step of SGD with learning rate 1."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        del updates
        gradients = jax.grad(penalty, allow_int=True)(params)

        def step(w: Any, g: Any) -> Any:
            return -g if is_floating(w) else jnp.zeros_like(w)

        return jax.tree.map(step, params, gradients), state

    return probe(optax.GradientTransformation(optax.init_empty_state, update), params).responses


def _probe(trial: Trial) -> Probed:
    weights = leaf_names(trial.weights)
    names = [name for name, w in weights.items() if is_floating(w) and np.size(w)]
    drift = leaf_names(trial.move(_trials.scale(trial.weights, 0.0)))
    rest = _curves_of(trial.move, trial.weights, names, SCALES, drift)
    still = leaf_names(trial.zeros)
    busy = _curves_of(_busy_move(trial), trial.weights, names, BUSY_SCALES, still)
    large = _trials.scale(trial.weights, _LARGE)
    landed = _add(large, trial.move(large))
    again = leaf_names(trial.move(landed))
    waiting = leaf_names(trial.wait(trial.weights).move)
    led = [leaf_names(trial.take(g, trial.weights).move) for g in _some_gradients(trial)]
    pulls, answers = _shares_after(trial, names)
    coupled = _coupled_leaves(trial)
    forgetful = _forgetful_leaves(trial)
    alone = leaf_names(trial.move(trial.weights))
    found = {}
    for name in names:
        w = np.asarray(weights[name])
        found[name] = Response(
            rest=rest[name],
            busy=busy[name],
            again=np.asarray(again[name]),
            in_mini_step=share(np.asarray(waiting[name]), w, 1.0) if trial.mini_steps > 1 else 0.0,
            pulls=pulls[name],
            answers=answers[name],
            drift=np.asarray(drift[name]),
            follows=any(answers[name])
            or any(np.any(np.asarray(m[name]) != alone[name]) for m in led),
            couples=name in coupled,
            forgets=name in forgetful,
        )
    return Probed(found, trial)


def _some_gradients(trial: Trial) -> list[Any]:
    """Returns gradients of two sizes, since some optimizers skip large ones."""
    return [trial.signs, _trials.scale(trial.signs, 1e-3)]


def _curves_of(
    move: Callable[[Any], Any],
    weights: Any,
    names: list[str],
    scales: tuple[float, ...],
    drift: dict[str, Any],
) -> dict[str, Curve]:
    """Returns the curves of all leaves, for a function from weights to their updates."""
    leaves = leaf_names(weights)
    sketches = {n: Sketch(np.asarray(leaves[n]), np.asarray(drift[n])) for n in names}
    for scale in scales:
        moved = leaf_names(move(_trials.scale(weights, scale)))
        for name, sketch in sketches.items():
            sketch.add(scale, np.asarray(moved[name]))
    return {name: sketch.curve() for name, sketch in sketches.items()}


def _busy_move(trial: Trial) -> Callable[[Any], Any]:
    """Returns the function from weights to their move with gradients of size 1, without theirs."""
    return lambda weights: trial.move_of_both_signs(trial.signs, weights)


def _add(weights: Any, move: Any) -> Any:
    return jax.tree.map(lambda w, u: w + np.asarray(u) if is_floating(w) else w, weights, move)


def _shares_after(
    trial: Trial, names: list[str]
) -> tuple[dict[str, tuple[float, float]], dict[str, tuple[float, float]]]:
    """Measures what past gradients of different sizes change.

    A pull before the preconditioner of an adaptive optimizer is divided by the size of past
    gradients, weight by weight. Half of the weights had small gradients, the others large ones, so
    that a norm of all gradients is the same for both.

    Returns:
      By leaf, the shares that are removed without a gradient, and the parts of a gradient equal to
      the weights that arrive in the update; each for small and for large past gradients.
    """
    w = leaf_names(trial.weights)
    sums = {name: np.zeros((2, 2)) for name in names}
    for parity in (0, 1):
        sizes = leaf_names(_sizes(trial.weights, parity))
        for sign in (1.0, -1.0):
            state = _state_after(trial, sign, parity)
            still = leaf_names(trial.take(trial.zeros, trial.weights, state).move)
            moved = leaf_names(trial.take(trial.weights, trial.weights, state).move)
            noise = leaf_names(_random_move(trial, state))
            for name in names:
                alone = np.asarray(still[name]) - noise[name]
                answer = np.asarray(moved[name]) - np.asarray(still[name])
                for row, size in enumerate((_FEW, _MANY)):
                    chosen = sizes[name] == size
                    products = [np.vdot(w[name][chosen], u[chosen]).real for u in (alone, answer)]
                    sums[name][:, row] -= products
    squares = {name: 2 * float(np.vdot(w[name], w[name]).real) for name in names}
    shares = {name: sums[name] / squares[name] for name in names}
    pulls = {name: (float(s[0, 0]), float(s[0, 1])) for name, s in shares.items()}
    answers = {name: (float(s[1, 0]), float(s[1, 1])) for name, s in shares.items()}
    return pulls, answers


def _random_move(trial: Trial, state: Any) -> Any:
    """Returns the part of an update that is noise; zeros if nothing draws random numbers."""
    if not trial.is_random:
        return trial.zeros
    move = trial.take(trial.zeros, _trials.scale(trial.weights, 0.0), state).move
    return jax.tree.map(np.asarray, move)


def _sizes(weights: Any, parity: int) -> Any:
    """Returns small and large sizes in turn, beginning with one or the other."""

    def alternate(w: np.ndarray) -> np.ndarray:
        is_large = (np.arange(w.size) + parity) % 2 == 1
        return np.where(is_large, _MANY, _FEW).reshape(w.shape)

    return _trials.gradient_like(weights, alternate)


def _state_after(trial: Trial, sign: float, parity: int) -> Any:
    """Returns the state after steps with gradients of alternating signs, at fixed weights."""
    gradient = jax.tree.map(_times, trial.signs, _sizes(trial.weights, parity))
    state = None
    for number in range(_PAST_STEPS):
        turned = _trials.scale(gradient, sign * (-1.0) ** number)
        state = trial.take(turned, trial.weights, state).state
    return state


def _times(a: Any, b: Any) -> Any:
    return a * b if is_floating(a) else a


def _coupled_leaves(trial: Trial) -> set[str]:
    """Returns the names of leaves in which a larger first slice changes updates of other slices."""

    def enlarge(leaf: Any) -> Any:
        if not is_floating(leaf) or np.ndim(leaf) < 3:
            return leaf
        return np.concatenate([10 * np.asarray(leaf)[:1], np.asarray(leaf)[1:]])

    found = set()
    for scale in (1.0, _LARGE):
        params = _trials.scale(trial.weights, scale)
        alone = leaf_names(trial.move(params))
        beside = leaf_names(trial.move(jax.tree.map(enlarge, params)))
        differ = {name for name, a in alone.items() if _slices_differ(a, beside[name])}
        # A transformation of the whole tree, such as clipping, does not concern layers.
        if all(np.ndim(alone[name]) >= 3 for name in differ):
            found |= differ
    return found


def _slices_differ(a: Any, b: Any) -> bool:
    """Returns whether the slices after the first differ by more than rounding error."""
    if not is_floating(a):
        return False
    sizes = np.abs(np.asarray(a))
    differences = np.abs(np.asarray(a) - np.asarray(b))
    if np.ndim(a) >= 3:
        sizes = sizes[1:]
        differences = differences[1:]
    return bool(differences.max(initial=0.0) > 1e-3 * sizes.max(initial=0.0))


def _forgetful_leaves(trial: Trial) -> set[str]:
    """Returns the names of leaves in which much more is removed from rows without a gradient."""
    idle = _shares_of_odd_rows(trial, 0.0)
    busy = _shares_of_odd_rows(trial, 1.0)
    return {name for name, removed in idle.items() if removed > max(10 * abs(busy[name]), 1e-3)}


def _shares_of_odd_rows(trial: Trial, factor: float) -> dict[str, float]:
    """Returns the fractions of odd rows that are removed, with their gradients times a factor."""

    def scale_odd_rows(g: Any) -> Any:
        if not is_floating(g) or np.ndim(g) == 0:
            return g
        is_even = np.arange(np.shape(g)[0]) % 2 == 0
        factors = np.where(is_even, 1.0, factor).reshape(-1, *[1] * (np.ndim(g) - 1))
        return g * factors.astype(g.dtype)

    gradient = jax.tree.map(scale_odd_rows, trial.signs)
    moves = leaf_names(trial.move_of_both_signs(gradient, trial.weights))
    pairs = {name: (np.asarray(moves[name]), w) for name, w in leaf_names(trial.weights).items()}
    return {name: share(u[1::2], w[1::2], 1.0) for name, (u, w) in pairs.items() if np.ndim(w)}
