"""Linen norms of each example are Flax's: variables, defaults, numbers, metadata."""

import inspect
import itertools

import flax
import jax
import jax.numpy as jnp
import numpy as np
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


@every_name
def test_defaults_are_those_of_flax(name):
    """Every argument that both have; initializers by what they make."""
    ours, theirs = defaults(getattr(linen, name)), defaults(getattr(nn, name))
    missing = {"axis_index_groups", "use_fast_variance", "force_float32_reductions"}
    assert set(theirs) - set(ours) == missing
    assert set(ours) <= set(theirs)
    for key in set(ours) - {"param_dtype"}:
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
    x, layers = draw(4, 5, 6), [getattr(place, name)(**groups(name)) for place in (linen, nn)]
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
    x, mask = draw(4, 5, 6), np.arange(20).reshape(4, 5) % 3 != 0
    mask[1] = False
    module = getattr(linen, name)(**groups(name))

    @jax.jit
    def run(x, wrong):
        variables = module.init(KEY, x)
        found = [module.apply(variables, a, mask=mask) for a in (x, wrong)]
        return *found, module.apply(variables, x)

    wrong = np.where(mask[..., None], x, 9.0).astype(np.float32)
    masked, with_others, whole = (np.asarray(a) for a in run(x, wrong))
    # What is masked out changes nothing but itself.
    np.testing.assert_allclose(masked[mask], with_others[mask], rtol=1e-6)
    assert np.isfinite(masked).all()
    assert np.any(masked != whole)


def test_a_row_without_a_selected_element_is_not_finite_in_flax():
    """It gives NaN, and NaN gradients of its parameters (0.12.8); ours are finite."""
    x, mask = draw(2, 4), np.array([[1, 1, 0, 1], [0, 0, 0, 0]], bool)
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
        with pytest.raises(ValueError, match="One of `num_groups` and `group_size` must be None"):
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
