"""Compensated rounding of low-precision parameters, so that small steps are not lost."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxreg._checks import is_floating
from jaxreg._numerics import round_to, wide_dtype
from jaxreg.transforms._steps import at_rest_of, check_params


class CompensationState(NamedTuple):
    """State of :func:`compensate_rounding`.

    Attributes:
      lost: Rounding errors to add to the next step: float32 for parameters of 16 bits and fewer,
        None for the others.
      inner_state: State of the wrapped transformation.
    """

    lost: Any
    inner_state: Any


def compensate_rounding(
    inner: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
    r"""Carries the rounding errors of low-precision parameters to the next step.

    .. math::

      v = w + c, \qquad w \leftarrow \mathrm{round}(v + u(v)), \qquad c \leftarrow v + u(v) - w

    In bfloat16 a step below 0.002 does not change a weight of 1, so weight decay, a proximal
    step or a small learning rate may do nothing at all. The wrapped optimizer sees and moves the
    float32 value :math:`v`, and the parameter is its rounding. Parameters in float32 or wider
    pass through, at no cost. Parameters in ``float8_e4m3fn``, ``float8_e5m2`` and other 8-bit
    dtypes get updates of their own dtype, since JAX does not add 8-bit numbers to other dtypes.

    Args:
      inner: The whole chain, so that each step is rounded once.

    Returns:
      A transformation; its update needs ``params``. Nothing that changes updates may follow it.

    Raises:
      ValueError: The update is called without ``params``.
      TypeError: A parameter has a dtype without negative numbers, such as ``float8_e8m0fnu``.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> from jaxreg import transforms
      >>> decay = transforms.independent_decay(1e-3)
      >>> for tx in (decay, transforms.compensate_rounding(decay)):
      ...     w = jnp.ones((1, 1), jnp.bfloat16)
      ...     state = tx.init(w)
      ...     for _ in range(100):
      ...         updates, state = tx.update(jnp.zeros_like(w), state, w)
      ...         w = optax.apply_updates(w, updates)
      ...     print(w[0, 0])
      1
      0.90625

    References:
      Zamirai et al., `Revisiting BFloat16 Training <https://arxiv.org/abs/2010.06192>`_, 2020,
      algorithm 2 (Kahan summation)
    """
    inner = optax.with_extra_args_support(inner)

    def init(params: Any) -> CompensationState:
        weights, tree = jax.tree.flatten(params)
        lost = [jnp.zeros_like(w, jnp.float32) if _is_narrow(w) else None for w in weights]
        wide = tree.unflatten(map(_widen, weights, lost))
        return CompensationState(tree.unflatten(lost), inner.init(wide))

    def update(
        updates: Any, state: Any, params: Any = None, **extra_args: Any
    ) -> tuple[Any, CompensationState]:
        check_params(params, "compensate_rounding")
        updates = at_rest_of(updates, params)
        weights, tree = jax.tree.flatten(params)
        lost = tree.flatten_up_to(state.lost)
        given = tree.flatten_up_to(updates)
        wide = list(map(_widen, weights, lost))
        steps, inner_state = inner.update(
            tree.unflatten(map(_widen_update, given, lost)),
            state.inner_state,
            tree.unflatten(wide),
            **extra_args,
        )
        rows = zip(weights, wide, given, tree.flatten_up_to(steps), lost, strict=True)
        rounded = [_round(*row) for row in rows]
        carried = CompensationState(tree.unflatten([c for _, c in rounded]), inner_state)
        return tree.unflatten([u for u, _ in rounded]), carried

    return optax.GradientTransformationExtraArgs(init, update)


def _is_narrow(w: Any) -> bool:
    if not is_floating(w):
        return False
    dtype = jnp.result_type(w)
    if not jnp.finfo(dtype).min < 0:
        raise TypeError(
            f"`params` must have dtypes with negative numbers, got {dtype}; keep block scales out "
            "of the optimizer."
        )
    return dtype != wide_dtype(dtype)


def _widen(w: Any, lost: jax.Array | None) -> Any:
    return w if lost is None else _exactly(w) + lost


def _widen_update(u: Any, lost: jax.Array | None) -> Any:
    return u if u is None or lost is None else u.astype(jnp.float32)


def _round(w: Any, wide: Any, given: Any, step: Any, lost: Any) -> tuple[Any, Any]:
    """Returns the update of one leaf and its new rounding error; passes wide leaves through."""
    if step is None or lost is None:
        return step, lost
    goal = wide + step
    here = _exactly(w)
    # JAX adds numbers of 8 bits or fewer to their own dtype only.
    dtype = w.dtype if jnp.finfo(w.dtype).bits < 16 else given.dtype
    update = (goal - here).astype(dtype)
    return update, goal - round_to(here + update.astype(jnp.float32), w.dtype)


def _exactly(w: jax.Array) -> jax.Array:
    """Casts a low-precision leaf to float32, without the excess precision that XLA may keep."""
    return round_to(w.astype(jnp.float32), w.dtype)
