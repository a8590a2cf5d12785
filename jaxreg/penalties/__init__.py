"""Penalties: functions ``w -> scalar`` of one array, to be added to the loss.

Sums are accumulated in float32 or wider and returned so. Where a penalty has a kink the gradient
is the subgradient nearest to zero, and second derivatives are finite. :func:`total` sums a penalty
over the parameters of a model, and passes over what is not floating-point; a weight is a factor
outside. Complex weights count by their magnitude, where a function does not ask for real ones.
Penalties of matrices take kernels as Flax lays them out, with the outputs last. Of kernels that
``nn.scan`` or ``nnx.vmap`` stacked along a first axis of layers each is one by itself: pass
``stacked`` to :func:`total`, or take the sum of ``jax.vmap(penalty)(w)``.

The same functions are penalties of activations: they sum over the whole batch, unless
:func:`per_example` makes the mean over examples of them.
"""

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
