"""One row per public name: what the contract runs it on.

A new technique gets a row here; ``test_contract.py`` fails where a public name has none.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxreg import (
    dropout,
    information,
    linen,
    masks,
    nnx,
    noise,
    normalization,
    penalties,
    projections,
    proximal,
    reparam,
    smoothness,
    targets,
    testing,
    transforms,
)
from jaxreg._numerics import widen
from jaxreg.training import (
    advice,
    diagnosis,
    digests,
    early_stopping,
    ensembles,
    explain,
    plateau,
    schedules,
    statistics,
)
from tests.cases import augment as augment_rows
from tests.cases import series as series_rows


@dataclasses.dataclass(frozen=True)
class Case:
    """A pure function and inputs at a point where it is differentiable."""

    function: Callable[..., Any]
    inputs: tuple[Any, ...]
    strengths: dict[str, float] = dataclasses.field(default_factory=dict)
    off: dict[str, float] = dataclasses.field(default_factory=dict)
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    call: Callable[..., Any] | None = None  # where keyword arrays have to be sharded with the data
    errors: tuple[tuple[type[Exception], str, dict[str, Any]], ...] = ()

    @property
    def bound(self) -> Callable[..., Any]:
        """The function of its inputs and strengths."""
        if self.call is not None:
            return self.call
        return partial(self.function, **self.options) if self.options else self.function

    @property
    def name(self) -> str:
        """Name for the ids of tests, made from the function and its options."""
        module = self.function.__module__.removeprefix("jaxreg.")
        variant = [self.call.__name__.strip("_")] if self.call else [*self.options]
        return "-".join([f"{module}.{self.function.__name__}", *variant])


@dataclasses.dataclass(frozen=True)
class Transformation:
    """A factory of Optax transformations, as a function of its strengths."""

    factory: Callable[..., Any]
    build: Callable[..., optax.GradientTransformationExtraArgs]
    strengths: dict[str, float]
    off: dict[str, float]

    @property
    def name(self) -> str:
        """Name for the ids of tests."""
        return self.factory.__name__


KEY = jax.random.key(0)
KEEPING_KEY = jax.random.key(
    9
)  # One decision: its draw is 0.91, that of the key folded with 1 is 0.04.
X = jnp.sin(jnp.arange(1.0, 16 * 8 + 1)).reshape(16, 8)
SERIES = jnp.sin(jnp.arange(1.0, 16 * 4 * 8 + 1)).reshape(16, 4, 8)
MAPS = jnp.sin(jnp.arange(1.0, 16 * 6 * 5 * 8 + 1)).reshape(16, 6, 5, 8)
KERNEL = jnp.cos(jnp.arange(8.0 * 8)).reshape(8, 8)
LOG_VARIANCES = 2 * jnp.cos(jnp.arange(16.0 * 8)).reshape(16, 8)
LOG_VARIANCE = jnp.linspace(-3.0, 1.0, 64).reshape(8, 8)
# No draw for X is within 0.02 of 0.3: what decides by comparing with that rate is constant there.
STEADY_KEY = jax.random.key(81)
MASK = (jnp.arange(16) % 3 != 0)[:, None]
TIMES = (jnp.arange(64) % 3 != 0).reshape(16, 4)
WEIGHT = jnp.linspace(0.5, 1.5, 8)
THRESHOLDS = 0.2 + 0.1 * jnp.cos(jnp.arange(16.0 * 8)).reshape(16, 8)
STATS = normalization.BatchStats(jnp.full(8, 0.1), jnp.full(8, 0.9))
# So far from X, and so narrow, that both corrections of batch renorm are at their limits: within
# them its gradient is by design not that of its values.
FAR_STATS = normalization.BatchStats(jnp.full(8, -5.0), jnp.full(8, 0.01))
FEATURES = {"scale": jnp.linspace(0.5, 1.5, 8), "bias": jnp.linspace(-1, 1, 8)}
# Of full rank with singular values apart, which X is not.
MATRIX = jnp.sin(jnp.arange(1.0, 16 * 8 + 1) ** 2).reshape(16, 8)
VECTOR = jnp.full(8, 8**-0.5)  # a unit vector
LABELS = jnp.arange(16, dtype=jnp.int32) % 7 - 1


def _masked_moments(x: jax.Array, where: jax.Array) -> normalization.Moments:
    return normalization.moments(x, axis=(0, 1), where=where)


def _masked_batch_norm(
    x: jax.Array,
    stats: normalization.BatchStats,
    where: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    *,
    momentum: Any,
    eps: Any,
) -> Any:
    return normalization.batch_norm(
        x, stats, where=where, scale=scale, bias=bias, momentum=momentum, eps=eps, axis_name=()
    )


def _masked_layer_norm(x: jax.Array, where: jax.Array, *, eps: Any) -> jax.Array:
    return normalization.layer_norm(
        x, where=where, eps=eps, reduction_axes=(1, 2), scale=WEIGHT.astype(x.dtype)
    )


def _masked_rms_norm(x: jax.Array, where: jax.Array, *, eps: Any) -> jax.Array:
    return normalization.rms_norm(x, where=where, eps=eps, reduction_axes=(1, 2))


def _masked_group_norm(x: jax.Array, where: jax.Array, *, eps: Any) -> jax.Array:
    return normalization.group_norm(x, groups=2, where=where, eps=eps)


def _fold_batch_norm(
    kernel: jax.Array,
    stats: normalization.BatchStats,
    layer_bias: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    *,
    eps: Any,
) -> Any:
    """The bias in float32: the contract wants that of what has another shape than the data."""
    kernel, offset = normalization.fold_batch_norm(
        kernel, stats, layer_bias=layer_bias, scale=scale, bias=bias, eps=eps
    )
    return kernel, widen(offset)


def _masked_ghost_batch_norm(
    x: jax.Array, stats: normalization.BatchStats, where: jax.Array, *, momentum: Any, eps: Any
) -> Any:
    return normalization.ghost_batch_norm(
        x, stats, ghost_batch_size=2, where=where, momentum=momentum, eps=eps, **FEATURES
    )


def _masked_batch_renorm(
    x: jax.Array,
    stats: normalization.BatchStats,
    where: jax.Array,
    *,
    r_max: Any,
    d_max: Any,
    momentum: Any,
    eps: Any,
) -> Any:
    return normalization.batch_renorm(
        x,
        stats,
        r_max=r_max,
        d_max=d_max,
        where=where,
        momentum=momentum,
        eps=eps,
        axis_name=(),
        **FEATURES,
    )


def _masked_adaptive_instance_norm(
    x: jax.Array, style_mean: jax.Array, style_std: jax.Array, where: jax.Array, *, eps: Any
) -> jax.Array:
    return normalization.adaptive_instance_norm(x, style_mean, style_std, where=where, eps=eps)


def _floats(_key: jax.Array, shape: tuple[int, ...], _dtype: Any) -> jax.Array:
    return jnp.zeros(shape, jnp.float32)


_WRONG_EPS = ((ValueError, r"`eps` must be zero or positive, got -1\.0", {"eps": -1.0}),)
_WRONG_BITS = (TypeError, r"`bits` must return uint32 of shape .* got float32", {"bits": _floats})
_WRONG_RATES = (
    (ValueError, r"`rate`.*\[0, 1\].*1\.5", {"rate": 1.5}),
    (ValueError, r"`rate` must be a single number, got shape \(8,\)", {"rate": X[0]}),
)


_WRONG_ENDS = (
    (ValueError, r"`low` must be negative, got 0\.0", {"low": 0.0}),
    (ValueError, r"`low` must be a single number.*\(8,\)", {"low": X[0]}),
    (ValueError, r"`high` must be above 1, got 1\.0", {"high": 1.0}),
    (ValueError, r"`high` must be a single number.*\(8,\)", {"high": X[0]}),
)
_WRONG_GATES = (
    (ValueError, r"`temperature` must be positive, got 0\.0", {"temperature": 0.0}),
    (ValueError, r"`temperature` must be a single number.*\(8,\)", {"temperature": X[0]}),
    *_WRONG_ENDS,
)


def _dropout(
    function: Callable[..., jax.Array], x: jax.Array, *errors: Any, rate: float = 0.3
) -> Case:
    """Row of a function ``(key, x, *, rate, bits)``."""
    errors = (*_WRONG_RATES, _WRONG_BITS, *errors)
    return Case(function, (KEY, x), {"rate": rate}, {"rate": 0.0}, errors=errors)


def _zoneout(key: jax.Array, new: jax.Array, old: jax.Array, *, rate: Any) -> jax.Array:
    return dropout.zoneout(key, new, old.astype(new.dtype), rate=rate)


def _zoneout_mean(new: jax.Array, old: jax.Array, *, rate: Any) -> jax.Array:
    return dropout.zoneout_mean(new, old.astype(new.dtype), rate=rate)


def _stochastic_depth(key: jax.Array, x: jax.Array, *, rate: Any) -> jax.Array:
    return dropout.stochastic_depth(key, jnp.tanh, x, rate=rate)


def _full_depth(x: jax.Array) -> jax.Array:
    return dropout.full_depth(jnp.tanh, x)


def _patch_dropout(key: jax.Array, x: jax.Array) -> jax.Array:
    """One array of both results; the contract wants float32 where the shape is another."""
    kept, indices = dropout.patch_dropout(key, x, rate=0.4)
    kept = widen(kept)
    return kept * indices[..., None].astype(kept.dtype)


def _outputs(x: jax.Array) -> jax.Array:
    """Three smooth outputs of every example, rounded once."""
    wide = widen(x)
    return jnp.tanh(wide @ KERNEL[:, :3].astype(wide.dtype)).astype(x.dtype)


def _scores(x: jax.Array) -> jax.Array:
    return jnp.sum(_outputs(x), axis=-1)


def _jacobian(key: jax.Array, x: jax.Array) -> jax.Array:
    return smoothness.jacobian(_outputs, x, key=key, probes=2)


def _many_probes(key: jax.Array, x: jax.Array) -> jax.Array:
    return smoothness.jacobian(_outputs, x, key=key, probes=17)


def _jacobian_projected(key: jax.Array, x: jax.Array) -> jax.Array:
    return smoothness.jacobian_projected(_outputs, x, key=key, probes=2)


def _jacobian_rows(x: jax.Array) -> jax.Array:
    return smoothness.jacobian_exact(_outputs, x)


def _jacobian_columns(x: jax.Array) -> jax.Array:
    return smoothness.jacobian_exact(lambda x: jnp.concatenate([_outputs(x)] * 3, axis=1), x)


def _jacobian_many_rows(x: jax.Array) -> jax.Array:
    return smoothness.jacobian_exact(lambda x: jnp.tanh(x[:, ::-1]), x)


def _gradient_penalty(
    key: jax.Array, real: jax.Array, fake: jax.Array, *, target: Any
) -> jax.Array:
    fake = fake.astype(real.dtype)
    return smoothness.gradient_penalty(_scores, real, fake, key=key, target=target)


def _zero_centered_penalty(x: jax.Array) -> jax.Array:
    return smoothness.zero_centered_penalty(_scores, x)


def _dense_laplacian(predictions: jax.Array) -> jax.Array:
    number = len(predictions)
    affinity = jnp.linspace(0.0, 1.0, number**2).reshape(number, number)
    return smoothness.graph_laplacian(predictions, affinity)


def _knn_laplacian(predictions: jax.Array, weights: jax.Array) -> jax.Array:
    indices = (jnp.arange(len(predictions))[:, None] + jnp.array([[1, 3, 4]])) % len(predictions)
    return smoothness.graph_laplacian(predictions, smoothness.Neighbors(indices, weights))


def _knn_weights(x: jax.Array, *, length_scale: Any) -> tuple[jax.Array, jax.Array]:
    found = smoothness.knn_affinity(x, neighbors=1, length_scale=length_scale)
    return found.weights, found.indices


def _every_patch(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    kept, indices = dropout.every_patch(x)
    return kept, indices.astype(jnp.float32)


def _rate_of_vae(mean: jax.Array, log_var: jax.Array, distortion: jax.Array, *, beta: Any) -> Any:
    return information.beta_vae_loss(distortion, mean, log_var, beta=beta)


def _masked_vae(
    mean: jax.Array, log_var: jax.Array, distortion: jax.Array, where: jax.Array, *, beta: Any
) -> Any:
    return information.beta_vae_loss(distortion, mean, log_var, beta=beta, where=where)


def _rate_of_bottleneck(
    mean: jax.Array,
    log_var: jax.Array,
    logits: jax.Array,
    labels: jax.Array,
    where: jax.Array,
    *,
    beta: Any,
) -> Any:
    return information.bottleneck_loss(logits, labels, mean, log_var, beta=beta, where=where)


def _masked_free_bits(kl: jax.Array, where: jax.Array, *, level: Any) -> jax.Array:
    return information.free_bits(kl, level=level, where=where)


def _mixed_per_example(
    logits: jax.Array, a: jax.Array, b: jax.Array, lam: jax.Array, where: jax.Array, *, alpha: Any
) -> jax.Array:
    return targets.mixed_cross_entropy(logits, a, b, lam=lam, alpha=alpha, where=where)


def _group_lasso_in_a_metric(w: jax.Array, thresholds: jax.Array) -> jax.Array:
    return proximal.group_lasso(w, threshold=thresholds)


def _sparse_group_lasso_in_a_metric(
    w: jax.Array, thresholds: jax.Array, *, l1_share: Any
) -> jax.Array:
    return proximal.sparse_group_lasso(w, threshold=thresholds, l1_share=l1_share)


FUNCTIONS = (
    Case(
        dropout.dropout,
        (KEY, X),
        {"rate": 0.3},
        {"rate": 0.0},
        errors=(
            *_WRONG_RATES,
            _WRONG_BITS,
            (ValueError, r"`broadcast_axes` must lie in \[-2, 2\), got 2", {"broadcast_axes": 2}),
        ),
    ),
    Case(dropout.dropout, (KEY, X), {"rate": 0.3}, {"rate": 0.0}, {"broadcast_axes": (1,)}),
    _dropout(dropout.alpha_dropout, X),
    # Nothing is dropped or kept anew within 0.02 of this rate: constant to finite differences.
    _dropout(dropout.classical_dropout, X, rate=0.25),
    _dropout(dropout.drop_connect, X),
    _dropout(dropout.drop_path, SERIES),
    _dropout(dropout.embedding_dropout, X),
    _dropout(dropout.feature_alpha_dropout, SERIES),
    _dropout(
        dropout.gaussian_dropout, X, (ValueError, r"`rate` .* below 1, got 1\.0", {"rate": 1.0})
    ),
    _dropout(
        dropout.locked_dropout,
        SERIES,
        (ValueError, r"`time_axis` must lie in \[-3, 3\), got 3", {"time_axis": 3}),
    ),
    Case(dropout.locked_dropout, (KEY, SERIES), {"rate": 0.3}, {"rate": 0.0}, {"time_axis": 0}),
    _dropout(dropout.spatial_dropout, SERIES),
    Case(
        dropout.drop_block,
        (KEY, MAPS),
        {"rate": 0.3},
        {"rate": 0.0},
        {"block_size": 3},
        errors=(
            *_WRONG_RATES,
            _WRONG_BITS,
            (ValueError, r"`block_size` must be in \[1, 5\].*axis 2 .*got 6", {"block_size": 6}),
            (ValueError, r"`block_size` .* each of the 2 block axes", {"block_size": (1, 1, 1)}),
            (TypeError, r"`block_size` must be an integer, got float 2\.0", {"block_size": 2.0}),
            (ValueError, r"`axis` must lie in \[-4, 4\), got 4", {"axis": 4}),
            (ValueError, r"`axis` must name .* batch axis 0, got \(0, 1\)", {"axis": (0, 1)}),
            (ValueError, r"`broadcast_axes` .* block axis 1, got 1", {"broadcast_axes": 1}),
        ),
    ),
    Case(
        dropout.drop_block,
        (KEY, MAPS),
        {"rate": 0.3},
        {"rate": 0.0},
        {"block_size": (2, 3), "broadcast_axes": -1},
    ),
    Case(
        dropout.drop_block,
        (KEY, X),
        {"rate": 0.3},
        {"rate": 0.0},
        {"block_size": 3, "axis": -1},
    ),
    Case(dropout.stochastic_depth, (KEEPING_KEY, X), {"rate": 0.4}, call=_stochastic_depth),
    Case(dropout.full_depth, (X,), call=_full_depth),
    Case(
        dropout.patch_dropout,
        (KEY, SERIES),
        options={"rate": 0.4},
        call=_patch_dropout,
        errors=(
            (ValueError, r"`rate`.*\[0, 1\].*1\.5", {"rate": 1.5}),
            (TypeError, r"`rate` .*Python or NumPy number.*shape", {"rate": jnp.float32(0.5)}),
            (ValueError, r"`prefix` must be in \[0, 4\].*got 5", {"prefix": 5}),
            _WRONG_BITS,
        ),
    ),
    Case(dropout.every_patch, (SERIES,), call=_every_patch),
    Case(
        dropout.concrete_dropout,
        (KEY, X),
        {"logit": -1.0, "temperature": 0.5},
        {"logit": -float("inf")},
        errors=(
            (ValueError, r"`logit` must broadcast.*\(5,\)", {"logit": jnp.ones(5)}),
            (ValueError, r"`logit` must be a number .*nan", {"logit": float("nan")}),
            (ValueError, r"`temperature` must be positive, got 0\.0", {"temperature": 0.0}),
            (ValueError, r"`temperature` must be a single number", {"temperature": X[0]}),
            _WRONG_BITS,
        ),
    ),
    Case(
        dropout.concrete_dropout,
        (KEY, X),
        {"temperature": 0.5},
        options={"logit": jnp.linspace(-2.0, 1.0, 8)},
    ),
    Case(
        dropout.concrete_dropout_penalty,
        (X,),
        {"logit": -1.0, "weight": 0.1, "entropy_weight": 0.2},
        errors=(
            (ValueError, r"`logit` must broadcast.*\(8,\)", {"logit": jnp.ones(8)}),
            (ValueError, r"`logit` must be a number .*nan", {"logit": float("nan")}),
            (ValueError, r"`weight`.*got -1", {"weight": -1.0}),
            (ValueError, r"`weight` must be a single number", {"weight": X[0]}),
            (ValueError, r"`entropy_weight`.*got -1", {"entropy_weight": -1.0}),
            (ValueError, r"`entropy_weight` must be a single number", {"entropy_weight": X[0]}),
        ),
    ),
    Case(
        dropout.variational_dense,
        (KEY, X, KERNEL, LOG_VARIANCE),
        options={"bias": jnp.linspace(-1.0, 1.0, 8)},
        errors=(
            (ValueError, r"`bias` must broadcast.*\(8,\).*\(5,\)", {"bias": jnp.ones(5)}),
            _WRONG_BITS,
        ),
    ),
    Case(
        dropout.variational_dense_inference,
        (X, KERNEL, LOG_VARIANCE),
        {"threshold": 2.0},
        options={"bias": jnp.linspace(-1.0, 1.0, 8)},
        errors=(
            (ValueError, r"`bias` must broadcast.*\(8,\).*\(5,\)", {"bias": jnp.ones(5)}),
            (ValueError, r"`threshold` must be a number in .*got nan", {"threshold": float("nan")}),
        ),
    ),
    Case(
        dropout.variational_dropout,
        (KEY, X),
        {"log_alpha": -1.0},
        {"log_alpha": -float("inf")},
        errors=(
            (ValueError, r"`log_alpha` .*below infinity, got inf", {"log_alpha": float("inf")}),
            (ValueError, r"`log_alpha` .*below infinity, got nan", {"log_alpha": float("nan")}),
            (ValueError, r"`log_alpha` must broadcast.*\(5,\)", {"log_alpha": jnp.ones(5)}),
            _WRONG_BITS,
        ),
    ),
    Case(dropout.variational_dropout, (KEY, X), options={"log_alpha": jnp.linspace(-2.0, 1.0, 8)}),
    Case(dropout.variational_dropout_kl, (3 * X,)),
    Case(dropout.variational_log_alpha, (2 + X, LOG_VARIANCE[0])),
    Case(
        dropout.variational_prune,
        (X, LOG_VARIANCE[0]),
        {"threshold": 2.0},
        {"threshold": float("inf")},
        errors=(
            (ValueError, r"`threshold` must be a number in .*got nan", {"threshold": float("nan")}),
            (ValueError, r"`threshold` must be a single number", {"threshold": X[0]}),
        ),
    ),
    Case(
        dropout.zoneout,
        (STEADY_KEY, X, X[::-1]),
        {"rate": 0.3},
        {"rate": 0.0},
        call=_zoneout,
        errors=(*_WRONG_RATES, _WRONG_BITS),
    ),
    Case(
        dropout.zoneout_mean,
        (X, X[::-1]),
        {"rate": 0.3},
        {"rate": 0.0},
        call=_zoneout_mean,
        errors=_WRONG_RATES,
    ),
    Case(dropout.classical_scale, (X,), {"rate": 0.3}, {"rate": 0.0}, errors=_WRONG_RATES),
    Case(
        noise.gaussian_noise,
        (KEY, X),
        {"stddev": 0.3},
        {"stddev": 0.0},
        errors=(
            (ValueError, r"`stddev` must be zero or positive, got -1", {"stddev": -1.0}),
            (
                ValueError,
                r"`stddev` must broadcast.*\(16, 1, 1\)",
                {"stddev": jnp.ones((16, 1, 1))},
            ),
            _WRONG_BITS,
        ),
    ),
    Case(noise.gaussian_noise, (KEY, X), options={"stddev": jnp.linspace(0.0, 1.0, 8)}),
    Case(
        noise.uniform_noise,
        (KEY, X),
        {"limit": 0.3},
        {"limit": 0.0},
        errors=(
            (ValueError, r"`limit` must be zero or positive, got nan", {"limit": float("nan")}),
            (ValueError, r"`limit` must broadcast.*\(5,\)", {"limit": jnp.ones(5)}),
            _WRONG_BITS,
        ),
    ),
    Case(
        noise.salt_and_pepper,
        (KEY, X),
        {"rate": 0.3, "low": -1.5, "high": 2.0},
        {"rate": 0.0},
        errors=(
            *_WRONG_RATES,
            (ValueError, r"`low` must broadcast.*\(5,\)", {"low": jnp.ones(5)}),
            (ValueError, r"`high` must broadcast.*\(16,\)", {"high": jnp.ones(16)}),
            _WRONG_BITS,
        ),
    ),
    Case(
        noise.salt_and_pepper,
        (KEY, X),
        options={"rate": 0.3, "low": jnp.full((1, 8), -1.0), "high": jnp.linspace(1.0, 2.0, 8)},
    ),
    Case(
        noise.perturb,
        (KEY, X),
        {"stddev": 0.3},
        {"stddev": 0.0},
        errors=(
            (ValueError, r"`stddev` must be zero or positive, got -1", {"stddev": -1.0}),
            (ValueError, r"`stddev` must be a single number.*\(8,\)", {"stddev": X[0]}),
            _WRONG_BITS,
        ),
    ),
    Case(
        normalization.moments,
        (X,),
        options={"axis": 0},
        errors=((ValueError, r"`axis`.*got 2", {"axis": 2}),),
    ),
    Case(normalization.moments, (X, MASK), call=_masked_moments),
    Case(
        normalization.batch_norm,
        (X, STATS),
        {"momentum": 0.9, "eps": 1e-3},
        # Each device with statistics of its own, for what `shard_map` does to a function.
        options={"axis_name": ()},
        errors=(
            (ValueError, r"`momentum`.*\[0, 1\].*1\.1", {"momentum": 1.1}),
            (ValueError, r"`eps`.*got -1", {"eps": -1.0}),
            (ValueError, r"`scale`.*\(8,\).*\(5,\)", {"scale": jnp.ones(5)}),
            (ValueError, r"`where`.*\(3,\)", {"where": jnp.ones(3)}),
        ),
    ),
    Case(
        normalization.batch_norm,
        (X, STATS, MASK, jnp.linspace(0.5, 1.5, 8), jnp.linspace(-1, 1, 8)),
        {"momentum": 0.9, "eps": 1e-3},
        call=_masked_batch_norm,
    ),
    Case(normalization.batch_norm_inference, (X, STATS), {"eps": 1e-3}),
    Case(normalization.layer_norm, (X,), {"eps": 1e-3}, errors=_WRONG_EPS),
    Case(normalization.layer_norm, (SERIES, TIMES), {"eps": 1e-3}, call=_masked_layer_norm),
    Case(normalization.rms_norm, (X,), {"eps": 1e-3}, errors=_WRONG_EPS),
    Case(normalization.rms_norm, (SERIES, TIMES), {"eps": 1e-3}, call=_masked_rms_norm),
    Case(
        normalization.group_norm,
        (MAPS,),
        {"eps": 1e-3},
        options={"groups": 4},
        errors=(
            *_WRONG_EPS,
            (ValueError, r"`groups` must divide the 8 channels of `x`, got 3", {"groups": 3}),
            (TypeError, r"`groups` must be an integer, got float 2\.0", {"groups": 2.0}),
            (
                ValueError,
                r"`reduction_axes` must name the last axis, the channels, got \(1, 2\)",
                {"reduction_axes": (1, 2)},
            ),
        ),
    ),
    Case(normalization.group_norm, (SERIES, TIMES), {"eps": 1e-3}, call=_masked_group_norm),
    Case(
        normalization.instance_norm,
        (SERIES,),
        {"eps": 1e-3},
        errors=(
            *_WRONG_EPS,
            (ValueError, r"`feature_axes` must not name the first axis", {"feature_axes": (0, 2)}),
        ),
    ),
    Case(
        normalization.fold_batch_norm,
        (X, STATS, *(jnp.linspace(low, 1.5, 8) for low in (-1.0, 0.5, -0.5))),
        {"eps": 1e-3},
        call=_fold_batch_norm,
    ),
    Case(
        normalization.fold_batch_norm,
        (X, STATS),
        {"eps": 1e-3},
        errors=(
            (ValueError, r"`eps`.*got -1", {"eps": -1.0}),
            (ValueError, r"`axis`.*got 2", {"axis": 2}),
            (ValueError, r"`layer_bias`.*\(8,\).*\(5,\)", {"layer_bias": jnp.ones(5)}),
            (ValueError, r"`scale`.*\(8,\).*\(5,\)", {"scale": jnp.ones(5)}),
            (ValueError, r"`bias`.*\(8,\).*\(5,\)", {"bias": jnp.ones(5)}),
        ),
    ),
    Case(
        normalization.ghost_batch_norm,
        (X, STATS),
        {"momentum": 0.9, "eps": 0.1},
        options={"ghost_batch_size": 2},
        errors=(
            (ValueError, r"`ghost_batch_size` must divide.*5 for 16", {"ghost_batch_size": 5}),
            (ValueError, r"`ghost_batch_size` must be positive, got 0", {"ghost_batch_size": 0}),
            (TypeError, r"`ghost_batch_size`.*integer.*2\.0", {"ghost_batch_size": 2.0}),
            (ValueError, r"`momentum`.*\[0, 1\].*1\.1", {"momentum": 1.1}),
            (ValueError, r"`eps`.*got -1", {"eps": -1.0}),
            (ValueError, r"`scale`.*\(8,\).*\(5,\)", {"scale": jnp.ones(5)}),
            (ValueError, r"`where`.*\(3,\)", {"where": jnp.ones(3)}),
        ),
    ),
    Case(
        normalization.ghost_batch_norm,
        (X, STATS, MASK),
        {"momentum": 0.9, "eps": 0.1},
        call=_masked_ghost_batch_norm,
    ),
    Case(
        normalization.batch_renorm,
        (X, FAR_STATS),
        {"r_max": 4.0, "d_max": 0.5, "momentum": 0.9, "eps": 1e-3},
        options={"axis_name": ()},
        errors=(
            (ValueError, r"`r_max` must be .*\[1, inf\], got 0\.5", {"r_max": 0.5}),
            (ValueError, r"`r_max` must be a single number", {"r_max": X[0]}),
            (ValueError, r"`d_max` must be zero or positive, got -1", {"d_max": -1.0}),
            (ValueError, r"`d_max` must be a single number", {"d_max": X[0]}),
            (ValueError, r"`momentum`.*\[0, 1\].*1\.1", {"momentum": 1.1}),
            (ValueError, r"`eps`.*got -1", {"eps": -1.0}),
            (ValueError, r"`bias`.*\(8,\).*\(5,\)", {"bias": jnp.ones(5)}),
            (ValueError, r"`where`.*\(3,\)", {"where": jnp.ones(3)}),
            (ValueError, r"`axis` must lie in \[-2, 2\), got 2", {"axis": 2}),
        ),
    ),
    Case(
        normalization.batch_renorm,
        (X, FAR_STATS, MASK),
        {"r_max": 4.0, "d_max": 0.5, "momentum": 0.9, "eps": 1e-3},
        call=_masked_batch_renorm,
    ),
    Case(
        normalization.adaptive_instance_norm,
        (SERIES, X, 2 + X),
        {"eps": 1e-3},
        errors=(
            (ValueError, r"`eps`.*got -1", {"eps": -1.0}),
            (ValueError, r"`where`.*\(3,\)", {"where": jnp.ones(3)}),
        ),
    ),
    Case(
        normalization.adaptive_instance_norm,
        (SERIES, X, 2 + X, jnp.arange(16 * 4).reshape(16, 4) % 5 != 0),
        {"eps": 1e-3},
        call=_masked_adaptive_instance_norm,
    ),
    Case(
        normalization.filter_response_norm,
        (SERIES,),
        {"eps": 1e-3},
        errors=(
            (ValueError, r"`eps` must broadcast.*\(8,\).*\(5,\)", {"eps": jnp.ones(5)}),
            (ValueError, r"`scale`.*\(8,\).*\(5,\)", {"scale": jnp.ones(5)}),
            (ValueError, r"`bias`.*\(8,\).*\(5,\)", {"bias": jnp.ones(5)}),
            (ValueError, r"`threshold`.*\(8,\).*\(5,\)", {"threshold": jnp.ones(5)}),
        ),
    ),
    Case(
        normalization.filter_response_norm,
        (MAPS,),
        options={**FEATURES, "threshold": jnp.linspace(-1, 0.5, 8), "eps": jnp.full(8, -0.1)},
    ),
    Case(
        normalization.l2_normalize,
        (X,),
        errors=((ValueError, r"`axis` must lie in \[-2, 2\), got 2", {"axis": 2}),),
    ),
    Case(normalization.l2_normalize, (SERIES,), options={"axis": (0, 1)}),
    Case(
        dropout.hard_concrete,
        (KEY, 2 * X),
        {"temperature": 0.7, "low": -0.4, "high": 2.2},
        errors=(*_WRONG_GATES, _WRONG_BITS),
    ),
    Case(
        dropout.hard_concrete_inference,
        (2 * X,),
        {"low": -0.4, "high": 2.2},
        errors=_WRONG_ENDS,
    ),
    Case(
        information.beta_vae_loss,
        (X[:, 0], X, LOG_VARIANCES),
        {"beta": 0.3},
        errors=(
            (ValueError, r"`beta` must be zero or positive, got -1", {"beta": -1.0}),
            (ValueError, r"`beta` must be a single number.*\(8,\)", {"beta": X[0]}),
            (
                ValueError,
                r"`where` .* of `distortion`, \(16,\), got \(3,\)",
                {"where": MASK[:3, 0]},
            ),
        ),
    ),
    Case(
        information.beta_vae_loss,
        (X, LOG_VARIANCES, X[:, 0]),
        {"beta": 0.3},
        call=_rate_of_vae,
    ),
    Case(
        information.beta_vae_loss,
        (X, LOG_VARIANCES, X[:, 0], MASK[:, 0]),
        {"beta": 0.3},
        call=_masked_vae,
    ),
    Case(
        information.bottleneck_loss,
        (X, LABELS, X[::-1], LOG_VARIANCES),
        {"beta": 0.3},
        errors=(
            (ValueError, r"`beta` must be zero or positive, got -1", {"beta": -1.0}),
            (ValueError, r"`beta` must be a single number.*\(8,\)", {"beta": X[0]}),
            (ValueError, r"`where` .* of `labels`, \(16,\), got \(3,\)", {"where": MASK[:3, 0]}),
        ),
    ),
    Case(
        information.bottleneck_loss,
        (X, LOG_VARIANCES, X[::-1], LABELS, MASK[:, 0]),
        {"beta": 0.3},
        call=_rate_of_bottleneck,
    ),
    Case(information.categorical_kl, (X, X[::-1])),
    Case(information.confidence_penalty, (X,)),
    Case(
        information.free_bits,
        (1 + X,),
        {"level": 0.95},
        errors=(
            (ValueError, r"`level` must be .* in \[0, inf\], got -1", {"level": -1.0}),
            (ValueError, r"`level` must be a single number.*\(8,\)", {"level": X[0]}),
            (
                ValueError,
                r"`where` .* of `kl` without its last axis, \(16,\), got \(16, 1\)",
                {"where": MASK},
            ),
        ),
    ),
    Case(information.free_bits, (1 + X, MASK[:, 0]), {"level": 0.95}, call=_masked_free_bits),
    Case(information.gaussian_kl, (X, LOG_VARIANCES)),
    Case(information.sample_gaussian, (KEY, X, LOG_VARIANCES), errors=(_WRONG_BITS,)),
    Case(information.symmetric_kl, (X, X[::-1])),
    Case(information.jensen_shannon, (SERIES,)),
    Case(penalties.l1, (X,)),
    Case(penalties.l2, (X,)),
    Case(
        penalties.elastic_net,
        (X,),
        {"l1": 0.3, "l2": 0.5},
        errors=tuple(
            error
            for name in ("l1", "l2")
            for error in (
                (ValueError, rf"`{name}` must be zero or positive, got -1", {name: -1.0}),
                (ValueError, rf"`{name}` must broadcast.*\(5,\)", {name: jnp.ones(5)}),
            )
        ),
    ),
    Case(penalties.elastic_net, (X,), {"l2": 0.5}, options={"l1": jnp.linspace(0, 1, 8)}),
    Case(penalties.distance, (X, X[::-1])),
    Case(
        penalties.group_lasso,
        (X,),
        errors=((ValueError, r"`axis` must lie in \[-2, 2\), got 2", {"axis": 2}),),
    ),
    Case(penalties.group_lasso, (SERIES,), options={"axis": (0, 2)}),
    *(
        Case(
            function,
            (MAPS,),
            options={"axis": (1, 2)},
            errors=(
                (ValueError, r"`axis` must lie in \[-4, 4\), got 4", {"axis": 4}),
                (ValueError, r"`axis` must name at least one axis, got \(\)", {"axis": ()}),
            ),
        )
        for function in (penalties.total_variation, penalties.isotropic_total_variation)
    ),
    *(
        Case(
            function,
            (MATRIX,),
            errors=((ValueError, r"`axis` must lie in \[-2, 2\), got 2", {"axis": 2}),),
        )
        for function in (penalties.orthogonality, penalties.spectral, penalties.nuclear)
    ),
    # More outputs than inputs.
    *(
        Case(function, (MATRIX.reshape(16, 2, 4),), options={"axis": (0, 1)})
        for function in (penalties.orthogonality, penalties.spectral, penalties.nuclear)
    ),
    Case(
        penalties.hard_concrete_l0,
        (X,),
        {"temperature": 0.7, "low": -0.4, "high": 2.2},
        errors=_WRONG_GATES,
    ),
    Case(
        penalties.activity,
        (X,),
        {"weight": 0.3},
        options={"penalty": penalties.l1},
        errors=(
            (ValueError, r"`weight` must be zero or positive, got -1", {"weight": -1.0}),
            (ValueError, r"`weight` must be a single number.*\(8,\)", {"weight": X[0]}),
        ),
    ),
    Case(penalties.decorrelation, (X,)),
    Case(penalties.total, (X,), options={"penalty": penalties.l1}),
    Case(
        smoothness.gradient_penalty, (KEY, X, 2 * X[::-1]), {"target": 0.7}, call=_gradient_penalty
    ),
    Case(smoothness.graph_laplacian, (X,), call=_dense_laplacian),
    Case(
        smoothness.graph_laplacian,
        (X, jnp.linspace(0.0, 1.0, 48).reshape(16, 3)),
        call=_knn_laplacian,
    ),
    Case(smoothness.jacobian, (KEY, X), call=_jacobian),
    Case(smoothness.jacobian, (KEY, X), call=_many_probes),
    Case(smoothness.jacobian_projected, (KEY, X), call=_jacobian_projected),
    Case(smoothness.jacobian_exact, (X,), call=_jacobian_rows),
    Case(smoothness.jacobian_exact, (X,), call=_jacobian_columns),
    Case(smoothness.jacobian_exact, (SERIES,), call=_jacobian_many_rows),
    Case(
        smoothness.knn_affinity,
        (X,),
        {"length_scale": 1.5},
        options={"neighbors": 3},
        call=_knn_weights,
        errors=(
            (ValueError, r"`neighbors` must be in \[1, 15\].*got 16", {"neighbors": 16}),
            (ValueError, r"`neighbors` must be in \[1, 15\].*got 0", {"neighbors": 0}),
            (TypeError, r"`neighbors` must be an integer, got float 3\.0", {"neighbors": 3.0}),
            (ValueError, r"`length_scale` must be positive, got 0", {"length_scale": 0.0}),
            (ValueError, r"`length_scale` must be a single number", {"length_scale": X[0]}),
        ),
    ),
    Case(
        smoothness.rbf_affinity,
        (X,),
        {"length_scale": 1.5},
        errors=(
            (ValueError, r"`length_scale` must be .*\[0, inf\].*got -1", {"length_scale": -1.0}),
            (ValueError, r"`length_scale` must be positive, got 0", {"length_scale": 0.0}),
        ),
    ),
    Case(smoothness.zero_centered_penalty, (X,), call=_zero_centered_penalty),
    Case(
        targets.smoothed_cross_entropy,
        (X, LABELS),
        {"alpha": 0.1},
        errors=((ValueError, r"`alpha`.*\[0, 1\].*2", {"alpha": 2.0}),),
    ),
    Case(
        targets.mixed_cross_entropy,
        (X, LABELS, LABELS[::-1]),
        {"lam": 0.3, "alpha": 0.1},
        errors=(
            (ValueError, r"`lam` must be the share .* in \[0, 1\], got 1\.5", {"lam": 1.5}),
            (ValueError, r"`lam` must broadcast to shape \(16,\).*\(5,\)", {"lam": X[0, :5]}),
            (ValueError, r"`alpha`.*\[0, 1\].*2", {"alpha": 2.0}),
            (ValueError, r"`where` .* of `labels_a`, \(16,\), got \(16, 1\)", {"where": MASK}),
        ),
    ),
    Case(
        targets.mixed_cross_entropy,
        (X, LABELS, LABELS[::-1], jnp.linspace(0.1, 0.9, 16), MASK[:, 0]),
        {"alpha": 0.1},
        call=_mixed_per_example,
    ),
    Case(
        targets.flood,
        (X,),
        {"level": 0.3},
        {"level": -float("inf")},
        errors=(
            (ValueError, r"`level` must be a number in .*got nan", {"level": float("nan")}),
            (ValueError, r"`level` must be a single number.*\(8,\)", {"level": X[0]}),
        ),
    ),
    Case(
        proximal.l1,
        (X,),
        {"threshold": 0.3},
        {"threshold": 0.0},
        errors=(
            (ValueError, r"`threshold`.*got -1", {"threshold": -1.0}),
            (ValueError, r"`threshold` must broadcast.*\(5, 1\)", {"threshold": jnp.ones((5, 1))}),
        ),
    ),
    Case(
        proximal.l2,
        (X,),
        {"threshold": 0.3},
        {"threshold": 0.0},
        errors=((ValueError, r"`threshold`.*got -1", {"threshold": -1.0}),),
    ),
    Case(
        proximal.elastic_net,
        (X,),
        {"l1": 0.6, "l2": 0.8, "threshold": 0.5},
        {"threshold": 0.0},
        errors=tuple(
            error
            for name in ("l1", "l2", "threshold")
            for error in (
                (ValueError, rf"`{name}` must be zero or positive, got -1", {name: -1.0}),
                (ValueError, rf"`{name}` must broadcast.*\(5, 1\)", {name: jnp.ones((5, 1))}),
            )
        ),
    ),
    Case(
        proximal.l0,
        (X,),
        {"threshold": 0.3},
        {"threshold": 0.0},
        errors=((ValueError, r"`threshold`.*got -1", {"threshold": -1.0}),),
    ),
    Case(
        proximal.box,
        (X,),
        {"low": -0.6, "high": 0.8, "threshold": 0.5},
        {"threshold": 0.0},
        errors=(
            (ValueError, r"`threshold`.*got -1", {"threshold": -1.0}),
            (ValueError, r"`low` must be at most `high`, got 1.0 and 0.8", {"low": 1.0}),
            (ValueError, r"`high` must broadcast.*\(5, 1\)", {"high": jnp.ones((5, 1))}),
        ),
    ),
    Case(
        proximal.group_lasso,
        (X,),
        {"threshold": 0.3},
        {"threshold": 0.0},
        errors=(
            (ValueError, r"`threshold`.*got -1", {"threshold": -1.0}),
            (ValueError, r"`threshold` must broadcast.*\(5, 1\)", {"threshold": jnp.ones((5, 1))}),
            (ValueError, r"`axis` must lie in \[-2, 2\), got 2", {"axis": 2}),
        ),
    ),
    Case(proximal.group_lasso, (SERIES,), {"threshold": 0.3}, options={"axis": (0, 2)}),
    Case(proximal.group_lasso, (X, THRESHOLDS), call=_group_lasso_in_a_metric),
    Case(
        proximal.sparse_group_lasso,
        (X,),
        {"l1_share": 0.4, "threshold": 0.3},
        {"threshold": 0.0},
        errors=(
            (ValueError, r"`l1_share` must be a number in \[0, 1\], got 2", {"l1_share": 2.0}),
            (ValueError, r"`threshold`.*got -1", {"threshold": -1.0}),
        ),
    ),
    Case(
        proximal.sparse_group_lasso,
        (X, THRESHOLDS),
        {"l1_share": 0.4},
        call=_sparse_group_lasso_in_a_metric,
    ),
    Case(
        proximal.nuclear,
        (MATRIX,),
        {"threshold": 0.5},
        {"threshold": 0.0},
        errors=(
            (ValueError, r"`threshold`.*got -1", {"threshold": -1.0}),
            (ValueError, r"`threshold` .*single.*\(2,\).*metric", {"threshold": jnp.ones(2)}),
            (ValueError, r"`axis` must lie in \[-2, 2\), got 2", {"axis": 2}),
        ),
    ),
    Case(
        proximal.nuclear,
        (MATRIX.reshape(16, 2, 4),),
        {"threshold": 0.5},
        options={"axis": (0, 1)},
    ),
    Case(
        projections.unit_norm,
        (X,),
        errors=((ValueError, r"`axis` must lie in \[-2, 2\), got 2", {"axis": 2}),),
    ),
    Case(
        projections.min_max_norm,
        (X,),
        {"low": 2.4, "high": 2.6, "rate": 0.7},
        {"rate": 0.0},
        errors=(
            (ValueError, r"`low` must be zero or positive, got -1", {"low": -1.0}),
            (ValueError, r"`low` must be at most `high`, got 3.0 and 2.6", {"low": 3.0}),
            (ValueError, r"`high` must broadcast.*\(16, 1\)", {"high": jnp.ones((16, 1))}),
            (ValueError, r"`rate` must be a probability.*got 2", {"rate": 2.0}),
        ),
    ),
    Case(
        projections.spectral_ball,
        (MATRIX,),
        {"radius": 1.5},
        {"radius": float("inf")},
        errors=(
            (ValueError, r"`radius`.*got -1", {"radius": -1.0}),
            (ValueError, r"`radius` must be a single number", {"radius": jnp.ones(2)}),
        ),
    ),
    Case(
        projections.spectral_ball,
        (MATRIX.reshape(16, 2, 4),),
        {"radius": 1.5},
        options={"axis": (0, 1)},
    ),
    Case(
        projections.l1_ball,
        (X,),
        {"radius": 2.5},
        {"radius": float("inf")},
        errors=(
            (ValueError, r"`radius`.*got -1", {"radius": -1.0}),
            (ValueError, r"`radius` must broadcast.*\(16, 1\)", {"radius": jnp.ones((16, 1))}),
        ),
    ),
    Case(projections.l1_ball, (SERIES,), {"radius": 3.0}, options={"axis": (0, 2)}),
    Case(projections.non_negative, (X,)),
    Case(
        projections.max_norm,
        (X,),
        {"radius": 1.5},
        {"radius": float("inf")},
        errors=(
            (ValueError, r"`radius`.*got -1", {"radius": -1.0}),
            (ValueError, r"`radius` must broadcast.*\(16, 1\)", {"radius": jnp.ones((16, 1))}),
        ),
    ),
    Case(projections.max_norm, (X,), {"radius": 1.5}, {"radius": float("inf")}, {"axis": 1}),
    Case(
        reparam.weight_norm,
        (X,),
        {"scale": 1.5},
        errors=(
            (
                ValueError,
                r"`scale` must broadcast.*\(8,\).*\(16, 1\)",
                {"scale": jnp.ones((16, 1))},
            ),
            (ValueError, r"`axis`.*got 2", {"axis": 2}),
        ),
    ),
    Case(
        reparam.weight_norm,
        (SERIES,),
        options={"scale": jnp.linspace(0.5, 2, 32).reshape(4, 8), "axis": (-2, -1)},
    ),
    Case(reparam.weight_norm_scale, (X,), errors=((ValueError, r"`axis`.*got 2", {"axis": 2}),)),
    # With more steps the gradient is not that of the value: test_reparam.py has the other columns.
    Case(
        reparam.spectral_norm,
        (X, VECTOR),
        options={"steps": 0},
        errors=(
            (ValueError, r"`steps` must be at least 0, got -1", {"steps": -1}),
            (TypeError, r"`steps` must be an integer, got float 1\.0", {"steps": 1.0}),
            (ValueError, r"`axis`.*got 2", {"axis": 2}),
            (ValueError, r"`u` must have .* \(16,\), got \(8,\)", {"axis": 0}),
        ),
    ),
    Case(
        reparam.spectral_norm_sigma,
        (X, VECTOR),
        errors=((ValueError, r"`u` must have .* \(16,\), got \(8,\)", {"axis": 0}),),
    ),
    Case(
        reparam.weight_standardization,
        (X,),
        {"scale": 1.5, "eps": 1e-3},
        errors=(
            (ValueError, r"`scale` must broadcast.*\(8,\).*\(5,\)", {"scale": jnp.ones(5)}),
            (ValueError, r"`eps`.*got -1", {"eps": -1.0}),
            (ValueError, r"`axis`.*got 2", {"axis": 2}),
        ),
    ),
    Case(
        reparam.weight_standardization,
        (SERIES,),
        {"eps": 1e-3},
        {},
        {"scale": jnp.linspace(0.5, 2, 32).reshape(4, 8), "axis": (-2, -1)},
    ),
    Case(
        transforms.sam_perturbation,
        (X,),
        {"radius": 0.5},
        errors=((ValueError, r"`radius` must be zero or positive, got -1", {"radius": -1.0}),),
    ),
    Case(
        transforms.asam_perturbation,
        (X, jnp.cos(X)),
        {"radius": 0.5, "eta": 0.01},
        errors=(
            (ValueError, r"`radius` must be zero or positive, got -1", {"radius": -1.0}),
            (ValueError, r"`eta` must be zero or positive, got -1", {"eta": -1.0}),
        ),
    ),
)


def _proximal(*, weight: Any, learning_rate: Any) -> optax.GradientTransformationExtraArgs:
    return transforms.proximal(proximal.l1, weight, learning_rate)


def _project(*, radius: Any) -> optax.GradientTransformationExtraArgs:
    return transforms.project(partial(projections.max_norm, radius=radius))


def _decay(*, weight: Any, learning_rate: Any) -> optax.GradientTransformationExtraArgs:
    return transforms.decoupled_decay(weight, learning_rate=learning_rate)


def _independent(*, weight: Any) -> optax.GradientTransformationExtraArgs:
    return transforms.independent_decay(weight)


def _cautious(*, weight: Any, learning_rate: Any) -> optax.GradientTransformationExtraArgs:
    return transforms.cautious_decay(weight, learning_rate=learning_rate)


def _layerwise(*, factor: Any) -> optax.GradientTransformationExtraArgs:
    # The tree has to be known beforehand, and the tests have several: the kernel is deepest in all.
    def update(updates: Any, state: Any, params: Any = None) -> Any:
        depth = jax.tree.map(jnp.ndim, params)
        return transforms.layerwise_scale(factor, depth).update(updates, state, params)

    start = transforms.layerwise_scale(factor, {}).init
    return optax.GradientTransformationExtraArgs(start, update)  # pyright: ignore


def _gradient(*, weight: Any) -> optax.GradientTransformationExtraArgs:
    return transforms.add_penalty_gradient(penalties.l2, weight)


FUNCTIONS += tuple(Case(**row) for row in (*augment_rows.ROWS, *series_rows.ROWS))

FUNCTIONS += (
    Case(ensembles.class_uncertainty, (SERIES,)),
    Case(
        ensembles.ensemble_mse,
        (X, X[::-1]),
        {"members": 4.0},
        off={"members": 1.0},
        errors=((ValueError, r"`members` must be at least 1, got 0", {"members": 0}),),
    ),
    # Three members on each of eight devices.
    Case(
        ensembles.predicted_mse,
        (jnp.sin(jnp.arange(1.0, 24 * 8 + 1)).reshape(24, 8), X[0]),
        {"members": 4.0},
        errors=((ValueError, r"`members` must be at least 1, got nan", {"members": float("nan")}),),
    ),
)

TRANSFORMATIONS = (
    Transformation(
        transforms.proximal, _proximal, {"weight": 0.5, "learning_rate": 0.2}, {"weight": 0.0}
    ),
    Transformation(transforms.project, _project, {"radius": 0.8}, {"radius": float("inf")}),
    Transformation(
        transforms.decoupled_decay, _decay, {"weight": 0.5, "learning_rate": 0.2}, {"weight": 0.0}
    ),
    Transformation(transforms.independent_decay, _independent, {"weight": 0.1}, {"weight": 0.0}),
    Transformation(
        transforms.cautious_decay,
        _cautious,
        {"weight": 0.5, "learning_rate": 0.2},
        {"weight": 0.0},
    ),
    Transformation(transforms.layerwise_scale, _layerwise, {"factor": 0.75}, {"factor": 1.0}),
    Transformation(transforms.add_penalty_gradient, _gradient, {"weight": 0.1}, {"weight": 0.0}),
)

# Public names that are not functions of data with strengths, and the tests that hold them.
ELSEWHERE = {
    **augment_rows.ELSEWHERE,
    **series_rows.ELSEWHERE,
    advice.Advice: "test_advice.py",
    advice.advise: "test_advice.py",
    diagnosis.Change: "test_diagnosis.py",
    diagnosis.Diagnosis: "test_diagnosis.py",
    diagnosis.Evidence: "test_diagnosis.py",
    diagnosis.Thresholds: "test_diagnosis.py",
    diagnosis.Verdict: "test_diagnosis.py",
    diagnosis.diagnose: "test_diagnosis.py",
    digests.digest: "test_digests.py",
    digests.verify: "test_digests.py",
    dropout.drop_path_rates: "test_depth.py",
    dropout.fold_in_axis: "test_dropout.py",
    early_stopping.EarlyStopping: "test_early_stopping.py",
    early_stopping.init: "test_early_stopping.py",
    early_stopping.update: "test_early_stopping.py",
    early_stopping.update_maximizing: "test_early_stopping.py",
    ensembles.ClassUncertainty: "test_ensembles.py",
    ensembles.ErrorMoments: "test_ensembles.py",
    ensembles.Estimate: "test_ensembles.py",
    ensembles.Prediction: "test_ensembles.py",
    ensembles.error_moments: "test_ensembles.py",
    ensembles.monte_carlo: "test_ensembles.py",
    explain.Conflict: "test_explain.py",
    explain.Effect: "test_explain.py",
    explain.Explanation: "test_explain.py",
    explain.explain: "test_explain.py",
    linen.ActivityPenalty: "test_activity_penalties.py",
    linen.AdaptiveInstanceNorm: "test_linen_norm_variants.py",
    linen.AlphaDropout: "test_linen_dropout.py",
    linen.BatchNorm: "test_contract.py, test_linen.py",
    linen.BatchRenorm: "test_linen_norm_variants.py",
    linen.ClassicalDropout: "test_linen_dropout.py",
    linen.ConcreteDropout: "test_linen_layers.py",
    linen.DropBlock: "test_linen_dropout.py",
    linen.DropConnect: "test_linen_layers.py",
    linen.DropConnectConv: "test_linen_layers.py",
    linen.DropConnectDense: "test_linen_layers.py",
    linen.DropPath: "test_linen_dropout.py",
    linen.Dropout: "test_contract.py, test_linen.py, test_linen_dropout.py",
    linen.EmbeddingDropout: "test_linen_dropout.py",
    linen.FeatureAlphaDropout: "test_linen_dropout.py",
    linen.FilterResponseNorm: "test_linen_norm_variants.py",
    linen.GaussianDropout: "test_linen_dropout.py",
    linen.GaussianNoise: "test_linen_dropout.py",
    linen.GroupNorm: "test_flax_norms.py, test_layer_norms.py",
    linen.InstanceNorm: "test_flax_norms.py, test_layer_norms.py",
    linen.LayerNorm: "test_flax_norms.py, test_layer_norms.py",
    linen.RMSNorm: "test_flax_norms.py, test_layer_norms.py",
    linen.GhostBatchNorm: "test_linen_norm_variants.py",
    linen.LockedDropout: "test_linen_dropout.py",
    linen.LockedDropoutCell: "test_linen_recurrent.py",
    linen.PatchDropout: "test_linen_dropout.py",
    linen.Perturb: "test_linen_layers.py",
    linen.SaltAndPepper: "test_linen_dropout.py",
    linen.SpatialDropout: "test_linen_dropout.py",
    linen.Stochastic: "test_linen.py",
    linen.SpectralNorm: "test_linen_reparam.py",
    linen.StochasticDepth: "test_linen_layers.py",
    linen.UniformNoise: "test_linen_dropout.py",
    linen.VariationalDense: "test_linen_layers.py",
    linen.WeightNorm: "test_linen_reparam.py",
    linen.WeightStandardization: "test_linen_reparam.py",
    linen.Zoneout: "test_linen_dropout.py",
    linen.ZoneoutCell: "test_linen_recurrent.py",
    linen.pop_penalties: "test_activity_penalties.py",
    linen.fold_batch_norm: "test_fold.py, test_fold_refusals.py",
    masks.depth: "test_masks_by_path.py",
    masks.kernels: "test_masks.py",
    masks.match: "test_masks_by_path.py",
    masks.no_bias_or_norm: "test_masks_by_path.py",
    nnx.ActivityPenalty: "test_activity_penalties.py",
    nnx.AdaptiveInstanceNorm: "test_nnx_norm_variants.py",
    nnx.AlphaDropout: "test_nnx_dropout.py",
    nnx.BatchNorm: "test_contract.py, test_nnx.py",
    nnx.BatchRenorm: "test_nnx_norm_variants.py",
    nnx.ClassicalDropout: "test_nnx_dropout.py",
    nnx.ConcreteDropout: "test_nnx_dropout.py, test_nnx_layers.py",
    nnx.DropBlock: "test_nnx_dropout.py",
    nnx.DropConnect: "test_nnx_dropout.py, test_nnx_layers.py",
    nnx.DropConnectConv: "test_nnx_dropout.py, test_nnx_layers.py",
    nnx.DropConnectDense: "test_nnx_dropout.py, test_nnx_layers.py",
    nnx.DropPath: "test_nnx_dropout.py",
    nnx.Dropout: "test_contract.py, test_nnx.py, test_nnx_dropout.py",
    nnx.EmbeddingDropout: "test_nnx_dropout.py",
    nnx.FeatureAlphaDropout: "test_nnx_dropout.py",
    nnx.FoldedBatchNorm: "test_fold.py, test_fold_refusals.py",
    nnx.GroupNorm: "test_flax_norms.py, test_layer_norms.py",
    nnx.InstanceNorm: "test_flax_norms.py, test_layer_norms.py",
    nnx.LayerNorm: "test_flax_norms.py, test_layer_norms.py",
    nnx.RMSNorm: "test_flax_norms.py, test_layer_norms.py",
    nnx.FilterResponseNorm: "test_nnx_norm_variants.py",
    nnx.GaussianDropout: "test_nnx_dropout.py",
    nnx.GaussianNoise: "test_nnx_dropout.py",
    nnx.GhostBatchNorm: "test_nnx_norm_variants.py",
    nnx.LockedDropout: "test_nnx_dropout.py",
    nnx.LockedDropoutCell: "test_nnx_recurrent.py",
    nnx.PatchDropout: "test_nnx_dropout.py",
    nnx.Perturb: "test_nnx_dropout.py, test_nnx_layers.py",
    nnx.SaltAndPepper: "test_nnx_dropout.py",
    nnx.SpatialDropout: "test_nnx_dropout.py",
    nnx.SpectralNorm: "test_nnx_reparam.py",
    nnx.Stochastic: "test_nnx.py",
    nnx.StochasticDepth: "test_nnx_dropout.py, test_nnx_layers.py",
    nnx.UniformNoise: "test_nnx_dropout.py",
    nnx.VariationalDense: "test_nnx_dropout.py, test_nnx_layers.py",
    nnx.WeightNorm: "test_nnx_reparam.py",
    nnx.WeightStandardization: "test_nnx_reparam.py",
    nnx.Zoneout: "test_nnx_dropout.py",
    nnx.ZoneoutCell: "test_nnx_dropout.py, test_nnx_recurrent.py",
    nnx.Penalty: "test_activity_penalties.py",
    nnx.with_penalties: "test_activity_penalties.py",
    nnx.fold_batch_norm: "test_fold.py, test_fold_refusals.py",
    normalization.BatchStats: "test_normalization.py",
    normalization.Moments: "test_normalization.py",
    normalization.init_stats: "test_normalization.py",
    plateau.Plateau: "test_plateau.py",
    plateau.init: "test_plateau.py",
    plateau.update: "test_plateau.py",
    plateau.update_maximizing: "test_plateau.py",
    schedules.curriculum_dropout: "test_schedules.py",
    schedules.early_dropout: "test_schedules.py",
    schedules.late_dropout: "test_schedules.py",
    smoothness.Neighbors: "test_graphs.py",
    smoothness.virtual_adversarial: "test_virtual_adversarial.py",
    statistics.recalibrate: "test_statistics.py",
    statistics.recalibrate_model: "test_statistics.py",
    penalties.per_example: "test_activity_penalties.py",
    reparam.output_axes: "test_reparam.py",
    reparam.spectral_norm_vector: "test_reparam.py",
    reparam.weight_standardization_scale: "test_reparam.py",
    targets.smooth_labels: "test_targets.py",
    targets.smooth_labels_excluding: "test_targets.py",
    testing.check_regularizer: "test_contract.py",
    testing.contract: "test_contract.py",
    transforms.AverageState: "test_averaging.py",
    transforms.CompensationState: "test_rounding.py",
    transforms.LookaheadState: "test_averaging.py",
    transforms.PreconditionedState: "test_metrics.py",
    transforms.SharpnessState: "test_sharpness.py",
    transforms.StepState: "test_lifts.py",
    transforms.adagrad_metric: "test_metrics.py",
    transforms.adam_metric: "test_metrics.py",
    transforms.asam: "test_sharpness.py, test_wrappers.py",
    transforms.averaged: "test_averaging.py, test_wrappers.py",
    transforms.centralize: "test_centralization.py, test_wrappers.py",
    transforms.compensate_rounding: "test_rounding.py",
    transforms.exponential_average: "test_averaging.py, test_wrappers.py",
    transforms.lookahead: "test_averaging.py, test_wrappers.py",
    transforms.preconditioned_proximal: "test_metric_conventions.py, test_optimality.py",
    transforms.rmsprop_metric: "test_metrics.py",
    transforms.sam: "test_sharpness.py, test_wrappers.py",
    transforms.stochastic_weight_average: "test_averaging.py, test_wrappers.py",
}
