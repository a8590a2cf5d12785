"""Steps by depth: the formula of timm, the wrappers of Optax, and decays of their own."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxreg import masks, transforms
from tests.helpers import few
from tests.transforms.helpers import one_step, trajectory, updated, zeros

WEIGHT = 0.5
ORDER = ("embed", "block_0", "block_1", "head")


def model():
    draw = lambda i: np.float32(np.sin(np.arange(1.0, 7) + i)).reshape(2, 3)  # noqa: E731
    return {
        name: {"kernel": draw(i), "bias": draw(i)[0]}
        for i, name in enumerate(["head", "embed", "block_0", "block_1"])
    }


def gradients_of(params):
    return jax.tree.map(np.cos, params)


def layer_scales(decay, layers):
    """The factors of timm's param_groups_layer_decay for layers 0 to ``layers - 1``."""
    return [decay ** (layers - 1 - i) for i in range(layers)]


def test_factors_are_those_of_timm():
    depth = masks.depth(model(), ORDER)
    assert layer_scales(0.75, 4) == [0.421875, 0.5625, 0.75, 1.0]
    for given in (depth, partial(masks.depth, order=ORDER)):
        tx = transforms.layerwise_scale(0.75, given)
        updates = updated(tx, gradients_of(model()), model())
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
    times = np.arange(6, dtype=np.float32)
    gradients = jax.tree.map(lambda w: np.cos(np.add.outer(times, w)), model())
    expected = trajectory(optax.partition(groups, labels), model(), gradients)
    actual = trajectory(tx, model(), gradients)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=2e-5, atol=2e-6), actual, expected)


def test_a_decay_after_it_is_the_same_for_all_layers():
    scale = transforms.layerwise_scale(0.5, partial(masks.depth, order=ORDER))
    params = jax.tree.map(np.ones_like, model())
    rest = zeros(params)
    before = one_step(optax.chain(transforms.independent_decay(0.5), scale), rest, params)
    after = one_step(optax.chain(scale, transforms.independent_decay(0.5)), rest, params)
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
        step = -np.cos(part["kernel"]) - weights[name] * part["kernel"]
        np.testing.assert_allclose(after[name]["kernel"], part["kernel"] + step, rtol=1e-5)
        np.testing.assert_allclose(
            after[name]["bias"], part["bias"] - np.cos(part["bias"]), rtol=1e-5, atol=1e-6
        )


@few("wrap", [float, jnp.float32, optax.constant_schedule])
def test_factors_of_zero_one_and_two(wrap):
    @jax.jit
    def scaled(params):
        depth = partial(masks.depth, order=ORDER)
        build = transforms.layerwise_scale
        return [updated(build(wrap(f), depth), params, params) for f in (0.0, 1.0, 2.0)]

    for scale, updates in zip((0.0, 1.0, 8.0), scaled(gradients_of(model())), strict=True):
        expected = gradients_of(model())
        np.testing.assert_array_equal(updates["head"]["bias"], expected["head"]["bias"])
        np.testing.assert_allclose(
            updates["embed"]["bias"], scale * expected["embed"]["bias"], rtol=1e-6
        )


PAIR = {"a": np.ones(1, np.float32), "b": np.ones(1, np.float32)}


def test_the_factor_may_be_a_schedule():
    tx = transforms.layerwise_scale(optax.linear_schedule(0.0, 1.0, 2), {"a": 0, "b": 1})
    path = trajectory(tx, PAIR, {name: np.ones((3, 1), np.float32) for name in PAIR})
    np.testing.assert_array_equal(path["a"][:, 0], [1.0, 1.5, 2.5])
    np.testing.assert_array_equal(path["b"][:, 0], [2.0, 3.0, 4.0])


def test_the_factor_may_be_learned():
    def moved(factor):
        tx = transforms.layerwise_scale(factor, {"a": -2, "b": 1})
        return one_step(tx, PAIR, PAIR)["a"][0]

    slopes = jax.jit(jax.vmap(jax.grad(moved)))(np.float32([0.5, 0]))
    np.testing.assert_allclose(slopes, [3 * 0.5**2, 0], rtol=1e-6)


@few("dtype", [jnp.bfloat16, jnp.complex64, jnp.float16])
def test_dtypes_stay_and_narrow_updates_are_rounded_once(dtype):
    w = {"a": np.ones(3, dtype), "b": np.ones(3, np.float32)}
    u = {"a": np.asarray([0.1, -3.0, 70.0], dtype), "b": np.ones(3, np.float32)}
    updates = updated(transforms.layerwise_scale(np.float32(0.7), {"a": 0, "b": 3}), u, w)
    assert updates["a"].dtype == dtype
    assert updates["b"].dtype == jnp.float32
    wide = np.asarray(u["a"], np.complex64 if dtype == jnp.complex64 else np.float32)
    expected = np.asarray(np.float32(0.7) ** 3 * wide, dtype)
    np.testing.assert_array_equal(updates["a"], expected)


