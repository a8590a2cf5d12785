"""NNX wrappers that reparametrize the kernels of any layer."""

from functools import partial

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx as fnx

from jaxreg import linen, masks, nnx, reparam
from jaxreg._paths import path_names

pytestmark = pytest.mark.slow

X = jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 6, 8)), jnp.float32)
SERIES = X[:, 0]
LAYERS = {
    "Linear": (lambda rngs: fnx.Linear(8, 3, rngs=rngs), (SERIES,)),
    "Conv": (lambda rngs: fnx.Conv(8, 4, (3, 3), rngs=rngs), (X,)),
    "ConvTranspose": (lambda rngs: fnx.ConvTranspose(8, 4, (2, 2), rngs=rngs), (X,)),
    "Embed": (lambda rngs: fnx.Embed(7, 5, rngs=rngs), (jnp.arange(6),)),
    "LinearGeneral": (lambda rngs: fnx.LinearGeneral(8, (2, 4), rngs=rngs), (SERIES,)),
    "MultiHeadAttention": (
        lambda rngs: fnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs),
        (SERIES, SERIES),
    ),
    "Sequential": (
        lambda rngs: fnx.Sequential(fnx.Linear(8, 4, rngs=rngs), fnx.Linear(4, 3, rngs=rngs)),
        (SERIES,),
    ),
}
every_layer = pytest.mark.parametrize(("make", "inputs"), LAYERS.values(), ids=LAYERS)
WRAPPERS = {
    "weight_norm": nnx.WeightNorm,
    "spectral_norm": partial(nnx.SpectralNorm, rngs=fnx.Rngs(1)),
    "weight_standardization": partial(nnx.WeightStandardization, use_scale=True),
}


def params_of(module):
    return jax.tree.map(np.asarray, fnx.to_pure_dict(fnx.state(module, fnx.Param)))


def kernels(module):
    """Kernels of a layer by name."""
    state = fnx.state(module, fnx.Param)
    leaves = jax.tree_util.tree_leaves_with_path(state)
    chosen = zip(leaves, jax.tree.leaves(masks.kernels(state)), strict=True)
    return {"/".join(path_names(path)): w for (path, w), is_kernel in chosen if is_kernel}


@every_layer
def test_weight_norm_changes_nothing_at_first(make, inputs):
    layer = make(fnx.Rngs(0))
    expected = layer(*inputs)
    wrapped = nnx.WeightNorm(layer)
    np.testing.assert_allclose(wrapped(*inputs), expected, rtol=1e-5, atol=1e-6)
    assert set(params_of(wrapped)) == {"layer_instance", "scales"}
    assert set(wrapped.scales) == {f"{name}/scale" for name in kernels(layer)}
    for name, w in kernels(layer).items():
        axis = reparam.output_axes(tuple(name.split("/")), w)
        norms = reparam.weight_norm_scale(w, axis=axis)
        np.testing.assert_array_equal(wrapped.scales[f"{name}/scale"][...], norms)
    assert set(kernels(wrapped)) == {f"layer_instance/{name}" for name in kernels(layer)}


@every_layer
@pytest.mark.parametrize("wrapper", WRAPPERS.values(), ids=WRAPPERS)
def test_gradients_reach_kernels_and_scales_and_parameters_stay(wrapper, make, inputs):
    """Flax overwrites the kernels at every call; in 0.12.8 its scales are no parameters."""
    wrapped = wrapper(make(fnx.Rngs(0)))
    before = params_of(wrapped)

    @fnx.jit
    @fnx.grad
    def slope(wrapped):
        return jnp.sum(jnp.sin(wrapped(*inputs)))

    gradient = slope(wrapped)
    jax.tree.map(np.testing.assert_array_equal, params_of(wrapped), before)
    scales = getattr(wrapped, "scales", {})
    assert len(scales) in (0, len(kernels(wrapped)))
    needed = {f"layer_instance/{name}" for name in kernels(wrapped.layer_instance)}
    needed |= {f"scales/{name}" for name in scales}
    for path, g in jax.tree_util.tree_leaves_with_path(gradient):
        assert np.all(np.isfinite(g))
        assert np.any(g != 0) or "/".join(path_names(path)) not in needed


