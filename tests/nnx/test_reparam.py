"""NNX wrappers that reparametrize the kernels of any layer."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx as fnx

from jaxreg import masks, nnx, reparam
from jaxreg._paths import path_names
from tests.helpers import few
from tests.trees import assert_close, assert_equal

KEY = jax.random.key(3)
X = np.random.default_rng(0).normal(size=(2, 6, 6, 8)).astype(np.float32)
SERIES = X[:, 0]
LAYERS = {
    "dense": (
        lambda rngs: fnx.Sequential(fnx.Linear(8, 4, rngs=rngs), fnx.Linear(4, 3, rngs=rngs)),
        (SERIES,),
    ),
    "narrow": (lambda rngs: fnx.Linear(8, 3, rngs=rngs), (SERIES,)),
    "conv": (lambda rngs: fnx.Conv(8, 4, (3, 3), rngs=rngs), (X,)),
    "up": (lambda rngs: fnx.ConvTranspose(8, 4, (2, 2), rngs=rngs), (X,)),
    "embed": (lambda rngs: fnx.Embed(7, 5, rngs=rngs), (np.arange(6),)),
    "general": (lambda rngs: fnx.LinearGeneral(8, (2, 4), rngs=rngs), (SERIES,)),
    "heads": (
        lambda rngs: fnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs),
        (SERIES, SERIES),
    ),
}
every_layer = few(("make", "inputs"), LAYERS.values(), ids=LAYERS)
WRAPPERS = {
    "weight_norm": lambda layer, rngs: nnx.WeightNorm(layer),
    "spectral_norm": lambda layer, rngs: nnx.SpectralNorm(layer, rngs=rngs),
    "weight_standardization": lambda layer, rngs: nnx.WeightStandardization(layer, use_scale=True),
}


def params_of(module):
    return fnx.to_pure_dict(fnx.state(module, fnx.Param))


def kernels(module):
    """Kernels of a layer by name."""
    state = fnx.state(module, fnx.Param)
    leaves = jax.tree_util.tree_leaves_with_path(state)
    chosen = zip(leaves, jax.tree.leaves(masks.kernels(state)), strict=True)
    return {"/".join(path_names(path)): w for (path, w), is_kernel in chosen if is_kernel}


@every_layer
def test_weight_norm_changes_nothing_at_first(make, inputs):
    @jax.jit
    def run(key, inputs):
        layer = make(fnx.Rngs(key))
        expected = layer(*inputs)
        wrapped = nnx.WeightNorm(layer)
        assert set(params_of(wrapped)) <= {"layer_instance", "scales"}
        assert set(kernels(wrapped)) == {f"layer_instance/{name}" for name in kernels(layer)}
        norms = {}
        for name, w in kernels(layer).items():
            if name.endswith("kernel"):
                norms[name] = reparam.weight_norm_scale(w)
        scales = {"/".join(map(str, path)): scale[...] for path, scale in wrapped.scales.items()}
        return (wrapped(*inputs), scales), (expected, norms)

    (y, scales), (expected, norms) = run(KEY, inputs)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
    assert bool(norms) != isinstance(make(fnx.Rngs(0)), fnx.Embed)  # Which Flax leaves alone.
    assert_equal(scales, norms)


@every_layer
@few("wrapper", WRAPPERS.values(), ids=WRAPPERS)
def test_gradients_reach_kernels_and_scales_and_parameters_stay(wrapper, make, inputs):
    """Flax overwrites the kernels at every call; in 0.12.8 its scales are no parameters."""

    @jax.jit
    def run(key, inputs):
        wrapped = wrapper(make(fnx.Rngs(key)), fnx.Rngs(key))
        before = params_of(wrapped)
        gradient = fnx.grad(lambda wrapped: jnp.sum(jnp.sin(wrapped(*inputs))))(wrapped)
        needed.update(f"layer_instance/{name}" for name in kernels(wrapped.layer_instance))
        paths = getattr(wrapped, "scales", {})
        scales.update("/".join(map(str, ("scales", *path))) for path in paths)
        slopes = {}
        for path, slope in fnx.to_flat_state(gradient):
            inner = path[1] if path[0] == "scales" else path[1:]
            slopes["/".join(map(str, (path[0], *inner)))] = slope[...]
        return before, params_of(wrapped), slopes

    needed = set()
    scales = set()
    before, after, slopes = run(KEY, inputs)
    assert_equal(after, before)
    assert len(scales) in (0, len(needed), sum(name.endswith("kernel") for name in needed))
    assert needed | scales <= set(slopes)
    for name, slope in slopes.items():
        assert np.all(np.isfinite(slope))
        assert np.any(slope != 0) or name not in needed | scales


def with_changed_parameters(layer, change):
    """A copy of a layer with ``change(names, w)`` in place of its parameters."""

    def changed(path, w):
        return change(path_names(path), w)

    other = fnx.clone(layer)
    state = fnx.state(other, fnx.Param)
    fnx.update(other, jax.tree_util.tree_map_with_path(changed, state))
    return other


@every_layer
def test_a_layer_sees_the_weights_of_the_function(make, inputs):
    """Spectral norm in evaluation, and standardized weights, kernel by kernel."""

    @jax.jit
    def run(key, inputs):
        layer = make(fnx.Rngs(key))
        spectral = nnx.SpectralNorm(layer, update_stats=False, rngs=fnx.Rngs(key))
        vectors = {tuple(map(str, path)): u for path, u in spectral.batch_stats.items()}
        chosen = kernels(layer)

        def bounded(names, w):
            if w.ndim < 2 or names[-1] == "bias":
                return w
            return reparam.spectral_norm(w, vectors[*names, "u"][0])[0]

        def centered(names, w):
            if "/".join(names) not in chosen:
                return w
            return reparam.weight_standardization(w, eps=0.1, axis=reparam.output_axes(names, w))

        wrapped = spectral(*inputs), nnx.WeightStandardization(layer, epsilon=0.1)(*inputs)
        others = [with_changed_parameters(layer, change) for change in (bounded, centered)]
        return wrapped, tuple(other(*inputs) for other in others)

    assert_close(*run(KEY, inputs), 1e-5)


def test_statistics_move_in_training_alone():
    def stats(layer):
        state = fnx.to_pure_dict(fnx.state(layer, fnx.BatchStat))
        return state["batch_stats"]

    @jax.jit
    def run(key, x):
        dense = fnx.Linear(8, 5, rngs=fnx.Rngs(key))
        layer = nnx.SpectralNorm(dense, n_steps=2, rngs=fnx.Rngs(key))
        found = [(x, stats(layer)), (layer(x), stats(layer))]
        found.append((layer(x, update_stats=False), stats(layer)))
        layer.eval()
        found.append((layer(x), stats(layer)))
        found.append((layer(x, update_stats=True), stats(layer)))
        return found

    start, trained, overridden, evaluated, again = run(KEY, SERIES)
    assert set(start[1]) == {("kernel", "u"), ("kernel", "sigma")}
    assert np.any(trained[1][("kernel", "u")] != start[1][("kernel", "u")])
    assert_equal(overridden[1], trained[1])
    assert_equal(evaluated[1], trained[1])
    assert np.any(again[1][("kernel", "u")] != trained[1][("kernel", "u")])
    np.testing.assert_allclose(evaluated[0], trained[0], rtol=1e-5, atol=1e-6)


@few("wrapper", WRAPPERS.values(), ids=WRAPPERS)
def test_an_optimizer_trains_everything(wrapper):
    @fnx.jit
    def make(key):
        module = wrapper(fnx.Linear(8, 3, rngs=fnx.Rngs(key)), fnx.Rngs(key))
        return module, fnx.Optimizer(module, optax.sgd(0.02), wrt=fnx.Param)

    module, optimizer = make(KEY)
    before = jax.device_get(params_of(module))

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


def test_feature_axes_and_metadata():
    def build(key):
        rngs = fnx.Rngs(key)
        role = {"scale_metadata": {"role": "length"}}
        general = fnx.LinearGeneral(8, (2, 4), rngs=rngs)
        wide = nnx.WeightNorm(general, feature_axes=(-2, -1), **role)
        layer = fnx.Linear(8, 3, rngs=rngs)
        standard = nnx.WeightStandardization(layer, use_scale=True, **role)
        spectral = nnx.SpectralNorm(layer, stats_metadata={"role": "u"}, rngs=rngs)
        assert not nnx.WeightStandardization(layer).scales
        return wide, standard, spectral

    wide, standard, spectral = fnx.eval_shape(build, KEY)
    assert wide.scales[("kernel",)].shape == (2, 4)
    assert wide.scales[("kernel",)].get_metadata()["role"] == "length"
    assert standard.scales[("kernel",)].get_metadata()["role"] == "length"
    assert spectral.batch_stats[("kernel", "u")].get_metadata()["role"] == "u"


def test_variables_start_from_the_feature_axes():
    @jax.jit
    def run(key):
        layer = fnx.Linear(8, 4, rngs=fnx.Rngs(key))
        kernel = layer.kernel[...]
        normed = nnx.WeightNorm(layer, feature_axes=0)
        standard = nnx.WeightStandardization(layer, feature_axes=0, use_scale=True)
        spectral = nnx.SpectralNorm(layer, feature_axes=0, rngs=fnx.Rngs(key))
        scales = [wrapped.scales[("kernel",)][...] for wrapped in (normed, standard)]
        expected = [
            reparam.weight_norm_scale(kernel, axis=0),
            reparam.weight_standardization_scale(kernel, axis=0),
        ]
        stats = spectral.batch_stats
        return (
            kernel,
            (scales, expected),
            (stats[("kernel", "u")][...], stats[("kernel", "sigma")][...]),
        )

    kernel, (scales, expected), (u, sigma) = run(KEY)
    assert_equal(scales, expected)
    assert (scales[0].shape, u.shape) == ((8,), (1, 8))
    np.testing.assert_allclose(sigma, np.linalg.norm(np.asarray(kernel), ord=2), rtol=1e-3)


def test_spectral_norm_needs_streams():
    with pytest.raises(TypeError, match=r"`rngs` of SpectralNorm.*must be nnx\.Rngs, got int"):
        nnx.SpectralNorm(fnx.Linear(8, 3, rngs=fnx.Rngs(0)), rngs=0)
    with pytest.raises(TypeError, match=r"`rngs` of WeightNorm.*must be nnx\.Rngs, got NoneType"):
        nnx.WeightNorm(fnx.Linear(8, 3, rngs=fnx.Rngs(0)), scale_init=fnx.initializers.ones_init())


def test_a_stack_of_wrapped_layers_in_a_scan():
    @fnx.split_rngs(splits=3)
    @fnx.vmap
    def make(rngs):
        return nnx.SpectralNorm(fnx.Linear(8, 8, rngs=rngs), rngs=rngs)

    @fnx.scan(in_axes=(fnx.Carry, 0), out_axes=fnx.Carry)
    def forward(x, layer):
        return layer(x)

    @fnx.jit
    def run(key, x):
        layers = make(fnx.Rngs(key))
        vectors = layers.batch_stats[("kernel", "u")]
        before = vectors[...]
        return forward(x, layers), before, vectors[...]

    y, before, after = run(KEY, SERIES)
    assert y.shape == SERIES.shape
    np.testing.assert_array_equal(np.any(before != after, axis=(1, 2)), np.ones(3, bool))
