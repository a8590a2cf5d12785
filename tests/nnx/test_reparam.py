"""NNX wrappers that reparametrize the kernels of any layer."""

import copy
import pickle
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx as flax_nnx

from jaxreg import masks, nnx, reparam
from jaxreg._paths import path_names
from tests.helpers import few, first_of
from tests.trees import assert_close, assert_equal

KEY = jax.random.key(3)
X = np.random.default_rng(0).normal(size=(2, 6, 6, 8)).astype(np.float32)
SERIES = X[:, 0]
LAYERS = {
    "dense": (
        lambda rngs: flax_nnx.Sequential(
            flax_nnx.Linear(8, 4, rngs=rngs), flax_nnx.Linear(4, 3, rngs=rngs)
        ),
        (SERIES,),
    ),
    "narrow": (lambda rngs: flax_nnx.Linear(8, 3, rngs=rngs), (SERIES,)),
    "conv": (lambda rngs: flax_nnx.Conv(8, 4, (3, 3), rngs=rngs), (X,)),
    "up": (lambda rngs: flax_nnx.ConvTranspose(8, 4, (2, 2), rngs=rngs), (X,)),
    "embed": (lambda rngs: flax_nnx.Embed(7, 5, rngs=rngs), (np.arange(6),)),
    "general": (lambda rngs: flax_nnx.LinearGeneral(8, (2, 4), rngs=rngs), (SERIES,)),
    "heads": (
        lambda rngs: flax_nnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs),
        (SERIES,),
    ),
}
every_layer = few(("make", "inputs"), LAYERS.values(), ids=LAYERS)
WRAPPERS = {
    "weight_norm": lambda layer, rngs: nnx.WeightNorm(layer),
    "spectral_norm": lambda layer, rngs: nnx.SpectralNorm(layer, rngs=rngs),
    "weight_standardization": lambda layer, rngs: nnx.WeightStandardization(layer, use_scale=True),
}


def params_of(module):
    return flax_nnx.to_pure_dict(flax_nnx.state(module, flax_nnx.Param))


def kernels(module):
    """Kernels of a layer by name."""
    state = flax_nnx.state(module, flax_nnx.Param)
    leaves = jax.tree_util.tree_leaves_with_path(state)
    chosen = zip(leaves, jax.tree.leaves(masks.kernels(state)), strict=True)
    return {"/".join(path_names(path)): w for (path, w), is_kernel in chosen if is_kernel}


@every_layer
def test_weight_norm_changes_nothing_at_first(make, inputs):
    @jax.jit
    def run(key, inputs):
        layer = make(flax_nnx.Rngs(key))
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
    assert bool(norms) != isinstance(
        make(flax_nnx.Rngs(0)), flax_nnx.Embed
    )  # Which Flax leaves alone.
    assert_equal(scales, norms)


@every_layer
@few("wrapper", WRAPPERS.values(), ids=WRAPPERS)
def test_gradients_reach_kernels_and_scales_and_parameters_stay(wrapper, make, inputs):
    """Flax overwrites the kernels at every call; in 0.12.8 its scales are no parameters."""

    @jax.jit
    def run(key, inputs):
        wrapped = wrapper(make(flax_nnx.Rngs(key)), flax_nnx.Rngs(key))
        before = params_of(wrapped)
        gradient = flax_nnx.grad(lambda wrapped: jnp.sum(jnp.sin(wrapped(*inputs))))(wrapped)
        needed.update(f"layer_instance/{name}" for name in kernels(wrapped.layer_instance))
        paths = getattr(wrapped, "scales", {})
        scales.update("/".join(map(str, ("scales", *path))) for path in paths)
        slopes = {}
        for path, slope in flax_nnx.to_flat_state(gradient):
            inner = path[1] if path[0] == "scales" else path[1:]
            names = (path[0], *inner)  # pyright: ignore[reportGeneralTypeIssues]
            slopes["/".join(map(str, names))] = slope[...]
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

    other = flax_nnx.clone(layer)
    state = flax_nnx.state(other, flax_nnx.Param)
    flax_nnx.update(other, jax.tree_util.tree_map_with_path(changed, state))
    return other


