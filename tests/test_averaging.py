"""Averages of the parameters: formulas, precision, start and period, and how they are read."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from sklearn.linear_model import Lasso

from jaxreg import masks, proximal, transforms
from jaxreg.training import statistics

AVERAGES = {
    "exponential": lambda: transforms.exponential_average(0.9),
    "equal": lambda: transforms.stochastic_weight_average(start=2, period=3),
}
every_average = pytest.mark.parametrize("build", AVERAGES.values(), ids=AVERAGES)


def path(steps, seed=0):
    """Positions of a random walk of two numbers, in float64."""
    return np.random.default_rng(seed).normal(size=(steps + 1, 2)).cumsum(axis=0)


def follow(tx, walk, dtype=jnp.float32):
    """State of an average after the parameters took the steps of ``walk``."""
    walk = jnp.asarray(walk, dtype)

    def step(carry, goal):
        w, state = carry
        _, state = tx.update(goal - w, state, w)
        return (goal, state), None

    (w, state), _ = jax.jit(lambda walk: jax.lax.scan(step, (walk[0], tx.init(walk[0])), walk[1:]))(
        walk
    )
    return w, state


@pytest.mark.parametrize("initial_weight", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("decay", [0.0, 0.5, 0.99])
def test_the_exponential_average_is_its_weighted_sum(decay, initial_weight):
    walk = path(40)
    tx = transforms.exponential_average(decay, initial_weight=initial_weight)
    w, state = follow(tx, walk)
    weights = (1 - decay) * decay ** np.arange(39, -1, -1.0)
    weights = np.concatenate([[initial_weight * decay**40], weights])
    expected = weights @ walk / weights.sum()
    np.testing.assert_allclose(transforms.averaged(state, w), expected, rtol=2e-5)


def test_with_all_weight_on_the_start_it_is_that_of_optax():
    walk = path(30)
    w, state = follow(transforms.exponential_average(0.95, initial_weight=1.0), walk)
    expected = jnp.float32(walk[0])
    for newest in walk[1:]:
        expected = optax.incremental_update(jnp.float32(newest), expected, 0.05)
    np.testing.assert_allclose(transforms.averaged(state, w), expected, rtol=1e-5)


def test_the_warm_up_of_timm_is_a_schedule():
    """``ModelEmaV3`` counts from one and takes the first parameters whole."""
    walk = path(30)

    def schedule(t):
        return jnp.minimum(0.95, 1 - (1 + t / 0.5) ** (-2 / 3))

    expected = walk[0]
    for step, newest in enumerate(walk[1:], start=1):
        decay = min(0.95, 1 - (1 + (step - 1) / 0.5) ** (-2 / 3)) if step > 1 else 0.0
        expected = decay * expected + (1 - decay) * newest
    for initial_weight in (0.0, 1.0):  # The first step leaves nothing of the start.
        tx = transforms.exponential_average(schedule, initial_weight=initial_weight)
        w, state = follow(tx, walk)
        np.testing.assert_allclose(transforms.averaged(state, w), expected, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_slow_averages_of_narrow_parameters_do_not_stall(dtype):
    """With optax 0.2.8 and jax 0.10.2 or 0.12.0 this stops at 0.5 in place of 0.865::

    step = lambda _, a: optax.incremental_update(jnp.bfloat16(1), a, 0.001)
    jax.lax.fori_loop(0, 2000, step, jnp.bfloat16(0))
    """
    tx = transforms.exponential_average(0.999, initial_weight=1.0)
    w, state = follow(tx, np.array([0.0] + [1.0] * 2000), dtype)
    assert state.average.dtype == jnp.float32
    np.testing.assert_allclose(state.average, 1 - 0.999**2000, rtol=1e-4)
    assert transforms.averaged(state, w).dtype == dtype


@every_average
def test_float64_parameters_have_float64_averages(build):
    with jax.enable_x64(True):
        walk = path(20)
        w, state = follow(build(), walk, jnp.float64)
        narrow = follow(build(), walk.astype(np.float32).astype(np.float64), jnp.float64)[1]
        assert state.average.dtype == jnp.float64
        assert 1e-12 < abs(state.average - narrow.average).max() < 1e-6
        assert transforms.averaged(state, w).dtype == jnp.float64


@pytest.mark.parametrize("start", [0, 1, 4, 100])
@pytest.mark.parametrize("period", [1, 3])
@pytest.mark.parametrize("wrap", [int, jnp.int32, jnp.float32], ids=["static", "array", "float"])
def test_the_equal_average_counts_every_period_from_its_start(start, period, wrap):
    walk = path(20)
    for steps in (0, 1, 4, 7, 20):
        tx = transforms.stochastic_weight_average(start=wrap(start), period=wrap(period))
        w, state = follow(tx, walk[: steps + 1])
        counted = walk[start : steps + 1 : period]
        expected = counted.mean(axis=0) if len(counted) else walk[steps]
        np.testing.assert_allclose(transforms.averaged(state, w), expected, atol=1e-6)
        assert state.total == len(counted)


def test_starts_and_periods_train_in_one_program():
    walk = path(12)

    @jax.jit
    @chex.assert_max_traces(n=1)
    def averages(starts, periods):
        def one(start, period):
            tx = transforms.stochastic_weight_average(start=start, period=period)
            return follow(tx, walk)[1].average

        return jax.vmap(one)(starts, periods)

    chex.clear_trace_counter()
    together = averages(jnp.arange(4), jnp.arange(1, 5))
    averages(jnp.arange(1, 5), jnp.arange(1, 5))
    expected = [walk[i :: i + 1].mean(axis=0) for i in range(4)]
    np.testing.assert_allclose(together, expected, rtol=2e-6)


@every_average
def test_a_constant_is_its_own_average_to_the_bit(build):
    walk = np.full((50, 2), 0.1)
    w, state = follow(build(), walk)
    np.testing.assert_array_equal(state.average, w)


def test_a_decay_of_one_never_moves():
    for initial_weight in (0.0, 1.0):
        tx = transforms.exponential_average(1.0, initial_weight=initial_weight)
        np.testing.assert_array_equal(follow(tx, path(5))[1].average, np.float32(path(5)[0]))


def test_an_average_that_rests_takes_no_part_in_what_is_not_finite():
    equal = transforms.stochastic_weight_average(start=1, period=2)
    for tx, expected in ((equal, 3.0), (transforms.exponential_average(1.0), 1.0)):
        state = tx.init(jnp.ones(()))
        for newest in (2.0, jnp.inf, 4.0):
            _, state = tx.update(jnp.zeros(()), state, jnp.float32(newest))
        assert state.average == expected


def test_traced_strengths_are_clipped():
    walk = path(6)
    for wrong, right in ((1.5, 1.0), (-0.5, 0.0)):
        clipped = follow(transforms.exponential_average(jnp.float32(wrong)), walk)[1]
        expected = follow(transforms.exponential_average(right), walk)[1]
        np.testing.assert_array_equal(clipped.average, expected.average)
    clipped = transforms.stochastic_weight_average(start=jnp.int32(-3), period=jnp.int32(0))
    np.testing.assert_allclose(follow(clipped, walk)[1].average, walk.mean(axis=0), rtol=1e-6)


def test_under_compensation_the_average_is_that_of_the_wide_parameters():
    chain = optax.chain(optax.sgd(1e-4), transforms.exponential_average(0.5))
    tx = transforms.compensate_rounding(chain)
    w = jnp.ones(2, jnp.bfloat16)
    state = tx.init(w)
    for _ in range(10):
        updates, state = tx.update(jnp.ones(2, jnp.bfloat16), state, w)
        w = optax.apply_updates(w, updates)
    assert (w == 1).all()
    weights = 0.5 ** np.arange(10, 0, -1.0)
    expected = 1 - weights @ np.arange(1e-4, 1.05e-3, 1e-4) / weights.sum()
    average = state.inner_state[-1].average
    np.testing.assert_allclose(average, expected, rtol=1e-6)


def lasso_path(alpha, learning_rate, tx):
    """Newest and averaged coefficients of the lasso by noisy proximal steps, and the solution."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(400, 50))
    truth = np.array([3, -2, 1.5, 1, -0.5] + [0] * 45)
    y = x @ truth + 0.5 * generator.normal(size=400)
    solution = Lasso(alpha, fit_intercept=False, tol=1e-10).fit(x, y).coef_
    x, y = jnp.float32(x), jnp.float32(y)
    step = transforms.proximal(proximal.l1, alpha, learning_rate)
    tx = optax.chain(optax.sgd(learning_rate), step, tx)

    def body(carry, key):
        w, state = carry
        rows = jax.random.choice(key, 400, (16,))
        gradient = x[rows].T @ (x[rows] @ w - y[rows]) / 16
        updates, state = tx.update(gradient, state, w)
        return (optax.apply_updates(w, updates), state), None

    keys = jax.random.split(jax.random.key(0), 3000)
    start = jnp.zeros(50)
    (w, state), _ = jax.jit(lambda: jax.lax.scan(body, (start, tx.init(start)), keys))()

    def excess(w):
        values = [np.mean((y - x @ v) ** 2) / 2 + alpha * abs(v).sum() for v in (w, solution)]
        return values[0] - values[1]

    return w, transforms.averaged(state, w), solution, excess


