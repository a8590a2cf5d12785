"""Flax NNX modules that wrap the functions of jaxreg."""

from jaxreg import _signatures
from jaxreg.nnx.activity import ActivityPenalty, Penalty, with_penalties
from jaxreg.nnx.depth import StochasticDepth
from jaxreg.nnx.dropout import (
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
from jaxreg.nnx.fold import FoldedBatchNorm, fold_batch_norm
from jaxreg.nnx.ghost import BatchRenorm, GhostBatchNorm
from jaxreg.nnx.layer_norms import GroupNorm, InstanceNorm, LayerNorm, RMSNorm
from jaxreg.nnx.noise import GaussianNoise, SaltAndPepper, UniformNoise
from jaxreg.nnx.normalization import BatchNorm
from jaxreg.nnx.recurrent import LockedDropoutCell, ZoneoutCell
from jaxreg.nnx.reparam import SpectralNorm, WeightNorm, WeightStandardization
from jaxreg.nnx.stochastic import Stochastic
from jaxreg.nnx.style import AdaptiveInstanceNorm, FilterResponseNorm
from jaxreg.nnx.weights import DropConnect, Perturb, VariationalDense

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
    "FoldedBatchNorm",
    "GaussianDropout",
    "GaussianNoise",
    "GhostBatchNorm",
    "GroupNorm",
    "InstanceNorm",
    "LayerNorm",
    "LockedDropout",
    "LockedDropoutCell",
    "PatchDropout",
    "Penalty",
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
    "with_penalties",
]

_signatures.show(__name__)
