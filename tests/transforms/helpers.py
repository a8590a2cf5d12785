"""Steps of optimizers, many of them in one compiled program, and chains to take them with."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxreg import proximal, transforms

RATE = 0.1  # learning rate of the chains with a metric


@partial(jax.jit, static_argnums=0)
def updated(tx, updates, params):
    """Updates after the first step of a transformation."""
    return tx.update(updates, tx.init(params), params)[0]


@partial(jax.jit, static_argnums=0)
def one_step(tx, updates, params):
    """Parameters after the first step of a transformation."""
    return optax.apply_updates(params, updated(tx, updates, params))


@partial(jax.jit, static_argnums=0)
def stepwise(tx, params, gradients):
    """Parameters after each of the stacked gradients, and the last state."""

    def step(carry, gradient):
        params, state = carry
        updates, state = tx.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    (_, state), path = jax.lax.scan(step, (params, tx.init(params)), gradients)
    return path, state


def trajectory(tx, params, gradients):
    """Parameters after each of the stacked gradients, on the host."""
    return jax.device_get(stepwise(tx, params, gradients)[0])


@partial(jax.jit, static_argnums=(0, 1, 3))
def descend(tx, gradient, params, steps):
    """Parameters after some steps of an optimizer down a gradient."""

    def step(_, carry):
        params, state = carry
        updates, state = tx.update(gradient(params), state, params)
        return optax.apply_updates(params, updates), state

    return jax.lax.fori_loop(0, steps, step, (params, tx.init(params)))[0]


def zeros(params):
    """No gradient for any parameter."""
    return jax.tree.map(lambda w: np.zeros(w.shape, w.dtype), params)


def same_bits(tree, other):
    """Returns whether two trees hold the same bytes."""
    pairs = zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True)
    return all(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in pairs)


def parameters(dtype="float32"):
    """A kernel and a bias."""
    w = np.sin(np.arange(1.0, 8 * 4 + 1)).reshape(8, 4).astype(dtype)
    return {"kernel": jnp.asarray(w), "bias": jnp.asarray(w[0])}


def preconditioned(inner=None, prox=proximal.l1, weight=0.5, rate=RATE, metric=None, mask=None):
    """An optimizer, Adam by default, with a proximal step in its own metric."""
    inner = optax.adam(rate) if inner is None else inner
    metric = transforms.adam_metric() if metric is None else metric
    return transforms.preconditioned_proximal(inner, prox, weight, rate, metric=metric, mask=mask)


def by_columns(w, step):
    """Group lasso of matrices; vectors have no groups."""
    return proximal.group_lasso(w, step=step) if jnp.ndim(w) > 1 else w


# Optimizers with a metric, as functions of the weight of the penalty and of the learning rate.
METRIC_CHAINS = {
    "adam": lambda w, r: preconditioned(optax.adam(r), weight=w, rate=r),
    "rmsprop": lambda w, r: preconditioned(
        optax.rmsprop(r), weight=w, rate=r, metric=transforms.rmsprop_metric()
    ),
    "adagrad": lambda w, r: preconditioned(
        optax.adagrad(r), weight=w, rate=r, metric=transforms.adagrad_metric()
    ),
    "adam, groups": lambda w, r: preconditioned(
        optax.adam(r), lambda v, step: by_columns(v, step), w, r
    ),
}
