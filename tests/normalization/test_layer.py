"""Layer, RMS and instance norm against float64 NumPy and torch, and where peers go wrong."""

import json
import pathlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from jaxreg import normalization
from tests.helpers import few
from tests.normalization.helpers import (
    assert_all_close,
    assert_all_finite,
    compiled,
    draw,
    refuses,
    refuses_wrong_shapes,
    with_gradients,
)

EPS = 1e-6
TORCH = pathlib.Path(__file__).parents[1] / "references" / "layer_norms_torch.json"
NORMS = {
    "layer": normalization.layer_norm,
    "rms": normalization.rms_norm,
    "instance": normalization.instance_norm,
}
every_norm = pytest.mark.parametrize("name", NORMS)


def normal(x, axes, mask=None, *, center=True, eps=EPS):
    """Float64 numbers of mean 0 and mean square 1 along some axes; ``x`` where none is selected."""
    x = np.asarray(x, np.float64)
    mask = np.broadcast_to(np.ones((), bool) if mask is None else mask, x.shape)
    n = mask.sum(axes, keepdims=True)
    valid = np.where(mask, x, 0)
    mean = valid.sum(axes, keepdims=True) / np.maximum(n, 1) if center else 0
    deviations = np.where(mask, x - mean, 0)
    var = (deviations**2).sum(axes, keepdims=True) / np.maximum(n, 1)
    return (x - mean) / np.sqrt(np.where(n > 0, var, 1) + eps)


EXPECTED = {
    "layer": lambda x, mask=None: normal(x, -1, mask),
    "rms": lambda x, mask=None: normal(x, -1, mask, center=False),
    "instance": lambda x, mask=None: normal(x, tuple(range(1, x.ndim - 1)), mask),
}
MASKS = {
    "an example": np.array([1, 0, 1]).reshape(3, 1, 1, 1) > 0,
    "bool": np.arange(3 * 5 * 4).reshape(3, 5, 4, 1) % 3 != 0,
    "per channel": np.arange(3 * 5 * 4 * 6).reshape(3, 5, 4, 6) % 5 != 0,
    "all": None,
}


@few("mask", MASKS)
@every_norm
def test_normalizes(name, mask):
    x, mask = draw(3, 5, 4, 6, mean=2), MASKS[mask]
    y = compiled(NORMS[name], x, where=mask)
    np.testing.assert_allclose(y, EXPECTED[name](x, mask), atol=2e-5)


@every_norm
def test_scale_and_bias(name):
    x = draw(3, 5, 6)
    scale = draw(6, seed=1)
    bias = draw(6, seed=2)
    affine = {"scale": scale} if name == "rms" else {"scale": scale, "bias": bias}
    expected = EXPECTED[name](x) * scale + affine.get("bias", 0)
    np.testing.assert_allclose(compiled(NORMS[name], x, **affine), expected, atol=2e-5)
    refuses_wrong_shapes(NORMS[name], x, tuple(affine))


@few(("reduction", "features"), [(1, (0, 2)), ((1, 2), 2), ((0, -1), (1,))])
@pytest.mark.parametrize("name", ["layer", "rms"])
def test_axes(name, reduction, features):
    x = draw(3, 5, 6, mean=1)
    axes = (features,) if isinstance(features, int) else features
    scale = draw(*(x.shape[a] for a in axes), seed=1)
    options = {"reduction_axes": reduction, "feature_axes": features}
    y = compiled(NORMS[name], x, scale=scale, **options)
    others = tuple(a for a in range(3) if a not in axes)
    expected = normal(x, reduction, center=name == "layer") * np.expand_dims(scale, others)
    np.testing.assert_allclose(y, expected, atol=1e-5)


def test_channels_of_instance_norm():
    x = draw(2, 3, 5, mean=1)
    scale = draw(3, seed=1)
    y = compiled(normalization.instance_norm, x, scale=scale, feature_axes=1)
    np.testing.assert_allclose(y, normal(x, 2) * scale[:, None], atol=1e-5)
    message = r"`feature_axes` must not name axis 0, which is the batch, got \(0, 1\)"
    refuses(ValueError, message, normalization.instance_norm, x, feature_axes=(0, 1))