@every_layer
def test_a_layer_sees_the_weights_of_the_function(make, inputs):
    """Spectral norm in evaluation, and standardized weights, kernel by kernel."""
    layer = make(fnx.Rngs(0))
    spectral = nnx.SpectralNorm(layer, use_running_average=True, rngs=fnx.Rngs(1))
    for wrapped, change in (
        (
            spectral,
            lambda name, w, axis: reparam.spectral_norm(
                w, spectral.batch_stats[f"{name}/u"][...], steps=0, axis=axis
            )[0],
        ),
        (
            nnx.WeightStandardization(layer, epsilon=0.1),
            lambda name, w, axis: reparam.weight_standardization(w, eps=0.1, axis=axis),
        ),
    ):
        other = make(fnx.Rngs(0))
        state = fnx.state(other, fnx.Param)

        def changed(path, w, change=change):
            names = path_names(path)
            name = "/".join(names)
            if name not in kernels(layer):
                return w
            return change(name, w, reparam.output_axes(names, w))

        fnx.update(other, jax.tree_util.tree_map_with_path(changed, state))
        np.testing.assert_allclose(wrapped(*inputs), other(*inputs), rtol=1e-5, atol=1e-5)


def test_the_two_frameworks_give_the_same():
    dense = fnx.Linear(8, 3, rngs=fnx.Rngs(0))
    spectral = nnx.SpectralNorm(dense, rngs=fnx.Rngs(1))
    variables = {
        "params": {"layer_instance": fnx.to_pure_dict(fnx.state(dense, fnx.Param))},
        "batch_stats": {
            "layer_instance/kernel/u": spectral.batch_stats["kernel/u"][...][None],
            "layer_instance/kernel/sigma": spectral.batch_stats["kernel/sigma"][...],
        },
    }
    module = linen.SpectralNorm(nn.Dense(3))
    y, updated = module.apply(variables, SERIES, update_stats=True, mutable=["batch_stats"])
    np.testing.assert_array_equal(spectral(SERIES), y)
    stats = updated["batch_stats"]
    for name in ("u", "sigma"):
        theirs = np.ravel(stats[f"layer_instance/kernel/{name}"])
        np.testing.assert_array_equal(np.ravel(spectral.batch_stats[f"kernel/{name}"][...]), theirs)


@pytest.mark.parametrize("run", [lambda m, *a: m(*a), fnx.jit(lambda m, *a: m(*a))])
def test_statistics_move_in_training_alone(run):
    layer = nnx.SpectralNorm(fnx.Linear(8, 5, rngs=fnx.Rngs(0)), n_steps=2, rngs=fnx.Rngs(1))
    w, u = layer.layer_instance.kernel[...], layer.batch_stats["kernel/u"][...]
    first = run(layer, SERIES)
    _, expected = reparam.spectral_norm(w, u, steps=2)
    np.testing.assert_allclose(layer.batch_stats["kernel/u"][...], expected, rtol=1e-6)
    assert np.any(expected != u)
    sigma = reparam.spectral_norm_sigma(w, expected)
    np.testing.assert_allclose(layer.batch_stats["kernel/sigma"][...], sigma, rtol=1e-6)
    layer.eval()
    np.testing.assert_allclose(run(layer, SERIES), first, rtol=1e-5)
    np.testing.assert_allclose(layer.batch_stats["kernel/u"][...], expected, rtol=1e-6)
    layer(SERIES, update_stats=True)
    assert np.any(layer.batch_stats["kernel/u"][...] != expected)
    layer.train()
    before = layer.batch_stats["kernel/u"][...]
    layer(SERIES, update_stats=False)
    fnx.view(layer, use_running_average=True)(SERIES)
    np.testing.assert_array_equal(layer.batch_stats["kernel/u"][...], before)
    assert len(jax.tree.leaves(fnx.state(layer, fnx.BatchStat))) == 2