@every_layer
def test_a_layer_sees_the_weights_of_the_function(make, inputs):
    """Spectral norm in evaluation, and standardized weights, kernel by kernel."""

    @jax.jit
    def run(key, inputs):
        layer = make(flax_nnx.Rngs(key))
        spectral = nnx.SpectralNorm(layer, update_stats=False, rngs=flax_nnx.Rngs(key))
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
        state = flax_nnx.to_pure_dict(flax_nnx.state(layer, flax_nnx.BatchStat))
        return state["batch_stats"]

    @jax.jit
    def run(key, x):
        dense = flax_nnx.Linear(8, 5, rngs=flax_nnx.Rngs(key))
        layer = nnx.SpectralNorm(dense, n_steps=2, rngs=flax_nnx.Rngs(key))
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
    @flax_nnx.jit
    def make(key):
        module = wrapper(flax_nnx.Linear(8, 3, rngs=flax_nnx.Rngs(key)), flax_nnx.Rngs(key))
        return module, flax_nnx.Optimizer(module, optax.sgd(0.02), wrt=flax_nnx.Param)

    module, optimizer = make(KEY)
    before = jax.device_get(params_of(module))

    @flax_nnx.jit
    def step(module, optimizer):
        def loss(module):
            return jnp.mean((module(SERIES) - 1) ** 2)

        value, gradient = flax_nnx.value_and_grad(loss)(module)
        optimizer.update(module, gradient)
        return value

    values = [float(step(module, optimizer)) for _ in range(40)]
    assert values[-1] < 0.95 * values[0]
    moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), params_of(module), before)
    assert all(jax.tree.leaves(moved))


def test_feature_axes_and_metadata():
    def build(key):
        rngs = flax_nnx.Rngs(key)
        role = {"scale_metadata": {"role": "length"}}
        general = flax_nnx.LinearGeneral(8, (2, 4), rngs=rngs)
        wide = nnx.WeightNorm(general, feature_axes=(-2, -1), **role)
        layer = flax_nnx.Linear(8, 3, rngs=rngs)
        standard = nnx.WeightStandardization(layer, use_scale=True, **role)
        spectral = nnx.SpectralNorm(layer, stats_metadata={"role": "u"}, rngs=rngs)
        assert not nnx.WeightStandardization(layer).scales
        return wide, standard, spectral

    wide, standard, spectral = flax_nnx.eval_shape(build, KEY)
    assert wide.scales[("kernel",)].shape == (2, 4)
    assert wide.scales[("kernel",)].get_metadata()["role"] == "length"
    assert standard.scales[("kernel",)].get_metadata()["role"] == "length"
    assert spectral.batch_stats[("kernel", "u")].get_metadata()["role"] == "u"


def test_variables_start_from_the_feature_axes():
    @jax.jit
    def run(key):
        layer = flax_nnx.Linear(8, 4, rngs=flax_nnx.Rngs(key))
        kernel = layer.kernel[...]
        normed = nnx.WeightNorm(layer, feature_axes=0)
        standard = nnx.WeightStandardization(layer, feature_axes=0, use_scale=True)
        spectral = nnx.SpectralNorm(layer, feature_axes=0, rngs=flax_nnx.Rngs(key))
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
        nnx.SpectralNorm(flax_nnx.Linear(8, 3, rngs=flax_nnx.Rngs(0)), rngs=0)
    with pytest.raises(TypeError, match=r"`rngs` of WeightNorm.*must be nnx\.Rngs, got NoneType"):
        nnx.WeightNorm(
            flax_nnx.Linear(8, 3, rngs=flax_nnx.Rngs(0)),
            scale_init=flax_nnx.initializers.ones_init(),
        )