@every_norm
def test_eps_is_inside_of_the_root_and_1e_minus_6_by_default(name):
    x = np.array([[[1.0, 1.0], [1.002, 1.002]]], "f4")
    x = x.swapaxes(1, 2) if name == "layer" else x - 1.001 if name == "rms" else x
    expected = np.full(x.shape, 1e-3 / np.sqrt(2e-6))
    np.testing.assert_allclose(abs(compiled(NORMS[name], x)), expected, rtol=1e-3)
    expected = np.full(x.shape, 1e-3 / np.sqrt(0.25 + 1e-6))
    np.testing.assert_allclose(abs(compiled(NORMS[name], x, eps=0.25)), expected, rtol=1e-3)


@pytest.mark.parametrize("name", ["layer", "instance"])
def test_a_large_mean(name):
    """Flax's LayerNorm gives numbers of size 713 here, with its default (flax 0.12.8)."""
    x = draw(2, 4096, 2, mean=1e4).swapaxes(1, 2) if name == "layer" else draw(2, 4096, 2, mean=1e4)
    np.testing.assert_allclose(compiled(NORMS[name], x), EXPECTED[name](x), atol=5e-3)
    if name == "layer":
        theirs = compiled(nn.LayerNorm(use_bias=False, use_scale=False).apply, {}, x)
        assert abs(np.asarray(theirs) - EXPECTED[name](x)).max() > 100


@few("dtype", [jnp.bfloat16, jnp.float16])
@every_norm
def test_low_precision(name, dtype):
    """One rounding; float16 near its largest number. Haiku gives 0 for 300 already."""
    x = draw(2, 64, 4, scale=2e4).clip(-6.5e4, 6.5e4).astype(dtype)
    y = compiled(NORMS[name], x)
    assert y.dtype == dtype
    expected = EXPECTED[name](x.astype(np.float64))
    eps = float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(np.asarray(y, np.float64), expected, rtol=0.51 * eps, atol=1e-5)


@few("shape", [(1, 1, 4), (0, 5, 4), (3, 0, 4), (1, 5, 4), (2, 1, 1, 4)])
@few("masked", [True, False])
@every_norm
def test_edges_are_finite(name, shape, masked):
    x = draw(*shape, mean=3)
    scale = np.ones(4, np.float32)
    where = np.zeros((), bool) if masked else None

    def function(x, scale):
        y = NORMS[name](x, scale=scale, where=where)
        return jnp.sin(y), y

    _, gradients, y = with_gradients(function, np.ones(shape, "f4"), x, scale, has_aux=True)
    assert y.shape == shape
    assert_all_finite((y, gradients))
    if masked:
        np.testing.assert_allclose(y, x, rtol=1e-5)


@few("eps", [0.0, 1e-6])
@every_norm
def test_extreme_numbers_are_finite(name, eps):
    def cube(x):
        return NORMS[name](x, eps=eps) ** 3

    def loss(x):
        return jnp.sum(cube(x))

    @jax.jit
    def run(x):
        second = jax.jvp(jax.grad(loss), (x,), (jnp.ones_like(x),))
        return NORMS[name](x, eps=eps), second

    for value in (0, 1e-30, 1e30):
        assert_all_finite(run((value * draw(2, 5, 4)).astype(np.float32)))


@few("bad", [np.nan, np.inf])
@every_norm
def test_padding_does_not_leak(name, bad):
    mask = MASKS["bool"]
    zeros = np.where(mask, draw(3, 5, 4, 6, mean=1), 0).astype(np.float32)
    run = jax.jit(jax.value_and_grad(lambda x: jnp.sum(jnp.sin(NORMS[name](x, where=mask)) * mask)))
    value_zeros, dx_zeros = run(zeros)
    value, dx = run(np.where(mask, zeros, np.float32(bad)))
    np.testing.assert_allclose(value, value_zeros, rtol=1e-6)
    np.testing.assert_allclose(np.where(mask, dx, 0), np.where(mask, dx_zeros, 0), rtol=1e-5)
    assert_all_finite(dx)


