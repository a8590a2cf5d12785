"""One row per NNX module of dropout or noise, and how results of modules are compared."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx as fnx

from jaxreg import dropout, nnx, noise

KEY = jax.random.key(15)  # The first one with which stochastic depth does not skip.
X = jnp.sin(jnp.arange(1.0, 16 * 6 * 4 + 1)).reshape(16, 6, 4)
LINEAR = fnx.Linear(4, 4, bias_init=fnx.initializers.normal(), rngs=fnx.Rngs(0))
CONV = fnx.Conv(4, 5, (3,), bias_init=fnx.initializers.normal(), rngs=fnx.Rngs(0))
KERNEL, BIAS = LINEAR.kernel[...], LINEAR.bias[...]
KERNEL_KEY = jax.random.fold_in(KEY, 1)  # The kernel stands behind the bias.


@dataclasses.dataclass(frozen=True)
class Row:
    """A module, and the function that it has to equal."""

    build: Callable[..., Any]  # of `strength` and the keywords of all modules
    function: Callable[..., Any]  # of a key and the inputs
    inputs: tuple[Any, ...] = (X,)
    evaluated: Callable[..., Any] = lambda x: x
    strength: float = 0.5
    wrong: float | None = 1.5  # nothing is wrong with `None`
    can_be_off: bool = True
    name: str = ""

    def __str__(self):
        return self.name or self.build.__name__


def linear(x, kernel=KERNEL):
    return x @ kernel + BIAS


def perturbed(x, params):
    return x @ params["kernel"] + params["bias"]


def conv(x, kernel=CONV.kernel[...]):
    layer = fnx.clone(CONV)
    layer.kernel[...] = kernel
    return layer(x)


def dense(strength, **fields):
    return nnx.DropConnectDense(
        4, 4, rate=strength, bias_init=fnx.initializers.normal(), **with_rngs(fields)
    )


def convolution(strength, **fields):
    return nnx.DropConnectConv(
        4, 5, (3,), rate=strength, bias_init=fnx.initializers.normal(), **with_rngs(fields)
    )


def variational(strength, **fields):
    layer = nnx.VariationalDense(4, 4, threshold=strength, **with_rngs(fields))
    layer.kernel[...], layer.bias[...] = KERNEL, BIAS
    layer.log_variance[...] = jnp.full((4, 4), -1.0)
    return layer


def with_rngs(fields):
    """Layers with parameters need streams in any case; without the last one they have no key."""
    return {"rngs": fnx.Rngs(0), **fields}


def around(wrapper, layer, strength, **fields):
    return wrapper(fnx.clone(layer), strength, **fields)


def zoneout_cell(strength, **fields):
    return nnx.ZoneoutCell(fnx.SimpleCell(4, 4, rngs=fnx.Rngs(0)), strength, **fields)


def simple_cell(carry, x):
    return fnx.SimpleCell(4, 4, rngs=fnx.Rngs(0))(carry, x)[0]


ROWS = [
    Row(nnx.Dropout, partial(dropout.dropout, rate=0.5)),
    Row(
        nnx.ClassicalDropout,
        partial(dropout.classical_dropout, rate=0.5),
        evaluated=partial(dropout.classical_scale, rate=0.5),
    ),
    Row(nnx.SpatialDropout, partial(dropout.spatial_dropout, rate=0.5)),
    Row(nnx.GaussianDropout, partial(dropout.gaussian_dropout, rate=0.5)),
    Row(nnx.AlphaDropout, partial(dropout.alpha_dropout, rate=0.5)),
    Row(nnx.FeatureAlphaDropout, partial(dropout.feature_alpha_dropout, rate=0.5)),
    Row(nnx.DropPath, partial(dropout.drop_path, rate=0.5)),
    Row(
        lambda rate, **fields: nnx.DropBlock(rate, 2, broadcast_dims=-1, **fields),
        partial(dropout.drop_block, rate=0.5, block_size=2, broadcast_axes=-1),
        name="DropBlock",
    ),
    Row(nnx.LockedDropout, partial(dropout.locked_dropout, rate=0.5)),
    Row(
        partial(nnx.LockedDropout, time_axis=2),
        partial(dropout.locked_dropout, rate=0.5, time_axis=2),
        name="LockedDropout-time_axis",
    ),
    Row(nnx.EmbeddingDropout, partial(dropout.embedding_dropout, rate=0.5)),
    Row(
        partial(nnx.PatchDropout, prefix=2),
        partial(dropout.patch_dropout, rate=0.5, prefix=2),
        evaluated=dropout.every_patch,
        name="PatchDropout",
    ),
    Row(
        nnx.Zoneout,
        lambda key, x, **bits: dropout.zoneout(key, *x, rate=0.5, **bits),
        ((X, -X),),
        evaluated=lambda x: dropout.zoneout_mean(*x, rate=0.5),
    ),
    Row(
        lambda _, **fields: nnx.ConcreteDropout(0.5, 0.3, **fields),
        partial(dropout.concrete_dropout, logit=0.0, temperature=0.3),
        wrong=None,
        can_be_off=False,
        name="ConcreteDropout",
    ),
    Row(nnx.GaussianNoise, partial(noise.gaussian_noise, stddev=0.5), wrong=-1),
    Row(nnx.UniformNoise, partial(noise.uniform_noise, limit=0.5), wrong=-1),
    Row(
        partial(nnx.SaltAndPepper, low=-3.0, high=3.0),
        partial(noise.salt_and_pepper, rate=0.5, low=-3.0, high=3.0),
        name="SaltAndPepper",
    ),
    Row(
        dense,
        lambda key, x, **bits: linear(x, dropout.drop_connect(key, KERNEL, rate=0.5, **bits)),
        evaluated=linear,
        name="DropConnectDense",
    ),
    Row(
        convolution,
        lambda key, x, **bits: conv(
            x, dropout.drop_connect(key, CONV.kernel[...], rate=0.5, **bits)
        ),
        evaluated=conv,
        name="DropConnectConv",
    ),
    Row(
        partial(around, nnx.DropConnect, LINEAR),
        lambda key, x, **bits: linear(
            x, dropout.drop_connect(jax.random.fold_in(key, 1), KERNEL, rate=0.5, **bits)
        ),
        evaluated=linear,
        name="DropConnect",
    ),
    Row(
        partial(around, nnx.Perturb, LINEAR),
        lambda key, x, **bits: perturbed(
            x, noise.perturb(key, {"bias": BIAS, "kernel": KERNEL}, stddev=0.5, **bits)
        ),
        evaluated=linear,
        wrong=-1,
        name="Perturb",
    ),
    Row(
        variational,
        lambda key, x, **bits: dropout.variational_dense(
            key, x, KERNEL, jnp.full((4, 4), -1.0), bias=BIAS, **bits
        ),
        evaluated=lambda x: dropout.variational_dense_inference(
            x, KERNEL, jnp.full((4, 4), -1.0), bias=BIAS, threshold=0.5
        ),
        wrong=None,
        can_be_off=False,
        name="VariationalDense",
    ),
    Row(
        partial(around, nnx.StochasticDepth, LINEAR),
        lambda key, x, **bits: dropout.stochastic_depth(key, linear, x, rate=0.5, **bits),
        evaluated=lambda x: x + linear(x),
        name="StochasticDepth",
    ),
    Row(
        zoneout_cell,
        lambda key, carry, x, **bits: (
            (
                dropout.zoneout(
                    jax.random.fold_in(key, 0), simple_cell(carry, x), carry, rate=0.5, **bits
                ),
            )
            * 2
        ),
        (X[:, 0], X[:, 1]),
        evaluated=lambda carry, x: (
            (dropout.zoneout_mean(simple_cell(carry, x), carry, rate=0.5),) * 2
        ),
        name="ZoneoutCell",
    ),
]


def assert_equal(ours, theirs):
    """To the bit but for one rounding of products, which depends on what is compiled together."""
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(a, b, rtol=2e-6, atol=2e-6)


def different(results):
    return len({b"".join(np.asarray(a).tobytes() for a in jax.tree.leaves(r)) for r in results})