def test_leaves_that_are_not_weights_pass_through():
    w = np.ones(2, np.float32)
    params = {"w": w, "n": np.array([3]), "key": jax.random.key(0), "none": None, "off": w}
    updates = {"w": w, "n": np.array([1]), "key": np.zeros((), jax.dtypes.float0)}
    updates |= {"none": None, "off": None}
    order = ("w|n|off", "key", "head")
    tx = transforms.layerwise_scale(0.5, partial(masks.depth, order=order))
    moved, _ = tx.update(updates, tx.init(params), params)
    np.testing.assert_array_equal(moved["w"], 0.5)
    np.testing.assert_array_equal(moved["n"], 1)
    assert moved["key"] is updates["key"]
    assert moved["none"] is None
    assert moved["off"] is None


class Model(nnx.Module):
    def __init__(self):
        self.body = nnx.List([nnx.Param(np.ones((2, 3), np.float32)) for _ in range(2)])
        self.head = nnx.Param(np.ones((2, 3), np.float32))


def test_an_nnx_model_with_its_optimizer():
    module = Model()
    depth = partial(masks.depth, order=("body/0", "body/1", "head"))
    tx = optax.chain(optax.sgd(1.0), transforms.layerwise_scale(0.5, depth))
    optimizer = nnx.Optimizer(module, tx, wrt=nnx.Param)
    ones = jax.tree.map(np.ones_like, nnx.state(module, nnx.Param))
    nnx.jit(lambda module, optimizer: optimizer.update(module, ones))(module, optimizer)
    for leaf, want in ((module.body[0], 0.75), (module.body[1], 0.5), (module.head, 0.0)):
        np.testing.assert_allclose(leaf[...], want, rtol=1e-5)


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
    with pytest.raises(
        ValueError, match=r"`depth` must be a tree if optax.masked.*pass its result"
    ):
        one_step(masked, gradients_of(model()), model())


def test_a_tree_of_depths_of_another_model_is_named():
    for depth in ({"a": 0}, {"a": 0, "b": None}, {"a": 0, "b": 0.5}, {"a": 0, "b": {"c": 1.0}}):
        tx = transforms.layerwise_scale(0.5, depth)
        with pytest.raises(ValueError, match=r"`depth` must give an integer for each parameter"):
            one_step(tx, PAIR, PAIR)


@pytest.mark.parametrize("depth", [2, True, jnp.int32(1)], ids=str)
def test_a_single_depth_is_refused(depth):
    with pytest.raises(TypeError, match=r"`depth` must be a tree of integers.*static_args"):
        transforms.layerwise_scale(0.5, depth)


def test_a_depth_that_became_a_schedule_is_named():
    params = {"embed": np.ones(2, np.float32), "head": np.ones(2, np.float32)}
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
        state.hyperparams["factor"] = np.float32(0.25)
        updates, _ = jax.jit(tx.update)(params, state, params)
        np.testing.assert_array_equal(updates["embed"], 0.25)
        np.testing.assert_array_equal(updates["head"], 1)


def test_inside_multi_steps_layers_are_scaled_once():
    tx = optax.chain(optax.sgd(1.0), transforms.layerwise_scale(0.5, {"a": 0, "b": 1}))
    tx = optax.MultiSteps(tx, 2).gradient_transformation()
    path = trajectory(tx, zeros(PAIR), {name: np.ones((4, 1), np.float32) for name in PAIR})
    np.testing.assert_array_equal(path["a"][:, 0], [0, -0.5, -0.5, -1])
    np.testing.assert_array_equal(path["b"][:, 0], [0, -1, -1, -2])


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"`factor` must be zero or positive, got -1"):
        transforms.layerwise_scale(-1.0, {"a": 0, "b": 1})
    tx = transforms.layerwise_scale(0.5, {"a": 0, "b": 1})
    with pytest.raises(ValueError, match=r"`params` must be given to the update of `layerwise_sc"):
        tx.update(PAIR, tx.init(PAIR))


def test_the_depths_of_no_parameters():
    tx = transforms.layerwise_scale(0.5, {})
    assert tx.update({}, tx.init({}), {})[0] == {}
