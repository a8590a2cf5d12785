"""Trial steps of an optimizer at chosen weights, gradients and counts.

Nothing is read from inside the transformations. A state always belongs to the weights at which a
step begins, since some optimizers keep copies of them. Counters are found by setting the integers
of a state to a large number: a step adds one to a counter, and brings back an integer that turns
in a cycle, such as the number of accumulated gradients.
"""

import contextlib
import itertools
import logging
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxreg._checks import is_floating
from jaxreg._paths import path_names
from jaxreg.explain import _flow

STEPS = (0, 1, 10, 100, 1_000, 10_000, 100_000)
_FAR_COUNT = 1_000_000_000
_LONGEST_CYCLE = 1024
# A gradient in place of zero for optimizers that divide by its norm.
_TINY = 1e-30
# Arguments that updates may ask for, besides the gradient. Some refuse those that they do not know.
_ARGUMENTS = ("value", "grad", "value_fn", "grad_fn", "obj_fn")
_CHOICES = (_ARGUMENTS, ("value", "grad", "value_fn"), ("grad_fn",), ("value",), ())


class Way(NamedTuple):
    """A way of passing parameters and gradients to an optimizer."""

    params: Callable[[Any], Any]
    gradient: Callable[[Any], Any]
    move: Callable[[Any], Any]  # from the updates to the updates of the parameters


def _same(tree: Any) -> Any:
    return tree


def _fast(updates: Any) -> Any:
    return updates.fast


def _batch_of_one(gradient: Any) -> Any:
    return jax.tree.map(lambda g: g[None], gradient)


PLAIN = Way(_same, _same, _same)
PAIRED = Way(optax.LookaheadParams.init_synced, _same, _fast)
PER_EXAMPLE = Way(_same, _batch_of_one, _same)


class Step(NamedTuple):
    """Result of one step."""

    move: Any  # updates of the parameters
    state: Any


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
        return np.asarray(values, jnp.promote_types(jnp.result_type(leaf), jnp.float64))

    return jax.tree.map(draw, params)


def scale(tree: Any, factor: float) -> Any:
    """Multiplies the floating-point leaves of a tree."""
    return jax.tree.map(lambda w: np.asarray(w) * factor if is_floating(w) else w, tree)


def gradient_like(weights: Any, value: Callable[[np.ndarray], np.ndarray]) -> Any:
    """Returns a tree of gradients, ``value(w)`` for each leaf; zeros for integers."""

    def leaf(w: Any) -> Any:
        if is_floating(w):
            return np.asarray(value(np.asarray(w)), np.asarray(w).dtype)
        return np.zeros_like(w) if jnp.issubdtype(jnp.result_type(w), jnp.number) else w

    return jax.tree.map(leaf, weights)


def sum_of_halves(a: Any, b: Any) -> Any:
    """Returns the mean of two trees, leaf by leaf."""
    return jax.tree.map(lambda x, y: (np.asarray(x) + np.asarray(y)) / 2, a, b)


def size(tree: Any) -> float:
    """Returns the sum of the absolute values of all floating-point leaves."""
    return sum(float(np.sum(np.abs(x))) for x in jax.tree.leaves(tree) if is_floating(x))


def is_finite(tree: Any) -> bool:
    """Returns whether no floating-point leaf holds NaN or infinity."""
    return all(bool(np.all(np.isfinite(x))) for x in jax.tree.leaves(tree) if is_floating(x))


