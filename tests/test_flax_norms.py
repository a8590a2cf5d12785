"""Linen and NNX norms of each example are Flax's: variables, defaults, numbers, metadata."""

import inspect
import itertools

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx as fnx
from jax.sharding import PartitionSpec as P

from jaxreg import linen, nnx

KEY = jax.random.key(11)
# Flax's defaults, but for the variance that loses digits where the mean is large.
ACCURATE = {"use_fast_variance": False}
# Name, fields of both, features of NNX for an input [4, 5, 6].
KINDS = [
    ("LayerNorm", {}, 6),
    ("LayerNorm", {"reduction_axes": (1, 2), "feature_axes": -1}, 6),
    ("LayerNorm", {"reduction_axes": (1, 2), "feature_axes": (1, 2)}, (5, 6)),
    ("RMSNorm", {}, 6),
    ("RMSNorm", {"reduction_axes": (-2, -1), "feature_axes": 1}, 5),
    ("GroupNorm", {"num_groups": 3}, 6),
    ("GroupNorm", {"num_groups": None, "group_size": 3, "epsilon": 0.1}, 6),
    ("InstanceNorm", {}, 6),
    ("InstanceNorm", {"feature_axes": (1,)}, 5),
]
OPTIONS = [
    dict(zip(("use_bias", "use_scale", "dtype", "param_dtype"), values, strict=True))
    for values in itertools.product(
        (True, False), (True, False), (None, jnp.float32, jnp.bfloat16), (jnp.float32, jnp.bfloat16)
    )
]


def draw(*shape, seed=0, mean=0.0):
    return jnp.asarray(np.random.default_rng(seed).normal(mean, 1, shape), jnp.float32)


def fields_of(name, fields, options, inits):
    """The fields, with random parameters, less the offset where the norm has none."""
    given = {**fields, **options}
    given |= {"scale_init": inits.normal(), "bias_init": inits.normal()}
    if name == "RMSNorm":
        del given["use_bias"], given["bias_init"]
    return given


def assert_equal_trees(ours, theirs):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        np.testing.assert_array_equal(a, b)


def assert_close(ours, theirs):
    assert ours.dtype == theirs.dtype
    narrow = ours.dtype == jnp.bfloat16
    tolerance = {"rtol": 2e-2, "atol": 2e-2} if narrow else {"rtol": 1e-5, "atol": 1e-5}
    np.testing.assert_allclose(*(np.asarray(y, np.float32) for y in (ours, theirs)), **tolerance)


@pytest.mark.parametrize(("name", "fields", "_features"), KINDS)
def test_linen_norms_are_those_of_flax(name, fields, _features):
    x = draw(4, 5, 6, mean=1)
    for options in OPTIONS:
        given = fields_of(name, fields, options, nn.initializers)
        ours, theirs = getattr(linen, name)(**given), getattr(nn, name)(**given, **ACCURATE)
        variables = theirs.init(KEY, x)
        assert_equal_trees(ours.init(KEY, x), variables)
        assert_close(ours.apply(variables, x), theirs.apply(variables, x))


@pytest.mark.parametrize(("name", "fields", "features"), KINDS)
def test_nnx_norms_are_those_of_flax(name, fields, features):
    x = draw(4, 5, 6, mean=1)
    shape = features if isinstance(features, tuple) else (features,)
    for options in OPTIONS:
        given = fields_of(name, fields, options, fnx.initializers)
        ours = getattr(nnx, name)(features, **given, rngs=fnx.Rngs(0))
        if len(shape) > 1:  # Flax's takes one feature axis only.
            assert all(leaf.shape == shape for leaf in jax.tree.leaves(fnx.state(ours)))
            module = getattr(nn, name)(**fields_of(name, fields, options, nn.initializers))
            params = dict(fnx.to_pure_dict(fnx.state(ours, fnx.Param)))
            assert_close(ours(x), module.apply({"params": params}, x))
            continue
        theirs = getattr(fnx, name)(features, **given, **ACCURATE, rngs=fnx.Rngs(0))
        assert_equal_trees(*(fnx.to_pure_dict(fnx.state(layer)) for layer in (ours, theirs)))
        assert_close(ours(x), theirs(x))


def defaults(cls):
    return {p.name: p.default for p in inspect.signature(cls.__init__).parameters.values()}


