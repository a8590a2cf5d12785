"""Wrapper for transformations that must see their own iterates, not the parameters."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxreg.transforms._steps import at_rest_of, check_params, newest


class IteratesState(NamedTuple):
    """State of :func:`own_iterates`.

    Attributes:
      iterates: Initial parameters plus all updates so far, in the dtypes of the parameters.
      inner_state: State of the wrapped transformation.
    """

    iterates: Any
    inner_state: Any


def own_iterates(inner: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    r"""Passes the inner transformation its own iterates in place of the parameters.

    .. math::

      z_{t+1} = z_t + u(z_t), \qquad z_0 = w_0

    ``optax.contrib.schedule_free`` takes gradients at one point, :math:`y`, and adds the steps of
    the inner optimizer to another one, :math:`z`, but passes :math:`y` to that optimizer. Weight
    decay acts on :math:`y`, as its authors intend. Proximal steps and projections must act on
    :math:`z`, or their zeros and constraints are lost. Inside this wrapper they do. The points
    :math:`x` and :math:`y` are averages of :math:`z`, so they too stay inside a convex set that
    :math:`z` is projected onto. The average of sparse iterates is zero only where all of them were;
    :func:`exponential_average` shows how to restore the zeros.

    It keeps one more copy of the parameters. Everything that moves them belongs inside.

    Args:
      inner: The whole chain, such as an optimizer and then :func:`project`.

    Returns:
      A transformation; its update needs ``params``, and uses only their structure.

    Raises:
      ValueError: The update is called without ``params``.

    Example:
      >>> from functools import partial
      >>> import jax.numpy as jnp, optax
      >>> from jaxreg import projections, transforms
      >>> ball = transforms.project(partial(projections.max_norm, radius=1.0))
      >>> base = transforms.own_iterates(optax.chain(optax.sgd(0.5), ball))
      >>> tx = optax.contrib.schedule_free(base, learning_rate=0.5)
      >>> w = jnp.array([[0.6], [0.8]])
      >>> state = tx.init(w)
      >>> for _ in range(3):
      ...     updates, state = tx.update(-w, state, w)
      ...     w = optax.apply_updates(w, updates)
      >>> print(jnp.linalg.norm(w).round(5), jnp.linalg.norm(state.z).round(5))
      1.0 1.0

    References:
      Defazio et al., `The Road Less Scheduled <https://arxiv.org/abs/2405.15682>`_, 2024
    """
    inner = optax.with_extra_args_support(inner)

    def init(params: Any) -> IteratesState:
        # A copy, since parameters and states are often donated together.
        return IteratesState(jax.tree.map(jnp.copy, params), inner.init(params))

    def update(
        updates: Any, state: Any, params: Any = None, **extra_args: Any
    ) -> tuple[Any, IteratesState]:
        check_params(params, "own_iterates")
        here = jax.tree.map(lambda _, z: z, params, state.iterates)
        updates = at_rest_of(updates, params)
        updates, inner_state = inner.update(updates, state.inner_state, here, **extra_args)
        there = jax.tree.map(_move, updates, state.iterates, is_leaf=lambda u: u is None)
        return updates, IteratesState(there, inner_state)

    return optax.GradientTransformationExtraArgs(init, update)


def _move(u: Any, z: Any) -> Any:
    return None if z is None else jnp.asarray(newest(z, u), jnp.result_type(z))
