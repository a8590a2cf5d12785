"""Linen wrappers that reparametrize the kernels of any layer."""

from functools import partial

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxreg import linen, masks, reparam
from tests.helpers import few, first_of
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
            f"{name}/scale": reparam.weight_norm_scale(w)
            for name, w in kernels(params).items()
            if name.endswith("kernel")
        }
        scales = {name: w for name, w in params.items() if name != "layer_instance"}
        plain = layer.apply({"params": params["layer_instance"]}, *inputs)
        return (y, scales), (plain, norms)

    found, expected = run(inputs)
    assert bool(expected[1]) != isinstance(layer, nn.Embed)  # Which Flax leaves alone.
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
            centered[name] = reparam.weight_standardization(w, eps=0.1, axis=axes_of(name, w))
        for name, w in bounded.items():
            if w.ndim > 1 and not name.endswith("bias"):
                bounded[name], _ = reparam.spectral_norm(w, stats[f"{name}/u"][0])
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
    np.testing.assert_allclose(again, first, rtol=1e-5, atol=1e-6)
    with pytest.raises(flax.errors.ModifyScopeVariableError):
        jax.eval_shape(lambda v: module.apply(v, SERIES, update_stats=True), variables)
    named = linen.SpectralNorm(nn.Dense(5), update_stats=False, collection_name="spectral")
    assert set(jax.eval_shape(lambda: named.init(KEY, SERIES))) == {"params", "spectral"}


def test_initialization_in_training_makes_no_step():
    module = linen.SpectralNorm(nn.Dense(5), n_steps=2)

    def program(update_stats):
        return str(jax.make_jaxpr(partial(module.init, update_stats=update_stats))(KEY, SERIES))

    assert program(True) == program(False)


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
    general = nn.DenseGeneral((2, 4))
    found = [scale(general, SERIES, axes) for axes in ((-2, -1), reparam.output_axes, -1, None, ())]
    assert found == [(2, 4), (4,), (4,), (), ()]
    heads = nn.MultiHeadDotProductAttention(2)

    def shapes_of_attention(feature_axes):
        module = linen.WeightNorm(heads, feature_axes=feature_axes)
        params = shapes_of(lambda: module.init(KEY, SERIES, SERIES)["params"])
        return {params[f"layer_instance/{name}/kernel/scale"] for name in ("query", "key", "value")}

    assert shapes_of_attention(-1) == {(4,)}
    assert shapes_of_attention(reparam.output_axes) == {(2, 4)}


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
    assert inner["layer_instance/kernel/value/scale"].shape == (4,)  # Flax's name.


def test_scales_are_read_with_and_without_boxes():
    """By the names that Flax has for boxed kernels, and for those out of their boxes."""
    boxed = nn.with_partitioning(nn.initializers.normal(), (None, "model"))
    plain = linen.WeightNorm(nn.Dense(4))
    module = linen.WeightNorm(nn.Dense(4, kernel_init=boxed))

    @jax.jit
    def run(x):
        y, variables = module.init_with_output(KEY, x)
        bare = {"params": nn.unbox(variables["params"])}
        renamed = dict(bare["params"])
        renamed["layer_instance/kernel/scale"] = renamed.pop("layer_instance/kernel/value/scale")
        again = module.apply(bare, x), plain.apply({"params": renamed}, x)
        return (y, y), again

    assert_close(*run(SERIES), 1e-6)


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


@pytest.mark.exhaustive
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


