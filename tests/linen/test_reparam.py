"""Linen wrappers that reparametrize the kernels of any layer."""

from functools import partial

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxreg import linen, masks, reparam
from tests.helpers import few
from tests.trees import assert_close, assert_equal, shapes, shapes_of

KEY = jax.random.key(3)
X = np.random.default_rng(0).normal(size=(2, 6, 6, 8)).astype(np.float32)
SERIES = X[:, 0]
LAYERS = [
    (nn.Sequential([nn.Dense(8), nn.LayerNorm()]), (SERIES,)),
    (nn.Dense(3), (SERIES,)),
    (nn.Conv(4, (3, 3)), (X,)),
    (nn.ConvTranspose(4, (2, 2)), (X,)),
    (nn.Embed(7, 5), (np.arange(6).reshape(2, 3),)),
    (nn.DenseGeneral((2, 4)), (SERIES,)),
    (nn.MultiHeadDotProductAttention(2), (SERIES, SERIES)),
]
every_layer = few(
    ("layer", "inputs"), LAYERS, ids=["dense", "narrow", "conv", "up", "embed", "general", "heads"]
)
WRAPPERS = {
    "weight_norm": linen.WeightNorm,
    "spectral_norm": partial(linen.SpectralNorm, update_stats=True),
    "weight_standardization": partial(linen.WeightStandardization, use_scale=True),
}


def flat(tree):
    return flax.traverse_util.flatten_dict(tree, sep="/")


def kernels(params):
    """Kernels of the layer by name; a wrapper's own scale is none of them."""
    mask = flat(masks.kernels(params))
    assert not any(chosen for name, chosen in mask.items() if name.endswith("scale"))
    return {name: w for name, w in flat(params).items() if mask[name]}


def axes_of(name, w):
    return reparam.output_axes(tuple(name.split("/")), w)


@every_layer
def test_weight_norm_changes_nothing_at_first(layer, inputs):
    @jax.jit
    def run(inputs):
        y, variables = linen.WeightNorm(layer).init_with_output(KEY, *inputs)
        params = variables["params"]
        norms = {
            f"{name}/scale": reparam.weight_norm_scale(w, axis=axes_of(name, w))
            for name, w in kernels(params).items()
        }
        scales = {name: w for name, w in params.items() if name != "layer_instance"}
        plain = layer.apply({"params": params["layer_instance"]}, *inputs)
        return (y, scales), (plain, norms)

    found, expected = run(inputs)
    assert expected[1]
    assert_close(found, expected, 5e-6)


@every_layer
@few("wrapper", WRAPPERS.values(), ids=WRAPPERS)
def test_gradients_reach_kernels_and_scales_and_parameters_stay(wrapper, layer, inputs):
    module = wrapper(layer)

    @jax.jit
    def run(inputs):
        variables = module.init(KEY, *inputs)

        def loss(params):
            y, updated = module.apply({**variables, "params": params}, *inputs, mutable=True)
            return jnp.sum(jnp.sin(y)), updated

        return variables, jax.grad(loss, has_aux=True)(variables["params"])

    variables, (gradient, updated) = run(inputs)
    plain = shapes_of(lambda: layer.init(KEY, *inputs)["params"])
    assert shapes(variables["params"]["layer_instance"]) == plain
    assert_equal(updated["params"], variables["params"])
    needed = [*kernels(gradient)] + [name for name in flat(gradient) if name.endswith("/scale")]
    for name, slope in flat(gradient).items():
        assert np.all(np.isfinite(slope))
        assert np.any(slope != 0) or name not in needed


