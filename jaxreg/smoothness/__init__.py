"""Smoothness: penalties ``(f, x) -> scalar`` on how fast a function changes.

``f`` maps a batch to a batch, ``[batch, ...] -> [batch, ...]``, and treats every example by itself;
parameters, statistics and keys are closed over. Then the derivative of the sum over examples holds
the derivatives of all of them, and one pass serves the whole batch. Batch norm in training mixes
examples and breaks this: the penalties are then of something else. Use its running statistics, or
a norm within the example, and close over a fixed key for dropout.

Penalties are means over the batch, float32 or wider; a weight is a factor outside. They may stand
in a loss that is differentiated, with respect to what ``f`` closes over too. Where the loss calls
the same ``f`` on the same ``x`` under one ``jax.jit``, the compiler computes it once.
"""

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
