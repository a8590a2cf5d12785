"""Penalties: functions ``w -> scalar`` of one array, to be added to the loss.

Sums are accumulated and returned in float32 or wider. At a kink of a penalty the gradient is the
subgradient nearest to zero, and second derivatives are finite. :func:`total` sums a penalty over
the parameters of a model and skips leaves that are not floating-point; multiply the result by a
weight. Complex weights count by their magnitude, unless a function requires real ones.
Penalties of matrices take kernels as Flax lays them out, with the outputs last. Kernels that
``nn.scan`` or ``nnx.vmap`` stacked along a first axis of layers are separate matrices: pass
``stacked`` to :func:`total`, or take the sum of ``jax.vmap(penalty)(w)``.

The same functions are penalties of activations: they sum over the whole batch;
:func:`per_example` turns them into means over examples.
"""

from jaxreg import _signatures
from jaxreg.penalties.activations import activity, decorrelation, per_example
from jaxreg.penalties.elementwise import distance, elastic_net, l1, l2
from jaxreg.penalties.gates import hard_concrete_l0
from jaxreg.penalties.groups import group_lasso, isotropic_total_variation, total_variation
from jaxreg.penalties.matrices import nuclear, orthogonality, spectral
from jaxreg.penalties.trees import total

__all__ = [
    "activity",
    "decorrelation",
    "distance",
    "elastic_net",
    "group_lasso",
    "hard_concrete_l0",
    "isotropic_total_variation",
    "l1",
    "l2",
    "nuclear",
    "orthogonality",
    "per_example",
    "spectral",
    "total",
    "total_variation",
]

_signatures.show(__name__)
