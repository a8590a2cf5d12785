r"""Probes an optimizer for changes of the weights that do not follow the gradient.

An update with zero gradients at weights :math:`s w` moves them by :math:`D(s)`. It removes the
share :math:`c(s) = -\langle D(s), w \rangle / (s \langle w, w \rangle)`, measured over many orders
of magnitude of :math:`s`: decay removes the same share of all weights, a proximal step all of small
ones, a constraint nearly all of large ones, and the gradient of a norm far more than all of small
ones. Nothing is read from inside the transformations.
"""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxreg._checks import is_floating
from jaxreg._paths import path_names

STEPS = (0, 1, 10, 100, 1_000, 10_000, 100_000)
EXPONENTS = tuple(range(-10, 8))
SCALES = tuple(10.0**exponent for exponent in EXPONENTS)
_MOST_MINI_STEPS = 1024
# Tolerance of shares, which float64 computes to many more digits.
EXACT = 1e-6
_PAST = 1e6
# Scale of weights so far from zero that momentum does not carry them across it.
_FAR = 1e3


class Response(NamedTuple):
    """Response of one leaf to probing updates, most of them with zero gradients."""

    weights: np.ndarray  # the weights w that were tried
    moves: tuple[np.ndarray, ...]  # D(s) for every scale
    again: np.ndarray  # move of a second update at the scale 10^6
    in_mini_step: float  # share removed while gradients are only accumulated
    before: float  # share removed from large weights at first
    after: float  # share removed from large weights after large gradients
    follows: bool  # whether the gradient moves it
    couples: bool  # whether slices along its first axis depend on each other
    forgets: bool  # whether much more is removed from rows without a gradient

    @property
    def shares(self) -> np.ndarray:
        """The share ``c(s)`` of the weights that an update removes, for every scale ``s``."""
        return np.array(
            [share(m, self.weights, s) for m, s in zip(self.moves, SCALES, strict=True)]
        )


class Probed(NamedTuple):
    """Measurements of an optimizer, for each leaf and overall."""

    responses: dict[str, Response]  # by leaf, without None and integers
    step: int  # the step of STEPS at which it was tried
    mini_steps: int  # number of gradients that are accumulated to one step
    is_adaptive: bool  # whether steps do not grow with small gradients
    is_bounded: bool  # whether steps do not grow with large ones


def share(move: np.ndarray, weights: np.ndarray, scale: float) -> float:
    """Returns the fraction of the weights that the update ``move`` removes."""
    size = scale * float(np.vdot(weights, weights).real)
    return -float(np.vdot(weights, move).real) / size if size else 0.0


