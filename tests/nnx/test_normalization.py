"""Batch norm as an NNX module: Flax's variables and numbers, modes, masks and devices."""

import flax
import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx as flax_nnx
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from jaxreg import linen, nnx
from jaxreg.nnx.normalization import RunningNorm
from tests.helpers import few
from tests.trees import assert_close, assert_equal, draw

KEY = jax.random.key(11)
FIELDS = [
    {"use_scale": False, "momentum": 0.5, "epsilon": 0.1},
    {},
    {"use_bias": False, "axis": 1},
    {"param_dtype": jnp.bfloat16},
    {"scale_init": flax_nnx.initializers.normal(), "bias_init": flax_nnx.initializers.normal()},
]


def variables(layer):
    return flax_nnx.to_pure_dict(flax_nnx.state(layer))


def training_step(layer, x, dy):
    """Output, gradients and variables behind a step of training."""

    def loss(layer, x):
        y = layer(x)
        return jnp.sum(y.astype(jnp.float32) * dy), y

    (dlayer, dx), y = flax_nnx.grad(loss, argnums=(0, 1), has_aux=True)(layer, x)
    return y, dx, flax_nnx.to_pure_dict(dlayer), variables(layer)


@few("fields", FIELDS, ids=lambda fields: "-".join(fields) or "defaults")
def test_batch_norm_is_that_of_flax(fields):
    batches = [draw(8, 3, 3, seed=seed, mean=seed) for seed in range(2)]
    dy = draw(8, 3, 3, seed=9)

    @jax.jit
    def run(key, batches):
        found = []
        for cls, options in (
            (nnx.BatchNorm, {}),
            (flax_nnx.BatchNorm, {"use_fast_variance": False}),
        ):
            layer = cls(3, rngs=flax_nnx.Rngs(key), **options, **fields)
            start = variables(layer)
            found.append((start, [training_step(layer, x, dy) for x in batches]))
        return found

    (started, ours), (expected, theirs) = run(KEY, batches)
    assert_close(started, expected, 0)
    assert_close(ours, theirs, 2e-5)


def test_a_narrow_result_is_rounded_once():
    """Flax rounds the input before it normalizes."""

    @jax.jit
    def run(x):
        layers = [nnx.BatchNorm(3, dtype=d, rngs=flax_nnx.Rngs(0)) for d in ("float32", "bfloat16")]
        return [(layer(x), variables(layer)) for layer in layers]

    (wide, stats), (narrow, same) = run(draw(64, 3, mean=20))
    assert narrow.dtype == jnp.bfloat16
    np.testing.assert_array_equal(narrow, np.asarray(wide).astype(jnp.bfloat16))
    assert_equal(stats, same)


def test_states_load_both_ways():
    x = draw(8, 3, mean=2)

    @jax.jit
    def run(x):
        layers = [cls(3, rngs=flax_nnx.Rngs(0)) for cls in (nnx.BatchNorm, flax_nnx.BatchNorm)]
        found = []
        for source, target in (layers, layers[::-1]):
            source(x)
            flax_nnx.update(target, flax_nnx.state(source))
            outputs = [layer(x, use_running_average=True) for layer in (source, target)]
            found.append((outputs, variables(source), variables(target)))
        return found

    for outputs, ours, theirs in run(x):
        np.testing.assert_allclose(*outputs, atol=1e-6)
        assert_equal(ours, theirs)


def test_linen_and_nnx_agree_from_their_start():
    x = draw(8, 3, mean=2)
    module = linen.BatchNorm(use_running_average=False)

    @jax.jit
    def run(x):
        ours = nnx.BatchNorm(3, rngs=flax_nnx.Rngs(0))
        tree = module.init(KEY, x)
        found = []
        for _ in range(2):
            y, updated = module.apply(tree, x, mutable=["batch_stats"])
            tree = tree | updated
            found.append(((ours(x), ours.mean[...], ours.var[...]), (y, *updated.values())))
        return found

    for (y, mean, var), (expected, stats) in run(x):
        np.testing.assert_array_equal(y, expected)
        np.testing.assert_array_equal(mean, stats["mean"])
        np.testing.assert_array_equal(var, stats["var"])


def test_statistics_change_in_training_only():
    @jax.jit
    def run(x):
        layer = nnx.BatchNorm(3, momentum=0.9, rngs=flax_nnx.Rngs(0))
        layer(x, use_running_average=True)
        before = variables(layer)
        layer(x)
        return before, variables(layer)

    x = draw(8, 3, mean=2)
    before, after = run(x)
    np.testing.assert_array_equal(before["mean"], 0)
    np.testing.assert_array_equal(before["var"], 1)
    np.testing.assert_allclose(after["mean"], 0.1 * x.mean(0), rtol=1e-5)
    np.testing.assert_allclose(after["var"], 0.9 + 0.1 * x.var(0), rtol=1e-5)


