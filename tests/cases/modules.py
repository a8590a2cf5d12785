"""One row per module of ``jaxreg.linen`` and ``jaxreg.nnx``: the function that both lift.

A new module gets a row here; ``test_modules.py`` runs it in both frameworks.
"""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as flax_linen
from flax import nnx as flax_nnx

from jaxreg import dropout, linen, nnx, noise, normalization, reparam
from jaxreg.normalization import BatchStats

DRAWS = np.random.default_rng(0)
X = DRAWS.normal(1, 1, (4, 6, 6, 8)).astype(np.float32)
SERIES = X[:, 0]
FEATURES = X[:, :2, 0]
FEATURE_MASK = np.array([[[1], [1]], [[0], [1]], [[1], [0]], [[1], [1]]], bool)
KERNEL = DRAWS.normal(0, 0.5, (8, 8)).astype(np.float32)
WINDOW = DRAWS.normal(0, 0.5, (3, 8, 8)).astype(np.float32)
BIAS = DRAWS.normal(0, 1, 8).astype(np.float32)
SCALE = DRAWS.uniform(0.5, 2, 8).astype(np.float32)
MEAN = DRAWS.normal(1, 1, 8).astype(np.float32)
VAR = DRAWS.uniform(0.5, 2, 8).astype(np.float32)
UNIT = (np.ones(8) / np.sqrt(8)).astype(np.float32)


def unchanged(x: Any, **_: Any) -> Any:
    """Returns ``x``, as most modules do in evaluation mode."""
    return x


@dataclasses.dataclass(frozen=True)
class Module:
    """A module with the same name in both frameworks, and the function that it lifts.

    The function gets a key if the mode is ``deterministic``, and the inputs; then by name the
    parameters, the state, and the fields. With a state it returns the result and the new state.
    """

    name: str  # of the class; after a colon, the variant of this row
    function: Callable[..., Any]
    inputs: tuple[Any, ...] = (X,)
    evaluation: Callable[..., Any] = unchanged  # with the function's arguments except the key
    mode: str | None = "deterministic"  # or "use_running_average", "update_stats"; None has one
    fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # of the constructors
    of_linen: Mapping[str, Any] = dataclasses.field(
        default_factory=dict
    )  # fields that the function does not have
    of_nnx: Callable[[], Mapping[str, Any]] = dict  # the same, with new layers at each call
    renamed: Mapping[str, str] = dataclasses.field(
        default_factory=dict
    )  # fields by the names that the function has for them
    params: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    state: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    inside: str = ""  # field of the layer that has the parameters
    strength: str = ""  # field that may be zero, and may be out of its range
    wrong: float = -0.5
    traced: str = ""  # field that may be traced; by default the strength
    mask: Any = None

    @property
    def kind(self) -> str:
        return self.name.partition(":")[0]

    @property
    def linen(self) -> Callable[..., Any]:
        return partial(getattr(linen, self.kind), **self.of_linen)

    def nnx(self, **fields: Any) -> Any:
        return getattr(nnx, self.kind)(**{**self.of_nnx(), **fields})

    def arguments(self, **changes: Any) -> dict[str, Any]:
        """Returns the fields by the names that the function has for them."""
        fields = {**self.fields, **changes}
        return {self.renamed.get(name, name): value for name, value in fields.items()}

    def __str__(self) -> str:
        return self.name


def rated(name: str, function: Callable[..., Any], **others: Any) -> Module:
    """Returns the row of a module with a rate."""
    fields = {"rate": 0.3, **others.pop("fields", {})}
    return Module(name, function, fields=fields, strength="rate", **others)


# Stochastic modules without parameters.

AXES = {"broadcast_dims": "broadcast_axes"}


def zoneout(key: jax.Array, pair: tuple[jax.Array, jax.Array], **options: Any) -> jax.Array:
    return dropout.zoneout(key, *pair, **options)


def classical_scale(x: jax.Array, rate: Any) -> jax.Array:
    return dropout.classical_scale(x, rate=rate)


def zoneout_mean(pair: tuple[jax.Array, jax.Array], rate: Any) -> jax.Array:
    return dropout.zoneout_mean(*pair, rate=rate)


def every_patch(x: jax.Array, **_: Any) -> tuple[jax.Array, jax.Array]:
    return dropout.every_patch(x)


