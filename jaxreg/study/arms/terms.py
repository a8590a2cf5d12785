"""Arms that add a term to the loss, or change the loss."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax

from jaxreg import information, masks, penalties, smoothness, targets
from jaxreg.study.arms.row import NUMBERS, SHARE, Arm, Criterion, LogGrid, LossChange, Term

_CLASSES = ("classification",)


def elastic_net_penalty(params: Any) -> jax.Array:
    """Returns half the L1 penalty plus half the L2 penalty of the kernels."""
    halves = partial(penalties.elastic_net, l1=0.5, l2=0.5)
    return penalties.total(params, halves, masks.kernels)


def group_lasso_penalty(params: Any) -> jax.Array:
    """Returns the group lasso penalty of the kernels, with the weights into a unit as a group."""
    return penalties.total(params, penalties.group_lasso, masks.kernels)


def orthogonality_penalty(params: Any) -> jax.Array:
    """Returns how far the kernels are from orthogonal ones."""
    return penalties.total(params, penalties.orthogonality, masks.kernels)


def spectral_penalty(params: Any) -> jax.Array:
    """Returns the sum of the largest singular values of the kernels."""
    return penalties.total(params, penalties.spectral, masks.kernels)


def nuclear_penalty(params: Any) -> jax.Array:
    """Returns the sum of all singular values of the kernels."""
    return penalties.total(params, penalties.nuclear, masks.kernels)


def distance_penalty(params: Any, start: Any) -> jax.Array:
    """Returns half the squared distance from the initial parameters (L2-SP)."""
    return penalties.total(params, penalties.distance, rest=(start,))


def jacobian_penalty(
    predict: Callable[[jax.Array], jax.Array], x: jax.Array, key: jax.Array
) -> jax.Array:
    """Returns the mean over rows of the squared norm of the Jacobian of ``predict``."""
    return smoothness.jacobian(predict, x, key=key)


def virtual_adversarial_penalty(
    predict: Callable[[jax.Array], jax.Array], x: jax.Array, key: jax.Array
) -> jax.Array:
    """Returns the change of the predictions in the worst direction, at radius 1."""
    return smoothness.virtual_adversarial(predict, x, key=key, radius=1.0)


def graph_laplacian_penalty(logits: jax.Array, x: jax.Array) -> jax.Array:
    """Returns how predictions for similar rows differ, averaged over the pairs of a batch."""
    # A third of the typical distance between rows with independent standardized features.
    length_scale = (2 * x[0].size) ** 0.5 / 3
    affinity = smoothness.rbf_affinity(x, length_scale=length_scale)
    return smoothness.graph_laplacian(jax.nn.softmax(logits), affinity) / len(x) ** 2


def low_entropy_penalty(logits: jax.Array) -> jax.Array:
    """Returns the negative entropy of the predictions."""
    return information.confidence_penalty(logits).mean()


def r_drop_penalty(logits: jax.Array, again: jax.Array) -> jax.Array:
    """Returns the divergence between two passes with different noise (R-Drop)."""
    return information.symmetric_kl(logits, again).mean()


def smooth_cross_entropy(logits: jax.Array, labels: jax.Array, strength: Any) -> jax.Array:
    """Returns the cross entropy with targets that are mixed with the uniform distribution."""
    return targets.smoothed_cross_entropy(logits, labels, alpha=strength)


def flood_loss(value: jax.Array, strength: Any) -> jax.Array:
    """Keeps the loss above a level."""
    return targets.flood(value, level=strength)


ARMS = (
    Arm(
        name="label_smoothing",
        summary="targets mixed with the uniform distribution",
        source="jaxreg.targets.smoothed_cross_entropy",
        acts=Criterion(smooth_cross_entropy),
        grid=LogGrid(0.02, 0.5),
        rule=SHARE,
        label="share of the uniform target",
        tasks=_CLASSES,
        cheap=True,
        default=True,
    ),
    Arm(
        name="elastic_net",
        summary="half L1, half L2, in the loss",
        source="jaxreg.penalties.elastic_net",
        acts=Term(elastic_net_penalty),
        grid=LogGrid(0.0001, 0.01),
        label="weight of the penalty",
    ),
    Arm(
        name="group_lasso",
        summary="norms of all weights into a unit, in the loss",
        source="jaxreg.penalties.group_lasso",
        acts=Term(group_lasso_penalty),
        grid=LogGrid(1e-05, 0.001),
        label="weight of the penalty",
    ),
    Arm(
        name="orthogonality",
        summary="distance of the kernels to orthogonal ones",
        source="jaxreg.penalties.orthogonality",
        acts=Term(orthogonality_penalty),
        grid=LogGrid(0.0001, 0.1),
        label="weight of the penalty",
    ),
    Arm(
        name="spectral",
        summary="largest singular values of the kernels",
        source="jaxreg.penalties.spectral",
        acts=Term(spectral_penalty),
        grid=LogGrid(0.001, 0.3),
        label="weight of the penalty",
    ),
    Arm(
        name="nuclear",
        summary="sums of singular values of the kernels",
        source="jaxreg.penalties.nuclear",
        acts=Term(nuclear_penalty),
        grid=LogGrid(0.0001, 0.03),
        label="weight of the penalty",
    ),
    Arm(
        name="distance",
        summary="distance to the initial weights",
        source="jaxreg.penalties.distance",
        acts=Term(distance_penalty),
        grid=LogGrid(0.0001, 0.1),
        label="weight of the penalty",
    ),
    Arm(
        name="jacobian",
        summary="derivatives of the outputs with respect to the inputs",
        source="jaxreg.smoothness.jacobian",
        acts=Term(jacobian_penalty),
        grid=LogGrid(0.0001, 0.1),
        label="weight of the penalty",
        kinds=NUMBERS,
    ),
    Arm(
        name="virtual_adversarial",
        summary="change of the prediction in the worst direction",
        source="jaxreg.smoothness.virtual_adversarial",
        acts=Term(virtual_adversarial_penalty),
        grid=LogGrid(0.1, 10.0),
        label="weight of the penalty",
        kinds=NUMBERS,
        tasks=_CLASSES,
    ),
    Arm(
        name="graph_laplacian",
        summary="different predictions for similar rows",
        source="jaxreg.smoothness.graph_laplacian",
        acts=Term(graph_laplacian_penalty),
        grid=LogGrid(0.1, 30.0),
        label="weight of the penalty",
        kinds=NUMBERS,
        tasks=_CLASSES,
    ),
    Arm(
        name="confidence_penalty",
        summary="entropy of the predictions",
        source="jaxreg.information.confidence_penalty",
        acts=Term(low_entropy_penalty),
        grid=LogGrid(0.02, 1.0),
        label="weight of the penalty",
        tasks=_CLASSES,
    ),
    Arm(
        name="r_drop",
        summary="divergence of two passes with different dropout",
        source="jaxreg.information.symmetric_kl",
        acts=Term(r_drop_penalty),
        grid=LogGrid(0.1, 5.0),
        label="weight of the penalty",
        tasks=_CLASSES,
        needs={"dropout": 0.3},
    ),
    Arm(
        name="flood",
        summary="training loss kept above a level",
        source="jaxreg.targets.flood",
        acts=LossChange(flood_loss),
        grid=LogGrid(0.005, 0.2),
        label="level of the loss",
    ),
)
