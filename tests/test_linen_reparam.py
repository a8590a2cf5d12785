"""Linen wrappers that reparametrize the kernels of any layer."""

from functools import partial

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from jaxreg import linen, masks, reparam

pytestmark = pytest.mark.slow

KEY = jax.random.key(3)
X = jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 6, 8)), jnp.float32)
SERIES = X[:, 0]
TOKENS = jnp.arange(6).reshape(2, 3)
LAYERS = [
    (nn.Dense(3), (SERIES,)),
    (nn.Conv(4, (3, 3)), (X,)),
    (nn.ConvTranspose(4, (2, 2)), (X,)),
    (nn.Embed(7, 5), (TOKENS,)),
    (nn.DenseGeneral((2, 4)), (SERIES,)),
    (nn.MultiHeadDotProductAttention(2), (SERIES, SERIES)),
    (nn.Sequential([nn.Dense(3), nn.LayerNorm(), nn.Dense(2)]), (SERIES,)),
]
every_layer = pytest.mark.parametrize(
    ("layer", "inputs"), LAYERS, ids=[type(layer).__name__ for layer, _ in LAYERS]
)
WRAPPERS = {
    "weight_norm": linen.WeightNorm,
    "spectral_norm": partial(linen.SpectralNorm, update_stats=True),
    "weight_standardization": partial(linen.WeightStandardization, use_scale=True),
}


def assert_equal(ours, theirs, rtol=0.0):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=rtol, atol=rtol), ours, theirs)


def shapes(tree):
    return jax.tree.map(jnp.shape, tree)


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
    y, variables = linen.WeightNorm(layer).init_with_output(KEY, *inputs)
    params = variables["params"]
    expected = layer.apply({"params": params["layer_instance"]}, *inputs)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
    scales = {name: w for name, w in params.items() if name != "layer_instance"}
    expected = {
        f"{name}/scale": reparam.weight_norm_scale(w, axis=axes_of(name, w))
        for name, w in kernels(params).items()
    }
    assert_equal(scales, expected, rtol=1e-6)


@every_layer
@pytest.mark.parametrize("wrapper", WRAPPERS.values(), ids=WRAPPERS)
def test_gradients_reach_kernels_and_scales_and_parameters_stay(wrapper, layer, inputs):
    module = wrapper(layer)
    variables = module.init(KEY, *inputs)
    plain = layer.init(KEY, *inputs)["params"]
    assert shapes(variables["params"]["layer_instance"]) == shapes(plain)

    @jax.jit
    def loss(params):
        y, updated = module.apply({**variables, "params": params}, *inputs, mutable=True)
        return jnp.sum(jnp.sin(y)), updated

    gradient, updated = jax.grad(loss, has_aux=True)(variables["params"])
    assert_equal(updated["params"], variables["params"])
    needed = [*kernels(gradient)] + [name for name in flat(gradient) if name.endswith("/scale")]
    for name, slope in flat(gradient).items():
        assert np.all(np.isfinite(slope))
        assert np.any(slope != 0) or name not in needed


@every_layer
def test_a_layer_sees_the_weights_of_the_function(layer, inputs):
    """Spectral norm in evaluation, and standardized weights, kernel by kernel."""
    module = linen.SpectralNorm(layer, update_stats=False)
    variables = module.init(KEY, *inputs)
    stats, params = variables["batch_stats"], variables["params"]
    changed, standard = flat(params), flat(params)
    for name, w in kernels(params).items():
        axis = axes_of(name, w)
        changed[name], _ = reparam.spectral_norm(w, stats[f"{name}/u"][0], steps=0, axis=axis)
        sigma = np.linalg.norm(np.asarray(w) / np.asarray(changed[name]))
        np.testing.assert_allclose(stats[f"{name}/sigma"] * np.sqrt(w.size), sigma, rtol=1e-4)
        standard[name] = reparam.weight_standardization(w, eps=0.1, axis=axis)
    for wrapped, tree in (
        (module.apply(variables, *inputs), changed),
        (
            linen.WeightStandardization(layer, epsilon=0.1).apply({"params": params}, *inputs),
            standard,
        ),
    ):
        tree = flax.traverse_util.unflatten_dict(tree, sep="/")["layer_instance"]
        expected = layer.apply({"params": tree}, *inputs)
        np.testing.assert_allclose(wrapped, expected, rtol=1e-5, atol=1e-5)


def test_spectral_norm_of_attention_bounds_the_linear_maps():
    module = linen.SpectralNorm(nn.MultiHeadDotProductAttention(2), n_steps=30, update_stats=True)
    variables = module.init(KEY, SERIES, SERIES)
    _, updated = module.apply(variables, SERIES, SERIES, mutable=["batch_stats"])
    query = variables["params"]["layer_instance"]["query"]["kernel"]
    exact = np.linalg.norm(np.asarray(query).reshape(8, 8), ord=2)
    sigma = updated["batch_stats"]["layer_instance/query/kernel/sigma"]
    np.testing.assert_allclose(sigma, exact, rtol=1e-3)


