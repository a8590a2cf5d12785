"""Flax Linen modules that wrap the functions of jaxreg."""

from jaxreg import _signatures
from jaxreg.linen.activity import ActivityPenalty, pop_penalties
from jaxreg.linen.depth import StochasticDepth
from jaxreg.linen.dropout import (
    AlphaDropout,
    ClassicalDropout,
    ConcreteDropout,
    DropBlock,
    Dropout,
    DropPath,
    EmbeddingDropout,
    FeatureAlphaDropout,
    GaussianDropout,
    LockedDropout,
    PatchDropout,
    SpatialDropout,
    Zoneout,
)
from jaxreg.linen.fold import fold_batch_norm
from jaxreg.linen.ghost import BatchRenorm, GhostBatchNorm
from jaxreg.linen.layer_norms import GroupNorm, InstanceNorm, LayerNorm, RMSNorm
from jaxreg.linen.noise import GaussianNoise, SaltAndPepper, UniformNoise
from jaxreg.linen.normalization import BatchNorm
from jaxreg.linen.recurrent import LockedDropoutCell, ZoneoutCell
from jaxreg.linen.reparam import SpectralNorm, WeightNorm, WeightStandardization
from jaxreg.linen.stochastic import Stochastic
from jaxreg.linen.style import AdaptiveInstanceNorm, FilterResponseNorm
from jaxreg.linen.weights import DropConnect, Perturb, VariationalDense

__all__ = [
    "ActivityPenalty",
    "AdaptiveInstanceNorm",
    "AlphaDropout",
    "BatchNorm",
    "BatchRenorm",
    "ClassicalDropout",
    "ConcreteDropout",
    "DropBlock",
    "DropConnect",
    "DropPath",
    "Dropout",
    "EmbeddingDropout",
    "FeatureAlphaDropout",
    "FilterResponseNorm",
    "GaussianDropout",
    "GaussianNoise",
    "GhostBatchNorm",
    "GroupNorm",
    "InstanceNorm",
    "LayerNorm",
    "LockedDropout",
    "LockedDropoutCell",
    "PatchDropout",
    "Perturb",
    "RMSNorm",
    "SaltAndPepper",
    "SpatialDropout",
    "SpectralNorm",
    "Stochastic",
    "StochasticDepth",
    "UniformNoise",
    "VariationalDense",
    "WeightNorm",
    "WeightStandardization",
    "Zoneout",
    "ZoneoutCell",
    "fold_batch_norm",
    "pop_penalties",
]

_signatures.show(__name__)