@every_layer
def test_a_layer_sees_the_weights_of_the_function(layer, inputs):
    """Spectral norm in evaluation, and standardized weights, kernel by kernel."""
    spectral = linen.SpectralNorm(layer, update_stats=False)
    standard = linen.WeightStandardization(layer, epsilon=0.1)

    @jax.jit
    def run(inputs):
        variables = spectral.init(KEY, *inputs)
        stats = variables["batch_stats"]
        params = variables["params"]
        wrapped = spectral.apply(variables, *inputs), standard.apply({"params": params}, *inputs)
        bounded = flat(params)
        centered = flat(params)
        for name, w in kernels(params).items():
            axis = axes_of(name, w)
            bounded[name], _ = reparam.spectral_norm(w, stats[f"{name}/u"][0], steps=0, axis=axis)
            centered[name] = reparam.weight_standardization(w, eps=0.1, axis=axis)
        expected = []
        for tree in (bounded, centered):
            own = flax.traverse_util.unflatten_dict(tree, sep="/")["layer_instance"]
            expected.append(layer.apply({"params": own}, *inputs))
        return variables, bounded, wrapped, tuple(expected)

    variables, bounded, wrapped, expected = run(inputs)
    assert_close(wrapped, expected, 1e-5)
    for name, w in kernels(variables["params"]).items():
        sigma = np.linalg.norm(np.asarray(w)) / np.linalg.norm(np.asarray(bounded[name]))
        found = variables["batch_stats"][f"{name}/sigma"]
        np.testing.assert_allclose(found, sigma, rtol=1e-4)


def test_statistics_move_in_training_alone():
    module = linen.SpectralNorm(nn.Dense(5), n_steps=2)

    @jax.jit
    def run(x):
        variables = module.init(KEY, x, update_stats=False)
        start = variables["batch_stats"]["layer_instance/kernel/u"]
        _, moved = reparam.spectral_norm(
            variables["params"]["layer_instance"]["kernel"], start[0], steps=2
        )
        first = module.apply(variables, x, update_stats=True, mutable=["batch_stats"])
        trained = {**variables, **first[1]}
        again = module.apply(trained, x, update_stats=False, mutable=["batch_stats"])
        return variables, moved, first, again

    variables, moved, (first, updated), (again, kept) = run(SERIES)
    start = variables["batch_stats"]["layer_instance/kernel/u"]
    u = updated["batch_stats"]["layer_instance/kernel/u"]
    np.testing.assert_allclose(u, moved[None], rtol=1e-6)
    assert np.any(u != start)
    assert_equal(kept, updated)
    np.testing.assert_allclose(again, first, rtol=1e-6)
    with pytest.raises(flax.errors.ModifyScopeVariableError):
        jax.eval_shape(lambda v: module.apply(v, SERIES, update_stats=True), variables)
    named = linen.SpectralNorm(nn.Dense(5), update_stats=False, collection_name="spectral")
    assert set(jax.eval_shape(lambda: named.init(KEY, SERIES))) == {"params", "spectral"}


def test_initialization_in_training_makes_no_step():
    module = linen.SpectralNorm(nn.Dense(5), n_steps=2)

    def program(update_stats):
        return str(jax.make_jaxpr(partial(module.init, update_stats=update_stats))(KEY, SERIES))

    assert program(True) == program(False)


class Net(nn.Module):
    """A Flax checkpoint has the wrapped layers beside the wrappers."""

    weight_norm: type
    spectral_norm: type

    @nn.compact
    def __call__(self, x, train):
        x = self.weight_norm(nn.Dense(4))(nn.Dense(3)(x))
        x = self.spectral_norm(nn.Conv(6, (2,)))(x, update_stats=train)
        return nn.Dense(2)(x)


def test_checkpoints_of_flax_load_and_back():
    ours = Net(linen.WeightNorm, linen.SpectralNorm)
    theirs = Net(nn.WeightNorm, nn.SpectralNorm)

    def start(net):
        made = jax.eval_shape(lambda: net.init(KEY, SERIES, train=False))
        random = np.random.default_rng(2)
        return jax.tree.map(lambda a: random.uniform(-1, 1, a.shape).astype(a.dtype), made)

    @jax.jit
    def train(variables, x):
        def step(stats, _):
            tree = {**variables, "batch_stats": stats}
            return ours.apply(tree, x, train=True, mutable=["batch_stats"])[1]["batch_stats"], None

        # Both have the same vector in the end, up to its sign.
        stats, _ = jax.lax.scan(step, variables["batch_stats"], length=40)
        return {**variables, "batch_stats": stats}

    of_ours = jax.tree.map(np.zeros_like, start(ours))
    of_theirs = start(theirs)
    assert shapes(of_ours) == shapes(of_theirs)
    load = flax.serialization.from_bytes
    loaded = train(load(of_ours, flax.serialization.to_bytes(of_theirs)), SERIES)
    back = load(of_theirs, flax.serialization.to_bytes(loaded))

    @jax.jit
    def evaluate(loaded, back, x):
        return ours.apply(loaded, x, train=False), theirs.apply(back, x, train=False)

    np.testing.assert_allclose(*evaluate(loaded, back, SERIES), rtol=1e-4, atol=1e-5)