def test_a_last_proximal_step_restores_the_zeros_of_an_average():
    """The average of sparse parameters has no zeros; masking it where the newest are zero keeps
    their noise, and the threshold of one training step takes it away, at a better objective."""
    alpha, learning_rate = 0.2, 0.02
    tx = transforms.exponential_average(0.99)
    w, average, solution, excess = lasso_path(alpha, learning_rate, tx)
    masked = np.where(w == 0, 0, average)
    sparse = proximal.l1(average, threshold=alpha * learning_rate)
    counts = [np.count_nonzero(v) for v in (solution, w, average, masked, sparse)]
    assert counts[0] == counts[4] == 5
    assert counts[2] == 50
    assert counts[1] == counts[3] > 8
    np.testing.assert_array_equal(np.asarray(sparse) != 0, solution != 0)
    assert excess(sparse) < excess(masked) < min(excess(average), excess(w))


def test_lookahead_is_the_algorithm_of_the_paper():
    """Algorithm 1 of Zhang et al., two nested loops, in float64."""
    curvature = np.array([1.0, 10.0])
    period, size, rate, momentum = 5, 0.5, 0.05, 0.9
    slow, velocity = np.array([1.0, -2.0]), np.zeros(2)
    for _ in range(4):
        fast = slow.copy()
        for _ in range(period):
            velocity = momentum * velocity + curvature * fast
            fast -= rate * velocity
        slow += size * (fast - slow)
    inner = optax.sgd(rate, momentum=momentum)
    tx = transforms.lookahead(inner, period=period, step_size=size)
    w = jnp.array([1.0, -2.0])
    state = tx.init(w)
    for _ in range(4 * period):
        updates, state = tx.update(jnp.float32(curvature) * w, state, w)
        w = optax.apply_updates(w, updates)
    np.testing.assert_allclose(state.average, slow, rtol=1e-5)
    np.testing.assert_allclose(w, slow, rtol=1e-5)
    np.testing.assert_array_equal(transforms.averaged(state, w), state.average)


