"""SAM and ASAM: the papers' equations, flat minima, and the edges of the perturbation."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxreg import transforms

PERTURBATIONS = {
    "sam": lambda g, w, **k: transforms.sam_perturbation(g, **k),
    "asam": partial(transforms.asam_perturbation, eta=0.1),
}
every_perturbation = pytest.mark.parametrize("perturb", PERTURBATIONS.values(), ids=PERTURBATIONS)
BUILDS = {"sam": transforms.sam, "asam": partial(transforms.asam, eta=0.1)}
every_build = pytest.mark.parametrize("build", BUILDS.values(), ids=BUILDS)


def regression():
    """Gradient of a small nonlinear regression in float64, by hand, and in JAX."""
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(20, 3)), generator.normal(size=20)
    start = {"kernel": generator.normal(size=(3, 2)), "bias": generator.normal(size=2)}

    def gradient(p):
        hidden = np.tanh(x @ p["kernel"] + p["bias"])
        back = np.outer(hidden.sum(axis=1) - y, np.ones(2)) * (1 - hidden**2) / 20
        return {"kernel": x.T @ back, "bias": back.sum(axis=0)}

    def loss(p):
        hidden = jnp.tanh(jnp.float32(x) @ p["kernel"] + p["bias"])
        return jnp.mean((hidden.sum(axis=1) - jnp.float32(y)) ** 2) / 2

    return start, gradient, jax.grad(loss)


def reference(start, gradient, *, radius, rate, steps, eta=None):
    """Algorithm 1 of both papers with plain SGD, in float64."""
    w = {name: leaf.copy() for name, leaf in start.items()}
    for _ in range(steps):
        g = gradient(w)
        scale = {k: np.ones_like(v) if eta is None else abs(v) + eta for k, v in w.items()}
        norm = np.sqrt(sum(((scale[k] * g[k]) ** 2).sum() for k in g))
        there = {k: w[k] + radius * scale[k] ** 2 * g[k] / norm for k in w}
        w = {k: w[k] - rate * v for k, v in gradient(there).items()}
    return w


@pytest.mark.parametrize("eta", [None, 0.0, 0.05])
@pytest.mark.parametrize("radius", [0.05, 0.7])
def test_the_steps_are_those_of_the_papers(radius, eta):
    start, gradient, slope = regression()
    expected = reference(start, gradient, radius=radius, rate=0.3, steps=10, eta=eta)
    inner = optax.sgd(0.3)
    tx = transforms.sam(inner, radius) if eta is None else transforms.asam(inner, radius, eta=eta)
    w = jax.tree.map(jnp.float32, start)
    state = tx.init(w)
    for _ in range(10):
        updates, state = tx.update(slope(w), state, w, grad_fn=slope)
        w = optax.apply_updates(w, updates)
    for name, leaf in expected.items():
        np.testing.assert_allclose(w[name], leaf, atol=5e-6)


def test_the_function_of_a_perturbation_is_the_update_of_the_transformation():
    """The two steps by hand, for loops that keep the gradient themselves."""
    start, _, slope = regression()
    w = jax.tree.map(jnp.float32, start)
    for perturb, build in zip(PERTURBATIONS.values(), BUILDS.values(), strict=True):
        there = optax.apply_updates(w, perturb(slope(w), w, radius=0.3))
        tx = build(optax.sgd(1.0), 0.3)
        updates, _ = tx.update(slope(w), tx.init(w), w, grad_fn=slope)
        for name in w:
            np.testing.assert_allclose(updates[name], -slope(there)[name], rtol=1e-5)


def test_it_is_the_sam_of_optax():
    start, _, slope = regression()
    w = jax.tree.map(jnp.float32, start)
    climb = optax.chain(optax.contrib.normalize(), optax.sgd(0.3))
    theirs = optax.contrib.sam(optax.adam(0.1), climb, opaque_mode=True)
    ours = transforms.sam(optax.adam(0.1), 0.3)
    state, other = ours.init(w), theirs.init(w)
    for _ in range(3):
        updates, state = ours.update(slope(w), state, w, grad_fn=slope)
        expected, other = theirs.update(slope(w), other, w, grad_fn=lambda p, _: slope(p))
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4), updates, expected)
        w = optax.apply_updates(w, updates)


def test_it_walks_along_a_valley_to_the_flattest_minimum():
    """All ``a b = 1`` are minima of the loss, with curvature ``a^2 + b^2`` across the valley."""
    slope = jax.grad(lambda w: (w[0] * w[1] - 1) ** 2 / 2)
    curvatures = []
    for radius in (0.0, 0.3):
        tx = transforms.sam(optax.sgd(0.05), radius)

        def body(_, carry, tx=tx):
            w, state = carry
            updates, state = tx.update(slope(w), state, w, grad_fn=slope)
            return optax.apply_updates(w, updates), state

        w = jnp.array([4.0, 0.3])
        w, _ = jax.lax.fori_loop(0, 5000, body, (w, tx.init(w)))
        np.testing.assert_allclose(w[0] * w[1], 1, atol=0.02)
        curvatures.append(float(w @ w))
    assert curvatures[0] > 16
    np.testing.assert_allclose(curvatures[1], 2, rtol=0.02)


def test_the_perturbation_of_asam_does_not_change_with_the_scale_of_a_layer():
    """What ``x -> b tanh(a x)`` loses nearby is the same for ``a t`` and ``b / t`` before tanh."""
    x = jnp.linspace(-1, 1, 9)

    def loss(p):
        return jnp.mean((x * p["a"] * p["b"] - jnp.sin(x)) ** 2)

    def climbed(t, perturb):
        w = {"a": jnp.float32(0.4 * t), "b": jnp.float32(0.8 / t)}
        return loss(optax.apply_updates(w, perturb(jax.grad(loss)(w), w, radius=0.2)))

    adaptive = partial(transforms.asam_perturbation, eta=0.0)
    np.testing.assert_allclose(climbed(8.0, adaptive), climbed(1.0, adaptive), rtol=1e-5)
    plain = PERTURBATIONS["sam"]
    assert abs(climbed(8.0, plain) / climbed(1.0, plain) - 1) > 0.5


@every_perturbation
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_zero_gradient_is_no_perturbation(perturb, dtype):
    """``optax.contrib.sam`` divides by zero (optax 0.2.8 with jax 0.10.2 and 0.12.0)::

    climb = optax.chain(optax.contrib.normalize(), optax.sgd(0.05))
    tx = optax.contrib.sam(optax.sgd(0.1), climb, opaque_mode=True)
    w = jnp.ones(3)
    tx.update(jnp.zeros(3), tx.init(w), w, grad_fn=lambda w, _: w)[0]  # [nan, nan, nan]
    """
    w = {"a": jnp.ones(3, dtype), "b": jnp.zeros((0, 2), dtype)}
    zeros = jax.tree.map(jnp.zeros_like, w)
    step = perturb(zeros, w, radius=0.5)
    assert step["a"].dtype == dtype
    np.testing.assert_array_equal(step["a"], 0)
    slope = jax.jacobian(lambda g: perturb({**zeros, "a": g}, w, radius=0.5)["a"])(zeros["a"])
    assert np.isfinite(np.asarray(slope, np.float32)).all()


def test_the_adaptive_perturbation_at_zero_weights():
    w, g = jnp.zeros(2), jnp.array([3.0, 4.0])
    frozen = transforms.asam_perturbation(g, w, radius=0.5, eta=0.0)
    np.testing.assert_array_equal(frozen, 0)
    moved = transforms.asam_perturbation(g, w, radius=0.5, eta=0.01)
    np.testing.assert_allclose(moved, 0.005 * g / 5, rtol=1e-6)


@every_perturbation
@pytest.mark.parametrize("size", [1e-42, 1e-30, 1e-20, 1e20, 1e30])
def test_the_perturbation_does_not_depend_on_the_size_of_gradients(perturb, size):
    w, g = (
        {"a": jnp.array([3.0, 4.0]), "b": jnp.array(1.0)},
        {"a": jnp.ones(2), "b": jnp.array(2.0)},
    )
    expected = perturb(g, w, radius=0.5)
    actual = perturb(jax.tree.map(lambda g: g * size, g), w, radius=0.5)
    if size > 1e-38:  # Below it many devices flush to zero.
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5), actual, expected)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(actual))


@pytest.mark.parametrize(("dtype", "value"), [("float16", 300.0), ("float16", 1e-4)])
def test_narrow_gradients_are_summed_in_float32(dtype, value):
    """In their own dtype the norm of 300s would be infinite, and that of 1e-4s zero."""
    g = {"a": jnp.full(1000, value, dtype), "b": jnp.full(24, value, dtype)}
    step = transforms.sam_perturbation(g, radius=32.0)
    np.testing.assert_allclose(np.concatenate([*step.values()]), 1, rtol=2e-3)
    many = jnp.full(10_000, 1, jnp.bfloat16)  # Counted one by one in bfloat16 they are 256.
    step = transforms.sam_perturbation(many, radius=100.0)
    np.testing.assert_allclose(np.asarray(step, np.float32), 1, rtol=4e-3)


def test_narrow_weights_and_gradients_are_multiplied_in_float32():
    """300 times 300 is infinite in float16."""
    big = jnp.full(4, 300.0, jnp.float16)
    step = transforms.asam_perturbation(big, big, radius=0.5, eta=0.0)
    np.testing.assert_allclose(np.asarray(step, np.float64), 0.5 * 300 / 2, rtol=1e-3)


@every_build
@pytest.mark.parametrize("wrap", [float, jnp.float32, optax.constant_schedule])
def test_a_radius_of_zero_is_the_optimizer_to_the_bit(build, wrap):
    start, _, slope = regression()
    inner = optax.adam(0.1)
    w = jax.tree.map(jnp.float32, start)
    tx = build(inner, wrap(0.0))
    state, plain = tx.init(w), inner.init(w)
    for _ in range(3):
        clipped = jax.tree.map(lambda g: jnp.clip(g, -0.1, 0.1), slope(w))
        updates, state = tx.update(clipped, state, w, grad_fn=slope)
        expected, plain = inner.update(clipped, plain, w)
        jax.tree.map(np.testing.assert_array_equal, updates, expected)
        w = optax.apply_updates(w, updates)


def test_a_schedule_of_the_radius_follows_the_steps():
    radii = jnp.array([0.0, 0.5, 1.0])
    tx = transforms.sam(optax.sgd(1.0), lambda count: radii[count])
    w = jnp.array([2.0])
    state = tx.init(w)
    for radius in radii:
        updates, state = tx.update(w, state, w, grad_fn=lambda w: w)
        np.testing.assert_allclose(updates, -(2 + radius), rtol=1e-6)


def test_a_negative_traced_radius_is_zero():
    g = jnp.array([3.0, 4.0])
    np.testing.assert_array_equal(transforms.sam_perturbation(g, radius=jnp.float32(-1)), 0)


@every_perturbation
@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_gradients_that_are_not_finite_show(perturb, bad):
    g = {"a": jnp.array([1.0, bad]), "b": jnp.ones(2)}
    step = perturb(g, jax.tree.map(jnp.ones_like, g), radius=0.5)
    assert np.isnan(step["a"]).any()


@every_build
@pytest.mark.parametrize("where", ["first", "second"])
def test_steps_that_are_not_finite_are_skipped_inside(build, where):
    """Around it, Optax would look at the first gradients alone."""
    tx = build(optax.apply_if_finite(optax.adam(0.1), max_consecutive_errors=3), 0.5)
    w = jnp.array([1.0, 2.0])
    slope = (lambda w: w) if where == "first" else (lambda w: jnp.full_like(w, jnp.nan))
    gradient = jnp.array([1.0, jnp.inf]) if where == "first" else w
    state = tx.init(w)
    updates, after = tx.update(gradient, state, w, grad_fn=slope)
    np.testing.assert_array_equal(updates, 0)
    inner, before = after.inner_state, state.inner_state
    assert inner.total_notfinite == 1
    jax.tree.map(np.testing.assert_array_equal, inner.inner_state, before.inner_state)


def test_typed_keys_in_the_state_and_among_the_parameters():
    """``optax.contrib.sam`` selects states by multiplying (optax 0.2.8, jax 0.10.2 and 0.12.0)::

    climb = optax.chain(optax.contrib.normalize(), optax.sgd(0.05))
    tx = optax.contrib.sam(optax.noisy_sgd(0.1, key=jax.random.key(0)), climb)
    tx.update(jnp.ones(3), tx.init(jnp.ones(3)), jnp.ones(3))
    # TypeError: multiply does not accept dtypes bool, key<fry>.
    """
    inner = optax.noisy_sgd(0.1, key=jax.random.key(0))
    tx = transforms.sam(inner, jnp.float32(0.5))
    w = jnp.ones(3)
    state = tx.init(w)
    updates, after = tx.update(w, state, w, grad_fn=lambda w: 2 * w)
    jax.tree.map(lambda a, b: None, state, after)
    assert np.isfinite(updates).all()
    params = {"w": w, "key": jax.random.key(1)}
    gradients = {"w": w, "key": np.zeros((), jax.dtypes.float0)}
    there = optax.apply_updates(w, transforms.sam_perturbation(gradients, radius=0.5)["w"])
    np.testing.assert_allclose(there, 1 + 0.5 / np.sqrt(3), rtol=1e-6)
    seen = []

    def slope(p):
        seen.append(p)
        return gradients

    plain = optax.GradientTransformation(optax.init_empty_state, lambda u, s, p=None: (u, s))
    tx = transforms.sam(plain, jnp.float32(0.5))
    tx.update(gradients, tx.init(params), params, grad_fn=slope)
    assert seen[0]["key"] is params["key"]
    np.testing.assert_allclose(seen[0]["w"], there, rtol=1e-6)


def test_counters_do_not_move_with_a_perturbation():
    g = {"w": jnp.ones(2), "steps": jnp.array([3, 4]), "none": None}
    step = transforms.sam_perturbation(g, radius=0.5)
    np.testing.assert_array_equal(step["steps"], 0)
    assert step["none"] is None


def test_complex_parameters_move_along_their_updates():
    g = jnp.array([3j, 4.0])
    np.testing.assert_allclose(transforms.sam_perturbation(g, radius=0.5), g / 10, rtol=1e-6)


def test_compensation_perturbs_narrow_parameters_in_float32():
    """In bfloat16, 1 + 0.001 is 1: the gradient would be the one that is there already."""
    seen = []

    def slope(w):
        seen.append(w)
        return w

    w = jnp.ones(2, jnp.bfloat16)
    tx = transforms.sam(optax.sgd(0.1), 0.001)
    tx.update(w, tx.init(w), w, grad_fn=slope)
    np.testing.assert_array_equal(np.asarray(seen.pop(), np.float32), 1)
    tx = transforms.compensate_rounding(tx)
    tx.update(w, tx.init(w), w, grad_fn=slope)
    np.testing.assert_allclose(seen.pop(), 1 + 0.001 / np.sqrt(2), rtol=1e-6)


@every_build
def test_the_gradient_function_is_called_once(build):
    calls = []

    def slope(w):
        calls.append(w)
        return w

    w = jnp.ones(2)
    for radius, number in ((0.0, 0), (0.5, 1)):
        calls.clear()
        tx = build(optax.sgd(0.1), radius)
        tx.update(w, tx.init(w), w, grad_fn=slope)
        assert len(calls) == number


@every_build
def test_wrong_arguments_are_named(build):
    w = jnp.ones(2)
    tx = build(optax.sgd(0.1), 0.5)
    with pytest.raises(ValueError, match=r"`grad_fn` must be given to the update of `a?sam`, got"):
        tx.update(w, tx.init(w), w)
    with pytest.raises(ValueError, match="`radius` must be zero or positive, got -1"):
        build(optax.sgd(0.1), -1.0)
    with pytest.raises(ValueError, match="`eta` must be zero or positive, got -1"):
        transforms.asam(optax.sgd(0.1), 1.0, eta=-1.0)


@every_build
def test_an_inner_optimizer_gets_the_other_extra_arguments(build):
    """Plateaus take the loss, and line searches the functions."""
    inner = optax.chain(optax.sgd(0.1), optax.contrib.reduce_on_plateau())
    w = jnp.ones(2)
    tx = build(inner, 0.5)
    updates, _ = tx.update(w, tx.init(w), w, grad_fn=lambda w: w, value=1.0)
    assert np.isfinite(updates).all()


def test_an_nnx_optimizer_passes_the_gradient_function_on():
    model, x = nnx.Linear(3, 2, rngs=nnx.Rngs(0)), jnp.ones((4, 3))
    optimizer = nnx.Optimizer(model, transforms.sam(optax.sgd(0.1), 0.5), wrt=nnx.Param)

    def loss(model):
        return jnp.mean(model(x) ** 4)

    graph, params = nnx.split(model)
    slope = jax.grad(lambda params: loss(nnx.merge(graph, params)))
    there = optax.apply_updates(params, transforms.sam_perturbation(slope(params), radius=0.5))
    expected = optax.apply_updates(params, jax.tree.map(lambda g: -0.1 * g, slope(there)))
    optimizer.update(model, nnx.grad(loss)(model), grad_fn=slope)
    np.testing.assert_allclose(model.kernel[...], expected["kernel"][...], rtol=1e-6)
    np.testing.assert_allclose(model.bias[...], expected["bias"][...], atol=1e-6)