def test_feature_axes_are_numbers_or_a_function():
    names = []

    def axes(path, w):
        names.append(path)
        return -2

    def scale(layer, x, feature_axes):
        module = linen.WeightNorm(layer, feature_axes=feature_axes)
        return shapes_of(lambda: module.init(KEY, x)["params"]["layer_instance/kernel/scale"])

    transposed = nn.ConvTranspose(4, (2, 2), transpose_kernel=True)
    for given in (-2, axes):
        assert scale(transposed, X, given) == (4,)
    assert set(names) == {("layer_instance", "kernel")}
    assert scale(nn.DenseGeneral((2, 4)), SERIES, (-2, -1)) == (2, 4)


def test_variables_start_from_the_feature_axes():
    @jax.jit
    def run(x):
        made = [wrapper(nn.Dense(4), feature_axes=0).init(KEY, x) for wrapper in WRAPPERS.values()]
        kernel = made[0]["params"]["layer_instance"]["kernel"]
        expected = [
            reparam.weight_norm_scale(kernel, axis=0),
            reparam.weight_standardization_scale(kernel, axis=0),
        ]
        return kernel, made, expected

    kernel, (normed, spectral, standard), expected = run(SERIES)
    scales = [made["params"]["layer_instance/kernel/scale"] for made in (normed, standard)]
    assert_equal(scales, expected)
    assert scales[0].shape == (8,)
    stats = spectral["batch_stats"]
    assert stats["layer_instance/kernel/u"].shape == (1, 8)
    exact = np.linalg.norm(np.asarray(kernel), ord=2)
    np.testing.assert_allclose(stats["layer_instance/kernel/sigma"], exact, rtol=1e-3)


def test_metadata_and_wrappers_in_one_another():
    boxed = nn.with_partitioning(nn.initializers.normal(), (None, "model"))
    module = linen.SpectralNorm(
        linen.WeightNorm(nn.Dense(4, kernel_init=boxed)), update_stats=False
    )
    variables = jax.eval_shape(lambda: module.init(KEY, SERIES))
    inner = variables["params"]["layer_instance"]
    assert inner["layer_instance"]["kernel"].names == (None, "model")
    assert inner["layer_instance/kernel/scale"].shape == (4,)


def test_bfloat16_parameters_keep_float32_scales():
    module = linen.WeightNorm(nn.Dense(4, param_dtype=jnp.bfloat16))
    params = jax.eval_shape(lambda: module.init(KEY, SERIES))["params"]
    assert params["layer_instance/kernel/scale"].dtype == np.float32
    assert params["layer_instance"]["kernel"].dtype == jnp.bfloat16


class Block(nn.Module):
    """A layer made in ``setup``, of the form that ``nn.scan`` takes."""

    def setup(self):
        self.dense = linen.SpectralNorm(linen.WeightStandardization(nn.Dense(8)))

    def __call__(self, x, train):
        return self.dense(x, update_stats=train), None


def test_a_scan_over_wrapped_layers():
    block = nn.remat(Block, static_argnums=(2,))
    axes = {"params": 0, "batch_stats": 0}
    scan = nn.scan(block, axes, split_rngs={"params": True}, in_axes=nn.broadcast, length=3)

    @jax.jit
    def run(x):
        variables = scan().init(KEY, x, False)

        def loss(params):
            tree = {**variables, "params": params}
            (y, _), updated = scan().apply(tree, x, True, mutable=["batch_stats"])
            return jnp.sum(y**2), updated["batch_stats"]

        return variables["batch_stats"], jax.grad(loss, has_aux=True)(variables["params"])

    before, (gradient, after) = run(SERIES)
    assert before["dense"]["layer_instance/layer_instance/kernel/u"].shape == (3, 1, 8)
    kernel = gradient["dense"]["layer_instance"]["layer_instance"]["kernel"]
    assert np.all(np.any(kernel != 0, axis=(1, 2)))
    moved = jax.tree.map(lambda a, b: np.any(a != b, axis=-1), after, before)
    assert all(np.all(m) for m in jax.tree.leaves(moved))
