"""NNX modules of the variants of batch norm and of the norms within an example."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx as fnx
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from jaxreg import linen, nnx, normalization
from jaxreg.nnx.normalization import RunningNorm
from jaxreg.normalization import BatchStats

KEY = jax.random.key(11)
STATS = BatchStats(jnp.array([0.5, -1.0, 2.0]), jnp.array([2.0, 0.5, 1.0]))
AFFINE = {"scale": jnp.array([0.5, 1.0, 2.0]), "bias": jnp.array([-1.0, 0.0, 0.25])}
LIMITS = {"r_max": 1.5, "d_max": 0.4}
MASK = np.array([1, 1, 0, 1, 0, 1, 1, 1], bool)


def draw(*shape, seed=0, mean=1.0):
    return jnp.asarray(np.random.default_rng(seed).normal(mean, 1, shape), jnp.float32)


def fill(layer, stats=STATS, affine=AFFINE):
    layer.mean[...], layer.var[...] = stats
    for name, value in affine.items():
        getattr(layer, name)[...] = value
    return layer


def ghost(**fields):
    return nnx.GhostBatchNorm(3, 4, rngs=fnx.Rngs(0), **fields)


def renorm(**fields):
    return nnx.BatchRenorm(3, **LIMITS, rngs=fnx.Rngs(0), **fields)


FUNCTIONS = {
    ghost: lambda *a, **k: normalization.ghost_batch_norm(*a, ghost_batch_size=4, **k),
    renorm: lambda *a, **k: normalization.batch_renorm(*a, **LIMITS, **k),
}
LINEN = {
    ghost: lambda **k: linen.GhostBatchNorm(4, **k),
    renorm: lambda **k: linen.BatchRenorm(**LIMITS, **k),
}
every_variant = pytest.mark.parametrize("build", FUNCTIONS, ids=lambda build: build.__name__)


@every_variant
@pytest.mark.parametrize("mask", [None, MASK], ids=["all", "masked"])
def test_training_is_the_function(build, mask):
    x = draw(8, 2, 3)
    expected, stats = FUNCTIONS[build](x, STATS, **AFFINE, momentum=0.7, eps=0.01, where=mask)
    layer = fill(build(momentum=0.7, epsilon=0.01))
    np.testing.assert_array_equal(layer(x, mask=mask), expected)
    np.testing.assert_array_equal(layer.mean[...], stats.mean)
    np.testing.assert_array_equal(layer.var[...], stats.var)


@every_variant
@pytest.mark.parametrize("mask", [None, MASK], ids=["all", "masked"])
def test_linen_and_nnx_agree(build, mask):
    """Two steps, then evaluation."""
    x, layer = draw(8, 3), build(momentum=0.7)
    module = LINEN[build](momentum=0.7)
    tree = module.init(KEY, x, False)
    for _ in range(2):
        expected, updated = module.apply(tree, x, False, mask=mask, mutable=["batch_stats"])
        tree = tree | updated
        np.testing.assert_array_equal(layer(x, mask=mask), expected)
        for name, stat in tree["batch_stats"].items():
            np.testing.assert_array_equal(getattr(layer, name)[...], stat)
    layer.eval()
    np.testing.assert_array_equal(layer(x), module.apply(tree, x, True))


@every_variant
def test_modes(build):
    x, layer = draw(8, 3), fill(build())
    plain = fill(nnx.BatchNorm(3, use_running_average=True, rngs=fnx.Rngs(0)))
    expected = plain(x)
    np.testing.assert_array_equal(layer(x, use_running_average=True), expected)
    np.testing.assert_array_equal(fnx.view(layer, use_running_average=True)(x), expected)
    layer.eval()
    np.testing.assert_array_equal(layer(x[:3]), plain(x[:3]))
    np.testing.assert_array_equal(layer.mean[...], STATS.mean)
    layer.train()
    assert np.abs(layer(x) - expected).max() > 1e-3
    assert np.all(layer.mean[...] != STATS.mean)


@every_variant
@pytest.mark.parametrize("fields", [{}, {"use_bias": False}, {"use_scale": False}], ids=repr)
def test_states_of_flax_load(build, fields):
    x = draw(8, 3)
    theirs = fnx.BatchNorm(3, rngs=fnx.Rngs(0), **fields)
    theirs(x)
    ours = build(**fields)
    fnx.update(ours, fnx.state(theirs))
    outputs = [layer(x, use_running_average=True) for layer in (ours, theirs)]
    np.testing.assert_allclose(*outputs, atol=1e-6)


@every_variant
def test_gradients_under_jit(build):
    x, dy, layer = draw(8, 3), draw(8, 3, seed=1), fill(build())

    @fnx.jit
    def step(layer, x):
        return fnx.grad(lambda layer, x: jnp.sum(layer(x) * dy), argnums=(0, 1))(layer, x)

    def loss(scale, bias, x):
        return jnp.sum(FUNCTIONS[build](x, STATS, scale=scale, bias=bias)[0] * dy)

    dlayer, dx = step(layer, x)
    expected = jax.grad(loss, (0, 1, 2))(AFFINE["scale"], AFFINE["bias"], x)
    actual = dlayer["scale"][...], dlayer["bias"][...], dx
    for ours, theirs in zip(actual, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(layer.mean[...] != STATS.mean, True)


@every_variant
def test_metadata_of_the_variables(build):
    names = ("bias", "scale", "stats")
    layer = build(**{f"{name}_metadata": {"role": name} for name in names})
    for name, role in [("bias", "bias"), ("scale", "scale"), ("mean", "stats"), ("var", "stats")]:
        assert getattr(layer, name).get_metadata()["role"] == role


def test_a_batch_of_another_size_raises():
    with pytest.raises(ValueError, match="`ghost_batch_size` must divide the batch, got 4 for 6"):
        ghost()(draw(6, 3))


def test_limits_follow_a_schedule():
    x, traces = draw(8, 3), []
    layer = nnx.BatchRenorm(3, r_max=jnp.ones(()), d_max=jnp.zeros(()), rngs=fnx.Rngs(0))

    @fnx.jit
    def run(layer):
        traces.append(1)
        return layer(x)

    for r_max, d_max in [(1.0, 0.0), (3.0, 5.0)]:
        layer.r_max, layer.d_max = jnp.float32(r_max), jnp.float32(d_max)
        fill(layer)
        expected = normalization.batch_renorm(x, STATS, **AFFINE, r_max=r_max, d_max=d_max)[0]
        np.testing.assert_allclose(run(layer), expected, atol=1e-6)
    assert len(traces) == 1


def test_renorm_over_several_axes_and_devices():
    x, mask = draw(8, 4, 2, 3), np.arange(4) < np.arange(8)[:, None] % 5
    layer = nnx.BatchRenorm(
        (2, 3), axis=(2, 3), momentum=0.5, axis_name="d", rngs=fnx.Rngs(0), **LIMITS
    )
    graph, state = fnx.split(layer)

    def run(state, x, mask):
        layer = fnx.merge(graph, state)
        y = layer(x, mask=mask)
        return y, BatchStats(layer.mean[...], layer.var[...])

    mesh = jax.make_mesh((8,), ("d",), (AxisType.Auto,))
    specs = {"in_specs": (P(), P("d"), P("d")), "out_specs": (P("d"), P())}
    actual = jax.jit(jax.shard_map(run, mesh=mesh, **specs))(state, x, mask)
    expected = normalization.batch_renorm(
        x, normalization.init_stats((2, 3)), axis=(2, 3), momentum=0.5, where=mask, **LIMITS
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), actual, expected)


def test_a_running_norm_without_a_function_raises():
    with pytest.raises(NotImplementedError):
        RunningNorm().in_training()


@pytest.mark.parametrize("mask", [None, np.arange(4) < 3], ids=["all", "masked"])
def test_adaptive_instance_norm(mask):
    x, mean, std = draw(2, 4, 3), draw(2, 3, seed=1), draw(2, 3, seed=2)
    mask = None if mask is None else mask[None]
    layer = nnx.AdaptiveInstanceNorm(epsilon=0.01)
    expected = normalization.adaptive_instance_norm(x, mean, std, eps=0.01, where=mask)
    np.testing.assert_array_equal(layer(x, mean, std, mask=mask), expected)
    assert not jax.tree.leaves(fnx.state(layer, fnx.Variable))


def test_filter_response_norm():
    x = draw(2, 4, 3, mean=0)
    params = {**AFFINE, "threshold": jnp.array([-0.5, 0.0, 0.5])}
    layer = nnx.FilterResponseNorm(3, epsilon=0.01, rngs=fnx.Rngs(0))
    rectified = jax.nn.relu(normalization.filter_response_norm(x, eps=0.01))
    np.testing.assert_array_equal(layer(x), rectified)
    for name, value in params.items():
        getattr(layer, name)[...] = value
    expected = linen.FilterResponseNorm(epsilon=0.01).apply({"params": params}, x)
    np.testing.assert_array_equal(layer(x), expected)
    free = nnx.FilterResponseNorm(3, epsilon=0.01, use_threshold=False, rngs=fnx.Rngs(0))
    np.testing.assert_array_equal(free(x), normalization.filter_response_norm(x, eps=0.01))
    assert set(fnx.to_pure_dict(fnx.state(free, fnx.Param))) == {"scale", "bias"}


@pytest.mark.parametrize("dtype", [None, jnp.bfloat16])
@pytest.mark.parametrize("param_dtype", [jnp.float32, jnp.bfloat16])
def test_dtypes_and_metadata_of_filter_response_norm(dtype, param_dtype):
    names = ("bias", "scale", "threshold")
    metadata = {f"{name}_metadata": {"role": name} for name in names}
    layer = nnx.FilterResponseNorm(
        3, dtype=dtype, param_dtype=param_dtype, rngs=fnx.Rngs(0), **metadata
    )
    assert layer(draw(2, 4, 3).astype(jnp.bfloat16)).dtype == (dtype or param_dtype)
    for name in names:
        assert getattr(layer, name)[...].dtype == param_dtype
        assert getattr(layer, name).get_metadata()["role"] == name


@pytest.mark.parametrize(
    "layer",
    [nnx.FilterResponseNorm(3, rngs=fnx.Rngs(0)), ghost(), renorm()],
    ids=lambda layer: type(layer).__name__,
)
def test_integers_are_rejected(layer):
    with pytest.raises(TypeError, match="`x` must have a floating-point dtype, got int32"):
        layer(jnp.ones((4, 3), jnp.int32))
