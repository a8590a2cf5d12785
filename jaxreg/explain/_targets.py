"""Examines a loss and the targets of a batch: soft targets, label smoothing and known functions."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg._checks import is_floating
from jaxreg.explain import _flow, _marks

# Targets are estimated from gradients in float32, so smaller values may be rounding.
LEAST = 1e-3
# The measured smoothing tells what these do.
_SMOOTHING = (
    "targets.smooth_labels", "targets.smooth_labels_excluding", "targets.smoothed_cross_entropy",
)  # fmt: skip


class Examined(NamedTuple):
    """Regularizers of a loss and its targets."""

    softness: float  # largest share of a second class; NaN if targets are no distributions
    smoothing: float  # the alpha of label smoothing; NaN if it cannot be measured
    acting: tuple[_marks.Acting, ...]  # pure functions
    draws: bool  # whether something that is not known draws random numbers


def examine(loss: Callable[..., Any] | None, targets: Any, outputs: Any) -> Examined:
    """Measures the softness of targets and the label smoothing of a loss.

    Args:
      loss: Function of logits and targets; None to examine only the targets.
      targets: A batch of targets, or None.
      outputs: Shapes of the model's outputs; None if they are not known.

    Raises:
      ValueError: There are no targets for the loss, or it fails.
    """
    softness = _softness(targets)
    if loss is None:
        return Examined(softness, np.nan, (), draws=False)
    if targets is None:
        raise ValueError("`targets` must be a batch of targets for `loss`, got None; pass targets=")
    logits, hard = _hard(targets, softness, outputs)
    if logits is None:
        return Examined(softness, np.nan, (), draws=False)
    try:
        flow = _flow.follow(lambda x: loss(x, targets), logits)
        smoothing = np.nan if hard is None else _smoothing(loss, logits, hard)
    except Exception as error:
        text = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"`loss` must take logits of shape {logits.shape} and `targets`, but raised "
            f"{type(error).__name__}: {text}; pass loss=lambda logits, targets: ..."
        ) from error
    acting = [f for f in flow.acting if f.function not in _SMOOTHING or np.isnan(smoothing)]
    return Examined(softness, smoothing, tuple(acting), draws=bool(flow.drawing))


def _softness(targets: Any) -> float:
    """Returns the largest share of a second class; NaN if targets are no distributions."""
    if not is_floating(targets) or jnp.ndim(targets) < 2:
        return np.nan
    rows = np.asarray(targets, np.float64)
    if rows.shape[-1] < 2 or rows.min() < 0 or np.abs(rows.sum(-1) - 1).max() > LEAST:
        return np.nan
    return float(np.sort(rows, axis=-1)[..., -2].max())


def _hard(targets: Any, softness: float, outputs: Any) -> tuple[jax.Array | None, Any]:
    """Returns confident logits, and the targets that hold all confidence, of the same form.

    The targets are None, and the logits zero, for what are no classes; both are None if nobody can
    tell the shape of the logits.
    """
    shape = getattr(outputs, "shape", None)
    if not np.isnan(softness):
        hot = jax.nn.one_hot(jnp.argmax(targets, axis=-1), targets.shape[-1])
        return hot, hot
    is_labels = hasattr(targets, "dtype") and jnp.issubdtype(targets.dtype, jnp.integer)
    if is_labels and (shape is None or shape[:-1] == targets.shape):
        classes = max(int(np.max(targets)) + 1, 2) if shape is None else shape[-1]
        return jax.nn.one_hot(targets, classes), targets
    return (None if shape is None else jnp.zeros(shape), None)


def _smoothing(loss: Callable[..., Any], hot: jax.Array, hard: Any) -> float:
    """Measures the label smoothing ``alpha`` of a loss by its gradients for ``hard`` targets.

    The gradient of a cross-entropy with respect to the logits is ``c (p - q)``, with the effective
    targets ``q``. Its values at zero logits and at very confident ones give ``c`` and then ``q``.
    It is NaN if other logits do not fit.
    """

    def total(logits: jax.Array) -> jax.Array:
        return jnp.mean(jax.tree.leaves(loss(logits, hard))[0])

    compiled = jax.jit(jax.grad(total))

    def gradient(logits: np.ndarray) -> np.ndarray:
        return np.asarray(compiled(jnp.asarray(logits, hot.dtype)), np.float64)

    one_hot = np.asarray(hot, np.float64)
    for probabilities in (_softmax, _sigmoid):
        alpha = _fit(gradient, probabilities, one_hot)
        if not np.isnan(alpha):
            return alpha
    return np.nan


def _fit(
    gradient: Callable[[np.ndarray], np.ndarray],
    probabilities: Callable[[np.ndarray], np.ndarray],
    hot: np.ndarray,
) -> float:
    """Returns the smoothing if the gradient is one of these probabilities; NaN otherwise."""
    sure = 100 * hot
    other = np.sin(1.0 + np.arange(hot.size)).reshape(hot.shape)
    p = probabilities(sure)
    change = np.sum((gradient(sure) - gradient(0 * hot)) * hot, -1, keepdims=True)
    c = change / np.sum((p - probabilities(0 * hot)) * hot, -1, keepdims=True)
    # A row without weight in the loss tells nothing.
    tells = np.abs(c) > LEAST * np.max(np.abs(c))
    if not np.any(tells):
        return np.nan
    q = p - gradient(sure) / np.where(tells, c, 1.0)
    misfit = np.where(tells, gradient(other) - c * (probabilities(other) - q), 0.0)
    if np.max(np.abs(misfit)) > LEAST * np.max(np.abs(c)):
        return np.nan
    classes = hot.shape[-1]
    alpha = 1 - np.sum(q * hot, -1) + np.sum(q * (1 - hot), -1) / (classes - 1)
    return float(np.mean(alpha[tells[..., 0]]))


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - np.max(logits, -1, keepdims=True))
    return powers / np.sum(powers, -1, keepdims=True)


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits))
