"""Linen norms of each example are Flax's: variables, defaults, numbers, metadata."""

import dataclasses
import inspect
import itertools
import math

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from jaxreg import linen
from tests.helpers import few
from tests.trees import assert_close, assert_equal, draw

KEY = jax.random.key(11)
NAMES = ["LayerNorm", "RMSNorm", "GroupNorm", "InstanceNorm"]
# Flax's defaults, but for the variance that loses digits where the mean is large.
ACCURATE = {"use_fast_variance": False}
KINDS = [
    ("LayerNorm", {"reduction_axes": (1, 2), "feature_axes": (1, 2)}),
    ("LayerNorm", {}),
    ("LayerNorm", {"reduction_axes": (1, 2), "feature_axes": -1, "epsilon": 0.1}),
    ("RMSNorm", {"reduction_axes": (-2, -1), "feature_axes": 1, "epsilon": 0.1}),
    ("RMSNorm", {}),
    ("GroupNorm", {"num_groups": 3}),
    ("GroupNorm", {"num_groups": None, "group_size": 3, "epsilon": 0.1}),
    ("InstanceNorm", {"feature_axes": (1,), "epsilon": 0.1}),
    ("InstanceNorm", {}),
]
# One row of each class, for which all options are tried.
SHORT = [KINDS[i] for i in (0, 3, 6, 7)]
# Whether there are an offset and a factor; dtypes of the result and of the parameters.
BOOLS, DTYPES = (True, False), (jnp.float32, jnp.bfloat16)
OPTIONS = list(itertools.product(BOOLS, BOOLS, (None, *DTYPES), DTYPES))
every_name = pytest.mark.parametrize("name", NAMES)


def groups(name):
    return {"num_groups": 3} if name == "GroupNorm" else {}


@pytest.mark.parametrize(("name", "fields"), [kind for kind in KINDS if kind not in SHORT])
def test_norms_are_those_of_flax(name, fields):
    assert_that_of_flax(name, fields, *OPTIONS[0])


@pytest.mark.parametrize(("name", "fields"), SHORT)
@few(("use_bias", "use_scale", "dtype", "param_dtype"), OPTIONS)
def test_options_are_those_of_flax(name, fields, use_bias, use_scale, dtype, param_dtype):
    assert_that_of_flax(name, fields, use_bias, use_scale, dtype, param_dtype)


def assert_that_of_flax(name, fields, use_bias, use_scale, dtype, param_dtype):
    x = draw(4, 5, 6, mean=1)
    given = {**fields, "dtype": dtype, "param_dtype": param_dtype, "use_scale": use_scale}
    given |= {"scale_init": nn.initializers.uniform()}
    if name != "RMSNorm":
        given |= {"use_bias": use_bias, "bias_init": nn.initializers.uniform()}
    modules = getattr(linen, name)(**given), getattr(nn, name)(**given, **ACCURATE)

    @jax.jit
    def run(key, x):
        made = [module.init(key, x) for module in modules]
        return made, [module.apply(made[1], x) for module in modules]

    (ours, theirs), results = run(KEY, x)
    assert_equal(ours, theirs)
    assert all(leaf.dtype == param_dtype for leaf in jax.tree.leaves(ours))
    assert_close(*results)


def defaults(cls):
    return {p.name: p.default for p in inspect.signature(cls.__init__).parameters.values()}


@pytest.mark.parametrize("name", [*NAMES, "BatchNorm"])
def test_arguments_and_defaults_are_those_of_flax(name):
    """All of them, in their order, and ours behind them; initializers by what they make."""
    ours = defaults(getattr(linen, name))
    theirs = defaults(getattr(nn, name))
    fields = [[f.name for f in dataclasses.fields(getattr(place, name))] for place in (linen, nn)]
    own = {"parent", "name"}
    ordered = [[field for field in names if field not in own] for names in fields]
    assert ordered[0][: len(ordered[1])] == ordered[1]
    for key in set(theirs) - {"param_dtype"}:
        values = ours[key], theirs[key]
        if key.endswith("_init"):
            values = tuple(init(KEY, (2,), jnp.float32).tolist() for init in values)
        assert values[0] == values[1], key
    assert jnp.dtype(ours["param_dtype"]) == jnp.dtype(theirs["param_dtype"])


@every_name
def test_partitions_of_the_parameters(name):
    init = nn.with_partitioning(nn.initializers.ones, ("model",))
    inits = {"scale_init": init} | ({} if name == "RMSNorm" else {"bias_init": init})
    module = getattr(linen, name)(**inits, **groups(name))
    variables = jax.eval_shape(module.init, KEY, draw(4, 5, 6))
    for leaf in variables["params"].values():
        assert leaf.names == ("model",)


