"""Memory of transformations, and arrays that are donated after eager steps."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxreg import masks, projections, proximal, transforms
from tests.transforms.helpers import parameters
from tests.transforms.optimizers import OPTIMIZERS, take


def test_decay_proximal_step_and_bound_cost_adam_no_memory():
    params = {f"layer_{i}": {"kernel": jnp.ones((64, 64)), "bias": jnp.ones(64)} for i in range(8)}

    def compiled(tx, after=lambda w: w):
        def step(params, state, grads):
            updates, state = tx.update(grads, state, params)
            return jax.tree.map(after, optax.apply_updates(params, updates)), state

        step = jax.jit(step, donate_argnums=(0, 1))
        return step.lower(params, tx.init(params), params).compile()

    def traffic(compiled):
        return compiled.cost_analysis()["bytes accessed"]

    def temporary(compiled):
        return compiled.memory_analysis().temp_size_in_bytes

    shrink = transforms.proximal(proximal.l1, 1e-3, 0.1)
    chain = optax.chain(
        optax.adam(0.1),
        transforms.decoupled_decay(0.1, learning_rate=0.1),
        optax.masked(shrink, masks.kernels),
    )
    adamw = compiled(optax.adamw(0.1, weight_decay=0.1, mask=masks.kernels))
    shrinking = compiled(chain)
    assert traffic(shrinking) <= 1.01 * traffic(adamw)
    assert temporary(shrinking) <= temporary(adamw) + 1024
    # In the chain, the bound would hold the step of every kernel until all of them are known.
    bounding = compiled(chain, lambda w: projections.max_norm(w, radius=3.0) if w.ndim > 1 else w)
    assert temporary(bounding) <= temporary(adamw) + 0.1 * 64 * 64 * 4 * 8


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_eager_updates_may_be_donated_too(name):
    tx = OPTIMIZERS[name]()
    params = parameters()
    if not name.startswith("preconditioned"):  # Adam takes no counters.
        params["steps"] = jnp.asarray(np.arange(3, dtype=np.int32))
    params, state = take(tx, params, tx.init(params))
    jax.jit(lambda p, s: take(tx, p, s), donate_argnums=(0, 1))(params, state)