def test_a_stack_of_wrapped_layers_in_a_scan():
    @flax_nnx.split_rngs(splits=3)
    @flax_nnx.vmap
    def make(rngs):
        return nnx.SpectralNorm(flax_nnx.Linear(8, 8, rngs=rngs), rngs=rngs)

    @flax_nnx.scan(in_axes=(flax_nnx.Carry, 0), out_axes=flax_nnx.Carry)
    def forward(x, layer):
        return layer(x)

    @flax_nnx.jit
    def run(key, x):
        layers = make(flax_nnx.Rngs(key))
        vectors = layers.batch_stats[("kernel", "u")]
        before = vectors[...]
        return forward(x, layers), before, vectors[...]

    y, before, after = run(KEY, SERIES)
    assert y.shape == SERIES.shape
    np.testing.assert_array_equal(np.any(before != after, axis=(1, 2)), np.ones(3, bool))


def test_every_argument_of_flax_is_taken():
    """Arguments have their effect; the documentation names those without an effect."""

    @jax.jit
    def run(key, x):
        streams = flax_nnx.Rngs(key)
        linear = flax_nnx.Linear(8, 4, use_bias=False, rngs=streams)
        given = nnx.WeightNorm(
            linear,
            feature_axes=None,
            use_scale=True,
            scale_init=flax_nnx.initializers.constant(0.5),
            epsilon=1e-3,
            dtype=jnp.bfloat16,
            param_dtype=jnp.float16,
            variable_filter=lambda path, _: path == ("kernel",),
            promote_dtype=flax_nnx.nn.dtypes.promote_dtype,
            rngs=streams,
        )
        unit = nnx.WeightNorm(linear, use_scale=False, rngs=streams)
        spectral = nnx.SpectralNorm(
            linear,
            n_steps=2,
            epsilon=1e-3,
            dtype=jnp.bfloat16,
            param_dtype=jnp.float16,
            error_on_non_matrix=True,
            update_stats=False,
            rngs=streams,
        )
        stats = spectral.batch_stats
        before = stats["kernel", "sigma"][...]
        y = spectral(x.astype(jnp.bfloat16))
        assert unit.scales is None
        scales = params_of(given)["scales"]
        return (
            (given(x.astype(jnp.bfloat16)), y),
            scales,
            unit(jnp.eye(8)),
            (before, stats["kernel", "sigma"][...], stats["kernel", "u"][...]),
        )

    narrow, scales, w, (before, after, u) = run(KEY, SERIES)
    assert all(y.dtype == jnp.bfloat16 for y in narrow)
    scale = scales[("kernel",)]
    assert (scale.shape, scale.dtype, float(scale)) == ((), jnp.float16, 0.5)
    np.testing.assert_allclose(np.linalg.norm(w, axis=0), 1, rtol=1e-6)
    assert before == after  # Evaluation, by the argument of the constructor.
    assert (u.shape, u.dtype, after.dtype) == ((1, 4), jnp.float16, jnp.float16)


def test_what_is_selected():
    def stats(**fields):
        def build():
            heads = flax_nnx.MultiHeadAttention(2, 8, decode=False, rngs=flax_nnx.Rngs(0))
            return nnx.SpectralNorm(heads, rngs=flax_nnx.Rngs(0), **fields)

        made = flax_nnx.eval_shape(build).batch_stats
        return {"/".join(path[:-1]) for path in made if path[-1] == "u"}

    projections = ("key", "query", "value")
    kernels = {f"{name}/kernel" for name in (*projections, "out")}
    assert stats() == kernels | {f"{name}/bias" for name in projections}
    assert stats(variable_filter=flax_nnx.PathContains("kernel")) == kernels
    assert stats(n_steps=0) == set()
    with pytest.raises(ValueError, match="Input is 3D but error_on_non_matrix is True: `error_"):
        stats(error_on_non_matrix=True)