def test_statistics_move_in_training_alone():
    module = linen.SpectralNorm(nn.Dense(5), n_steps=2)
    variables = module.init(KEY, SERIES, update_stats=False)
    w = variables["params"]["layer_instance"]["kernel"]
    start = variables["batch_stats"]["layer_instance/kernel/u"]
    first, updated = module.apply(variables, SERIES, update_stats=True, mutable=["batch_stats"])
    _, u = reparam.spectral_norm(w, start[0], steps=2)
    np.testing.assert_allclose(updated["batch_stats"]["layer_instance/kernel/u"][0], u, rtol=1e-6)
    assert np.any(u != start[0])
    trained = {**variables, **updated}
    again, kept = module.apply(trained, SERIES, update_stats=False, mutable=["batch_stats"])
    assert_equal(kept, updated)
    np.testing.assert_allclose(again, first, rtol=1e-6)
    with pytest.raises(flax.errors.ModifyScopeVariableError):
        module.apply(variables, SERIES, update_stats=True)
    with pytest.raises(ValueError, match='"update_stats" must be passed to the constructor or'):
        module.apply(variables, SERIES)
    named = linen.SpectralNorm(nn.Dense(5), update_stats=False, collection_name="spectral")
    assert set(named.init(KEY, SERIES)) == {"params", "spectral"}


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
    ours, theirs = Net(linen.WeightNorm, linen.SpectralNorm), Net(nn.WeightNorm, nn.SpectralNorm)
    of_ours, of_theirs = (net.init(KEY, SERIES, False) for net in (ours, theirs))
    assert shapes(of_ours) == shapes(of_theirs)
    load = flax.serialization.from_bytes
    loaded = load(of_ours, flax.serialization.to_bytes(of_theirs))
    for _ in range(40):  # Both have the same vector in the end, up to its sign.
        _, updated = ours.apply(loaded, SERIES, True, mutable=["batch_stats"])
        loaded = {**loaded, **updated}
    back = load(of_theirs, flax.serialization.to_bytes(loaded))
    y, expected = ours.apply(loaded, SERIES, False), theirs.apply(back, SERIES, False)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


def test_feature_axes_are_numbers_or_a_function():
    names = []

    def axes(path, w):
        names.append(path)
        return -2

    transposed = nn.ConvTranspose(4, (2, 2), transpose_kernel=True)
    for given in (-2, axes):
        params = linen.WeightNorm(transposed, feature_axes=given).init(KEY, X)["params"]
        assert params["layer_instance/kernel/scale"].shape == (4,)
    assert set(names) == {("layer_instance", "kernel")}
    general = linen.WeightNorm(nn.DenseGeneral((2, 4)), feature_axes=(-2, -1))
    assert general.init(KEY, SERIES)["params"]["layer_instance/kernel/scale"].shape == (2, 4)


def test_metadata_and_wrappers_in_one_another():
    boxed = nn.with_partitioning(nn.initializers.normal(), (None, "model"))
    module = linen.SpectralNorm(
        linen.WeightNorm(nn.Dense(4, kernel_init=boxed)), update_stats=False
    )
    variables = module.init(KEY, SERIES)
    inner = variables["params"]["layer_instance"]
    assert inner["layer_instance"]["kernel"].names == (None, "model")
    assert inner["layer_instance/kernel/scale"].shape == (4,)


def test_training_moves_lengths_and_directions():
    module = linen.WeightNorm(nn.Dense(3, use_bias=False))
    variables = module.init(KEY, SERIES)
    optimizer = optax.sgd(0.01)

    @jax.jit
    def step(params, state):
        def loss(params):
            return jnp.mean((module.apply({"params": params}, SERIES) - 1) ** 2)

        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state, value

    params, state, values = variables["params"], optimizer.init(variables["params"]), []
    for _ in range(50):
        params, state, value = step(params, state)
        values.append(float(value))
    assert values[-1] < 0.9 * values[0]
    moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), params, variables["params"])
    assert all(jax.tree.leaves(moved))


def test_bfloat16_parameters_keep_float32_scales():
    module = linen.WeightNorm(nn.Dense(4, param_dtype=jnp.bfloat16))
    params = module.init(KEY, SERIES)["params"]
    assert params["layer_instance/kernel/scale"].dtype == jnp.float32
    assert params["layer_instance"]["kernel"].dtype == jnp.bfloat16


class Block(nn.Module):
    """A layer made in ``setup``, of the form that ``nn.scan`` takes."""

    def setup(self):
        self.dense = linen.SpectralNorm(linen.WeightStandardization(nn.Dense(8)))

    def __call__(self, x, train):
        return self.dense(x, update_stats=train), None


@pytest.mark.parametrize("block", [Block, nn.remat(Block, static_argnums=(2,))])
def test_a_scan_over_wrapped_layers(block):
    axes = {"params": 0, "batch_stats": 0}
    scan = nn.scan(block, axes, split_rngs={"params": True}, in_axes=nn.broadcast, length=3)
    variables = scan().init(KEY, SERIES, False)
    vectors = variables["batch_stats"]["dense"]["layer_instance/layer_instance/kernel/u"]
    assert vectors.shape == (3, 1, 8)

    @jax.jit
    def run(params):
        (y, _), updated = scan().apply(
            {**variables, "params": params}, SERIES, True, mutable=["batch_stats"]
        )
        return jnp.sum(y**2), updated["batch_stats"]

    gradient, stats = jax.grad(run, has_aux=True)(variables["params"])
    kernel = gradient["dense"]["layer_instance"]["layer_instance"]["kernel"]
    assert np.all(np.any(kernel != 0, axis=(1, 2)))
    moved = jax.tree.map(lambda a, b: np.any(a != b, axis=-1), stats, variables["batch_stats"])
    assert all(np.all(m) for m in jax.tree.leaves(moved))