@every_name
def test_checkpoints_load_both_ways(name):
    x = draw(4, 5, 6)
    layers = [getattr(place, name)(**groups(name)) for place in (linen, nn)]
    target = jax.tree.map(
        lambda a: np.zeros(a.shape, a.dtype), jax.eval_shape(layers[0].init, KEY, x)
    )
    random = jax.tree.map(lambda a: draw(*a.shape, seed=3), target)
    results = []
    for layer in layers:
        blob = flax.serialization.to_bytes(random)
        loaded = flax.serialization.from_bytes(jax.eval_shape(layer.init, KEY, x), blob)
        results.append(jax.jit(layer.apply)(loaded, x))
    np.testing.assert_allclose(*results, atol=1e-5)


@every_name
def test_masks_reach_the_norms(name):
    x = draw(4, 5, 6)
    valid = np.arange(20).reshape(4, 5) % 3 != 0
    valid[1] = False
    mask = valid[..., None]
    module = getattr(linen, name)(**groups(name))

    @jax.jit
    def run(x, wrong):
        variables = module.init(KEY, x)
        found = [module.apply(variables, a, mask=mask) for a in (x, wrong)]
        return *found, module.apply(variables, x)

    wrong = np.where(mask, x, 9.0).astype(np.float32)
    masked, with_others, whole = [np.asarray(a) for a in run(x, wrong)]
    # What is masked out changes nothing but itself.
    np.testing.assert_allclose(masked[valid], with_others[valid], rtol=1e-6)
    assert np.isfinite(masked).all()
    assert np.any(masked != whole)


def test_a_row_without_a_selected_element_is_not_finite_in_flax():
    """It gives NaN, and NaN gradients of its parameters (0.12.8); ours are finite."""
    x = draw(2, 4)
    mask = np.array([[1, 1, 0, 1], [0, 0, 0, 0]], bool)
    params = {"params": {"scale": np.ones(4, np.float32), "bias": np.zeros(4, np.float32)}}
    for layer, sound in ((linen.LayerNorm(), True), (nn.LayerNorm(), False)):

        def loss(params, layer=layer):
            y = layer.apply(params, x, mask=mask)
            return jnp.sum(y), y

        gradients, y = jax.jit(jax.grad(loss, has_aux=True))(params)
        assert np.isfinite(y).all() == sound
        assert np.isfinite(gradients["params"]["scale"]).all() == sound


@every_name
def test_elements_on_several_devices_are_normalized_together(name):
    mesh = jax.make_mesh((4,), ("d",), (AxisType.Auto,), devices=jax.devices()[:4])
    x = draw(2, 8, 6, mean=2)
    fields = {"axis_name": "d"} | groups(name)
    if name in ("LayerNorm", "RMSNorm"):
        fields |= {"reduction_axes": (1, 2)}
    module = getattr(linen, name)(**fields)
    spec = P(None, "d")

    @jax.jit
    def run(x):
        # Without ``axis_name`` in initialization, which is outside of any mesh axis.
        variables = module.init(KEY, x)

        def local(x):
            return module.apply(variables, x)

        whole = module.clone(axis_name=None).apply(variables, x)
        return jax.shard_map(local, mesh=mesh, in_specs=spec, out_specs=spec)(x), whole

    sharded, whole = run(x)
    np.testing.assert_allclose(sharded, whole, rtol=2e-5, atol=2e-6)


def test_wrong_arguments_raise():
    for fields in ({"num_groups": 2, "group_size": 3}, {"num_groups": None}):
        with pytest.raises(ValueError, match="Exactly one of `num_groups` and `group_size` "):
            jax.eval_shape(linen.GroupNorm(**fields).init, KEY, np.ones((2, 6), np.float32))


@pytest.mark.parametrize("name", NAMES)
def test_integers_are_named(name):
    norm = getattr(linen, name)(**groups(name))
    with pytest.raises(TypeError, match="`x` must have a floating-point dtype, got int32"):
        jax.eval_shape(lambda: norm.init(KEY, jnp.ones((2, 6), jnp.int32)))


