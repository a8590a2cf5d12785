"""Smoothness: penalties ``(f, x) -> scalar`` on how fast a function changes.

``f`` maps a batch to a batch, ``[batch, ...] -> [batch, ...]``, and treats each example separately;
it closes over parameters, statistics and keys. The derivative of the sum over examples then
contains the derivatives of all of them, and one pass serves the whole batch. Batch norm in training
mode mixes examples, which makes the penalties wrong. Use its running statistics, or a norm within
each example, and close over a fixed key for dropout.

Penalties are means over the batch, float32 or wider; multiply the result by a weight. They may be
part of a loss that is differentiated, also with respect to parameters that ``f`` closes over. If
the loss calls the same ``f`` on the same ``x`` under one ``jax.jit``, XLA computes it once.
"""

from jaxreg import _signatures
from jaxreg.smoothness.adversarial import virtual_adversarial
from jaxreg.smoothness.critics import gradient_penalty, zero_centered_penalty
from jaxreg.smoothness.graphs import Neighbors, graph_laplacian, knn_affinity, rbf_affinity
from jaxreg.smoothness.jacobians import jacobian, jacobian_exact, jacobian_projected

__all__ = [
    "Neighbors",
    "gradient_penalty",
    "graph_laplacian",
    "jacobian",
    "jacobian_exact",
    "jacobian_projected",
    "knn_affinity",
    "rbf_affinity",
    "virtual_adversarial",
    "zero_centered_penalty",
]

_signatures.show(__name__)