def test_lookahead_is_that_of_optax():
    size, period = 0.3, 4
    ours = transforms.lookahead(optax.adam(0.1), period=period, step_size=size)
    theirs = optax.lookahead(optax.adam(0.1), sync_period=period, slow_step_size=size)
    w = jnp.array([1.0, -2.0])
    pair = optax.LookaheadParams.init_synced(w)
    state, other = ours.init(w), theirs.init(pair)
    for _ in range(10):
        updates, state = ours.update(jnp.sin(w), state, w)
        w = optax.apply_updates(w, updates)
        updates, other = theirs.update(jnp.sin(pair.fast), other, pair)
        pair = optax.apply_updates(pair, updates)
        np.testing.assert_allclose(w, pair.fast, rtol=1e-5)
        np.testing.assert_allclose(transforms.averaged(state, w), pair.slow, rtol=1e-5)


def test_slow_weights_of_narrow_parameters_do_not_stall():
    tx = transforms.lookahead(optax.sgd(1.0), period=1, step_size=0.001)
    w = jnp.zeros((), jnp.bfloat16)
    state = tx.init(w)
    update = jax.jit(tx.update)
    for _ in range(500):
        updates, state = update(w - jnp.bfloat16(1), state, w)
        w = optax.apply_updates(w, updates)
    np.testing.assert_allclose(state.average, 1 - 0.999**500, rtol=5e-3)


