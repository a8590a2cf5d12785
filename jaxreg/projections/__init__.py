"""Projections: functions ``w -> w`` onto a constraint set, inside which ``w`` is unchanged.

:func:`jaxreg.transforms.project` keeps parameters inside such a set during optimization. For sets
of whole trees (one ball for all parameters together), see ``optax.projections``. For kernels that
``nn.scan`` or ``nnx.vmap`` stacked along a first axis of layers, use ``jax.vmap(projection)``, or
``stacked`` of that transformation.
"""

from jaxreg import _signatures
from jaxreg.projections.matrices import spectral_ball
from jaxreg.projections.norms import max_norm, min_max_norm, unit_norm
from jaxreg.projections.simplices import l1_ball, non_negative, simplex

__all__ = [
    "l1_ball",
    "max_norm",
    "min_max_norm",
    "non_negative",
    "simplex",
    "spectral_ball",
    "unit_norm",
]

_signatures.show(__name__)
