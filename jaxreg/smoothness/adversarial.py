"""Virtual adversarial training: penalizes changes of predictions in the worst direction."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxreg import _bits
from jaxreg._checks import check_between, check_key, check_static_integer
from jaxreg._numerics import as_strength, unit, widen
from jaxreg._scopes import mark
from jaxreg.smoothness._batches import (
    Function,
    check_batch,
    check_outputs,
    example_axes,
    tangent,
)


@mark("radius")
def virtual_adversarial(
    logits_fn: Function, x: jax.Array, *, key: jax.Array, radius: ArrayLike, steps: int = 1
) -> jax.Array:
    r"""Returns the KL divergence of predictions caused by an adversarial step of the inputs.

    .. math::

      \frac{1}{n} \sum_{i=1}^n \mathrm{KL}\left(p(x_i) \,\|\, p(x_i + \epsilon d_i)\right), \qquad
      d_i \leftarrow \frac{H_i d_i}{\|H_i d_i\|} \text{ (steps times)}, \qquad
      H_i = J_i^\top \left(\operatorname{diag} p_i - p_i p_i^\top\right) J_i

    :math:`H` is the Hessian of the divergence at distance 0, and the first :math:`d` is random.
    Miyato et al. approximate the product with :math:`H` by finite differences. Here it is exact: it
    takes one forward and one reverse derivative, and there is no small distance to choose. If the
    product is zero, for example because the last layer is all zeros, the direction is unchanged. No
    gradient flows through :math:`p(x)` on the left or through :math:`d`. No labels are needed.

    Args:
      logits_fn: Function from a batch to unnormalized log probabilities, ``[batch, ...] -> [batch,
        ..., classes]``, that treats each example separately. It must be deterministic, so close
        over a fixed key. Minus infinity excludes a class. It must support forward-mode derivatives.
      x: Real floating-point inputs, ``[batch, ...]``.
      key: PRNG key.
      radius: Length :math:`\epsilon` of the step from an example, over all its axes, zero or
        positive.
      steps: Number of power iterations, at least 0; with 0 the direction is random.

    Returns:
      Scalar, float32 or wider, zero or positive up to rounding: the mean over all distributions.

    Raises:
      TypeError: ``x`` or the result of ``logits_fn`` is not floating-point, ``key`` is not a single
        PRNG key, or ``steps`` is not an integer.
      ValueError: ``radius`` or ``steps`` is negative, or ``logits_fn`` does not return logits for
        each example.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxreg import smoothness
      >>> x, key = jnp.ones((8, 4)), jax.random.key(0)
      >>> print(smoothness.virtual_adversarial(lambda x: 0 * x, x, key=key, radius=2.0))
      0.0

    References:
      Miyato et al., `Virtual Adversarial Training: A Regularization Method for Supervised and
      Semi-Supervised Learning <https://arxiv.org/abs/1704.03976>`_, 2018
    """
    check_batch(x, "x")
    check_key(key)
    check_between(radius, "radius", 0, float("inf"))
    check_static_integer(steps, "steps")
    if steps < 0:
        raise ValueError(f"`steps` must be at least 0, got {steps}; pass 0 for a random direction.")
    logits, along = jax.linearize(logits_fn, x)
    check_outputs(logits, x, "logits_fn")
    if logits.ndim < 2:
        raise ValueError(f"`logits_fn` must return [batch, ..., classes], got {logits.shape}.")
    log_p = jax.lax.stop_gradient(jax.nn.log_softmax(widen(logits)))
    d = _steepest(along, x, jnp.exp(log_p), key=key, steps=steps)
    moved = (widen(x) + as_strength(radius, x) * d).astype(x.dtype)
    log_q = jax.nn.log_softmax(widen(logits_fn(moved)))
    # An excluded class has p = 0, where the difference of two infinities would be NaN.
    gap = jnp.where(log_p > -jnp.inf, log_p - log_q, jnp.zeros_like(log_q))
    distributions = max(logits.size // max(logits.shape[-1], 1), 1)
    return jnp.sum(jnp.exp(log_p) * gap) / distributions


def _steepest(
    along: Function, x: jax.Array, p: jax.Array, *, key: jax.Array, steps: int
) -> jax.Array:
    """Approximates each example's top Hessian eigenvector by power iteration, without gradient."""
    axes = example_axes(x)
    along = jax.tree.map(jax.lax.stop_gradient, along)
    pull_back = jax.linear_transpose(along, x)

    def step(d: jax.Array) -> jax.Array:
        change = along(tangent(d, x))
        fisher = p * (widen(change) - jnp.sum(p * widen(change), axis=-1, keepdims=True))
        new = unit(pull_back(fisher.astype(change.dtype))[0], axis=axes)
        return jnp.where(jnp.any(new != 0, axis=axes, keepdims=True), new, d)

    d = unit(_bits.normal(key, x.shape, like=x).astype(widen(x).dtype), axis=axes)
    # The first step gives `d` the sharding that the loop carries.
    d = step(d) if steps > 0 else d
    return jax.lax.fori_loop(1, steps, lambda _, d: step(d), d) if steps > 1 else d