def test_masked_statistics_of_several_axes_count_elements_across_devices():
    x = draw(8, 4, 2, 3, mean=1)
    mask = (np.arange(4) < np.arange(8)[:, None] % 5)[..., None, None]

    def run(x, mask):
        layer = nnx.BatchNorm(
            (2, 3), axis=(2, 3), momentum=0.0, axis_name="d", rngs=flax_nnx.Rngs(0)
        )
        layer(x, mask=mask)
        return layer.mean[...], layer.var[...]

    mesh = jax.make_mesh((8,), ("d",), (AxisType.Auto,))
    mapped = jax.shard_map(run, mesh=mesh, in_specs=(P("d"), P("d")), out_specs=P())
    mean, var = jax.jit(mapped)(x, mask)
    valid = np.asarray(x, np.float64)[mask[..., 0, 0]]
    np.testing.assert_allclose(mean, valid.mean(0), rtol=1e-4)
    np.testing.assert_allclose(var, valid.var(0), rtol=1e-5)


@few("dtype", [jnp.bfloat16, jnp.float32], ids=str)
def test_bfloat16_evaluation_keeps_float32_statistics(dtype):
    """Flax rounds the running mean to bfloat16 first: 0.0 where -5 is right."""

    @jax.jit
    def run(x):
        found = []
        for cls in (nnx.BatchNorm, flax_nnx.BatchNorm):
            layer = cls(1, use_running_average=True, dtype=jnp.bfloat16, rngs=flax_nnx.Rngs(0))
            layer.mean[...] = jnp.full((1,), 1000.5, jnp.float32)
            layer.var[...] = jnp.full((1,), 0.01, jnp.float32)
            found.append(layer(x))
        return found

    ours, theirs = run(np.full((1, 1), 1000, dtype))
    assert ours.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.float32(ours), -4.9975, rtol=1e-2)
    assert theirs == 0


def test_metadata_of_the_variables():
    mesh = jax.make_mesh((2,), ("model",), (AxisType.Auto,), devices=jax.devices()[:2])
    names = ("bias", "scale", "stats")
    metadata = {f"{name}_metadata": {"out_sharding": ("model",), "role": name} for name in names}
    with jax.set_mesh(mesh):
        layer = nnx.BatchNorm(4, rngs=flax_nnx.Rngs(0), **metadata)
    for name, role in [("bias", "bias"), ("scale", "scale"), ("mean", "stats"), ("var", "stats")]:
        variable = getattr(layer, name)
        assert variable.get_metadata()["role"] == role
        assert variable.get_metadata()["out_sharding"] == ("model",)
        assert variable.sharding.spec == P("model")


def test_eval_shape_makes_no_arrays():
    abstract = flax_nnx.eval_shape(lambda: nnx.BatchNorm(4, rngs=flax_nnx.Rngs(0)))
    leaves = jax.tree.leaves(variables(abstract))
    assert [type(leaf) for leaf in leaves] == [jax.ShapeDtypeStruct] * 4
    assert {leaf.shape for leaf in leaves} == {(4,)}


def test_a_linen_checkpoint_holds_the_same_arrays():
    @jax.jit
    def run(x):
        tree = flax.linen.BatchNorm(use_running_average=False).init(KEY, x)
        layer = nnx.BatchNorm(32, rngs=flax_nnx.Rngs(0))
        return {**tree["params"], **tree["batch_stats"]}, dict(variables(layer))

    assert_equal(*run(draw(16, 32)))


def test_a_running_norm_without_a_function_raises():
    with pytest.raises(NotImplementedError):
        RunningNorm()._in_training()


def test_integers_are_rejected():
    layer = nnx.BatchNorm(3, rngs=flax_nnx.Rngs(0))
    with pytest.raises(TypeError, match="`x` must have a floating-point dtype, got int32"):
        layer(np.ones((4, 3), np.int32))


