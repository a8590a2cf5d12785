"""Averages of the parameters: formulas, precision, start and period, and how they are read."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxreg import masks, transforms
from tests.helpers import few
from tests.transforms.helpers import stepwise

AVERAGES = {
    "exponential_average": transforms.exponential_average(0.9),
    "stochastic_weight_average": transforms.stochastic_weight_average(start=2, period=3),
}
every_average = pytest.mark.parametrize("average", AVERAGES.values(), ids=AVERAGES)


def walk_of(steps, seed=0):
    """Positions of a random walk of two numbers, in float64."""
    return np.random.default_rng(seed).normal(size=(steps + 1, 2)).cumsum(axis=0)


WALK = walk_of(20)


@partial(jax.jit, static_argnums=0)
def follow(tx, walk):
    """States of an average after each step of a walk, the first one included."""

    def step(carry, goal):
        w, state = carry
        _, state = tx.update(goal - w, state, w)
        return (goal, state), state

    start = tx.init(walk[0])
    states = jax.lax.scan(step, (walk[0], start), walk[1:])[1]
    return jax.tree.map(lambda first, others: jnp.concatenate([first[None], others]), start, states)


def read(tx, walk, dtype=np.float32):
    """Averages after each step of a walk, the first one included, and their weights."""
    states = follow(tx, np.asarray(walk, dtype))
    return np.asarray(states.average), np.asarray(states.total)


def weighted_mean(decay, initial_weight, steps):
    """Sum of the positions up to a step in float64, with the weights of the formula."""
    weights = (1 - decay) * decay ** np.arange(steps - 1, -1, -1.0)
    weights = np.concatenate([[initial_weight * decay**steps], weights])
    return weights @ WALK[: steps + 1] / weights.sum()


@few("initial_weight", [0.3, 0.0, 1.0])
@few("decay", [0.5, 0.0, 0.99])
def test_the_exponential_average_is_its_weighted_sum(decay, initial_weight):
    tx = transforms.exponential_average(decay, initial_weight=initial_weight)
    averages, _ = read(tx, WALK)
    for steps in (1, 2, 20):
        expected = weighted_mean(decay, initial_weight, steps)
        np.testing.assert_allclose(averages[steps], expected, rtol=2e-5)


def test_decays_and_initial_weights_may_be_traced():
    cases = [(decay, weight) for decay in (0.0, 0.5, 0.99) for weight in (0.0, 0.3, 1.0)]

    @jax.jit
    @jax.vmap
    def averages(decay, weight):
        tx = transforms.exponential_average(decay, initial_weight=weight)
        return follow(tx, jnp.asarray(WALK, jnp.float32)).average[-1]

    expected = [weighted_mean(*case, 20) for case in cases]
    together = averages(*np.array(cases, np.float32).T)
    np.testing.assert_allclose(together, expected, rtol=2e-5)


def test_the_sum_of_weights_is_one_with_all_weight_on_the_start():
    """As in ``optax.incremental_update``, whose step size is one minus the decay."""
    averages, totals = read(transforms.exponential_average(0.95, initial_weight=1.0), WALK)
    expected = WALK[0]
    for newest in WALK[1:]:
        expected = 0.95 * expected + 0.05 * newest
    np.testing.assert_allclose(averages[-1], expected, rtol=1e-5)
    np.testing.assert_allclose(totals, 1, rtol=1e-6)


@few("initial_weight", [0.0, 1.0])
def test_the_warm_up_of_timm_is_a_schedule(initial_weight):
    """``ModelEmaV3`` counts from one and takes the first parameters whole."""

    def schedule(t):
        return jnp.minimum(0.95, 1 - (1 + t / 0.5) ** (-2 / 3))

    expected = WALK[0]
    for step, newest in enumerate(WALK[1:], start=1):
        decay = min(0.95, 1 - (1 + (step - 1) / 0.5) ** (-2 / 3)) if step > 1 else 0.0
        expected = decay * expected + (1 - decay) * newest
    # The first step leaves nothing of the start.
    averages, _ = read(
        transforms.exponential_average(schedule, initial_weight=initial_weight), WALK
    )
    np.testing.assert_allclose(averages[-1], expected, rtol=1e-5)


@few("dtype", ["bfloat16", "float16"])
def test_slow_averages_of_narrow_parameters_do_not_stall(dtype):
    """With optax 0.2.8 and jax 0.10.2 or 0.12.0 this stops at 0.5 in place of 0.865::

    step = lambda _, a: optax.incremental_update(jnp.bfloat16(1), a, 0.001)
    jax.lax.fori_loop(0, 2000, step, jnp.bfloat16(0))
    """
    tx = transforms.exponential_average(0.999, initial_weight=1.0)
    states = follow(tx, np.array([0.0] + [1.0] * 2000, dtype))
    last = jax.tree.map(lambda leaf: leaf[-1], states)
    assert last.average.dtype == jnp.float32
    np.testing.assert_allclose(last.average, 1 - 0.999**2000, rtol=1e-4)
    assert transforms.read_average(last, np.zeros((), dtype)).dtype == dtype


@every_average
def test_float64_parameters_have_float64_averages(average):
    with jax.enable_x64(True):
        wide, _ = read(average, WALK, np.float64)
        narrow, _ = read(average, WALK.astype(np.float32), np.float64)
        assert wide.dtype == np.float64
        assert 1e-12 < abs(wide[-1] - narrow[-1]).max() < 1e-6
        state = average.init(WALK[0])
        assert transforms.read_average(state, WALK[0]).dtype == np.float64


def assert_counts(averages, totals, start, period):
    """After each step the average runs over the positions that count so far."""
    for steps in range(len(WALK)):
        counted = WALK[start : steps + 1 : period]
        expected = counted.mean(axis=0) if len(counted) else WALK[steps]
        np.testing.assert_allclose(averages[steps], expected, atol=1e-6)
        assert totals[steps] == len(counted)


@few("start, period", [(1, 3), (0, 1), (4, 3), (100, 1), (0, 3), (4, 1), (1, 1), (100, 3)])
def test_the_equal_average_counts_every_period_from_its_start(start, period):
    tx = transforms.stochastic_weight_average(start=start, period=period)
    assert_counts(*read(tx, WALK), start, period)


@few("dtype", ["int32", "float32"])
def test_starts_and_periods_train_in_one_program(dtype):
    cases = [(start, period) for start in (0, 1, 4, 100) for period in (1, 2, 3)]

    @jax.jit
    @chex.assert_max_traces(n=1)
    def averages(starts, periods):
        def one(start, period):
            tx = transforms.stochastic_weight_average(start=start, period=period)
            states = follow(tx, jnp.asarray(WALK, jnp.float32))
            return states.average, states.total

        return jax.vmap(one)(starts, periods)

    chex.clear_trace_counter()
    starts, periods = np.array(cases, dtype).T
    together = averages(starts, periods)
    averages(starts + 1, periods)
    for case, *found in zip(cases, *map(np.asarray, together), strict=True):
        assert_counts(*found, *case)


@every_average
def test_a_constant_is_its_own_average_to_the_bit(average):
    walk = np.full((50, 2), 0.1, np.float32)
    np.testing.assert_array_equal(read(average, walk)[0], walk)


def test_a_decay_of_one_never_moves():
    for initial_weight in (0.0, 1.0):
        tx = transforms.exponential_average(1.0, initial_weight=initial_weight)
        np.testing.assert_array_equal(read(tx, WALK)[0], np.float32([WALK[0]] * 21))


@every_average
def test_updates_pass_through(average):
    @jax.jit
    def step(u):
        updates, state = average.update(u, average.init(u), u)
        assert updates is u
        return state.count

    assert step(np.float32([0.1, -0.2])) == 1


@pytest.mark.parametrize(("tx", "expected"), [
    (transforms.stochastic_weight_average(start=1, period=2), 3.0),
    (transforms.exponential_average(1.0), 1.0),
    (transforms.stochastic_weight_average(start=3, period=1), 4.0),
], ids=["equal", "exponential", "newest"])  # fmt: skip
def test_averages_that_rest_or_start_anew_have_no_part_in_what_is_not_finite(tx, expected):
    @jax.jit
    def last():
        state = tx.init(jnp.float32(1))
        for newest in (2.0, jnp.inf, 4.0):
            _, state = tx.update(jnp.float32(0), state, jnp.float32(newest))
        return state.average

    assert last() == expected


def test_traced_strengths_are_clipped():
    @jax.jit
    @jax.vmap
    def exponential(decay, initial_weight):
        tx = transforms.exponential_average(decay, initial_weight=initial_weight)
        return follow(tx, jnp.asarray(WALK, jnp.float32)).average

    too_much, too_little, most, least = exponential(
        np.float32([1.5, -0.5, 0.5, 0.5]), np.float32([0.5, 0.5, 1.5, -0.5])
    )
    np.testing.assert_array_equal(too_much, np.float32([WALK[0]] * 21))
    np.testing.assert_allclose(too_little, WALK, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(most[-1], weighted_mean(0.5, 1.0, 20), rtol=2e-5)
    np.testing.assert_allclose(least[2], weighted_mean(0.5, 0.0, 2), rtol=2e-5)


def test_traced_starts_and_periods_are_clipped():
    @jax.jit
    def average(start, period):
        tx = transforms.stochastic_weight_average(start=start, period=period)
        return follow(tx, jnp.asarray(WALK, jnp.float32)).average[-1]

    np.testing.assert_allclose(average(-3, 0), WALK.mean(axis=0), rtol=2e-6)


def test_under_compensation_the_average_is_that_of_the_wide_parameters():
    chain = optax.chain(optax.sgd(1e-4), transforms.exponential_average(0.5))
    tx = transforms.compensate_rounding(chain)
    ones = np.ones((10, 2), jnp.bfloat16)
    path, state = stepwise(tx, ones[0], ones)
    assert (np.asarray(path) == 1).all()
    weights = 0.5 ** np.arange(10, 0, -1.0)
    expected = 1 - weights @ np.arange(1e-4, 1.05e-3, 1e-4) / weights.sum()
    np.testing.assert_allclose(state.inner_state[-1].average, expected, rtol=1e-6)


def lookahead_of_the_paper(curvature, period, size, rate, momentum):
    """Fast and slow weights after each step of algorithm 1 of Zhang et al., in float64."""
    slow = np.array([1.0, -2.0])
    velocity = np.zeros(2)
    path = []
    for _ in range(4):
        fast = slow.copy()
        for step in range(1, period + 1):
            velocity = momentum * velocity + curvature * fast
            fast = fast - rate * velocity
            if step == period:
                slow = slow + size * (fast - slow)
                fast = slow
            path.append((fast, slow))
    return np.array(path)


@few("wrap", [float, jnp.float32, optax.constant_schedule])
def test_lookahead_is_the_algorithm_of_the_paper(wrap):
    curvature = np.array([1.0, 10.0])
    expected = lookahead_of_the_paper(curvature, 5, 0.5, 0.05, 0.9)
    tx = transforms.lookahead(optax.sgd(0.05, momentum=0.9), period=5, step_size=wrap(0.5))

    @jax.jit
    def train():
        def step(carry, _):
            w, state = carry
            updates, state = tx.update(jnp.float32(curvature) * w, state, w)
            w = optax.apply_updates(w, updates)
            return (w, state), (w, transforms.read_average(state, w))

        w = jnp.array([1.0, -2.0])
        return jax.lax.scan(step, (w, tx.init(w)), length=20)[1]

    fast, slow = train()
    np.testing.assert_allclose(fast, expected[:, 0], rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(slow, expected[:, 1], rtol=2e-5, atol=1e-6)


def test_the_step_size_of_lookahead_follows_its_schedule():
    """It counts the steps of the optimizer from zero."""
    sizes = np.float32([0.5, 1.0, 0.25, 0.0])
    tx = transforms.lookahead(
        optax.sgd(1.0), period=1, step_size=lambda count: jnp.asarray(sizes)[count]
    )
    path, state = stepwise(tx, np.float32(0), -np.ones(4, np.float32))
    np.testing.assert_array_equal(path, [0.5, 1.5, 1.75, 1.75])
    assert state.count == 4


def test_a_traced_step_size_and_period_are_clipped():
    @jax.jit
    @jax.vmap
    def path(size, period):
        tx = transforms.lookahead(optax.sgd(1.0), period=period, step_size=size)
        return stepwise(tx, jnp.float32(0), -jnp.ones(3))[0]

    too_far, back = path(np.float32([1.5, -0.5]), np.int32([1, 0]))
    np.testing.assert_array_equal(too_far, [1, 2, 3])
    np.testing.assert_array_equal(back, [0, 0, 0])


def test_slow_weights_of_narrow_parameters_do_not_stall():
    tx = transforms.lookahead(optax.sgd(1.0), period=1, step_size=0.001)

    @jax.jit
    def train():
        w = jnp.zeros((), jnp.bfloat16)

        def step(_, carry):
            w, state = carry
            updates, state = tx.update(w - jnp.bfloat16(1), state, w)
            return optax.apply_updates(w, updates), state

        return jax.lax.fori_loop(0, 500, step, (w, tx.init(w)))[1].average

    np.testing.assert_allclose(train(), 1 - 0.999**500, rtol=5e-3)


@few("wrap", [float, jnp.float32, optax.constant_schedule])
def test_lookahead_with_a_step_size_of_one_is_its_optimizer_to_the_bit(wrap):
    gradient = np.float32([0.1, 0.2])
    inner = optax.adam(0.3)
    tx = transforms.lookahead(inner, period=2, step_size=wrap(1.0))

    @jax.jit
    def train():
        w = jnp.array([1.1, -2.3])
        state = tx.init(w)
        plain = inner.init(w)
        found = []
        for _ in range(4):
            updates, state = tx.update(gradient, state, w)
            expected, plain = inner.update(gradient, plain, w)
            w = optax.apply_updates(w, updates)
            found.append((updates, expected, w, state.average))
        return found

    for step, (updates, expected, w, average) in enumerate(train(), start=1):
        np.testing.assert_array_equal(updates, expected)
        if step % 2 == 0:
            np.testing.assert_array_equal(average, w)


def odd_leaves():
    return {
        "w": np.float32([1, 2]),
        "narrow": np.ones(2, jnp.bfloat16),
        "spectrum": np.full(2, 1 + 2j, np.complex64),
        "steps": np.arange(3, dtype=np.int32),
        "count": np.arange(3, dtype=np.int32),
        "key": jax.random.key(0),
        "on": np.array([True, False]),
        "nothing": None,
        "frozen": np.float32([5]),
    }


ODD = {
    **AVERAGES,
    "lookahead": transforms.lookahead(optax.identity(), period=1, step_size=0.5),
}
NAMES = ["exponential_average", "lookahead", "stochastic_weight_average"]


@pytest.mark.parametrize("name", NAMES)
def test_averages_hold_the_newest_of_other_leaves(name):
    params = odd_leaves()
    updates = {**params, "frozen": None}
    for leaf in ("key", "on", "count"):
        updates[leaf] = np.zeros(np.shape(params[leaf]), jax.dtypes.float0)
    tx = ODD[name]

    @jax.jit
    def step():
        start = tx.init(params)
        moved, state = tx.update(updates, start, params)
        chex.assert_trees_all_equal_shapes_and_dtypes(state, start)
        assert moved["nothing"] is None
        assert moved["frozen"] is None
        assert moved["key"] is updates["key"]
        assert moved["on"].dtype == bool
        return moved["steps"], state.average, transforms.read_average(state, params)

    steps, average, read = step()
    np.testing.assert_array_equal(steps, np.arange(3))
    chex.assert_trees_all_equal_shapes_and_dtypes(read, params)
    share = 0.5 if name == "lookahead" else 1.0  # One step of the others leaves nothing behind.
    for leaf in ("w", "narrow", "spectrum"):
        assert average[leaf].dtype == (np.complex64 if leaf == "spectrum" else np.float32)
        expected = (1 + share) * np.complex64(params[leaf])
        np.testing.assert_allclose(np.complex64(read[leaf]), expected)
    np.testing.assert_array_equal(read["frozen"], [5])
    np.testing.assert_array_equal(read["steps"], 2 * np.arange(3))
    np.testing.assert_array_equal(read["count"], np.arange(3))
    np.testing.assert_array_equal(jax.random.key_data(read["key"]), [0, 0])
    np.testing.assert_array_equal(read["on"], [True, False])


def test_the_average_is_that_of_rounded_parameters():
    """Of bfloat16 parameters after ``optax.apply_updates``, whatever the dtype of updates."""
    tx = transforms.exponential_average(0.0)
    exact = partial(jax.jit, compiler_options={"xla_allow_excess_precision": False})
    average = exact(lambda w, u: tx.update(u, tx.init(w), w)[1].average)
    np.testing.assert_array_equal(average(np.ones(1, jnp.bfloat16), np.float32([1e-3])), [1])


def test_an_average_of_a_part_leaves_the_others_newest():
    params = {"kernel": np.ones((2, 2), np.float32), "bias": np.ones(2, np.float32)}
    average = optax.masked(transforms.exponential_average(0.5, initial_weight=1.0), masks.kernels)
    parts = {
        "kernel": transforms.exponential_average(1.0),
        "bias": AVERAGES["stochastic_weight_average"],
    }
    split = optax.partition(parts, {"kernel": "kernel", "bias": "bias"})

    @jax.jit
    def step():
        found = []
        for tx in (optax.chain(optax.sgd(1.0), average), optax.chain(optax.sgd(1.0), split)):
            updates, state = tx.update(params, tx.init(params), params)
            found.append(transforms.read_average(state, optax.apply_updates(params, updates)))
        return found

    masked, partitioned = step()
    np.testing.assert_array_equal(masked["kernel"], np.full((2, 2), 0.5))
    np.testing.assert_array_equal(masked["bias"], np.zeros(2))
    np.testing.assert_array_equal(partitioned["kernel"], np.ones((2, 2)))
    np.testing.assert_array_equal(partitioned["bias"], np.zeros(2))


def test_an_average_that_is_missing_or_not_the_only_one_is_named():
    w = np.ones(2, np.float32)
    with pytest.raises(ValueError, match=r"`state` must contain an average .*, but contains no"):
        transforms.read_average(optax.EmptyState(), w)
    tx = optax.chain(*AVERAGES.values())
    with pytest.raises(ValueError, match=r"`state` must contain one average .*, but contains sev"):
        transforms.read_average(tx.init(w), w)
    np.testing.assert_array_equal(transforms.read_average(tx.init(w)[0], w), w)
    state = transforms.exponential_average(0.5).init({"a": w, "b": w})
    with pytest.raises(ValueError, match=r"`params` must have the structure .* has no leaf at b"):
        transforms.read_average(state, {"a": w})


@pytest.mark.parametrize("name", NAMES)
def test_states_and_what_is_read_outlive_donated_arrays(name):
    tx = ODD[name]
    w = jnp.asarray(np.ones(2, np.float32))
    state = tx.init(w)
    read = transforms.read_average(state, w)
    double = jax.jit(lambda a: jax.tree.map(lambda leaf: 2 * leaf, a), donate_argnums=0)
    double(w)
    np.testing.assert_array_equal(state.average, [1, 1])
    double(state)
    np.testing.assert_array_equal(read, [1, 1])


class Network(nnx.Module):
    def __init__(self):
        self.kernel = nnx.Param(np.full((2, 3), 0.5, np.float32))


def test_an_nnx_model_takes_its_average():
    model = Network()
    average = transforms.exponential_average(0.5, initial_weight=1.0)
    optimizer = nnx.Optimizer(model, optax.chain(optax.sgd(0.1), average), wrt=nnx.Param)
    ones = nnx.State({"kernel": nnx.Param(np.ones((2, 3), np.float32))})
    nnx.jit(lambda model, optimizer: optimizer.update(model, ones))(model, optimizer)
    read = transforms.read_average(optimizer.opt_state, nnx.state(model, nnx.Param))
    np.testing.assert_allclose(model.kernel[...], 0.4, rtol=1e-6)
    np.testing.assert_allclose(read["kernel"][...], 0.45, rtol=1e-6)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (partial(transforms.exponential_average, 1.5), r"`decay` must be .* \[0, 1\], got 1.5"),
        (
            partial(transforms.exponential_average, 0.5, initial_weight=-1.0),
            r"`initial_weight` must be .* \[0, 1\], got -1",
        ),
        (
            partial(transforms.stochastic_weight_average, start=-1, period=1),
            "`start` must be zero or positive, got -1",
        ),
        (
            partial(transforms.stochastic_weight_average, start=0, period=0),
            "`period` must be a number of steps, at least 1, got 0",
        ),
        (
            partial(transforms.lookahead, optax.sgd(0.1), period=0, step_size=0.5),
            "`period` must be a number of steps, at least 1, got 0",
        ),
        (
            partial(transforms.lookahead, optax.sgd(0.1), period=5, step_size=2.0),
            r"`step_size` must be .* \[0, 1\], got 2",
        ),
    ],
)
def test_wrong_arguments_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("name", NAMES)
def test_missing_params_are_named(name):
    w = np.ones(2, np.float32)
    tx = ODD[name]
    with pytest.raises(
        ValueError, match=rf"`params` must be given to the update of `{name}`, got No"
    ):
        tx.update(w, tx.init(w))


# Rounding under jit.


@few("name", ["exponential_average", "lookahead"])
def test_the_average_is_of_the_parameters_as_they_were_rounded(name):
    """XLA leaves out a cast to bfloat16 and back, and the average was of other numbers."""
    builds = {
        "exponential_average": transforms.exponential_average(0.0),
        "lookahead": transforms.lookahead(optax.identity(), period=1, step_size=1.0),
    }
    tx = builds[name]
    w = np.ones(8, jnp.bfloat16)
    u = np.linspace(0.001, 0.009, 8).astype(jnp.bfloat16)

    @jax.jit
    def step(w, u):
        updates, state = tx.update(u, tx.init(w), w)
        return optax.apply_updates(w, updates), state.average

    params, average = step(w, u)
    assert len(set(np.float32(params))) == 2
    np.testing.assert_array_equal(average, np.float32(params))


# Lookahead that starts anew.


def test_lookahead_may_start_its_optimizer_anew():
    """As ``optax.lookahead`` with ``reset_state``: momentum and schedules begin again."""
    inner = optax.sgd(optax.linear_schedule(0.2, 0.0, 6), momentum=0.9)
    tx = transforms.lookahead(inner, period=3, step_size=0.5, reset=inner.init)
    theirs = optax.lookahead(inner, sync_period=3, slow_step_size=0.5, reset_state=True)

    @jax.jit
    def train():
        def step(carry, _):
            w, state, pair, other = carry
            updates, state = tx.update(jnp.sin(w), state, w)
            w = optax.apply_updates(w, updates)
            updates, other = theirs.update(jnp.sin(pair.fast), other, pair)
            pair = optax.apply_updates(pair, updates)
            return (w, state, pair, other), (w, pair.fast, state.average, pair.slow)

        w = jnp.array([1.0, -2.0])
        pair = optax.LookaheadParams.init_synced(w)
        return jax.lax.scan(step, (w, tx.init(w), pair, theirs.init(pair)), length=10)[1]

    w, fast, average, slow = train()
    np.testing.assert_allclose(w, fast, rtol=1e-5)
    np.testing.assert_allclose(average, slow, rtol=1e-5)