PLAIN = (
    rated("Dropout", dropout.dropout),
    rated("Dropout:broadcast_dims", dropout.dropout, fields={"broadcast_dims": (1,)}, renamed=AXES),
    rated("ClassicalDropout", dropout.classical_dropout, evaluation=classical_scale),
    rated("SpatialDropout", dropout.spatial_dropout),
    rated("GaussianDropout", dropout.gaussian_dropout),
    rated("AlphaDropout", dropout.alpha_dropout),
    rated("FeatureAlphaDropout", dropout.feature_alpha_dropout),
    rated("DropPath", dropout.drop_path),
    rated("DropBlock", dropout.drop_block, fields={"block_size": 2}),
    rated(
        "DropBlock:axis",
        dropout.drop_block,
        fields={"block_size": (2,), "axis": 1, "broadcast_dims": -1},
        renamed=AXES,
    ),
    rated("LockedDropout", dropout.locked_dropout),
    rated("LockedDropout:time_axis", dropout.locked_dropout, fields={"time_axis": 2}),
    rated("EmbeddingDropout", dropout.embedding_dropout),
    rated(
        "PatchDropout",
        dropout.patch_dropout,
        inputs=(SERIES,),
        evaluation=every_patch,
        fields={"prefix": 2},
        traced="no field",
    ),
    rated(
        "PatchDropout:defaults",
        dropout.patch_dropout,
        inputs=(SERIES,),
        evaluation=every_patch,
        traced="no field",
    ),
    rated("Zoneout", zoneout, inputs=((X, X + 1),), evaluation=zoneout_mean),
    Module("GaussianNoise", noise.gaussian_noise, fields={"stddev": 0.3}, strength="stddev"),
    Module("UniformNoise", noise.uniform_noise, fields={"limit": 0.3}, strength="limit"),
    rated("SaltAndPepper", noise.salt_and_pepper),
    rated("SaltAndPepper:values", noise.salt_and_pepper, fields={"low": -5.0, "high": 7.0}),
    Module(
        "ConcreteDropout",
        dropout.concrete_dropout,
        fields={"temperature": 0.3},
        params={"logit": np.float32(-0.4)},
        traced="temperature",
    ),
)

# Stochastic modules with parameters, and around layers that have some.


def dense(x: jax.Array, kernel: jax.Array, bias: jax.Array, **_: Any) -> jax.Array:
    return x @ kernel + bias


