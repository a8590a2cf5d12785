"""Sharpness-aware minimization (SAM, ASAM), which finds flat minima."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from jaxreg._checks import check_nonnegative, is_floating, is_static_zero
from jaxreg._numerics import as_strength, safe_norm, unit, widen
from jaxreg.transforms._steps import (
    Schedule,
    StepState,
    at_rest_of,
    check_params,
    check_strength,
    init_state,
    next_state,
    strength_at,
)


class SharpnessState(NamedTuple):
    """State of :func:`sam` and :func:`asam`.

    Attributes:
      step: Number of updates so far, as a :class:`StepState`.
      inner_state: State of the inner optimizer.
    """

    step: StepState
    inner_state: Any


def sam_perturbation(gradients: Any, *, radius: ArrayLike) -> Any:
    r"""Returns the perturbation within a ball that increases the loss most, to first order.

    .. math::

      \epsilon = \rho \frac{g}{\|g\|}

    The norm is over the whole tree. If it is zero, so is the perturbation; infinite or NaN
    gradients give NaN.

    Args:
      gradients: Tree of gradients; None is unchanged, and integers become zero.
      radius: Radius :math:`\rho` of the ball, zero or positive.

    Returns:
      Tree to add to the parameters, with the structure and the dtypes of ``gradients``.

    Raises:
      ValueError: ``radius`` is a negative number.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import transforms
      >>> step = transforms.sam_perturbation({"w": jnp.array([3.0, 4.0])}, radius=0.5)
      >>> print(step["w"])
      [0.3 0.4]

    References:
      Foret et al., `Sharpness-Aware Minimization <https://arxiv.org/abs/2010.01412>`_, 2021,
      equation 2 with p = 2
    """
    check_nonnegative(radius, "radius")
    return _perturb(gradients, gradients, radius, lambda _, g: jnp.ones_like(g.real))


def asam_perturbation(
    gradients: Any, params: Any, *, radius: ArrayLike, eta: ArrayLike = 0.01
) -> Any:
    r"""Returns the perturbation that increases the loss most, relative to parameter magnitudes.

    .. math::

      \epsilon = \rho \frac{T^2 g}{\|T g\|}, \qquad T = |w| + \eta

    If the weights of one layer are multiplied by a number and the weights of the next divided by
    it, the perturbed network still computes the same function, unlike with
    :func:`sam_perturbation`. All parameters are treated alike; the authors' code has :math:`T = 1`
    for biases. Where :math:`T g` is zero, such as at zero weights with ``eta=0``, so is the
    perturbation.

    Args:
      gradients: Tree of gradients; None is unchanged, and integers become zero.
      params: Tree of parameters.
      radius: Radius :math:`\rho`, zero or positive.
      eta: Term added to magnitudes, so that zero weights are perturbed too; zero or positive.

    Returns:
      Tree to add to the parameters, with the structure and the dtypes of ``gradients``.

    Raises:
      ValueError: An argument is a negative number.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxreg import transforms
      >>> w = jnp.array([1.0, 2.0])
      >>> print(transforms.asam_perturbation(jnp.array([3.0, 2.0]), w, radius=0.5, eta=0.0))
      [0.3 0.8]

    References:
      Kwon et al., `ASAM: Adaptive Sharpness-Aware Minimization
      <https://arxiv.org/abs/2102.11600>`_, 2021, equation 4 with p = 2 and elementwise T
    """
    check_nonnegative(radius, "radius")
    check_nonnegative(eta, "eta")

    def scale(w: jax.Array, g: jax.Array) -> jax.Array:
        return jnp.abs(w).astype(g.real.dtype) + jnp.maximum(as_strength(eta, g), 0)

    return _perturb(gradients, params, radius, scale)


def sam(
    inner: optax.GradientTransformation, radius: Schedule
) -> optax.GradientTransformationExtraArgs:
    r"""Passes an optimizer the gradient at the worst point of a ball around the parameters (SAM).

    .. math::

      u = \mathrm{inner}\left(\nabla L(w + \epsilon)\right), \qquad
      \epsilon = \rho_t \frac{g}{\|g\|}

    The update also takes the gradient function, and calls it once:
    ``tx.update(grads, state, params, grad_fn=lambda params: jax.grad(loss)(params, batch))``. On
    several devices inside ``shard_map``, ``grad_fn`` must average over them as ``grads`` did. Put
    everything that changes gradients, such as clipping or accumulation, into ``inner`` and not
    around or before it; decay, proximal steps and projections too. With a radius of 0 the updates
    equal the updates of ``inner`` exactly. ``docs/optimizers.md`` has the training steps for Flax's
    ``TrainState``, for ``nnx.Optimizer``, and for models with dropout.

    A gradient that is not finite makes the point NaN. ``sam(optax.apply_if_finite(...), radius)``
    skips that step, and also a step whose gradient is not finite only at the worst point.
    Parameters in bfloat16 and float16 round small perturbations away; :func:`compensate_rounding`
    around this transformation calls ``grad_fn`` with float32 parameters.

    Args:
      inner: The optimizer, with everything that changes gradients or moves the parameters.
      radius: Radius :math:`\rho_t`, zero or positive, or a schedule.

    Returns:
      A transformation; its update needs ``params`` and ``grad_fn``, a function from the parameters
      to gradients like ``grads``.

    Raises:
      ValueError: ``radius`` is a negative number, the update is called without ``params`` or
        ``grad_fn``, or ``optax.masked`` left out some of the parameters.

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> from jaxreg import transforms
      >>> tx = transforms.sam(optax.sgd(1.0), radius=0.5)
      >>> w = jnp.array([2.0])
      >>> slope = jax.grad(lambda w: jnp.sum(w**2))
      >>> updates, _ = tx.update(slope(w), tx.init(w), w, grad_fn=slope)
      >>> print(updates)  # -2 * (2 + 0.5)
      [-5.]

    References:
      Foret et al., `Sharpness-Aware Minimization <https://arxiv.org/abs/2010.01412>`_, 2021,
      algorithm 1
    """

    def perturb(gradients: Any, params: Any, radius: jax.Array) -> Any:
        del params
        return sam_perturbation(gradients, radius=radius)

    return _descend_from(perturb, inner, radius, "sam")


def asam(
    inner: optax.GradientTransformation, radius: Schedule, *, eta: ArrayLike = 0.01
) -> optax.GradientTransformationExtraArgs:
    r"""Passes an optimizer the gradient at the worst point of a magnitude-scaled ball (ASAM).

    .. math::

      u = \mathrm{inner}\left(\nabla L(w + \epsilon)\right), \qquad
      \epsilon = \rho_t \frac{T^2 g}{\|T g\|}, \qquad T = |w| + \eta

    Use it like :func:`sam`, whose notes on gradients that are not finite and on narrow parameters
    apply here too. Its radii are larger: Kwon et al. use 0.5 where SAM uses 0.05.

    Args:
      inner: The optimizer, with everything that changes gradients or moves the parameters.
      radius: Radius :math:`\rho_t`, zero or positive, or a schedule.
      eta: Term added to magnitudes, so that zero weights are perturbed too; zero or positive.

    Returns:
      A transformation; its update needs ``params`` and ``grad_fn``, a function from the parameters
      to gradients like ``grads``.

    Raises:
      ValueError: An argument is a negative number, the update is called without ``params`` or
        ``grad_fn``, or ``optax.masked`` left out some of the parameters.

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> from jaxreg import transforms
      >>> tx = transforms.asam(optax.sgd(1.0), radius=0.5, eta=0.0)
      >>> w = jnp.array([2.0])
      >>> slope = jax.grad(lambda w: jnp.sum(w**2))
      >>> updates, _ = tx.update(slope(w), tx.init(w), w, grad_fn=slope)
      >>> print(updates)  # -2 * (2 + 0.5 * 2)
      [-6.]

    References:
      Kwon et al., `ASAM: Adaptive Sharpness-Aware Minimization
      <https://arxiv.org/abs/2102.11600>`_, 2021, algorithm 1
    """
    check_nonnegative(eta, "eta")

    def perturb(gradients: Any, params: Any, radius: jax.Array) -> Any:
        return asam_perturbation(gradients, params, radius=radius, eta=eta)

    return _descend_from(perturb, inner, radius, "asam")


def _descend_from(
    perturb: Callable[[Any, Any, jax.Array], Any],
    inner: optax.GradientTransformation,
    radius: Schedule,
    name: str,
) -> optax.GradientTransformationExtraArgs:
    """Makes a transformation that passes ``inner`` the gradients at perturbed parameters."""
    check_strength(radius, "radius")
    inner = optax.with_extra_args_support(inner)

    def init(params: Any) -> SharpnessState:
        return SharpnessState(init_state(params), inner.init(params))

    def update(
        updates: Any,
        state: Any,
        params: Any = None,
        *,
        grad_fn: Callable[[Any], Any] | None = None,
        **extra_args: Any,
    ) -> tuple[Any, SharpnessState]:
        check_params(params, name)
        if grad_fn is None:
            raise ValueError(
                f"`grad_fn` must be given to the update of `{name}`, got None; call "
                "update(grads, state, params, grad_fn=...) with a function of the parameters."
            )
        _check_whole(params, name)
        updates = at_rest_of(updates, params)
        if not is_static_zero(radius):
            size = strength_at(radius, state.step)
            there = _move(params, perturb(updates, params, size))
            updates = _choose(size == 0, updates, grad_fn(there))
        updates, inner_state = inner.update(
            updates, state.inner_state, params, grad_fn=grad_fn, **extra_args
        )
        return updates, SharpnessState(next_state(state.step), inner_state)

    return optax.GradientTransformationExtraArgs(init, update)


def _perturb(
    gradients: Any,
    params: Any,
    radius: ArrayLike,
    scale: Callable[[jax.Array, jax.Array], jax.Array],
) -> Any:
    """Returns ``radius * s**2 * g / norm(s * g)``, with ``s = scale(w, g)``, and 0 for integers."""
    leaves, tree = jax.tree.flatten(gradients, is_leaf=lambda g: g is None)
    weights = tree.flatten_up_to(params)
    leaves = [_rest(g) for g in leaves]
    moved = [i for i, g in enumerate(leaves) if g is not None and is_floating(g)]
    wide = [widen(leaves[i]) for i in moved]
    scales = [scale(weights[i], g).astype(g.dtype) for i, g in zip(moved, wide, strict=True)]
    directions = _unit([s * g for s, g in zip(scales, wide, strict=True)])
    for i, s, direction in zip(moved, scales, directions, strict=True):
        size = jnp.maximum(as_strength(radius, direction), 0).astype(direction.dtype)
        leaves[i] = (size * s * direction).astype(leaves[i].dtype)
    return tree.unflatten(leaves)


def _rest(g: Any) -> Any:
    """Replaces integer updates by zeros, which leave counters unchanged; keeps the others."""
    if g is not None and jnp.result_type(g) == jax.dtypes.float0:
        return jnp.zeros(g.shape, bool)  # This can be added to integers of every dtype.
    if g is None or not jnp.issubdtype(jnp.result_type(g), jnp.integer):
        return g
    return jnp.zeros_like(g)


def _unit(leaves: Sequence[jax.Array]) -> list[jax.Array]:
    """Divides all leaves by their joint norm; returns zeros if the norm is zero."""
    if not leaves:
        return []
    norms = [safe_norm(x, axis=None).reshape(()) for x in leaves]
    widest = max((norm.dtype for norm in norms), key=lambda dtype: jnp.finfo(dtype).bits)
    # Both steps scale their squares into range.
    shares = unit(jnp.stack([norm.astype(widest) for norm in norms]), axis=None)
    return [unit(x, axis=None) * s.astype(x.dtype) for x, s in zip(leaves, shares, strict=True)]


def _move(params: Any, perturbation: Any) -> Any:
    """Adds the perturbation to the parameters, and keeps the dtypes of the parameters."""

    def leaf(e: Any, w: Any) -> Any:
        if e is None or not is_floating(w):
            return w
        w = jnp.asarray(w)
        return (widen(w) + e.astype(widen(w).dtype)).astype(w.dtype)

    return jax.tree.map(leaf, perturbation, params, is_leaf=lambda e: e is None)


def _choose(given: jax.Array, updates: Any, gradients: Any) -> Any:
    """Selects ``updates`` if ``given`` is True, else ``gradients`` in the dtypes of ``updates``."""

    def leaf(u: Any, g: Any) -> Any:
        if u is None or not is_floating(u):
            return u
        return jnp.where(given, u, jnp.asarray(g, jnp.result_type(u)))

    return jax.tree.map(leaf, updates, gradients, is_leaf=lambda u: u is None)


def _check_whole(params: Any, name: str) -> None:
    """Raises if ``params`` has masked leaves, since the loss needs all parameters."""
    leaves = jax.tree.leaves(params, is_leaf=_is_masked)
    if any(map(_is_masked, leaves)):
        raise ValueError(
            f"`params` must be all parameters in the update of `{name}`, but some are masked; put "
            "optax.masked and optax.partition inside it, around `inner`."
        )


def _is_masked(leaf: Any) -> bool:
    return isinstance(leaf, optax.MaskedNode)