@few("ref", [False, True])
def test_a_model_in_bfloat16_keeps_float32_statistics(ref):
    """References keep their dtype; then a warning says that they stop moving."""
    graph, state = flax_nnx.split(nnx.BatchNorm(1, rngs=flax_nnx.Rngs(0)))
    state = jax.tree.map(lambda a: a.astype(jnp.bfloat16), state)
    x = jnp.array([[9.0], [11.0]], jnp.bfloat16)
    layer = (
        flax_nnx.with_vars(flax_nnx.merge(graph, state), ref=True)
        if ref
        else flax_nnx.merge(graph, state)
    )
    step = flax_nnx.jit(lambda layer, x: layer(x))
    if ref:
        with pytest.warns(UserWarning, match="references in bfloat16 .* in float32"):
            step(layer, x)
        assert layer.mean[...].dtype == jnp.bfloat16
        return
    for _ in range(500):
        step(layer, x)
    assert layer.mean[...].dtype == layer.var[...].dtype == jnp.float32
    np.testing.assert_allclose(layer.mean[...], 10, rtol=0.01)
    np.testing.assert_allclose(layer.var[...], 1, rtol=0.01)


def test_statistics_of_complex_numbers():
    x = (draw(8, 3, mean=2) + 1j * draw(8, 3, seed=1)) + 0

    @jax.jit
    def run(x):
        layer = nnx.BatchNorm(3, momentum=0.0, rngs=flax_nnx.Rngs(0))
        return layer(x), layer(x, use_running_average=True), layer.mean[...], layer.var[...]

    y, evaluated, mean, var = run(x)
    np.testing.assert_allclose(y, (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(evaluated, y, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(mean, x.mean(0), rtol=1e-5)
    np.testing.assert_allclose(var, x.var(0), rtol=1e-5)


def test_ddof_and_the_offset_of_the_factor_are_passed_on():
    @jax.jit
    def run(x):
        layers = [nnx.BatchNorm(3, momentum=0.0, rngs=flax_nnx.Rngs(0))]
        layers += [nnx.BatchNorm(3, momentum=0.0, ddof=1, scale_offset=1.0, rngs=flax_nnx.Rngs(0))]
        return [(layer(x), layer.var[...]) for layer in layers]

    (y, var), (twice, unbiased) = run(draw(8, 3, mean=2))
    np.testing.assert_allclose(twice, 2 * y, rtol=1e-6)
    np.testing.assert_allclose(unbiased / var, 8 / 7, rtol=1e-6)


def test_a_mode_that_nobody_gave_is_asked_for():
    layer = nnx.BatchNorm(3, use_running_average=None, rngs=flax_nnx.Rngs(0))
    with pytest.raises(ValueError, match="`use_running_average` must be True or False, got None"):
        layer(draw(8, 3))
    assert layer(draw(8, 3), use_running_average=True).shape == (8, 3)


def test_a_mask_that_does_not_broadcast_is_named():
    layer = nnx.BatchNorm(3, rngs=flax_nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"`mask` must broadcast to the shape .*got shape \(8,\)"):
        layer(draw(8, 3), mask=np.ones(8, bool))


def test_groups_of_devices_are_those_of_flax():
    groups = {"axis_name": "d", "axis_index_groups": [[0, 3], [2, 1]]}

    def run(x):
        layers = [place.BatchNorm(3, **groups, rngs=flax_nnx.Rngs(0)) for place in (nnx, flax_nnx)]
        return [(layer(x), variables(layer)) for layer in layers]

    assert_close(*jax.pmap(run, axis_name="d")(draw(4, 8, 3, mean=2)), 2e-5)


@pytest.mark.parametrize("kind", ["ref", "hijax"])
def test_gradients_go_past_statistics_that_are_references_or_hijax_variables(kind):
    """The mean of squares is ``var / (var + eps)``; references refuse what is differentiated."""
    x = draw(8, 3, mean=2)
    with flax_nnx.var_defaults(**{kind: True}):
        layer = nnx.BatchNorm(3, momentum=0.0, rngs=flax_nnx.Rngs(0))
    graph, params, rest = flax_nnx.split(layer, flax_nnx.Param, ...)

    @jax.jit
    def loss(params):
        return (flax_nnx.merge(graph, params, rest)(x) ** 2).mean()

    plain = flax_nnx.with_vars(params, hijax=False, ref=False)
    try:
        value, slopes = jax.value_and_grad(loss)(plain)
    except flax.errors.ImmutableVariableError:
        pytest.skip("Flax does not update hijax variables inside of transformations any more")
    shares = x.astype(np.float64).var(0)
    shares = shares / (shares + 1e-5)
    np.testing.assert_allclose(value, shares.mean(), rtol=1e-5)
    np.testing.assert_allclose(flax_nnx.to_pure_dict(slopes)["scale"], 2 * shares / 3, rtol=1e-5)
    np.testing.assert_allclose(layer.mean[...], x.mean(0), rtol=1e-5)
