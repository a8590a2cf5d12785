"""Information: divergences, entropies, and losses that bound the information in a representation.

Divergences and entropies are in nats. They sum over the last axis and keep the others: one value
for each example. Losses are means over the examples that count. All of them are computed and
returned in float32 or wider. If a function has no argument for its weight, multiply its result by
your weight.
"""

from jaxreg import _signatures
from jaxreg.information.categorical import (
    categorical_kl,
    confidence_penalty,
    jensen_shannon,
    symmetric_kl,
)
from jaxreg.information.gaussian import gaussian_kl, sample_gaussian
from jaxreg.information.losses import beta_vae_loss, bottleneck_loss, free_bits

__all__ = [
    "beta_vae_loss",
    "bottleneck_loss",
    "categorical_kl",
    "confidence_penalty",
    "free_bits",
    "gaussian_kl",
    "jensen_shannon",
    "sample_gaussian",
    "symmetric_kl",
]

_signatures.show(__name__)