@every_norm
def test_figures_of_torch(name):
    torch = json.loads(TORCH.read_text())
    x = np.array(torch["x"], "f4")
    dy = np.array(torch["dy"], "f4")
    scale = np.array(torch["scale"], "f4")
    bias = np.array(torch["bias"], "f4")
    affine = {"scale": scale} if name == "rms" else {"scale": scale, "bias": bias}
    norm = partial(NORMS[name], eps=torch["made_with"]["eps"])
    figures = torch["norms"][name]
    y, (dx, daffine) = with_gradients(lambda x, affine: norm(x, **affine), dy, x, affine)
    np.testing.assert_allclose(y, figures["y"], atol=1e-5)
    np.testing.assert_allclose(dx, figures["dx"], atol=1e-5)
    for key, gradient in daffine.items():
        np.testing.assert_allclose(gradient, figures[f"d{key}"], atol=2e-5)


@few("masked", [True, False])
@pytest.mark.parametrize("name", ["rms", "layer"])
def test_features_across_devices_are_normalized_together(name, masked):
    x = draw(2, 3, 16, mean=2)
    dy = draw(2, 3, 16, seed=1)
    mask = np.arange(96).reshape(2, 3, 16) % 7 > 2 if masked else np.ones((2, 3, 16), bool)
    mask[0, 0] = not masked
    mesh = jax.make_mesh((4,), ("d",), (AxisType.Auto,), devices=jax.devices()[:4])
    spec = P(None, None, "d")

    def local(x, mask):
        return NORMS[name](x, where=mask if masked else None, axis_name="d")

    whole = jax.shard_map(local, mesh=mesh, in_specs=(spec, spec), out_specs=spec)
    y, (dx,) = with_gradients(lambda x: whole(x, mask), dy, x)
    np.testing.assert_allclose(y, normal(x, -1, mask, center=name == "layer"), atol=1e-5)
    one_device = jax.vmap(lambda x, m: NORMS[name](x, where=m))
    _, (expected,) = with_gradients(lambda x: one_device(x, mask), dy, x)
    assert_all_close([dx], [expected], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["layer", "rms"])
def test_wrong_arguments_raise(name):
    x = draw(2, 6)
    for key in ("reduction_axes", "feature_axes"):
        message = rf"`{key}` must lie in \[-2, 2\), got 2"
        refuses(ValueError, message, NORMS[name], x, **{key: 2})
    message = "`eps` must be zero or positive, got -1"
    refuses(ValueError, message, NORMS[name], x, eps=-1.0)
    refuses(TypeError, "`x` must have a floating-point", NORMS[name], np.ones((2, 6), np.int32))


@every_norm
def test_complex_numbers_have_real_variances(name):
    x = (draw(2, 5, 4, mean=2) + 1j * draw(2, 5, 4, seed=1)) + 0
    y = compiled(NORMS[name], x)
    assert y.dtype == np.complex64
    wide, axes = x.astype(np.complex128), (1,) if name == "instance" else (-1,)
    centered = wide if name == "rms" else wide - wide.mean(axes, keepdims=True)
    expected = centered / np.sqrt(np.mean(np.abs(centered) ** 2, axes, keepdims=True) + EPS)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


def test_a_mask_of_features_where_there_are_as_many_examples():
    """A mask of one axis is one of the last, as Flax has it, though the first is as long."""
    x = draw(4, 4)
    mask = np.array([1, 1, 0, 1], bool)
    y = compiled(normalization.layer_norm, x, where=mask)
    params = {"params": {"scale": np.ones(4, "f4"), "bias": np.zeros(4, "f4")}}
    theirs = nn.LayerNorm(use_fast_variance=False)
    np.testing.assert_allclose(y, compiled(theirs.apply, params, x, mask=mask), atol=1e-5)


def test_a_factor_around_one_keeps_the_digits_of_bfloat16():
    """``1 + gamma`` in bfloat16 is 1 for each of these."""
    x = draw(5, 3)
    gamma = np.array([1e-3, -1e-3, 2e-3], jnp.bfloat16)
    y = jax.jit(lambda x, g: normalization.rms_norm(x, scale=1 + g.astype(jnp.float32)))(x, gamma)
    wide = x.astype(np.float64)
    root = np.sqrt(np.mean(wide**2, -1, keepdims=True) + EPS)
    expected = wide / root * (1 + gamma.astype(np.float64))
    np.testing.assert_allclose(y, expected, rtol=1e-6)
