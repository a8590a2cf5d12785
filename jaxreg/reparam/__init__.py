"""Reparametrizations: functions from a parameter to the weight that a layer uses.

The optimizer sees the parameter; the weight is computed from it at every call. ``axis`` names the
axes of a kernel that hold its outputs, the last one in Flax (see :func:`output_axes` for
attention); all others are reduced. Norms and statistics are computed in float32 or wider, a weight
has the dtype of its parameter and is rounded once, and kernels may be sharded along any axis.

``nn.scan`` and ``nnx.vmap`` stack the kernels of several layers along the first axis,
``[layers, in, out]``: map over them with ``jax.vmap``. The module wrappers do this for the kernels
that their mask ``stacked`` selects.
"""

from jaxreg import _signatures
from jaxreg.reparam.axes import output_axes
from jaxreg.reparam.spectral import spectral_norm, spectral_norm_sigma, spectral_norm_vector
from jaxreg.reparam.units import (
    weight_norm,
    weight_norm_scale,
    weight_standardization,
    weight_standardization_scale,
)

__all__ = [
    "output_axes",
    "spectral_norm",
    "spectral_norm_sigma",
    "spectral_norm_vector",
    "weight_norm",
    "weight_norm_scale",
    "weight_standardization",
    "weight_standardization_scale",
]

_signatures.show(__name__)