def convolution(x: jax.Array, kernel: jax.Array, bias: jax.Array, **_: Any) -> jax.Array:
    """Convolves with an odd kernel along the second last axis, with zeros around the input."""
    size, length = len(kernel), x.shape[-2]
    padded = jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(size // 2, size // 2), (0, 0)])
    terms = [padded[..., i : i + length, :] @ kernel[i] for i in range(size)]
    return jnp.stack(terms).sum(0) + bias


def dropped(layer: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a layer whose parameters are a bias and a kernel, in this order."""

    def run(key: jax.Array, x: jax.Array, kernel: jax.Array, bias: jax.Array, **options: Any):
        key = jax.random.fold_in(key, 1)
        return layer(x, dropout.drop_connect(key, kernel, **options), bias)

    return run


def perturbed(key: jax.Array, x: jax.Array, kernel: jax.Array, bias: jax.Array, **options: Any):
    return dense(x, **noise.perturb(key, {"bias": bias, "kernel": kernel}, **options))


def variational(key: jax.Array, x: jax.Array, threshold: Any, **arguments: Any) -> jax.Array:
    return dropout.variational_dense(key, x, **arguments)


def stochastic_depth(key: jax.Array, x: jax.Array, kernel: Any, bias: Any, **options: Any):
    block = partial(dense, kernel=kernel, bias=bias)
    return dropout.stochastic_depth(key, block, x, **options)


def residual(x: jax.Array, kernel: jax.Array, bias: jax.Array, **_: Any) -> jax.Array:
    return x + dense(x, kernel, bias)


class LinenCell(flax_linen.RNNCellBase):
    """A cell without parameters."""

    def __call__(self, carry: Any, inputs: Any) -> Any:
        carry = jnp.tanh(carry + inputs)
        return carry, carry


class NNXCell(flax_nnx.RNNCellBase):
    """The same cell."""

    def __call__(self, carry: Any, inputs: Any) -> Any:
        carry = jnp.tanh(carry + inputs)
        return carry, carry


def zoneout_step(key: jax.Array, carry: jax.Array, x: jax.Array, **options: Any) -> Any:
    key = jax.random.fold_in(key, 0)  # of the first array of the state
    state = dropout.zoneout(key, jnp.tanh(carry + x), carry, **options)
    return state, state


def mean_step(carry: jax.Array, x: jax.Array, rate: Any) -> Any:
    state = dropout.zoneout_mean(jnp.tanh(carry + x), carry, rate=rate)
    return state, state


def ones(*_: Any) -> jax.Array:
    """Initializer of kernels, which the table replaces."""
    return jnp.ones(_[1], _[2])


def linear() -> Any:
    return flax_nnx.Linear(8, 8, kernel_init=ones, rngs=flax_nnx.Rngs(0))


def convolve() -> Any:
    return flax_nnx.Conv(8, 8, (3,), kernel_init=ones, rngs=flax_nnx.Rngs(0))


def streams() -> dict[str, Any]:
    return {"rngs": flax_nnx.Rngs(0)}


AFFINE = {"kernel": KERNEL, "bias": BIAS}
WRAPPED = {
    "of_linen": {"layer": flax_linen.Dense(8)},
    "of_nnx": lambda: {"layer": linear()},
    "params": AFFINE,
    "inside": "layer",
}
WITH_PARAMETERS = (
    rated("DropConnect", dropped(dense), inputs=(SERIES,), evaluation=dense, **WRAPPED),
    rated(
        "DropConnect:convolution",
        dropped(convolution),
        inputs=(SERIES,),
        evaluation=convolution,
        of_linen={"layer": flax_linen.Conv(8, (3,))},
        of_nnx=lambda: {"layer": convolve()},
        params={"kernel": WINDOW, "bias": BIAS},
        inside="layer",
    ),
    Module(
        "Perturb",
        perturbed,
        inputs=(SERIES,),
        evaluation=dense,
        fields={"stddev": 0.3},
        strength="stddev",
        **WRAPPED,
    ),
    rated("StochasticDepth", stochastic_depth, inputs=(SERIES,), evaluation=residual, **WRAPPED),
    Module(
        "VariationalDense",
        variational,
        inputs=(SERIES,),
        evaluation=dropout.variational_dense_inference,
        fields={"threshold": -1.0},
        of_linen={"features": 8},
        of_nnx=lambda: {"in_features": 8, "out_features": 8, "kernel_init": ones, **streams()},
        params={**AFFINE, "log_var": DRAWS.normal(-1, 2, (8, 8)).astype(np.float32)},
        traced="threshold",
    ),
    rated(
        "ZoneoutCell",
        zoneout_step,
        inputs=(X[:, 0, 0], X[:, 1, 1]),
        evaluation=mean_step,
        of_linen={"cell": LinenCell()},
        of_nnx=lambda: {"cell": NNXCell()},
    ),
)

# Norms, with running statistics and without.

EPSILON = {"epsilon": "eps"}


def running(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a norm that takes the running mean and variance by name."""

    def run(x: jax.Array, mean: jax.Array, var: jax.Array, **options: Any) -> Any:
        y, stats = function(x, BatchStats(mean, var), **options)
        return y, stats._asdict()

    return run


def by_running_statistics(x: jax.Array, mean: Any, var: Any, **options: Any) -> Any:
    given = {name: options.get(name) for name in ("scale", "bias", "eps", "where")}
    y = normalization.batch_norm_inference(x, BatchStats(mean, var), **given)
    return y, {"mean": mean, "var": var}


def running_norm(name: str, function: Callable[..., Any], **fields: Any) -> Module:
    return Module(
        name,
        running(function),
        inputs=(FEATURES,),
        evaluation=by_running_statistics,
        mode="use_running_average",
        fields={"momentum": 0.7, "epsilon": 0.01, **fields},
        of_nnx=lambda: {"num_features": 8, **streams()},
        renamed=EPSILON,
        params={"scale": SCALE, "bias": BIAS},
        state={"mean": MEAN, "var": VAR},
        mask=FEATURE_MASK,
    )


def norm(name: str, function: Callable[..., Any], **others: Any) -> Module:
    options = {
        "inputs": (SERIES,),
        "of_nnx": lambda: {"num_features": 8, **streams()},
        "params": {"scale": SCALE, "bias": BIAS},
        "mask": np.arange(48).reshape(1, 6, 8) % 5 < 3,
        **others,
    }
    fields = {"epsilon": 0.01, **options.pop("fields", {})}
    return Module(name, function, mode=None, fields=fields, renamed=EPSILON, **options)


def group_norm(x: jax.Array, num_groups: int, **options: Any) -> jax.Array:
    return normalization.group_norm(x, groups=num_groups, **options)


def sized_group_norm(x: jax.Array, num_groups: None, group_size: int, **options: Any) -> jax.Array:
    return normalization.group_norm(x, groups=x.shape[-1] // group_size, **options)


MEMBERS = (-2, -1)
NORMS = (
    running_norm("BatchNorm", normalization.batch_norm),
    running_norm("GhostBatchNorm", normalization.ghost_batch_norm, ghost_batch_size=2),
    running_norm("BatchRenorm", normalization.batch_renorm, r_max=1.5, d_max=0.4),
    norm("LayerNorm", normalization.layer_norm),
    norm("LayerNorm:axes", normalization.layer_norm, fields={"reduction_axes": MEMBERS}),
    norm("RMSNorm", normalization.rms_norm, params={"scale": SCALE}),
    norm(
        "RMSNorm:axes",
        normalization.rms_norm,
        params={"scale": SCALE},
        fields={"reduction_axes": MEMBERS},
    ),
    norm("GroupNorm", group_norm, fields={"num_groups": 2}),
    norm("GroupNorm:size", sized_group_norm, fields={"num_groups": None, "group_size": 2}),
    norm("InstanceNorm", normalization.instance_norm),
    norm(
        "AdaptiveInstanceNorm",
        normalization.adaptive_instance_norm,
        inputs=(SERIES, X[:, 1, 1], abs(X[:, 1, 2])),
        of_nnx=dict,
        params={},
    ),
    norm(
        "FilterResponseNorm",
        normalization.filter_response_norm,
        params={"scale": SCALE, "bias": BIAS, "threshold": MEAN},
        mask=None,
    ),
)

# Reparametrized layers.


def weight_norm(x: jax.Array, kernel: Any, bias: Any, scale: Any, axis: int = -1) -> jax.Array:
    return dense(x, reparam.weight_norm(kernel, scale=scale, axis=axis), bias)


def standardized(
    x: jax.Array, kernel: Any, bias: Any, *, use_scale: bool, scale: Any = 1.0, **options: Any
) -> jax.Array:
    assert use_scale or isinstance(scale, float)
    return dense(x, reparam.weight_standardization(kernel, scale=scale, **options), bias)


def spectral_norm(
    x: jax.Array, kernel: Any, bias: Any, u: Any, sigma: Any, n_steps: int, axis: int = -1
) -> Any:
    w, new = reparam.spectral_norm(kernel, u[0], steps=n_steps, axis=axis)
    sigma = reparam.spectral_norm_sigma(kernel, u[0], steps=n_steps, axis=axis)
    return dense(x, w, bias), {"u": new[None], "sigma": sigma}


def spectral_norm_inference(
    x: jax.Array, kernel: Any, bias: Any, u: Any, sigma: Any, n_steps: int, axis: int = -1
) -> Any:
    """Iterates from the vector ``u``, as Flax does, and does not store the result."""
    y, _ = spectral_norm(x, kernel, bias, u, sigma, n_steps, axis)
    return y, {"u": u, "sigma": sigma}


def around(name: str, function: Callable[..., Any], **others: Any) -> Module:
    """Returns the row of a module that wraps a dense layer."""
    options = {
        "inputs": (SERIES,),
        "mode": None,
        "renamed": {**EPSILON, "feature_axes": "axis"},
        "of_linen": {"layer_instance": flax_linen.Dense(8)},
        "of_nnx": lambda: {"layer_instance": linear()},
        "params": {**AFFINE, "scale": SCALE},
        "inside": "layer_instance",
        **others,
    }
    return Module(name, function, **options)


SPECTRAL = {
    "evaluation": spectral_norm_inference,
    "mode": "update_stats",
    "of_nnx": lambda: {"layer_instance": linear(), **streams()},
    "params": AFFINE,
    "state": {"u": UNIT[None], "sigma": np.float32(3)},
}
ROWS = {"feature_axes": 0}  # of the kernel, instead of its columns
REPARAMETRIZED = (
    around("WeightNorm", weight_norm),
    around("WeightNorm:feature_axes", weight_norm, fields=ROWS),
    around(
        "WeightStandardization",
        standardized,
        fields={"epsilon": 0.01, "use_scale": False},
        params=AFFINE,
    ),
    around(
        "WeightStandardization:feature_axes",
        standardized,
        fields={"epsilon": 0.01, "use_scale": True, **ROWS},
    ),
    around("SpectralNorm", spectral_norm, fields={"n_steps": 2}, **SPECTRAL),
    around("SpectralNorm:feature_axes", spectral_norm, fields={"n_steps": 2, **ROWS}, **SPECTRAL),
)

MODULES = PLAIN + WITH_PARAMETERS + NORMS + REPARAMETRIZED

# Classes that lift no single function, with the test files of their package.
ELSEWHERE = {
    "ActivityPenalty": "test_activity.py",
    "FoldedBatchNorm": "test_fold.py",
    "LockedDropoutCell": "test_recurrent.py",
    "Penalty": "test_activity.py",
    "Stochastic": "test_stochastic.py",
}
