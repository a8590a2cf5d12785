"""Steps by depth: the formula of timm, the wrappers of Optax, and decays of their own."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxreg import masks, transforms

WEIGHT = 0.5
ORDER = ("embed", "block_0", "block_1", "head")


def one_step(tx, updates, params):
    return optax.apply_updates(params, tx.update(updates, tx.init(params), params)[0])


def trajectory(tx, params, gradients):
    """Parameters after each of some gradients."""

    def step(carry, gradient):
        params, state = carry
        updates, state = tx.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *gradients)
    path = jax.device_get(jax.lax.scan(step, (params, tx.init(params)), stacked)[1])
    return [jax.tree.map(lambda w, i=i: w[i], path) for i in range(len(gradients))]


def model():
    draw = lambda i: jnp.sin(jnp.arange(1.0, 7) + i).reshape(2, 3)  # noqa: E731
    return {
        name: {"kernel": draw(i), "bias": draw(i)[0]}
        for i, name in enumerate(["head", "embed", "block_0", "block_1"])
    }


def gradients_of(params):
    return jax.tree.map(jnp.cos, params)


def layer_scales(decay, layers):
    """The factors of timm's param_groups_layer_decay for layers 0 to ``layers - 1``."""
    return [decay ** (layers - 1 - i) for i in range(layers)]


def test_factors_are_those_of_timm():
    depth = masks.depth(model(), ORDER)
    assert layer_scales(0.75, 4) == [0.421875, 0.5625, 0.75, 1.0]
    for given in (depth, partial(masks.depth, order=ORDER)):
        tx = transforms.layerwise_scale(0.75, given)
        updates, _ = tx.update(gradients_of(model()), tx.init(model()), model())
        for name, scale in zip(ORDER, layer_scales(0.75, 4), strict=True):
            for leaf in ("kernel", "bias"):
                expected = scale * np.cos(np.asarray(model()[name][leaf], np.float64))
                np.testing.assert_allclose(updates[name][leaf], expected, rtol=1e-6)


def test_after_adamw_it_is_a_learning_rate_for_each_layer():
    rate = optax.linear_schedule(0.1, 0.02, 6)
    tx = optax.chain(
        optax.adam(rate),
        transforms.decoupled_decay(WEIGHT, learning_rate=rate),
        transforms.layerwise_scale(0.6, partial(masks.depth, order=ORDER)),
    )
    groups = {
        name: optax.adamw(lambda t, s=scale: s * rate(t), weight_decay=WEIGHT, mask=masks.kernels)
        for name, scale in zip(ORDER, layer_scales(0.6, 4), strict=True)
    }
    labels = {name: jax.tree.map(lambda _, n=name: n, part) for name, part in model().items()}
    gradients = [jax.tree.map(lambda w, i=i: jnp.cos(w + i), model()) for i in range(6)]
    expected = trajectory(optax.partition(groups, labels), model(), gradients)[-1]
    actual = trajectory(tx, model(), gradients)[-1]
    jax.tree.map(partial(np.testing.assert_allclose, rtol=2e-5, atol=2e-6), actual, expected)


def test_a_decay_after_it_is_the_same_for_all_layers():
    scale = transforms.layerwise_scale(0.5, partial(masks.depth, order=ORDER))
    params = jax.tree.map(jnp.ones_like, model())
    zeros = jax.tree.map(jnp.zeros_like, params)
    before = one_step(optax.chain(transforms.independent_decay(0.5), scale), zeros, params)
    after = one_step(optax.chain(scale, transforms.independent_decay(0.5)), zeros, params)
    for name, share in zip(ORDER, layer_scales(0.5, 4), strict=True):
        np.testing.assert_allclose(before[name]["kernel"], 1 - 0.5 * share)
        np.testing.assert_allclose(after[name]["kernel"], 0.5)