def test_item_8_flax_overwrites_the_kernel_and_does_not_train_the_scale():
    """flax 0.12.8 and 0.12.12, flax#5576 and flax#5577; the tests above show that ours do not."""
    norm = fnx.WeightNorm(fnx.Linear(8, 3, rngs=fnx.Rngs(0)), rngs=fnx.Rngs(1))
    before = params_of(norm)
    if flax.__version__ == "0.12.8":  # Mended in 0.12.12.
        assert "scales" not in before
    norm(SERIES)
    after = params_of(norm)
    assert np.any(after["layer_instance"]["kernel"] != before["layer_instance"]["kernel"])

    kernel = 5 * jax.random.normal(jax.random.key(0), (8, 5))
    theirs = fnx.Linear(8, 5, rngs=fnx.Rngs(0))
    theirs.kernel[...] = kernel
    ours = fnx.clone(theirs)
    wrappers = [
        fnx.SpectralNorm(theirs, rngs=fnx.Rngs(1)),
        nnx.SpectralNorm(ours, rngs=fnx.Rngs(1)),
    ]
    for wrapper in wrappers:
        call = fnx.jit(lambda layer: layer(SERIES))
        for _ in range(50):
            call(wrapper)
    np.testing.assert_allclose(np.linalg.norm(theirs.kernel[...], ord=2), 1, rtol=1e-3)
    np.testing.assert_array_equal(ours.kernel[...], kernel)


@pytest.mark.parametrize("wrapper", WRAPPERS.values(), ids=WRAPPERS)
def test_an_optimizer_trains_everything(wrapper):
    module = wrapper(fnx.Linear(8, 3, rngs=fnx.Rngs(0)))
    optimizer = fnx.Optimizer(module, optax.sgd(0.02), wrt=fnx.Param)
    before = params_of(module)

    @fnx.jit
    def step(module, optimizer):
        def loss(module):
            return jnp.mean((module(SERIES) - 1) ** 2)

        value, gradient = fnx.value_and_grad(loss)(module)
        optimizer.update(module, gradient)
        return value

    values = [float(step(module, optimizer)) for _ in range(40)]
    assert values[-1] < 0.95 * values[0]
    moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), params_of(module), before)
    assert all(jax.tree.leaves(moved))


def test_fields_metadata_and_streams():
    rngs = fnx.Rngs(0)
    general = fnx.LinearGeneral(8, (2, 4), rngs=rngs)
    wide = nnx.WeightNorm(general, feature_axes=(-2, -1), scale_metadata={"role": "length"})
    assert wide.scales["kernel/scale"][...].shape == (2, 4)
    assert wide.scales["kernel/scale"].get_metadata()["role"] == "length"
    layer = nnx.SpectralNorm(fnx.Linear(8, 3, rngs=rngs), stats_metadata={"role": "u"}, rngs=rngs)
    assert layer.batch_stats["kernel/u"].get_metadata()["role"] == "u"
    assert not nnx.WeightStandardization(fnx.Linear(8, 3, rngs=rngs)).scales
    with pytest.raises(TypeError, match=r"`rngs` of SpectralNorm.*must be nnx\.Rngs, got int"):
        nnx.SpectralNorm(fnx.Linear(8, 3, rngs=rngs), rngs=0)
    graph, state = fnx.split(layer)
    np.testing.assert_array_equal(fnx.merge(graph, state)(SERIES), layer(SERIES))


def test_a_stack_of_wrapped_layers_in_a_scan():
    @fnx.split_rngs(splits=3)
    @fnx.vmap
    def make(rngs):
        return nnx.SpectralNorm(fnx.Linear(8, 8, rngs=rngs), rngs=rngs)

    @fnx.scan(in_axes=(fnx.Carry, 0), out_axes=fnx.Carry)
    def forward(x, layer):
        return layer(x)

    layers = make(fnx.Rngs(0))
    before = np.asarray(layers.batch_stats["kernel/u"][...])
    assert forward(SERIES, layers).shape == SERIES.shape
    moved = np.any(before != layers.batch_stats["kernel/u"][...], axis=1)
    np.testing.assert_array_equal(moved, np.ones(3, bool))