class Trial:
    """An optimizer, random weights, and the counts at which it is tried.

    Attributes:
      weights: Random weights near 1.
      signs: Gradients of size 1, with signs that do not depend on the weights'.
      way: How parameters and gradients are passed.
      asks: Whether an update asks for gradients at another point.
      step: Step of the schedules.
      mini_steps: Number of gradients that are accumulated to one step.
      is_random: Whether an update draws random numbers.
    """

    def __init__(self, tx: Any, weights: Any):
        self.tx = tx
        self.weights = weights
        self.zeros = gradient_like(weights, np.zeros_like)
        self.signs = random_signs(weights, 1)
        self.asks = False
        self.step = 0
        self.way, self.names = self._find_way()
        self._init = jax.jit(lambda w: self.tx.init(self.way.params(w)))
        self.update = jax.jit(self.call)
        self._first = self._init(weights)
        program = jax.make_jaxpr(self.call)(self.zeros, self._first, weights)
        self.is_random = _flow.draws(program.jaxpr)
        self._cycles: dict[str, int] = {}
        self._counters = self._find_counters()
        self._accumulators = [name for name in self._cycles if self._waits(name)]
        self.mini_steps = int(np.prod([self._cycles[name] for name in self._accumulators]))
        self._rests = (self.zeros,)
        self._phases = {name: period - 1 for name, period in self._cycles.items()}
        if not is_finite(self.move(weights)):
            self._rests = tuple(scale(self.signs, tiny) for tiny in (_TINY, -_TINY))
        self._choose_step()

    def call(
        self, gradient: Any, state: Any, weights: Any, tell: Callable[[Any], None] | None = None
    ) -> Step:
        """Calls the update; ``tell`` gets the points at which it asks for other gradients."""
        extra = self._arguments(gradient, weights, tell)
        updates, state = self.tx.update(
            self.way.gradient(gradient), state, self.way.params(weights),
            **{name: extra[name] for name in self.names},
        )  # fmt: skip
        return Step(self.way.move(updates), state)

    def start(self, weights: Any, step: int | None = None) -> Any:
        """Returns the state at a step, about to apply an update, that belongs to weights."""
        return _with_counts(self._init(weights), self._counts(step))

    def last_phase(self, weights: Any) -> Any:
        """Returns the state at the end of all cycles."""
        ends = {name: period - 1 for name, period in self._cycles.items()}
        return _with_counts(self._init(weights), ends)

    def move(self, weights: Any) -> Any:
        """Returns the updates without a gradient."""
        state = self.start(weights)
        moves = [self.update(gradient, state, weights).move for gradient in self._rests]
        return moves[0] if len(moves) == 1 else sum_of_halves(*moves)

    def wait(self, weights: Any, since: Any = None) -> Step:
        """Takes a step without a gradient while gradients are only accumulated.

        Args:
          weights: Weights of the step.
          since: Weights that the state belongs to; None for the same.
        """
        counts = {**self._counts(), **dict.fromkeys(self._accumulators, 0)}
        state = self._init(weights if since is None else since)
        return self.update(self.zeros, _with_counts(state, counts), weights)

    def take(self, gradient: Any, weights: Any, state: Any = None) -> Step:
        """Takes a whole step with a gradient, from the state that belongs to the weights."""
        state = self.start(weights) if state is None else _with_counts(state, self._phases)
        step = Step(None, _with_counts(state, dict.fromkeys(self._accumulators, 0)))
        for _ in range(self.mini_steps):
            step = self.update(gradient, step.state, weights)
        return step

    def move_of_both_signs(self, gradient: Any, weights: Any) -> Any:
        """Returns the mean of the updates for both signs of a gradient, without its own step."""
        moves = [self.take(scale(gradient, sign), weights).move for sign in (1.0, -1.0)]
        return sum_of_halves(*moves)

    def begin(self, gradient: Any, weights: Any) -> Any:
        """Returns the updates in the first phase of all cycles."""
        counts = {**self._counts(), **dict.fromkeys(self._cycles, 0)}
        return self.update(gradient, _with_counts(self._init(weights), counts), weights).move

    @property
    def has_cycles(self) -> bool:
        """Steps that differ from the others, besides the accumulation of gradients."""
        return len(self._cycles) > len(self._accumulators)

    def _counts(self, step: int | None = None) -> dict[str, int]:
        step = self.step if step is None else step
        found = {name: first + step for name, first in self._counters.items()}
        return {**found, **self._phases}

    def _arguments(
        self, gradient: Any, weights: Any, tell: Callable[[Any], None] | None
    ) -> dict[str, Any]:
        """Returns arguments for updates, all of the loss with this gradient everywhere."""

        def value(params: Any) -> jax.Array:
            parts = jax.tree.map(_product, gradient, params, weights)
            return 1.0 + sum(jax.tree.leaves(parts), jnp.zeros(()))

        def gradient_at(params: Any, *_: Any) -> Any:
            self.asks = True
            if tell is not None:
                tell(params)
            return gradient

        loss = jnp.ones(())
        values = (loss, gradient, value, gradient_at, value)
        return dict(zip(_ARGUMENTS, values, strict=True))

    def _find_way(self) -> tuple[Way, tuple[str, ...]]:
        errors: list[Exception] = []
        for self.way, self.names in itertools.product((PLAIN, PAIRED, PER_EXAMPLE), _CHOICES):
            try:
                with _without_log():
                    move = jax.eval_shape(self._first_move, self.zeros, self.weights)
            except Exception as error:  # Any error means that this is not the way.
                errors.append(error)
                continue
            if _shapes(move) == _shapes(self.weights):
                return self.way, self.names
        # The first call passes all arguments, which some updates refuse by their name.
        other = ValueError("its updates have other shapes")
        error = next((e for e in errors if "unexpected keyword" not in str(e)), other)
        words = " ".join(str(error).split())
        raise ValueError(
            "`optimizer` must take a step with gradients that are shaped like `params`, got "
            f"{type(error).__name__}: {words}; pass the parameters that it trains."
        ) from error

    def _first_move(self, gradient: Any, weights: Any) -> Any:
        return self.call(gradient, self.tx.init(self.way.params(weights)), weights).move

    def _find_counters(self) -> dict[str, int]:
        """Finds the counters, with their first values, and puts the cycles into `_cycles`."""
        first = _integers(self._first)
        # The number of accumulated gradients may depend on this one.
        unknown = {name for name in first if not name.endswith("gradient_step")}
        counters: dict[str, int] = {}
        while True:
            phases = {name: period - 1 for name, period in self._cycles.items()}
            after = self._integers_after({**dict.fromkeys(unknown, _FAR_COUNT), **phases})
            found = {name for name in unknown if after[name] == _FAR_COUNT + 1}
            turned = {name for name in unknown if after[name] < _FAR_COUNT}
            counters |= {name: first[name] for name in found}
            periods = {name: self._period(name, phases) for name in turned}
            self._cycles |= {name: period for name, period in periods.items() if period > 1}
            unknown -= found | turned
            if not found and not turned:
                return counters

    def _period(self, name: str, phases: dict[str, int]) -> int:
        """Returns the number of steps after which an integer is zero again, or 1."""
        for number in range(_LONGEST_CYCLE):
            after = self._integers_after({**phases, name: number})[name]
            if after == 0:
                return number + 1
            if after != number + 1:
                break
        return 1

    def _integers_after(self, counts: dict[str, int]) -> dict[str, int]:
        state = _with_counts(self._first, counts)
        return _integers(self.update(self.zeros, state, self.weights).state)

    def _waits(self, name: str) -> bool:
        """Returns whether a gradient has no effect in the first phase of a cycle."""
        phases = {other: period - 1 for other, period in self._cycles.items()}
        state = _with_counts(self._first, {**phases, name: 0})
        moves = [self.update(g, state, self.weights).move for g in (self.signs, self.zeros)]
        pairs = zip(*map(jax.tree.leaves, moves), strict=True)
        return all(np.array_equal(a, b, equal_nan=True) for a, b in pairs)

    def _choose_step(self) -> None:
        """Chooses phases in which weights are pulled most, and a step that is past the warmup."""
        turning = [name for name in self._cycles if name not in self._accumulators]
        ends = [(self._phases[name], 0) for name in turning]
        choices = [
            {**self._phases, **dict(zip(turning, phases, strict=True))}
            for phases in itertools.product(*ends)
        ]
        pulls = np.array([self._pulls(phases) for phases in choices])
        largest = pulls.max(axis=1)
        # Pulls that differ by rounding are equal, and then the last phase is chosen.
        chosen = int(np.argmax(largest >= largest.max() * (1 - 1e-6)))
        self._phases = choices[chosen]
        self.step = STEPS[int(np.argmax(pulls[chosen] >= 0.3 * largest[chosen]))]

    def _pulls(self, phases: dict[str, int]) -> np.ndarray:
        """Returns the sizes of the updates without a gradient at every step of ``STEPS``."""
        self._phases = phases
        pulls = np.zeros(len(STEPS))
        for number, self.step in enumerate(STEPS):
            pulls[number] = size(self.move(self.weights))
        return np.nan_to_num(pulls, posinf=0.0)