@pytest.mark.exhaustive
def test_keywords_reach_the_layer_and_positions_are_those_of_flax():
    """Inputs that a mask hides from attention do not change the output."""
    mask = np.array([True] * 5 + [False]).reshape(1, 1, 1, 6)
    hidden = SERIES + np.array([0.0] * 5 + [5.0], np.float32)[:, None]

    def heads():
        return flax_nnx.MultiHeadAttention(
            2, 8, dropout_rate=0.5, decode=False, rngs=flax_nnx.Rngs(0)
        )

    @jax.jit
    def run(x, hidden):
        found = []
        for wrapper in WRAPPERS.values():
            layer = wrapper(heads(), flax_nnx.Rngs(0))
            calls = [(x, x, mask), (x, hidden, mask), (x, hidden, None)]
            outputs = [
                layer(a, inputs_k=b, mask=m, deterministic=True, update_stats=False)
                if isinstance(layer, nnx.SpectralNorm)
                else layer(a, b, mask=m, deterministic=True)
                for a, b, m in calls
            ]
            found.append(outputs)
        layer = nnx.SpectralNorm(
            flax_nnx.Linear(8, 3, rngs=flax_nnx.Rngs(0)), rngs=flax_nnx.Rngs(0)
        )
        u = layer.batch_stats["kernel", "u"]
        vectors = [u[...]]
        for update in (False, True):
            layer(x, update)
            vectors.append(u[...])
        return found, vectors

    found, (start, same, moved) = run(SERIES, hidden)
    for y, other, unmasked in found:
        np.testing.assert_allclose(y, other, rtol=1e-6, atol=1e-6)
        assert np.abs(y - unmasked).max() > 1e-3
    np.testing.assert_array_equal(same, start)
    assert np.any(moved != start)

    def misplaced():
        layer = nnx.SpectralNorm(
            flax_nnx.Linear(8, 3, rngs=flax_nnx.Rngs(0)), rngs=flax_nnx.Rngs(0)
        )
        return layer(SERIES, SERIES)

    with pytest.raises(TypeError, match="`update_stats` must be a boolean, got ndarray; pass the"):
        jax.eval_shape(misplaced)


class Stack(flax_nnx.Module):
    """Three layers in a scan, and one after them."""

    def __init__(self, rngs):
        self.layers = make_layers(rngs)
        self.head = flax_nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x):
        return self.head(through(x, self.layers))


@flax_nnx.split_rngs(splits=3)
@flax_nnx.vmap
def make_layers(rngs):
    return flax_nnx.Linear(8, 8, rngs=rngs)


@flax_nnx.scan(in_axes=(flax_nnx.Carry, 0), out_axes=flax_nnx.Carry)
def through(x, layer):
    return jnp.tanh(layer(x))


STACKED = {
    "weight_norm": lambda layer, **how: nnx.WeightNorm(layer, **how),
    "spectral_norm": lambda layer, **how: nnx.SpectralNorm(layer, rngs=flax_nnx.Rngs(0), **how),
    "weight_standardization": lambda layer, **how: nnx.WeightStandardization(
        layer, use_scale=True, **how
    ),
}


@first_of("wrapper", STACKED.values(), ids=STACKED)
@first_of(
    "stacked", [masks.match("layers/.*"), {"layers": True, "head": False}], ids=["mask", "tree"]
)
def test_a_stack_of_layers_is_treated_layer_by_layer(wrapper, stacked):
    """As the unrolled model, with the same variables."""

    @jax.jit
    def run(key, x):
        stack = Stack(flax_nnx.Rngs(key))
        singles = []
        for i in range(3):
            layer = flax_nnx.Linear(8, 8, rngs=flax_nnx.Rngs(0))
            flax_nnx.update(layer, jax.tree.map(lambda a, i=i: a[i], flax_nnx.state(stack.layers)))
            singles.append(wrapper(layer))
        head = wrapper(flax_nnx.clone(stack.head))
        wrapped = wrapper(stack, stacked=stacked)
        if isinstance(wrapped, nnx.SpectralNorm):  # Which draws its first vectors.
            u = wrapped.batch_stats["layers", "kernel", "u"]
            vectors = jnp.stack([single.batch_stats["kernel", "u"][...] for single in singles])
            assert u.shape == vectors.shape == (3, 1, 8)
            u[...] = vectors
            wrapped.batch_stats["head", "kernel", "u"][...] = head.batch_stats["kernel", "u"][...]
        y = wrapped(x)
        for single in singles:
            x = jnp.tanh(single(x))

        def own(module):
            variables = getattr(module, "batch_stats", None) or module.scales
            return {path: v[...] for path, v in variables.items()}

        expected = {}
        for path in own(head):
            expected["head", *path] = own(head)[path]
            expected["layers", *path] = jnp.stack([own(single)[path] for single in singles])
        return (y, own(wrapped)), (head(x), expected)

    (y, found), (unrolled, expected) = run(KEY, SERIES)
    np.testing.assert_allclose(y, unrolled, rtol=1e-6, atol=1e-6)
    assert set(found) == set(expected)
    for path, value in found.items():
        if path[-1] != "u" or "layers" in path:  # The head's has moved since.
            np.testing.assert_allclose(value, expected[path], rtol=1e-5, atol=1e-6)


