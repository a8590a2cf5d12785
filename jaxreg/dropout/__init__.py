"""Dropout: functions ``(key, x) -> x`` that randomly remove parts of ``x``.

All of them keep the dtype of ``x``, and all except ``patch_dropout`` keep its shape. A ``rate`` is
the probability of *dropping*; it may be a traced array. A rate of 0 is exactly the identity. A
Python or NumPy rate outside ``[0, 1]`` raises; an array is clipped to that range. Products are
computed in float32 and rounded once, so that low precision is as unbiased as float32. The backward
pass draws the mask again from the key and stores no mask.

The functions have no evaluation mode: do not call them at evaluation time. The few techniques that
act at evaluation time have a second function for it.

The random bits of an element are a hash of the key and the element's position: the same on one
device and on many. Pass ``bits=jax.random.bits`` to use JAX's generator instead; it is several
times slower.
"""

from jaxreg import _signatures
from jaxreg.dropout.alpha import alpha_dropout, feature_alpha_dropout
from jaxreg.dropout.block import drop_block
from jaxreg.dropout.concrete import (
    concrete_dropout,
    concrete_dropout_logit,
    concrete_dropout_penalty,
)
from jaxreg.dropout.depth import drop_path_rates, full_depth, stochastic_depth
from jaxreg.dropout.elementwise import (
    classical_dropout,
    classical_scale,
    dropout,
    fold_in_axis,
    gaussian_dropout,
)
from jaxreg.dropout.gates import hard_concrete, hard_concrete_inference
from jaxreg.dropout.recurrent import zoneout, zoneout_mean
from jaxreg.dropout.shared import (
    drop_connect,
    drop_path,
    embedding_dropout,
    locked_dropout,
    spatial_dropout,
)
from jaxreg.dropout.tokens import every_patch, patch_dropout
from jaxreg.dropout.variational import (
    variational_dense,
    variational_dense_inference,
    variational_dropout,
    variational_dropout_kl,
    variational_log_alpha,
    variational_prune,
)

__all__ = [
    "alpha_dropout",
    "classical_dropout",
    "classical_scale",
    "concrete_dropout",
    "concrete_dropout_logit",
    "concrete_dropout_penalty",
    "drop_block",
    "drop_connect",
    "drop_path",
    "drop_path_rates",
    "dropout",
    "embedding_dropout",
    "every_patch",
    "feature_alpha_dropout",
    "fold_in_axis",
    "full_depth",
    "gaussian_dropout",
    "hard_concrete",
    "hard_concrete_inference",
    "locked_dropout",
    "patch_dropout",
    "spatial_dropout",
    "stochastic_depth",
    "variational_dense",
    "variational_dense_inference",
    "variational_dropout",
    "variational_dropout_kl",
    "variational_log_alpha",
    "variational_prune",
    "zoneout",
    "zoneout_mean",
]

_signatures.show(__name__)