@pytest.mark.parametrize("name", NAMES[:2])
def test_narrow_inputs_are_rounded_once(name):
    """The parameters are wider, and so is the result."""
    x = jnp.asarray(draw(5, 6, mean=1), jnp.bfloat16)
    norm = getattr(linen, name)()
    y = jax.jit(lambda x: norm.init_with_output(KEY, x)[0])(x)
    assert y.dtype == jnp.float32
    wide = np.asarray(x, np.float64)
    wide = wide - (wide.mean(-1, keepdims=True) if name == "LayerNorm" else 0)
    expected = wide / np.sqrt(np.mean(wide**2, axis=-1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)


@few("name", NAMES)
def test_what_cannot_change_the_result_is_accepted(name):
    x = draw(4, 5, 6, mean=1)
    fields = groups(name)
    flags = {"use_fast_variance": False, "force_float32_reductions": False}
    layers = [getattr(linen, name)(**fields, **more) for more in ({}, flags)]
    results = jax.jit(lambda x: [layer.init_with_output(KEY, x)[0] for layer in layers])(x)
    np.testing.assert_array_equal(*results)


@few("name", NAMES)
def test_groups_of_devices_are_those_of_flax(name):
    x = draw(4, 2, 8, 6, mean=2)
    fields = groups(name) | {"axis_name": "d", "axis_index_groups": [[0, 3], [2, 1]]}
    if name in ("LayerNorm", "RMSNorm"):
        fields |= {"reduction_axes": (1, 2)}
    ours = getattr(linen, name)(**fields)
    theirs = getattr(nn, name)(**fields)
    params = {"scale": np.ones(6, "f4")} | ({} if name == "RMSNorm" else {"bias": np.ones(6, "f4")})

    def run(x):
        return [layer.apply({"params": params}, x) for layer in (ours, theirs)]

    np.testing.assert_allclose(*jax.pmap(run, axis_name="d")(x), rtol=1e-4, atol=1e-5)


MASKS = [(5, 6), (6,), (4, 1, 6), (4, 5, 1), (), (1, 1, 1)]


@few("shape", MASKS, ids=str)
@few("name", NAMES[:2])
def test_masks_broadcast_as_those_of_flax(name, shape):
    x = draw(4, 5, 6)
    numbers = np.arange(math.prod(shape)).reshape(shape)
    mask = numbers % 5 != 2
    mask = mask | (shape[-1:] == (1,))  # Of a row without an element Flax makes NaN.
    layers = [getattr(place, name)() for place in (linen, nn)]

    @jax.jit
    def run(x):
        return [layer.init_with_output(KEY, x, mask=mask)[0] for layer in layers]

    np.testing.assert_allclose(*run(x), atol=1e-5)


@every_name
def test_a_mask_that_does_not_broadcast_is_named(name):
    norm = getattr(linen, name)(**groups(name))
    message = r"`mask` must broadcast to the shape of `x`, .*, got shape \(4, 5\)"
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda: norm.init(KEY, draw(4, 5, 6), mask=np.ones((4, 5), bool)))


@few("name", NAMES)
def test_the_offset_is_added_to_the_factor(name):
    """In float32, though the factor is bfloat16: ``1 + gamma`` would be 1 there."""
    x = draw(4, 5, 6)
    gamma = np.full(6, 2**-10, jnp.bfloat16)
    fields = groups(name) | {"scale_init": nn.initializers.zeros, "param_dtype": jnp.bfloat16}
    layer = getattr(linen, name)(**fields, scale_offset=1)

    @jax.jit
    def run(x):
        y, variables = layer.init_with_output(KEY, x)
        changed = {"params": variables["params"] | {"scale": gamma}}
        return variables, y, layer.apply(changed, x), layer.clone(scale_offset=0).apply(changed, x)

    variables, y, moved, small = run(x)
    assert_equal(variables["params"]["scale"], np.zeros(6, jnp.bfloat16))
    np.testing.assert_allclose(moved, np.asarray(y) * (1 + 2**-10), rtol=2e-7)
    np.testing.assert_allclose(small, np.asarray(y) * 2**-10, rtol=1e-6)


def test_decay_pulls_a_factor_around_one_to_one():
    layer = linen.RMSNorm(scale_offset=1.0, scale_init=nn.initializers.constant(0.5))
    optimizer = optax.chain(optax.add_decayed_weights(1.0), optax.sgd(0.5))

    @jax.jit
    def run(x):
        params = layer.init(KEY, x)
        state = optimizer.init(params)
        for _ in range(20):
            updates, state = optimizer.update(optax.tree.zeros_like(params), state, params)
            params = optax.apply_updates(params, updates)
        return layer.apply(params, x), linen.RMSNorm(use_scale=False).apply({}, x)

    np.testing.assert_allclose(*run(draw(5, 6)), rtol=1e-5)


@few("name", NAMES)
def test_complex_numbers_are_those_of_flax(name):
    x = (draw(4, 5, 6, mean=1) + 1j * draw(4, 5, 6, seed=1)) + 0
    layers = [getattr(place, name)(**groups(name), **ACCURATE) for place in (linen, nn)]
    results = jax.jit(lambda x: [layer.init_with_output(KEY, x)[0] for layer in layers])(x)
    assert results[0].dtype == np.complex64
    np.testing.assert_allclose(*results, atol=1e-5)


@pytest.mark.exhaustive
def test_tabulate_lists_the_layers_alone():
    norms = [getattr(linen, name)(**groups(name)) for name in NAMES]
    ghost = linen.GhostBatchNorm(2, use_running_average=False)
    renorm = linen.BatchRenorm(use_running_average=False, r_max=3.0, d_max=lambda n: n)
    norms += [linen.BatchNorm(use_running_average=False), ghost, renorm, linen.FilterResponseNorm()]
    options = {"compute_flops": True, "compute_vjp_flops": True, "show_repeated": True}
    model = nn.Sequential(norms)
    console = {"force_terminal": False, "width": 240}
    table = nn.tabulate(model, KEY, console_kwargs=console, **options)(draw(4, 5, 6))
    rows = [line for line in table.splitlines() if "layers_" in line]
    assert len(rows) == len(norms)
    assert not [row for row in rows if "training" in row or "renormalized" in row]