def test_every_argument_of_flax_is_taken():
    """Arguments have their effect; the documentation names those without an effect."""
    layer = nn.Dense(4, use_bias=False)
    given = linen.WeightNorm(
        layer, 1e-3, jnp.bfloat16, jnp.float16, True, nn.initializers.constant(0.5), None, {"kern"}
    )
    fixed = linen.WeightNorm(layer, use_scale=False)
    spectral = linen.SpectralNorm(layer, 2, 1e-3, jnp.bfloat16, jnp.float16, False, "spectrum")

    @jax.jit
    def run(x):
        made = given.init_with_output(KEY, x.astype(jnp.bfloat16))
        unit = fixed.init_with_output(KEY, jnp.eye(8))
        return made, unit, spectral.init(KEY, x, update_stats=False)

    (y, variables), (w, others), stats = run(SERIES)
    assert y.dtype == jnp.bfloat16
    scale = variables["params"]["layer_instance/kernel/scale"]
    assert (scale.shape, scale.dtype, float(scale)) == ((), jnp.float16, 0.5)
    assert set(others["params"]) == {"layer_instance"}
    np.testing.assert_allclose(np.linalg.norm(w, axis=0), 1, rtol=1e-6)
    assert shapes(stats["spectrum"]) == {
        "layer_instance/kernel/u": (1, 4),
        "layer_instance/kernel/sigma": (),
    }
    assert {a.dtype for a in jax.tree.leaves(stats["spectrum"])} == {jnp.dtype("float16")}


def test_what_is_selected():
    heads = nn.MultiHeadDotProductAttention(2)

    def stats(**fields):
        module = linen.SpectralNorm(heads, update_stats=False, **fields)
        made = jax.eval_shape(lambda: module.init(KEY, SERIES, SERIES))
        return {name.split("/", 1)[1] for name in made.get("batch_stats", ())}

    projections = ("key", "query", "value")
    every = {f"{name}/bias/u" for name in projections} | {"out/kernel/u"}
    kernels = {f"{name}/kernel/u" for name in (*projections, "out")}
    assert {name for name in stats() if name.endswith("/u")} == every | kernels
    assert {name for name in stats(variable_filter={"kernel"}) if name.endswith("u")} == kernels
    assert stats(variable_filter={"out"}) == {"out/kernel/u", "out/kernel/sigma"}
    assert stats(n_steps=0) == set()

    def scales(variable_filter):
        module = linen.WeightNorm(nn.Dense(4), variable_filter=variable_filter)
        return set(jax.eval_shape(lambda: module.init(KEY, SERIES))["params"]) - {"layer_instance"}

    both = {"layer_instance/bias/scale", "layer_instance/kernel/scale"}
    assert scales(None) == scales({}) == scales({"layer"}) == both
    assert scales(["bias"]) == {"layer_instance/bias/scale"}
    with pytest.raises(TypeError, match="`variable_filter` must be a collection of strings"):
        scales("kernel")
    with pytest.raises(ValueError, match="Input is 3D but error_on_non_matrix is True: `error_on"):
        stats(error_on_non_matrix=True)


@pytest.mark.exhaustive
def test_keywords_reach_the_layer():
    """Inputs that a mask hides from attention do not change the output; dropout gets its mode."""
    heads = nn.MultiHeadDotProductAttention(2, dropout_rate=0.5)
    mask = np.array([True] * 5 + [False]).reshape(1, 1, 1, 6)
    hidden = SERIES + np.array([0.0] * 5 + [5.0], np.float32)[:, None]

    @jax.jit
    def run(x, hidden):
        found = []
        for wrapper in WRAPPERS.values():
            module = wrapper(heads)
            variables = module.init(KEY, x, x, deterministic=True)
            apply = partial(module.apply, variables, deterministic=True, mutable=["batch_stats"])
            found.append([apply(x, other, mask=mask)[0] for other in (x, hidden)])
            found[-1].append(apply(x, inputs_k=hidden)[0])
        return found

    for y, other, unmasked in run(SERIES, hidden):
        np.testing.assert_allclose(y, other, rtol=1e-6, atol=1e-6)
        assert np.abs(y - unmasked).max() > 1e-3


class Stack(nn.Module):
    """Three layers in a scan, and one after them."""

    @nn.compact
    def __call__(self, x):
        body = nn.scan(
            Layer, {"params": 0}, split_rngs={"params": True}, length=3, in_axes=nn.broadcast
        )
        x, _ = body(name="layers")(x)
        return nn.Dense(3, name="head")(x)


