r"""Normalization: functions ``(x, stats) -> (y, stats)`` of activations and their statistics.

Statistics are computed in float32 or wider, as accurately as in two passes, over the elements that
``where`` selects. Across devices they are weighted by the number of elements. ``y`` has the dtype
of ``x`` and is rounded once.

A mask ``where`` may have any dtype (nonzero selects) and broadcasts to ``x`` as in NumPy, from the
last axes: a mask ``[features]`` selects features, and a mask ``[batch, time]`` for ``[batch, time,
channels]`` is passed as ``mask[..., None]``. Elements outside the mask do not enter the statistics;
they are normalized like the others. Infinite and NaN elements outside the mask count as 0, so that
no NaN enters a gradient.

Complex numbers are normalized by :math:`E |x - \mu|^2`; norms that have no complex form
(``batch_renorm``, ``adaptive_instance_norm``, ``filter_response_norm``) raise a TypeError.

For a factor that is learned as its difference from one, as in Gemma and Megatron, pass ``scale=1 +
gamma.astype(jnp.float32)``: it is exact for a bfloat16 ``gamma`` too, and decay pulls it to 1.
"""

from jaxreg import _signatures
from jaxreg.normalization.batch import BatchStats, batch_norm, batch_norm_inference, init_stats
from jaxreg.normalization.fold import fold_batch_norm
from jaxreg.normalization.ghost import ghost_batch_norm
from jaxreg.normalization.group import group_norm
from jaxreg.normalization.layer import instance_norm, layer_norm, rms_norm
from jaxreg.normalization.renorm import batch_renorm
from jaxreg.normalization.response import filter_response_norm, l2_normalize
from jaxreg.normalization.statistics import Moments, moments
from jaxreg.normalization.style import adaptive_instance_norm

__all__ = [
    "BatchStats",
    "Moments",
    "adaptive_instance_norm",
    "batch_norm",
    "batch_norm_inference",
    "batch_renorm",
    "filter_response_norm",
    "fold_batch_norm",
    "ghost_batch_norm",
    "group_norm",
    "init_stats",
    "instance_norm",
    "l2_normalize",
    "layer_norm",
    "moments",
    "rms_norm",
]

_signatures.show(__name__)
