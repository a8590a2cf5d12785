"""SAM and ASAM: the papers' equations, flat minima, and the edges of the perturbation."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxreg import masks, transforms
from tests.helpers import few

PERTURBATIONS = {
    "sam": lambda g, w, **k: transforms.sam_perturbation(g, **k),
    "asam": partial(transforms.asam_perturbation, eta=0.1),
}
every_perturbation = pytest.mark.parametrize("perturb", PERTURBATIONS.values(), ids=PERTURBATIONS)
BUILDS = {"sam": transforms.sam, "asam": partial(transforms.asam, eta=0.1)}
every_build = pytest.mark.parametrize("build", BUILDS.values(), ids=BUILDS)
ONES = np.ones(2, np.float32)


def regression():
    """Gradient of a small nonlinear regression in float64, by hand, and in JAX."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(20, 3))
    y = generator.normal(size=20)
    start = {"kernel": generator.normal(size=(3, 2)), "bias": generator.normal(size=2)}

    def gradient(p):
        hidden = np.tanh(x @ p["kernel"] + p["bias"])
        back = np.outer(hidden.sum(axis=1) - y, np.ones(2)) * (1 - hidden**2) / 20
        return {"kernel": x.T @ back, "bias": back.sum(axis=0)}

    def loss(p):
        hidden = jnp.tanh(np.float32(x) @ p["kernel"] + p["bias"])
        return jnp.mean((hidden.sum(axis=1) - np.float32(y)) ** 2) / 2

    return start, gradient, jax.grad(loss)


START, GRADIENT, SLOPE = regression()
NARROW_START = jax.tree.map(np.float32, START)


@partial(jax.jit, static_argnums=(0, 1, 3))
def train(tx, slope, w, steps):
    """Parameters after some steps, and the last state."""

    def step(_, carry):
        w, state = carry
        updates, state = tx.update(slope(w), state, w, grad_fn=slope)
        return optax.apply_updates(w, updates), state

    return jax.lax.fori_loop(0, steps, step, (w, tx.init(w)))


@partial(jax.jit, static_argnums=(0, 1))
def first(tx, slope, w):
    """Updates of the first step."""
    return tx.update(slope(w), tx.init(w), w, grad_fn=slope)[0]


def worst(w, gradient, radius, eta=None):
    """The worst point to first order, in float64; without ``eta`` it is SAM's."""
    scale = {k: np.ones_like(v) if eta is None else abs(v) + eta for k, v in w.items()}
    norm = np.sqrt(sum(((scale[k] * gradient[k]) ** 2).sum() for k in w))
    return {k: w[k] + radius * scale[k] ** 2 * gradient[k] / norm for k in w}


@few("eta", [0.05, None, 0.0])
@few("radius", [0.7, 0.05])
def test_the_steps_are_those_of_the_papers(radius, eta):
    """Algorithm 1 of both papers with plain SGD, in float64."""
    inner = optax.sgd(0.3)
    tx = transforms.sam(inner, radius) if eta is None else transforms.asam(inner, radius, eta=eta)
    after, state = train(tx, SLOPE, NARROW_START, 10)
    w = START
    for _ in range(10):
        there = GRADIENT(worst(w, GRADIENT(w), radius, eta))
        w = {k: w[k] - 0.3 * g for k, g in there.items()}
    for name, leaf in w.items():
        np.testing.assert_allclose(after[name], leaf, atol=5e-6)
    assert state.step.count == 10