class Layer(nn.Module):
    """The same layers, of the form that ``nn.scan`` takes."""

    @nn.compact
    def __call__(self, x):
        return nn.tanh(nn.Dense(8)(x)), None


@first_of("wrapper", WRAPPERS.values(), ids=WRAPPERS)
def test_a_stack_of_layers_is_treated_layer_by_layer(wrapper):
    """As the unrolled model, with statistics and gradients."""
    module = wrapper(Stack(), stacked=masks.match("layers/.*"))
    single = wrapper(nn.Dense(8))
    last = wrapper(nn.Dense(3))

    def run_wrapped(variables, x):
        return module.apply(variables, x, mutable=["batch_stats"])

    def unrolled(variables, x):
        """Every layer in a wrapper of its own, with its part of the variables."""

        def part(own, name, take):
            parts = {}
            for kind, tree in variables.items():
                mine = {"layer_instance": tree["layer_instance"][own]} if kind == "params" else {}
                for key, value in tree.items():
                    if key.startswith(f"layer_instance/{name}"):
                        mine[key.replace(f"layer_instance/{name}", "layer_instance")] = value
                parts[kind] = mine
            parts = jax.tree.map(take, parts)
            if name.endswith("Dense_0"):
                inside = parts["params"]["layer_instance"]
                parts["params"]["layer_instance"] = inside["Dense_0"]
            return parts

        moved = []
        for i in range(3):
            own = part("layers", "layers/Dense_0", lambda a, i=i: a[i])
            x, stats = single.apply(own, x, mutable=["batch_stats"])
            x = nn.tanh(x)
            moved.append(stats)
        y, stats = last.apply(part("head", "head", lambda a: a), x, mutable=["batch_stats"])
        return y, (jax.tree.map(lambda *a: jnp.stack(a), *moved), stats)

    @jax.jit
    def run(x):
        variables = module.init(KEY, x)
        y, stats = run_wrapped(variables, x)
        other, expected = unrolled(variables, x)

        def loss(params, call):
            return jnp.sum(call({**variables, "params": params}, x)[0] ** 2)

        slopes = [jax.grad(loss)(variables["params"], call) for call in (run_wrapped, unrolled)]
        return (y, slopes[0]), (other, slopes[1]), stats, expected

    found, expected, stats, (layers, head) = run(SERIES)
    assert_close(found, expected, 2e-6)
    flattened = stats.get("batch_stats", {})
    for name, value in flattened.items():
        here = head if "/head/" in name else layers
        key = name.replace("/head", "").replace("/layers/Dense_0", "")
        np.testing.assert_allclose(value, here["batch_stats"][key], rtol=1e-6, atol=1e-6)
    if wrapper is WRAPPERS["spectral_norm"]:
        assert flattened["layer_instance/layers/Dense_0/kernel/u"].shape == (3, 1, 8)
        assert len(flattened) == 4  # Biases of the stack have one axis each.


@pytest.mark.exhaustive
@few("wrapper", WRAPPERS.values(), ids=WRAPPERS)
def test_tabulate_lists_modules_alone(wrapper):
    """With repeated rows and counts of operations, where Flax's lists helpers and fails."""
    module = wrapper(nn.MultiHeadDotProductAttention(2))
    options = {"show_repeated": True, "compute_flops": True, "compute_vjp_flops": True}
    console = {"width": 250, "force_terminal": False}
    table = nn.tabulate(module, KEY, console_kwargs=console, **options)
    lines = table(SERIES, inputs_k=SERIES).splitlines()
    cells = [line.split("│")[1:3] for line in lines if line.startswith("│")]
    kinds = {kind.strip() for _, kind in cells if kind.strip()}
    assert kinds == {type(module).__name__, "MultiHeadDotProductAttention", "DenseGeneral"}