ALIKE = {
    "weight_norm": lambda seed: nnx.WeightNorm(
        flax_nnx.Linear(8, 3, rngs=flax_nnx.Rngs(seed)),
        feature_axes=lambda *_: -1,
        scale_init=lambda key, shape, dtype: jnp.ones(shape, dtype),
        variable_filter=lambda path, _: "kernel" in path,
        rngs=flax_nnx.Rngs(seed),
    ),
    "spectral_norm": lambda seed: nnx.SpectralNorm(
        flax_nnx.Linear(8, 3, rngs=flax_nnx.Rngs(seed)),
        stacked=lambda params: jax.tree.map(lambda _: False, params),
        rngs=flax_nnx.Rngs(seed),
    ),
    "weight_standardization": lambda seed: nnx.WeightStandardization(
        flax_nnx.Linear(8, 3, rngs=flax_nnx.Rngs(seed)), feature_axes=[1], use_scale=True
    ),
}


@pytest.mark.exhaustive
@few("make", ALIKE.values(), ids=ALIKE)
def test_modules_built_alike_are_one_graph(make):
    """One trace for all seeds, an average leaf by leaf, a copy, a pickle, and a summary."""
    traces = []

    @flax_nnx.jit
    def run(module, x):
        traces.append(module)
        return module(x)

    graphs = [flax_nnx.graphdef(flax_nnx.eval_shape(partial(make, seed))) for seed in range(3)]
    assert graphs[0] == graphs[1] == graphs[2]
    state = jax.jit(lambda: flax_nnx.state(make(0)))()
    models = [flax_nnx.merge(graph, state) for graph in graphs]
    first = run(models[0], SERIES)
    for model in (*models[1:], copy.deepcopy(models[0]), pickle.loads(pickle.dumps(models[0]))):
        last = run(model, SERIES)
    assert len(traces) == 1
    np.testing.assert_allclose(last, first, rtol=1e-5, atol=1e-6)
    states = [flax_nnx.state(model) for model in models]
    mean = jax.eval_shape(lambda: jax.tree.map(lambda *a: sum(a) / len(a), *states))
    assert jax.tree.structure(mean) == jax.tree.structure(states[0])
    table = flax_nnx.tabulate(models[0], SERIES, compute_flops=True, console_kwargs={"width": 200})
    rows = [line.split("│")[1].strip() for line in table.splitlines() if line.startswith("│")]
    assert {row for row in rows if row.isidentifier()} == {"layer_instance"}


@few("wrapper", WRAPPERS.values(), ids=WRAPPERS)
def test_variables_may_be_references(wrapper):
    @jax.jit
    def run(key, x):
        def build(rngs):
            return wrapper(flax_nnx.Linear(8, 3, rngs=rngs), rngs)

        plain = build(flax_nnx.Rngs(key))(x)
        with flax_nnx.var_defaults(ref=True):
            return plain, build(flax_nnx.Rngs(key))(x)

    expected, found = run(KEY, SERIES)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
