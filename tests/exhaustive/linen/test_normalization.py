"""Statistics that are frozen while the rest trains, and Orbax checkpoints to and from Flax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint
import pytest
from flax import linen as flax_linen

from jaxreg import linen
from tests.trees import draw

KEY = jax.random.key(4)
NORMS = {"flax": flax_linen.BatchNorm, "jaxreg": linen.BatchNorm}


@pytest.mark.parametrize("norm", NORMS)
def test_frozen_statistics_while_scale_and_bias_train(norm):
    """``use_running_average=True`` in training: statistics keep every bit, parameters move."""
    x = draw(16, 3, mean=2)
    optimizer = optax.sgd(0.1)
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


@pytest.mark.parametrize("source", NORMS)
def test_orbax_checkpoints_load_both_ways(source, tmp_path):
    """Flax's checkpoints restore into our module, and ours into Flax's."""
    target = "flax" if source == "jaxreg" else "jaxreg"
    x = draw(8, 3, mean=2)
    written = NORMS[source](use_running_average=False)
    read = NORMS[target](use_running_average=False)
    _, updated = written.apply(written.init(KEY, x), x, mutable=["batch_stats"])
    variables = {**written.init(KEY, x), **updated}
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "linen", variables)
        checkpointer.wait_until_finished()
        like = jax.eval_shape(lambda: read.init(KEY, x))
        restored = checkpointer.restore(tmp_path / "linen", like)
    outputs = [
        module.clone(use_running_average=True).apply(tree, x)
        for module, tree in ((written, variables), (read, restored))
    ]
    np.testing.assert_allclose(*outputs, atol=1e-6)