def leaf_names(tree: Any) -> dict[str, Any]:
    """Returns the leaves of a tree, keyed by names such as ``Dense_0/kernel``."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {"/".join(path_names(path)) or "params": leaf for path, leaf in leaves}


def weights_like(params: Any) -> Any:
    """Draws float64 weights of the shapes of ``params``, of both signs and away from zero."""
    rng = np.random.default_rng(0)

    def draw(leaf: Any) -> Any:
        if not is_floating(leaf):
            return leaf
        shape = np.shape(leaf)
        signs = np.resize([1.0, -1.0], max(np.size(leaf), 1))
        values = rng.uniform(0.5, 1.5, shape)
        values = values * rng.permutation(signs)[: np.size(leaf)].reshape(shape)
        return jnp.asarray(values, jnp.promote_types(jnp.result_type(leaf), jnp.float64))

    return jax.tree.map(draw, params)


def probe(optimizer: Any, params: Any) -> Probed:
    """Measures the updates of an optimizer at random weights of the shapes of ``params``.

    Args:
      optimizer: Optax transformation, ``optax.MultiSteps``, or an object that holds one as ``tx``.
      params: Tree of parameters; only their shapes and dtypes are used.

    Raises:
      TypeError: ``optimizer`` is not an Optax transformation.
    """
    tx = getattr(optimizer, "tx", optimizer)
    if not (hasattr(tx, "init") and hasattr(tx, "update")):
        raise TypeError(
            f"`optimizer` must be an Optax transformation, got {type(optimizer).__name__}."
        )
    # In float64 a share of 1e-9 is above rounding; in narrow dtypes even decay would be lost in it.
    with jax.enable_x64(True), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _probe(_Trial(tx, weights_like(params)))


class _Trial:
    """An optimizer, random weights, and the state from which every probing update starts."""

    def __init__(self, tx: Any, weights: Any):
        tx = optax.with_extra_args_support(tx)
        # Transformations that follow a metric, such as reduce_on_plateau, get one.
        self.update = jax.jit(lambda g, w, state: tx.update(g, state, w, value=jnp.ones(())))
        self.weights = weights
        self.zeros = _scale(weights, 0.0)
        self.signs = jax.tree.map(lambda w: jnp.ones_like(w) if is_floating(w) else w, weights)
        self.first = jax.tree.map(jnp.asarray, tx.init(weights))
        self.mini_steps = self._count_mini_steps()
        self.start = self.at(STEPS[0])

    def move(self, params: Any, state: Any = None) -> Any:
        """Returns the updates for zero gradients."""
        return self.update(self.zeros, params, self.start if state is None else state)[0]

    def at(self, step: int) -> Any:
        """Returns the state at ``step``, with ``optax.MultiSteps`` about to apply an update."""
        counts = {"count": step, "mini_step": self.mini_steps - 1}
        return _with_counts(self.first, counts)

    def _count_mini_steps(self) -> int:
        if "mini_step" not in _counters(self.first):
            return 1
        state = self.first
        for number in range(1, _MOST_MINI_STEPS + 1):
            _, state = self.update(self.zeros, self.weights, state)
            if _counters(state)["mini_step"] == 0:
                return number
        return _MOST_MINI_STEPS


def _probe(trial: _Trial) -> Probed:
    pulls = [_size(trial.move(trial.weights, trial.at(step))) for step in STEPS]
    # The first step that is not just the beginning of a warmup.
    step = STEPS[int(np.argmax(np.array(pulls) >= 0.3 * max(pulls)))]
    trial.start = trial.at(step)
    moves = [leaf_names(trial.move(_scale(trial.weights, scale))) for scale in SCALES]
    large = _scale(trial.weights, SCALES[EXPONENTS.index(6)])
    landed = optax.apply_updates(large, trial.move(large))
    again = leaf_names(trial.move(landed))
    waiting = _with_counts(trial.start, {"mini_step": 0})
    in_mini_step = leaf_names(trial.move(trial.weights, waiting))
    before, after = _before_and_after(trial)
    gradient = leaf_names(trial.update(trial.signs, trial.weights, trial.start)[0])
    coupled = _coupled_leaves(trial)
    idle, busy = _idle_and_busy(trial)
    found = {}
    for name, weights in leaf_names(trial.weights).items():
        if not is_floating(weights) or np.size(weights) == 0:
            continue
        w = np.asarray(weights)
        found[name] = Response(
            weights=w,
            moves=tuple(np.asarray(move[name]) for move in moves),
            again=np.asarray(again[name]),
            in_mini_step=share(np.asarray(in_mini_step[name]), w, 1.0)
            if trial.mini_steps > 1
            else 0.0,
            before=share(np.asarray(before[name]), w, _FAR),
            after=share(np.asarray(after[name]), w, _FAR),
            follows=bool(
                np.any(np.asarray(gradient[name]) != np.asarray(moves[EXPONENTS.index(0)][name]))
            ),
            couples=name in coupled,
            forgets=_share_of_odd_rows(idle[name], w)
            > max(10 * abs(_share_of_odd_rows(busy[name], w)), 1e-3),
        )
    return Probed(
        responses=found,
        step=step,
        mini_steps=trial.mini_steps,
        is_adaptive=_is_adaptive(trial, 1e-6),
        is_bounded=_is_adaptive(trial, 1e2),
    )


def _before_and_after(trial: _Trial) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns two updates of large weights: at the start, and after steps of large gradients.

    A pull before the preconditioner of the optimizer is divided by the size of past gradients.
    """
    far = _scale(trial.weights, _FAR)
    past = _scale(trial.signs, _PAST)
    state = trial.start
    for _ in range(3):
        _, state = trial.update(past, far, state)
        state = _with_counts(state, {"mini_step": trial.mini_steps - 1})
    return _pull_without_momentum(trial, trial.start), _pull_without_momentum(trial, state)


def _pull_without_momentum(trial: _Trial, state: Any) -> dict[str, Any]:
    """Returns the part of the updates that is odd in the weights, which excludes momentum."""
    far = trial.move(_scale(trial.weights, _FAR), state)
    opposite = trial.move(_scale(trial.weights, -_FAR), state)
    return leaf_names(jax.tree.map(lambda a, b: (a - b) / 2, far, opposite))


def _coupled_leaves(trial: _Trial) -> set[str]:
    """Returns the names of leaves in which a larger first slice changes updates of other slices."""

    def enlarge(leaf: Any) -> Any:
        if not is_floating(leaf) or np.ndim(leaf) < 3:
            return leaf
        return np.concatenate([10 * np.asarray(leaf)[:1], np.asarray(leaf)[1:]])

    found = set()
    for scale in (1.0, 1e6):
        params = _scale(trial.weights, scale)
        alone = leaf_names(trial.move(params))
        beside = leaf_names(trial.move(jax.tree.map(enlarge, params)))
        differ = {name for name, a in alone.items() if _slices_differ(a, beside[name])}
        # A transformation of the whole tree, such as clipping, does not concern layers.
        if all(np.ndim(alone[name]) >= 3 for name in differ):
            found |= differ
    return found