def test_a_decay_for_each_layer_and_one_learning_rate():
    weights = dict(zip(ORDER, (0.4, 0.2, 0.1, 0.05), strict=True))
    tx = optax.chain(
        optax.sgd(1.0),
        *(
            transforms.independent_decay(weight, mask=masks.match(f"{name}/.*kernel"))
            for name, weight in weights.items()
        ),
    )
    after = one_step(tx, gradients_of(model()), model())
    for name, part in model().items():
        step = -jnp.cos(part["kernel"]) - weights[name] * part["kernel"]
        np.testing.assert_allclose(after[name]["kernel"], part["kernel"] + step, rtol=1e-5)
        np.testing.assert_allclose(
            after[name]["bias"], part["bias"] - jnp.cos(part["bias"]), rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize(("factor", "scale"), [(0.0, 0.0), (1.0, 1.0), (2.0, 8.0)])
@pytest.mark.parametrize("wrap", [float, jnp.float32, optax.constant_schedule])
def test_factors_of_zero_one_and_two(factor, scale, wrap):
    tx = transforms.layerwise_scale(wrap(factor), partial(masks.depth, order=ORDER))
    updates, _ = tx.update(gradients_of(model()), tx.init(model()), model())
    np.testing.assert_array_equal(updates["head"]["bias"], jnp.cos(model()["head"]["bias"]))
    expected = scale * jnp.cos(model()["embed"]["bias"])
    np.testing.assert_allclose(updates["embed"]["bias"], expected, rtol=1e-6)


def test_the_factor_may_be_a_schedule_or_learned():
    unfreeze = optax.linear_schedule(0.0, 1.0, 2)
    tx = transforms.layerwise_scale(unfreeze, {"a": 0, "b": 1})
    params = {"a": jnp.ones(1), "b": jnp.ones(1)}
    path = trajectory(tx, params, [params] * 3)
    assert [float(p["a"][0]) for p in path] == [1.0, 1.5, 2.5]
    assert [float(p["b"][0]) for p in path] == [2.0, 3.0, 4.0]

    def moved(factor):
        return one_step(transforms.layerwise_scale(factor, {"a": -2, "b": 1}), params, params)["a"][
            0
        ]

    np.testing.assert_allclose(jax.grad(moved)(0.5), 3 * 0.5**2, rtol=1e-6)
    assert jax.grad(moved)(0.0) == 0


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.complex64])
def test_dtypes_stay_and_narrow_updates_are_rounded_once(dtype):
    w = {"a": jnp.ones(3, dtype), "b": jnp.ones(3, jnp.float32)}
    u = {"a": jnp.asarray([0.1, -3.0, 70.0], dtype), "b": jnp.ones(3)}
    tx = transforms.layerwise_scale(jnp.float32(0.7), {"a": 0, "b": 3})
    updates, _ = jax.jit(tx.update)(u, tx.init(w), w)
    assert updates["a"].dtype == dtype
    assert updates["b"].dtype == jnp.float32
    wide = np.asarray(u["a"], np.complex64 if dtype == jnp.complex64 else np.float32)
    expected = jnp.asarray(np.float32(0.7) ** 3 * wide, dtype)
    np.testing.assert_array_equal(updates["a"], expected)


def test_leaves_that_are_not_weights_pass_through():
    params = {"w": jnp.ones(2), "n": jnp.array([3]), "key": jax.random.key(0), "none": None}
    updates = {"w": jnp.ones(2), "n": jnp.array([1]), "key": np.zeros((), jax.dtypes.float0)}
    updates |= {"none": None}
    order = ("w|n", "key", "head")
    tx = transforms.layerwise_scale(0.5, partial(masks.depth, order=order))
    moved, _ = tx.update(updates, tx.init(params), params)
    np.testing.assert_array_equal(moved["w"], 0.5)
    np.testing.assert_array_equal(moved["n"], 1)
    assert moved["key"] is updates["key"]
    assert moved["none"] is None
    moved, _ = tx.update({**updates, "w": None}, tx.init(params), params)
    assert moved["w"] is None


