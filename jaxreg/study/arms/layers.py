"""Arms that add a layer to the model, and the arm that stops early."""

from __future__ import annotations

from typing import Any

import jax
from flax import linen as nn

from jaxreg import dropout, information, linen, penalties
from jaxreg.study.arms.row import RATE, Arm, Layer, LogGrid, Rule, Stop


class Gates(nn.Module):
    """Multiplies units by hard concrete gates and penalizes the expected number of open ones."""

    weight: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        log_alpha = self.param("log_alpha", nn.initializers.constant(2.0), x.shape[-1:])
        counted = linen.ActivityPenalty(penalties.hard_concrete_l0, self.weight)(log_alpha)
        if train:
            return x * dropout.hard_concrete(self.make_rng("dropout"), counted)
        return x * dropout.hard_concrete_inference(counted)


class Bottleneck(nn.Module):
    """Samples a Gaussian code and penalizes its rate; in evaluation mode it returns the mean."""

    features: int
    weight: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        mean = nn.Dense(self.features)(x)
        log_var = nn.Dense(self.features)(x)

        def rate(mean: jax.Array) -> jax.Array:
            return information.gaussian_kl(mean, log_var).mean()

        mean = linen.ActivityPenalty(rate, self.weight)(mean)
        if not train:
            return mean
        return information.sample_gaussian(self.make_rng("dropout"), mean, log_var)


def normalize_batch(x: jax.Array, *, train: bool) -> jax.Array:
    """Normalizes the units over the batch."""
    return linen.BatchNorm(use_running_average=not train)(x)


def normalize_ghosts(x: jax.Array, *, train: bool) -> jax.Array:
    """Normalizes the units over equal parts of the batch, of at most 16 rows."""
    size = max(size for size in range(1, 17) if len(x) % size == 0)
    return linen.GhostBatchNorm(size, use_running_average=not train)(x)


def normalize_layer(x: jax.Array) -> jax.Array:
    """Normalizes the units of each example."""
    return linen.LayerNorm()(x)


def drop_units(x: jax.Array, strength: Any, *, train: bool) -> jax.Array:
    """Drops random units and scales up the rest."""
    return linen.Dropout(strength, deterministic=not train)(x)


def drop_channels(x: jax.Array, strength: Any, *, train: bool) -> jax.Array:
    """Drops whole channels of feature maps."""
    return linen.SpatialDropout(strength, deterministic=not train)(x)


def drop_blocks(x: jax.Array, strength: Any, *, train: bool) -> jax.Array:
    """Drops square regions of feature maps."""
    size = max(1, min(x.shape[1:3]) // 3)
    return linen.DropBlock(strength, block_size=size, deterministic=not train)(x)


def drop_branch(x: jax.Array, strength: Any, *, train: bool) -> jax.Array:
    """Drops a residual branch for random examples."""
    return linen.DropPath(strength, deterministic=not train)(x)


def gate_units(x: jax.Array, strength: Any, *, train: bool) -> jax.Array:
    """Multiplies units by hard concrete gates and penalizes the expected number of open ones."""
    return Gates(strength)(x, train=train)


def penalize_activity(x: jax.Array, strength: Any) -> jax.Array:
    """Penalizes the absolute activations of the units, averaged over the batch."""
    return linen.ActivityPenalty(penalties.per_example(penalties.l1), strength)(x)


def penalize_correlation(x: jax.Array, strength: Any) -> jax.Array:
    """Penalizes the squared covariances of the units (DeCov)."""
    return linen.ActivityPenalty(penalties.decorrelation, strength)(x)


def squeeze_information(x: jax.Array, strength: Any, *, train: bool) -> jax.Array:
    """Samples a Gaussian code of the last hidden layer and penalizes its rate."""
    return Bottleneck(x.shape[-1], strength)(x, train=train)


# Norms come before the nonlinearity. Layers at the same place run in this order.
ARMS = (
    Arm(
        name="batch_norm",
        summary="batch normalization before every nonlinearity",
        source="jaxreg.linen.BatchNorm",
        acts=Layer(normalize_batch, "normalization"),
        off=False,
        slot="normalization",
        default=True,
    ),
    Arm(
        name="ghost_batch_norm",
        summary="normalization over parts of the batch",
        source="jaxreg.linen.GhostBatchNorm",
        acts=Layer(normalize_ghosts, "normalization"),
        off=False,
        slot="normalization",
    ),
    Arm(
        name="layer_norm",
        summary="normalization of each example",
        source="jaxreg.linen.LayerNorm",
        acts=Layer(normalize_layer, "normalization"),
        off=False,
        slot="normalization",
    ),
    Arm(
        name="l0",
        summary="number of open gates on the hidden units",
        source="jaxreg.penalties.hard_concrete_l0",
        acts=Layer(gate_units, "units", sows=True),
        grid=LogGrid(1e-05, 0.01),
        label="weight of the penalty",
    ),
    Arm(
        name="activity_l1",
        summary="absolute activations of the hidden units",
        source="jaxreg.linen.ActivityPenalty",
        acts=Layer(penalize_activity, "units", sows=True),
        grid=LogGrid(0.0001, 0.1),
        label="weight of the penalty",
    ),
    Arm(
        name="decorrelation",
        summary="covariances of the units of a hidden layer",
        source="jaxreg.penalties.decorrelation",
        acts=Layer(penalize_correlation, "units", sows=True),
        grid=LogGrid(0.0001, 0.1),
        label="weight of the penalty",
    ),
    Arm(
        name="dropout",
        summary="inverted dropout after every hidden layer",
        source="jaxreg.linen.Dropout",
        acts=Layer(drop_units, "units"),
        grid=LogGrid(0.1, 0.6),
        rule=RATE,
        label="rate",
        default=True,
    ),
    Arm(
        name="spatial_dropout",
        summary="whole channels of feature maps dropped",
        source="jaxreg.linen.SpatialDropout",
        acts=Layer(drop_channels, "maps"),
        grid=LogGrid(0.05, 0.4),
        rule=RATE,
        label="rate",
        kinds=("image", "series", "text"),
    ),
    Arm(
        name="drop_block",
        summary="square regions of feature maps dropped",
        source="jaxreg.linen.DropBlock",
        acts=Layer(drop_blocks, "maps"),
        grid=LogGrid(0.05, 0.3),
        rule=RATE,
        label="rate",
        kinds=("image",),
    ),
    Arm(
        name="drop_path",
        summary="residual branches dropped for random examples",
        source="jaxreg.linen.DropPath",
        acts=Layer(drop_branch, "branch"),
        grid=LogGrid(0.05, 0.4),
        rule=RATE,
        label="rate",
        aliases=("stochastic_depth",),
    ),
    Arm(
        name="bottleneck",
        summary="information that the last hidden layer keeps",
        source="jaxreg.information.gaussian_kl",
        acts=Layer(squeeze_information, "last", sows=True),
        grid=LogGrid(0.0001, 0.1),
        label="weight of the rate",
    ),
    Arm(
        name="early_stopping",
        summary="stop, and go back to the best validation loss",
        source="jaxreg.training.early_stopping",
        acts=Stop(),
        grid=LogGrid(2.0, 20.0, digits=0),
        rule=Rule("at least 0", lambda value: value >= 0),
        label="patience in epochs (smaller is stronger)",
        off=float("inf"),
        cheap=True,
        default=True,
        aliases=("patience",),
    ),
)