@every_build
def test_the_update_is_that_at_the_perturbed_parameters(build):
    """The two steps by hand, for loops that keep the gradient themselves."""
    eta = None if build is transforms.sam else 0.1
    there = worst(START, GRADIENT(START), 0.3, eta)
    perturb = PERTURBATIONS["sam" if eta is None else "asam"]

    @jax.jit
    def both(w):
        return perturb(SLOPE(w), w, radius=0.3), first(build(optax.sgd(1.0), 0.3), SLOPE, w)

    step, updates = both(NARROW_START)
    for name, leaf in GRADIENT(there).items():
        np.testing.assert_allclose(step[name], there[name] - START[name], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(updates[name], -leaf, rtol=1e-4, atol=1e-6)


def test_the_default_of_eta_is_that_of_the_paper():
    g = np.float32([3.0, 4.0])
    step = jax.jit(partial(transforms.asam_perturbation, radius=0.5))(g, np.zeros(2, np.float32))
    np.testing.assert_allclose(step, 0.005 * g / 5, rtol=1e-6)
    updates = first(transforms.asam(optax.sgd(1.0), 0.5), lambda w: w + 1, np.zeros(2, np.float32))
    np.testing.assert_allclose(updates, -1 - 0.005 / np.sqrt(2), rtol=1e-6)


def test_it_walks_along_a_valley_to_the_flattest_minimum():
    """All ``a b = 1`` are minima of the loss, with curvature ``a^2 + b^2`` across the valley."""

    @jax.jit
    @jax.vmap
    def minimum(radius):
        slope = jax.grad(lambda w: (w[0] * w[1] - 1) ** 2 / 2)
        return train(transforms.sam(optax.sgd(0.05), radius), slope, jnp.array([4.0, 0.3]), 5000)[0]

    found = np.asarray(minimum(np.float32([0.0, 0.3])))
    np.testing.assert_allclose(found.prod(axis=1), 1, atol=0.02)
    curvatures = (found**2).sum(axis=1)
    assert curvatures[0] > 16
    np.testing.assert_allclose(curvatures[1], 2, rtol=0.02)


def test_the_perturbation_of_asam_does_not_change_with_the_scale_of_a_layer():
    """The loss of ``x -> a b x`` nearby is the same for ``a t`` and ``b / t``."""
    x = np.linspace(-1, 1, 9, dtype=np.float32)

    def loss(p):
        return jnp.mean((x * p["a"] * p["b"] - np.sin(x)) ** 2)

    @jax.jit
    @jax.vmap
    def climbed(t):
        w = {"a": 0.4 * t, "b": 0.8 / t}
        perturbations = [partial(transforms.asam_perturbation, eta=0.0), PERTURBATIONS["sam"]]
        return [
            loss(optax.apply_updates(w, perturb(jax.grad(loss)(w), w, radius=0.2)))
            for perturb in perturbations
        ]

    adaptive, plain = climbed(np.float32([8.0, 1.0]))
    np.testing.assert_allclose(adaptive[0], adaptive[1], rtol=1e-5)
    assert abs(plain[0] / plain[1] - 1) > 0.5


# The edges of a perturbation.


@every_perturbation
@few("dtype", ["bfloat16", "float32", "float16"])
def test_a_zero_gradient_is_no_perturbation(perturb, dtype):
    """``optax.contrib.sam`` divides by zero (optax 0.2.8 with jax 0.10.2 and 0.12.0)::

    climb = optax.chain(optax.contrib.normalize(), optax.sgd(0.05))
    tx = optax.contrib.sam(optax.sgd(0.1), climb, opaque_mode=True)
    w = jnp.ones(3)
    tx.update(jnp.zeros(3), tx.init(w), w, grad_fn=lambda w, _: w)[0]  # [nan, nan, nan]
    """
    w = {"a": np.ones(3, dtype), "b": np.zeros((0, 2), dtype)}

    @jax.jit
    def step(g):
        move = lambda g: perturb({"a": g, "b": w["b"]}, w, radius=0.5)["a"]  # noqa: E731
        return move(g), jax.jacobian(move)(g)

    moved, slope = step(np.zeros(3, dtype))
    assert moved.dtype == dtype
    np.testing.assert_array_equal(moved, np.zeros(3))
    assert np.isfinite(np.asarray(slope, np.float32)).all()


def test_the_adaptive_perturbation_at_zero_weights():
    @jax.jit
    def steps(g, w):
        return [
            transforms.asam_perturbation(g, w, radius=0.5, eta=eta)
            for eta in (0.0, 0.02, jnp.float32(-1))
        ]

    g = np.float32([3.0, 4.0])
    frozen, moved, clipped = steps(g, np.zeros(2, np.float32))
    np.testing.assert_array_equal(frozen, [0, 0])
    np.testing.assert_allclose(moved, 0.01 * g / 5, rtol=1e-6)
    np.testing.assert_array_equal(clipped, [0, 0])


@every_perturbation
def test_the_perturbation_does_not_depend_on_the_size_of_gradients(perturb):
    w = {"a": np.float32([3.0, 4.0]), "b": np.float32(1.0)}
    sizes = np.float32([1, 1e-30, 1e-20, 1e20, 1e30, 1e-42])

    @jax.jit
    @jax.vmap
    def step(size):
        return perturb({"a": size * ONES, "b": 2 * size}, w, radius=0.5)

    found = np.column_stack(jax.tree.leaves(step(sizes)))
    np.testing.assert_allclose(found[1:5], np.tile(found[0], (4, 1)), rtol=1e-5)
    # Below 1e-38 many devices flush to zero.
    assert np.isfinite(found[5]).all()


def test_narrow_gradients_are_summed_in_float32():
    """In their own dtype the norm of 300s would be infinite, and the norm of 1e-4s zero."""

    @jax.jit
    def steps():
        found = []
        for value in (300.0, 1e-4):
            g = {n: np.full(size, value, np.float16) for n, size in (("a", 1000), ("b", 24))}
            found.append(transforms.sam_perturbation(g, radius=32.0))
        many = np.full(10_000, 1, jnp.bfloat16)  # Counted one by one in bfloat16 they are 256.
        return found, transforms.sam_perturbation(many, radius=100.0)

    found, many = steps()
    for step in found:
        assert step["a"].dtype == np.float16
        np.testing.assert_allclose(np.concatenate([*step.values()]), 1, rtol=2e-3)
    np.testing.assert_allclose(np.asarray(many, np.float32), 1, rtol=4e-3)


def test_narrow_weights_and_gradients_are_multiplied_in_float32():
    """300 times 300 is infinite in float16."""
    big = np.full(4, 300.0, np.float16)
    step = jax.jit(partial(transforms.asam_perturbation, radius=0.5, eta=0.0))(big, big)
    np.testing.assert_allclose(np.asarray(step, np.float64), 0.5 * 300 / 2, rtol=1e-3)


def test_wide_and_narrow_leaves_share_one_norm():
    g = {"narrow": np.full(3, 2.0, jnp.bfloat16), "wide": np.float32([2.0])}
    step = jax.jit(partial(transforms.sam_perturbation, radius=1.0))(g)
    assert step["narrow"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(np.float32(step["narrow"]), [0.5] * 3)
    np.testing.assert_allclose(step["wide"], [0.5], rtol=1e-6)


def test_float64_gradients_are_not_narrowed_by_others():
    with jax.enable_x64(True):
        step = jax.jit(partial(transforms.sam_perturbation, radius=1.0))
        g = {"narrow": np.float32([1.0]), "wide": np.float64([1.0])}
        found = step(g)
        assert found["narrow"].dtype == np.float32
        np.testing.assert_allclose(found["wide"], [0.5**0.5], rtol=1e-12)


@few("wrap", [float, optax.constant_schedule, jnp.float32])
@every_build
def test_a_radius_of_zero_is_the_optimizer_to_the_bit(build, wrap):
    inner = optax.adam(0.1)
    tx = build(inner, wrap(0.0))

    @jax.jit
    def steps(w):
        state = tx.init(w)
        plain = inner.init(w)
        found = []
        for _ in range(3):
            clipped = jax.tree.map(lambda g: jnp.clip(g, -0.1, 0.1), SLOPE(w))
            updates, state = tx.update(clipped, state, w, grad_fn=SLOPE)
            expected, plain = inner.update(clipped, plain, w)
            found.append((updates, expected))
            w = optax.apply_updates(w, updates)
        return found

    for updates, expected in steps(NARROW_START):
        jax.tree.map(np.testing.assert_array_equal, updates, expected)


def test_a_schedule_of_the_radius_follows_the_steps():
    tx = transforms.sam(optax.sgd(1.0), lambda count: jnp.array([0.0, 0.5, 1.0])[count])

    @jax.jit
    def steps(w):
        state = tx.init(w)
        found = []
        for _ in range(3):
            updates, state = tx.update(w, state, w, grad_fn=lambda w: w)
            found.append(updates[0])
        return found

    np.testing.assert_allclose(steps(np.float32([2.0])), [-2.0, -2.5, -3.0], rtol=1e-6)


def test_a_negative_traced_radius_is_zero():
    step = jax.jit(lambda g, radius: transforms.sam_perturbation(g, radius=radius))
    np.testing.assert_array_equal(step(np.float32([3.0, 4.0]), -1.0), [0, 0])


@every_perturbation
def test_gradients_that_are_not_finite_show(perturb):
    @jax.jit
    @jax.vmap
    def step(bad):
        g = {"a": jnp.array([1.0, bad]), "b": ONES}
        return perturb(g, {"a": ONES, "b": ONES}, radius=0.5)["a"]

    found = np.asarray(step(np.float32([np.inf, np.nan])))
    assert np.isnan(found).any(axis=1).all()


@every_build
@few("where", ["second", "first"])
def test_steps_that_are_not_finite_are_skipped_inside(build, where):
    """Around it, Optax would look at the first gradients alone."""
    tx = build(optax.apply_if_finite(optax.adam(0.1), max_consecutive_errors=3), 0.5)
    w = np.float32([1.0, 2.0])
    slope = (lambda w: w) if where == "first" else (lambda w: jnp.full_like(w, jnp.nan))
    gradient = np.float32([1.0, np.inf]) if where == "first" else w

    @jax.jit
    def step():
        state = tx.init(w)
        updates, after = tx.update(gradient, state, w, grad_fn=slope)
        return updates, after.inner_state, state.inner_state

    updates, inner, before = step()
    np.testing.assert_array_equal(updates, [0, 0])
    assert inner.total_notfinite == 1
    jax.tree.map(np.testing.assert_array_equal, inner.inner_state, before.inner_state)


# Leaves of other kinds.


def test_typed_keys_in_the_state_and_among_the_parameters():
    """``optax.contrib.sam`` selects states by multiplying (optax 0.2.8, jax 0.10.2 and 0.12.0)::

    climb = optax.chain(optax.contrib.normalize(), optax.sgd(0.05))
    tx = optax.contrib.sam(optax.noisy_sgd(0.1, key=jax.random.key(0)), climb)
    tx.update(jnp.ones(3), tx.init(jnp.ones(3)), jnp.ones(3))
    # TypeError: multiply does not accept dtypes bool, key<fry>.
    """
    inner = optax.noisy_sgd(0.1, key=jax.random.key(0))
    assert np.isfinite(first(transforms.sam(inner, np.float32(0.5)), lambda w: 2 * w, ONES)).all()
    params = {"w": ONES, "key": jax.random.key(1), "n": np.array([3]), "none": None}
    gradients = {"w": ONES, "key": np.zeros((), jax.dtypes.float0), "n": np.array([1])}
    gradients |= {"none": None}

    @jax.jit
    def step():
        seen = []

        def slope(p):
            seen.append(p)
            return {**gradients, "w": 2 * p["w"]}

        tx = transforms.sam(optax.identity(), np.float32(0.5))
        updates, _ = tx.update(gradients, tx.init(params), params, grad_fn=slope)
        assert len(seen) == 1
        assert seen[0]["key"] is params["key"]
        assert seen[0]["none"] is None
        assert updates["key"] is gradients["key"]
        assert updates["none"] is None
        return seen[0]["w"], seen[0]["n"], updates["w"], updates["n"]

    w, counted, update, passed = step()
    np.testing.assert_allclose(w, 1 + 0.5 / np.sqrt(2), rtol=1e-6)
    np.testing.assert_array_equal(counted, [3])
    np.testing.assert_allclose(update, 2 + 1 / np.sqrt(2), rtol=1e-6)
    np.testing.assert_array_equal(passed, [1])


def test_counters_do_not_move_with_a_perturbation():
    @jax.jit
    def step():
        g = {"w": ONES, "steps": np.array([3, 4]), "none": None}
        found = transforms.sam_perturbation(g, radius=0.5)
        assert found["none"] is None
        assert transforms.sam_perturbation({"none": None}, radius=0.5) == {"none": None}
        return found["steps"]

    np.testing.assert_array_equal(step(), [0, 0])


def test_complex_parameters_move_along_their_updates():
    g = np.array([3j, 4.0], np.complex64)

    @jax.jit
    def steps(g):
        adaptive = transforms.asam_perturbation(g, np.complex64([3 + 4j, 5]), radius=0.5, eta=0.0)
        return transforms.sam_perturbation(g, radius=0.5), adaptive

    plain, adaptive = steps(g)
    np.testing.assert_allclose(plain, g / 10, rtol=1e-6)
    np.testing.assert_allclose(adaptive, g / 2, rtol=1e-6)  # Both magnitudes are 5.


def test_dtypes_of_parameters_and_updates_stay():
    """A loss in float32 still has gradients for narrow parameters."""
    w = {"a": np.ones(2, jnp.bfloat16), "b": ONES}
    slope = lambda p: jax.tree.map(lambda w: w.astype(jnp.float32), p)  # noqa: E731
    tx = transforms.sam(optax.identity(), 0.5)

    def step(w):
        seen = []
        updates, _ = tx.update(w, tx.init(w), w, grad_fn=lambda p: seen.append(p) or slope(p))
        return seen[0], updates

    for found in jax.eval_shape(step, w):
        assert (found["a"].dtype, found["b"].dtype) == (jnp.bfloat16, np.float32)


def test_compensation_perturbs_narrow_parameters_in_float32():
    """In bfloat16, 1 + 0.001 is 1: the gradient would be the one that is there already."""
    w = np.ones(2, jnp.bfloat16)
    tx = transforms.sam(optax.sgd(0.1), 0.001)

    @jax.jit
    def seen():
        points = []
        for each in (tx, transforms.compensate_rounding(tx)):
            each.update(w, each.init(w), w, grad_fn=lambda w: points.append(w) or w)
        return points

    plain, compensated = seen()
    np.testing.assert_array_equal(np.asarray(plain, np.float32), [1, 1])
    np.testing.assert_allclose(compensated, 1 + 0.001 / np.sqrt(2), rtol=1e-6)


# The gradient function, and other arguments.


@every_build
def test_the_gradient_function_is_called_once(build):
    for radius, number in ((0.0, 0), (0.5, 1)):
        calls = []
        tx = build(optax.sgd(0.1), radius)
        slope = lambda w, calls=calls: calls.append(w) or w  # noqa: E731
        jax.eval_shape(partial(first, tx, lambda w: w), ONES)
        jax.eval_shape(
            lambda w, tx=tx, slope=slope: tx.update(w, tx.init(w), w, grad_fn=slope), ONES
        )
        assert len(calls) == number


@every_build
def test_an_inner_optimizer_gets_the_other_extra_arguments(build):
    """Plateaus take the loss, and line searches the functions."""

    def update(updates, state, params=None, *, value, grad_fn):
        assert params is not None
        return value * grad_fn(updates), state

    inner = optax.GradientTransformationExtraArgs(optax.init_empty_state, update)
    tx = build(inner, 0.0)
    double = lambda w: 2 * w  # noqa: E731
    step = jax.jit(lambda w: tx.update(w, tx.init(w), w, grad_fn=double, value=3.0)[0])
    np.testing.assert_array_equal(step(ONES), [6, 6])


class Linear(nnx.Module):
    def __init__(self):
        self.kernel = nnx.Param(np.float32([[0.5, -1.0], [2.0, 0.1], [0.3, 0.4]]))

    def __call__(self, x):
        return x @ self.kernel[...]


def test_an_nnx_optimizer_passes_the_gradient_function_on():
    model = Linear()
    x = np.ones((4, 3), np.float32)
    optimizer = nnx.Optimizer(model, transforms.sam(optax.sgd(0.1), 0.5), wrt=nnx.Param)
    loss = lambda model: jnp.mean(model(x) ** 4)  # noqa: E731
    kernel = np.float64(model.kernel[...])

    @nnx.jit
    def step(model, optimizer):
        graph, _ = nnx.split(model)
        slope = jax.grad(lambda params: loss(nnx.merge(graph, params)))
        optimizer.update(model, nnx.grad(loss)(model), grad_fn=slope)

    step(model, optimizer)
    gradient = lambda k: np.tile(4 * k.sum(0) ** 3 / 2, (3, 1))  # noqa: E731
    there = worst({"k": kernel}, {"k": gradient(kernel)}, 0.5)["k"]
    np.testing.assert_allclose(model.kernel[...], kernel - 0.1 * gradient(there), rtol=1e-5)


@every_build
def test_wrong_arguments_are_named(build):
    tx = build(optax.identity(), 0.5)
    state = tx.init(ONES)
    with pytest.raises(ValueError, match=r"`grad_fn` must be given to the update of `a?sam`, got"):
        tx.update(ONES, state, ONES)
    with pytest.raises(ValueError, match=r"`params` must be given to the update of `a?sam`, got"):
        tx.update(ONES, state, grad_fn=lambda w: w)
    with pytest.raises(ValueError, match="`radius` must be zero or positive, got -1"):
        build(optax.sgd(0.1), -1.0)
    params = {"kernel": np.ones((2, 2), np.float32), "bias": ONES}
    masked = optax.masked(tx, masks.kernels)
    with pytest.raises(ValueError, match=r"`params` must be all parameters in the update of `a?s"):
        masked.update(params, masked.init(params), params, grad_fn=lambda w: w)


def test_wrong_arguments_of_perturbations_are_named():
    for eta, radius, name in ((0.1, -1.0, "radius"), (-1.0, 0.1, "eta")):
        with pytest.raises(ValueError, match=f"`{name}` must be zero or positive, got -1"):
            transforms.asam_perturbation(ONES, ONES, radius=radius, eta=eta)
    with pytest.raises(ValueError, match="`radius` must be zero or positive, got -1"):
        transforms.sam_perturbation(ONES, radius=-1.0)
    with pytest.raises(ValueError, match="`eta` must be zero or positive, got -1"):
        transforms.asam(optax.sgd(0.1), 1.0, eta=-1.0)