def test_an_nnx_model_with_its_optimizer():
    class Model(nnx.Module):
        def __init__(self, rngs):
            self.body = nnx.List([nnx.Linear(3, 3, rngs=rngs) for _ in range(2)])
            self.head = nnx.Linear(3, 1, rngs=rngs)

    module = Model(nnx.Rngs(0))
    depth = partial(masks.depth, order=("body/0", "body/1", "head"))
    tx = optax.chain(optax.sgd(1.0), transforms.layerwise_scale(0.5, depth))
    optimizer = nnx.Optimizer(module, tx, wrt=nnx.Param)
    before = jax.tree.map(jnp.array, nnx.state(module, nnx.Param))
    optimizer.update(module, jax.tree.map(jnp.ones_like, before))
    steps = jax.tree.map(lambda a, b: a - b, before, nnx.state(module, nnx.Param))
    for part, scale in ((steps["body"][0], 0.25), (steps["body"][1], 0.5), (steps["head"], 1.0)):
        for leaf in jax.tree.leaves(part):
            np.testing.assert_allclose(leaf, scale, rtol=1e-5)


# A part of the model does not tell how deep the whole is.


def test_a_tree_of_depths_keeps_its_meaning_in_masked_and_partition():
    depth = masks.depth(model(), ORDER)
    whole = transforms.layerwise_scale(0.5, depth)
    expected = one_step(whole, gradients_of(model()), model())
    trunk = masks.match("embed|block_.*")
    masked = one_step(optax.masked(whole, trunk), gradients_of(model()), model())
    labels = jax.tree.map(lambda on: "on" if on else "off", trunk(model()))
    parts = optax.partition({"on": whole, "off": optax.identity()}, labels)
    for after in (masked, one_step(parts, gradients_of(model()), model())):
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6), after, expected)


def test_a_function_of_a_part_is_refused():
    tx = transforms.layerwise_scale(0.5, partial(masks.depth, order=ORDER))
    masked = optax.masked(tx, masks.match("embed|block_.*"))
    with pytest.raises(ValueError, match=r"`depth` must be a tree where optax.masked.*pass what"):
        one_step(masked, gradients_of(model()), model())


def test_a_tree_of_depths_of_another_model_is_named():
    for depth in ({"a": 0}, {"a": 0, "b": None}, {"a": 0, "b": 0.5}, {"a": 0, "b": {"c": 1.0}}):
        tx = transforms.layerwise_scale(0.5, depth)
        params = {"a": jnp.ones(2), "b": jnp.ones(2)}
        with pytest.raises(ValueError, match=r"`depth` must have an integer for each parameter"):
            one_step(tx, params, params)


@pytest.mark.parametrize("depth", [2, True, jnp.int32(1)], ids=str)
def test_a_single_depth_is_refused(depth):
    with pytest.raises(TypeError, match=r"`depth` must be a tree of integers.*static_args"):
        transforms.layerwise_scale(0.5, depth)


def test_a_depth_that_became_a_schedule_is_named():
    params = {"embed": jnp.ones(2), "head": jnp.ones(2)}
    for depth, error in (
        (partial(masks.depth, order=("embed", "head")), ValueError),
        (lambda params: jax.tree.map(lambda _: 0, params), TypeError),
    ):
        tx = optax.inject_hyperparams(transforms.layerwise_scale)(factor=0.5, depth=depth)
        with pytest.raises(error, match=r"static_args=\(\"depth\",\)"):
            tx.init(params)
    for depth in (
        masks.depth(params, ("embed", "head")),
        partial(masks.depth, order=("embed", ".*")),
    ):
        inject = optax.inject_hyperparams(transforms.layerwise_scale, static_args=("depth",))
        tx = inject(factor=0.5, depth=depth)
        state = tx.init(params)
        state.hyperparams["factor"] = jnp.float32(0.25)
        updates, _ = tx.update(params, state, params)
        np.testing.assert_array_equal(updates["embed"], 0.25)
        np.testing.assert_array_equal(updates["head"], 1)


def test_inside_multi_steps_layers_are_scaled_once():
    tx = optax.chain(optax.sgd(1.0), transforms.layerwise_scale(0.5, {"a": 0, "b": 1}))
    params = {"a": jnp.zeros(1), "b": jnp.zeros(1)}
    ones = jax.tree.map(jnp.ones_like, params)
    last = trajectory(optax.MultiSteps(tx, 2).gradient_transformation(), params, [ones] * 4)[-1]
    assert (float(last["a"][0]), float(last["b"][0])) == (-1.0, -2.0)
