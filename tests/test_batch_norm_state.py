"""Statistics that are frozen while the rest trains, and checkpoints to and from Flax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint
import pytest
from flax import linen as flax_linen
from flax import nnx as flax_nnx

from jaxreg import linen, nnx

KEY = jax.random.key(4)
NORMS = {"flax": flax_linen.BatchNorm, "jaxreg": linen.BatchNorm}
NNX_NORMS = {"flax": flax_nnx.BatchNorm, "jaxreg": nnx.BatchNorm}


def draw(*shape, seed=0, mean=0.0):
    return np.random.default_rng(seed).normal(mean, 1.5, shape).astype(np.float32)


@pytest.mark.parametrize("norm", NORMS)
def test_frozen_statistics_while_scale_and_bias_train(norm):
    """``use_running_average=True`` in training: statistics stay to the bit, parameters move."""
    x, optimizer = draw(16, 3, mean=2), optax.sgd(0.1)
    module = NORMS[norm](use_running_average=True)
    variables = module.init(KEY, x)
    stats = {"mean": jnp.asarray(draw(3)), "var": jnp.asarray(draw(3) ** 2)}

    @jax.jit
    def step(params, stats):
        def loss(params):
            y, updated = module.apply(
                {"params": params, "batch_stats": stats}, x, mutable=["batch_stats"]
            )
            return jnp.mean((y - 1) ** 2), updated["batch_stats"]

        gradients, stats = jax.grad(loss, has_aux=True)(params)
        updates, _ = optimizer.update(gradients, optimizer.init(params))
        return optax.apply_updates(params, updates), stats

    params, kept = step(*step(variables["params"], stats))
    jax.tree.map(np.testing.assert_array_equal, kept, stats)
    for name, leaf in params.items():
        assert np.all(leaf != variables["params"][name])

    layer = NNX_NORMS[norm](3, use_running_average=True, rngs=flax_nnx.Rngs(0))
    layer.mean[...], layer.var[...] = stats["mean"], stats["var"]
    train = flax_nnx.Optimizer(layer, optimizer, wrt=flax_nnx.Param)

    @flax_nnx.jit
    def nnx_step(layer, train):
        train.update(layer, flax_nnx.grad(lambda layer: jnp.mean((layer(x) - 1) ** 2))(layer))

    for _ in range(2):
        nnx_step(layer, train)
    np.testing.assert_array_equal(layer.mean[...], stats["mean"])
    np.testing.assert_array_equal(layer.var[...], stats["var"])
    for name, leaf in params.items():
        np.testing.assert_allclose(getattr(layer, name)[...], leaf, rtol=1e-5)


@pytest.mark.parametrize("source", NORMS)
def test_orbax_checkpoints_load_both_ways(source, tmp_path):
    """What Flax saved restores into our module, and what ours saved into Flax's."""
    (target,) = {*NORMS} - {source}
    x = draw(8, 3, mean=2)
    written, read = (NORMS[name](use_running_average=False) for name in (source, target))
    _, updated = written.apply(written.init(KEY, x), x, mutable=["batch_stats"])
    variables = {**written.init(KEY, x), **updated}
    ours, theirs = (NNX_NORMS[name](3, rngs=flax_nnx.Rngs(0)) for name in (source, target))
    ours(x)
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "linen", variables)
        checkpointer.save(tmp_path / "nnx", flax_nnx.state(ours))
        checkpointer.wait_until_finished()
        like = jax.eval_shape(lambda: read.init(KEY, x))
        restored = checkpointer.restore(tmp_path / "linen", like)
        state = checkpointer.restore(tmp_path / "nnx", flax_nnx.state(theirs))
    outputs = [
        module.clone(use_running_average=True).apply(tree, x)
        for module, tree in ((written, variables), (read, restored))
    ]
    np.testing.assert_allclose(*outputs, atol=1e-6)
    flax_nnx.update(theirs, state)
    outputs = [layer(x, use_running_average=True) for layer in (ours, theirs)]
    np.testing.assert_allclose(*outputs, atol=1e-6)