def _slices_differ(a: Any, b: Any) -> bool:
    """Tells whether the slices after the first differ by more than rounding error."""
    if not is_floating(a):
        return False
    sizes = np.abs(np.asarray(a))
    differences = np.abs(np.asarray(a) - np.asarray(b))
    if np.ndim(a) >= 3:
        sizes = sizes[1:]
        differences = differences[1:]
    return bool(differences.max(initial=0.0) > 1e-3 * sizes.max(initial=0.0))


def _idle_and_busy(trial: _Trial) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the updates without the gradient step, for zero and nonzero gradients of odd rows."""
    return _move_without_step(trial, 0.0), _move_without_step(trial, 1.0)


def _move_without_step(trial: _Trial, factor: float) -> dict[str, Any]:
    """Returns updates without the gradient step, with gradients of odd rows times ``factor``.

    The mean of the updates for both signs of the gradients cancels the gradient step.
    """

    def scale_odd_rows(leaf: Any) -> Any:
        if not is_floating(leaf) or np.ndim(leaf) == 0:
            return leaf
        is_even = np.arange(np.shape(leaf)[0]) % 2 == 0
        factors = np.where(is_even, 1.0, factor).reshape(-1, *[1] * (np.ndim(leaf) - 1))
        return np.asarray(leaf) * factors.astype(np.asarray(leaf).dtype)

    moves = []
    for sign in (1.0, -1.0):
        gradient = jax.tree.map(scale_odd_rows, _scale(trial.signs, sign))
        moves.append(trial.update(gradient, trial.weights, trial.start)[0])
    return leaf_names(jax.tree.map(_half_sum, *moves))


def _half_sum(a: Any, b: Any) -> Any:
    return (np.asarray(a) + np.asarray(b)) / 2 if is_floating(a) else a


def _share_of_odd_rows(move: Any, w: np.ndarray) -> float:
    """Returns the fraction of the odd rows that the update ``move`` removes."""
    return share(np.asarray(move)[1::2], w[1::2], 1.0) if w.ndim else 0.0


def _is_adaptive(trial: _Trial, size: float) -> bool:
    """Tells whether 100 times larger gradients make the step less than 10 times larger."""
    sizes = []
    for gradient in (size, 100 * size):
        params = _scale(trial.weights, 0.0)
        updates, _ = trial.update(_scale(trial.signs, gradient), params, trial.start)
        still = trial.move(params)
        sizes.append(_size(jax.tree.map(lambda a, b: a - b, updates, still)))
    return bool(0 < sizes[1] < 10 * sizes[0])


def _size(tree: Any) -> float:
    return sum(float(jnp.sum(jnp.abs(leaf))) for leaf in jax.tree.leaves(tree) if is_floating(leaf))


def _scale(tree: Any, factor: float) -> Any:
    return jax.tree.map(lambda leaf: leaf * factor if is_floating(leaf) else leaf, tree)


def _counters(state: Any) -> dict[str, int]:
    """Returns the integer scalars in a state, keyed by the last name of their path."""
    return {
        name.rpartition("/")[2]: int(leaf)
        for name, leaf in leaf_names(state).items()
        if _is_counter(leaf)
    }


def _is_counter(leaf: Any) -> bool:
    return jnp.ndim(leaf) == 0 and jnp.issubdtype(jnp.result_type(leaf), jnp.integer)


def _with_counts(state: Any, counts: dict[str, int]) -> Any:
    """Returns the state with the named counters set to the values in ``counts``."""

    def set_count(path: Any, leaf: Any) -> Any:
        own = "".join(path_names(path)[-1:])
        if own in counts and _is_counter(leaf):
            return jnp.asarray(counts[own], jnp.result_type(leaf))
        return leaf

    return jax.tree_util.tree_map_with_path(set_count, state)


def probe_penalty(penalty: Callable[[Any], Any], params: Any) -> dict[str, Response]:
    """Probes the gradient of a penalty as the step of SGD with learning rate 1."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        del updates
        gradients = jax.grad(penalty, allow_int=True)(params)

        def step(w: Any, g: Any) -> Any:
            return -g if is_floating(w) else jnp.zeros_like(w)

        return jax.tree.map(step, params, gradients), state

    return probe(optax.GradientTransformation(optax.init_empty_state, update), params).responses