@pytest.mark.parametrize("name", ["LayerNorm", "RMSNorm", "GroupNorm", "InstanceNorm"])
@pytest.mark.parametrize(("place", "flaxs"), [(linen, nn), (nnx, fnx)], ids=["linen", "nnx"])
def test_defaults_are_those_of_flax(place, flaxs, name):
    """Every argument that both have; initializers by what they make."""
    ours, theirs = defaults(getattr(place, name)), defaults(getattr(flaxs, name))
    missing = {"axis_index_groups", "use_fast_variance"}
    missing |= {"force_float32_reductions"} if place is linen else {"promote_dtype"}
    assert set(theirs) - set(ours) == missing
    assert set(ours) <= set(theirs)
    for key in set(ours) - {"param_dtype"}:
        values = ours[key], theirs[key]
        if key.endswith("_init"):
            values = tuple(init(KEY, (2,), jnp.float32).tolist() for init in values)
        assert values[0] == values[1], key
    assert jnp.dtype(ours["param_dtype"]) == jnp.dtype(theirs["param_dtype"])


@pytest.mark.parametrize("name", ["LayerNorm", "RMSNorm", "GroupNorm", "InstanceNorm"])
def test_metadata_and_partitions(name):
    """Sharding annotations of the parameters, in both frameworks."""
    mesh = jax.make_mesh((2,), ("model",), (jax.sharding.AxisType.Auto,), devices=jax.devices()[:2])
    x = draw(4, 5, 6)
    extra = {"num_groups": 3} if name == "GroupNorm" else {}
    init = nn.with_partitioning(nn.initializers.ones, ("model",))
    variables = getattr(linen, name)(scale_init=init, **extra).init(KEY, x)
    assert variables["params"]["scale"].names == ("model",)
    names = ("scale",) if name == "RMSNorm" else ("scale", "bias")
    metadata = {f"{n}_metadata": {"out_sharding": ("model",), "role": n} for n in names}
    with jax.set_mesh(mesh):
        layer = getattr(nnx, name)(6, **extra, rngs=fnx.Rngs(0), **metadata)
        layer(x)
    for n in names:
        variable = getattr(layer, n)
        assert variable.get_metadata()["role"] == n
        assert variable.sharding.spec == P("model")


@pytest.mark.parametrize("name", ["LayerNorm", "RMSNorm", "GroupNorm", "InstanceNorm"])
def test_checkpoints_load_both_ways(name):
    x, extra = draw(4, 5, 6), {"num_groups": 3} if name == "GroupNorm" else {}
    layers = [getattr(place, name)(**extra) for place in (linen, nn)]
    for source, target in (layers, layers[::-1]):
        random = jax.tree.map(lambda a: a + draw(*a.shape, seed=3), source.init(KEY, x))
        blob = flax.serialization.to_bytes(random)
        loaded = flax.serialization.from_bytes(target.init(KEY, x), blob)
        np.testing.assert_allclose(source.apply(random, x), target.apply(loaded, x), atol=1e-5)
    ours, theirs = (getattr(p, name)(6, **extra, rngs=fnx.Rngs(0)) for p in (nnx, fnx))
    fnx.update(theirs, fnx.state(ours))
    fnx.update(ours, fnx.state(theirs))
    np.testing.assert_allclose(ours(x), theirs(x), atol=1e-5)


def test_masks_reach_the_norms():
    x, mask = draw(4, 5, 6), np.arange(20).reshape(4, 5) % 3 != 0
    for name in ("LayerNorm", "RMSNorm", "GroupNorm", "InstanceNorm"):
        extra = {"num_groups": 3} if name == "GroupNorm" else {}
        module = getattr(linen, name)(**extra)
        variables = module.init(KEY, x)
        masked = module.apply(variables, x, mask=mask)
        layer = getattr(nnx, name)(6, **extra, rngs=fnx.Rngs(0))
        np.testing.assert_array_equal(layer(x, mask=mask), masked)
        assert np.any(masked != module.apply(variables, x))


@pytest.mark.parametrize("name", ["LayerNorm", "RMSNorm"])
@pytest.mark.slow
def test_features_on_several_devices(name):
    """With ``axis_name``, the shards of a row are normalized together."""
    mesh = jax.make_mesh((8,), ("d",), (jax.sharding.AxisType.Auto,))
    x = draw(4, 16, mean=2)
    fields = {"axis_name": "d", "use_scale": False}
    module = getattr(linen, name)(**fields, **({"use_bias": False} if name == "LayerNorm" else {}))
    run = jax.shard_map(
        lambda x: module.apply({}, x), mesh=mesh, in_specs=P(None, "d"), out_specs=P(None, "d")
    )
    whole = module.clone(axis_name=None).apply({}, x)
    np.testing.assert_allclose(run(x), whole, rtol=2e-6, atol=1e-6)