def test_lookahead_with_a_step_size_of_one_is_its_optimizer_to_the_bit():
    gradient = jnp.array([0.1, 0.2])
    inner = optax.adam(0.3)
    for size in (1.0, jnp.float32(1), optax.constant_schedule(1.0)):
        tx = transforms.lookahead(inner, period=2, step_size=size)
        w = jnp.array([1.1, -2.3])
        state, plain = tx.init(w), inner.init(w)
        for _ in range(4):
            updates, state = tx.update(gradient, state, w)
            expected, plain = inner.update(gradient, plain, w)
            np.testing.assert_array_equal(updates, expected)
            w = optax.apply_updates(w, updates)
            if state.count % 2 == 0:
                np.testing.assert_array_equal(state.average, w)


def test_an_average_of_a_part_leaves_the_others_newest():
    params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
    average = optax.masked(transforms.exponential_average(0.5, initial_weight=1.0), masks.kernels)
    tx = optax.chain(optax.sgd(1.0), average)
    updates, state = tx.update(params, tx.init(params), params)
    read = transforms.averaged(state, optax.apply_updates(params, updates))
    np.testing.assert_array_equal(read["kernel"], np.full((2, 2), 0.5))
    np.testing.assert_array_equal(read["bias"], np.zeros(2))
    parts = {"kernel": transforms.exponential_average(1.0), "bias": AVERAGES["equal"]()}
    tx = optax.chain(optax.sgd(1.0), optax.partition(parts, {"kernel": "kernel", "bias": "bias"}))
    updates, state = tx.update(params, tx.init(params), params)
    read = transforms.averaged(state, optax.apply_updates(params, updates))
    np.testing.assert_array_equal(read["kernel"], np.ones((2, 2)))
    np.testing.assert_array_equal(read["bias"], np.zeros(2))


def test_an_average_that_is_missing_or_not_the_only_one_is_named():
    w = jnp.ones(2)
    with pytest.raises(ValueError, match="`state` must hold an average of the parameters, got no"):
        transforms.averaged(optax.adam(0.1).init(w), w)
    tx = optax.chain(*(build() for build in AVERAGES.values()))
    with pytest.raises(ValueError, match=r"`state` must hold one average of each .*, got several"):
        transforms.averaged(tx.init(w), w)
    np.testing.assert_array_equal(transforms.averaged(tx.init(w)[0], w), w)
    state = transforms.exponential_average(0.5).init({"a": w, "b": w})
    with pytest.raises(ValueError, match=r"`params` must be shaped like .*, got none at b"):
        transforms.averaged(state, {"a": w})


def test_what_is_read_outlives_a_donated_state():
    tx = transforms.exponential_average(0.5)
    w = jnp.ones(2)
    state = tx.init(w)
    read = transforms.averaged(state, w)
    jax.jit(lambda s: jax.tree.map(lambda a: a + 1, s), donate_argnums=0)(state)
    np.testing.assert_array_equal(read, [1, 1])
    np.testing.assert_array_equal(w, [1, 1])


class Network(nnx.Module):
    def __init__(self, rngs):
        self.dense = nnx.Linear(3, 4, rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)

    def __call__(self, x):
        return self.norm(self.dense(x))


def test_an_nnx_model_takes_its_average_and_recalibrates():
    model = Network(nnx.Rngs(0))
    start = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    average = transforms.exponential_average(0.5, initial_weight=1.0)
    optimizer = nnx.Optimizer(model, optax.chain(optax.sgd(0.1), average), wrt=nnx.Param)
    x = jax.random.normal(jax.random.key(0), (16, 3))
    grads = nnx.grad(lambda model: jnp.sum(model(x)[:, 0] ** 3))(model)
    optimizer.update(model, grads)
    params = nnx.state(model, nnx.Param)
    read = transforms.averaged(optimizer.opt_state, params)
    halfway = jax.tree.map(lambda a, b: (a + b) / 2, start, nnx.to_pure_dict(params))
    chex.assert_trees_all_close(nnx.to_pure_dict(read), halfway, atol=1e-6)
    nnx.update(model, read)
    model.train()
    mean = statistics.recalibrate_model(model, [x]).norm.mean[...]
    np.testing.assert_allclose(mean, model.dense(x).mean(axis=0), atol=1e-6)


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
