"""Optimizers with a proximal step in their own metric, and parameters for them."""

import jax
import jax.numpy as jnp
import optax

from jaxreg import proximal, transforms

RATE = 0.1


def preconditioned(inner=None, prox=proximal.l1, weight=0.5, rate=RATE, metric=None, mask=None):
    inner = optax.adam(rate) if inner is None else inner
    metric = transforms.adam_metric() if metric is None else metric
    return transforms.preconditioned_proximal(inner, prox, weight, rate, metric=metric, mask=mask)


BUILDERS = {
    "adam": lambda w, r: preconditioned(optax.adam(r), weight=w, rate=r),
    "rmsprop": lambda w, r: preconditioned(
        optax.rmsprop(r), weight=w, rate=r, metric=transforms.rmsprop_metric()
    ),
    "adagrad": lambda w, r: preconditioned(
        optax.adagrad(r), weight=w, rate=r, metric=transforms.adagrad_metric()
    ),
    "adam, groups": lambda w, r: preconditioned(
        optax.adam(r), lambda v, threshold: by_columns(v, threshold), w, r
    ),
}


def by_columns(w, threshold):
    """Group lasso of matrices; vectors have no groups."""
    return proximal.group_lasso(w, threshold=threshold) if jnp.ndim(w) > 1 else w


def parameters(dtype="float32"):
    w = jnp.sin(jnp.arange(1.0, 8 * 4 + 1)).reshape(8, 4)
    return {"kernel": w.astype(dtype), "bias": w[0].astype(dtype)}


def gradients(params):
    return jax.tree.map(lambda w: jnp.cos(w.astype(jnp.float32)).astype(w.dtype), params)


def run(tx, params, steps=3):
    state = tx.init(params)
    for _ in range(steps):
        updates, state = tx.update(gradients(params), state, params)
        params = optax.apply_updates(params, updates)
    return params, state
