"""Frozen statistics, Orbax checkpoints to and from Flax, and hijax and reference variables."""

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint
import pytest
from flax import nnx as flax_nnx

from jaxreg import nnx
from tests.trees import draw

NORMS = {"flax": flax_nnx.BatchNorm, "jaxreg": nnx.BatchNorm}


@pytest.mark.parametrize("norm", NORMS)
def test_frozen_statistics_while_scale_and_bias_train(norm):
    """``use_running_average=True`` in training: statistics stay to the bit, parameters move."""
    x = draw(16, 3, mean=2)
    mean = draw(3)
    var = draw(3) ** 2
    layer = NORMS[norm](3, use_running_average=True, rngs=flax_nnx.Rngs(0))
    layer.mean[...] = jnp.asarray(mean)
    layer.var[...] = jnp.asarray(var)
    train = flax_nnx.Optimizer(layer, optax.sgd(0.1), wrt=flax_nnx.Param)

    @flax_nnx.jit
    def step(layer, train):
        train.update(layer, flax_nnx.grad(lambda layer: jnp.mean((layer(x) - 1) ** 2))(layer))

    for _ in range(2):
        step(layer, train)
    np.testing.assert_array_equal(layer.mean[...], mean)
    np.testing.assert_array_equal(layer.var[...], var)
    scale = np.ones(3)
    bias = np.zeros(3)
    normal = (x - mean.astype(np.float64)) / np.sqrt(var + 1e-5)
    for _ in range(2):
        error = 2 * (normal * scale + bias - 1) / x.size
        scale = scale - 0.1 * (error * normal).sum(0)
        bias = bias - 0.1 * error.sum(0)
    np.testing.assert_allclose(layer.scale[...], scale, rtol=1e-4)
    np.testing.assert_allclose(layer.bias[...], bias, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("source", NORMS)
def test_orbax_checkpoints_load_both_ways(source, tmp_path):
    """Flax's checkpoints restore into our module, and ours into Flax's."""
    target = "flax" if source == "jaxreg" else "jaxreg"
    x = draw(8, 3, mean=2)
    ours = NORMS[source](3, rngs=flax_nnx.Rngs(0))
    theirs = NORMS[target](3, rngs=flax_nnx.Rngs(0))
    ours(x)
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "nnx", flax_nnx.state(ours))
        checkpointer.wait_until_finished()
        flax_nnx.update(theirs, checkpointer.restore(tmp_path / "nnx", flax_nnx.state(theirs)))
    outputs = [layer(x, use_running_average=True) for layer in (ours, theirs)]
    np.testing.assert_allclose(*outputs, atol=1e-6)


OTHERS = {
    "GhostBatchNorm": {"ghost_batch_size": 2},
    "BatchRenorm": {"r_max": 3.0, "d_max": 5.0},
    "GroupNorm": {"num_groups": 3},
}
NAMES = ["BatchNorm", "LayerNorm", "RMSNorm", "InstanceNorm", "FilterResponseNorm", *OTHERS]


def build(name):
    return getattr(nnx, name)(6, **OTHERS.get(name, {}), rngs=flax_nnx.Rngs(0))


@pytest.mark.parametrize("kind", ["hijax", "ref"])
@pytest.mark.parametrize("name", NAMES)
def test_variables_of_other_kinds(name, kind):
    """Hijax variables and references, with values and gradients; the rest is as ever."""
    x = draw(4, 5, 6, mean=1)

    def result(**kinds):
        with flax_nnx.var_defaults(**kinds):
            layer = build(name)
            graph, params, rest = flax_nnx.split(layer, flax_nnx.Param, ...)

            def loss(params):
                # Plain variables of another trace cannot be updated.
                own = rest if any(kinds.values()) else flax_nnx.clone(rest)
                return jnp.sin(flax_nnx.merge(graph, params, own)(x)).sum()

            plain = flax_nnx.with_vars(params, hijax=False, ref=False)
            if kind == "ref":
                loss = jax.jit(loss)
            value, slopes = jax.value_and_grad(loss)(plain)
            return value, flax_nnx.to_pure_dict(slopes)

    try:
        found = result(**{kind: True})
    except flax.errors.ImmutableVariableError:
        pytest.skip("Flax does not update hijax variables inside of transformations any more")
    expected = result(**{kind: False})
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), found, expected)