@contextlib.contextmanager
def _without_log() -> Iterator[None]:
    """Keeps quiet what an optimizer logs about a way that is only tried."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def with_keys(state: Any, other: Any) -> Any:
    """Returns a state with the random keys of another one."""
    return jax.tree.map(_newer_key, state, other)


def _newer_key(first: Any, later: Any) -> Any:
    is_typed = jnp.issubdtype(jnp.result_type(first), jax.dtypes.prng_key)
    is_raw = jnp.result_type(first) == jnp.uint32 and jnp.shape(first) in ((2,), (4,))
    return later if is_typed or is_raw else first


def random_signs(weights: Any, seed: int) -> Any:
    """Draws a tree of gradients of size 1."""
    rng = np.random.default_rng(seed)
    return gradient_like(weights, lambda w: rng.choice([1.0, -1.0], np.shape(w)))


def _product(g: Any, p: Any, w: Any) -> Any:
    if not is_floating(g):
        return jnp.zeros(())
    return jnp.real(jnp.sum(jnp.conj(g) * (p - w)))


def _shapes(tree: Any) -> Any:
    return jax.tree.map(np.shape, tree)


def _integers(state: Any) -> dict[str, int]:
    """Returns the integer scalars in a state, keyed by their names."""
    return {name: int(leaf) for name, leaf in leaf_names(state).items() if _is_integer(leaf)}


def _is_integer(leaf: Any) -> bool:
    return jnp.ndim(leaf) == 0 and jnp.issubdtype(jnp.result_type(leaf), jnp.integer)


def _with_counts(state: Any, counts: dict[str, int]) -> Any:
    """Returns the state with the named integers set to the values in ``counts``."""

    def set_count(path: Any, leaf: Any) -> Any:
        own = "/".join(path_names(path)) or "params"
        if own in counts and _is_integer(leaf):
            return np.asarray(counts[own], jnp.result_type(leaf))
        return leaf

    return jax.tree_util.tree_map_with_path(set_count, state)
