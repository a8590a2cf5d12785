"""Layer, RMS, group and instance norm against float64 NumPy and torch, and where peers go wrong."""

import json
import pathlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx as fnx

from jaxreg import linen, nnx, normalization

KEY = jax.random.key(7)
EPS = 1e-6
TORCH = pathlib.Path(__file__).parent / "references" / "layer_norms_torch.json"
group_norm = partial(normalization.group_norm, groups=2)
NORMS = {
    "layer": normalization.layer_norm,
    "rms": normalization.rms_norm,
    "group": group_norm,
    "instance": normalization.instance_norm,
}


def draw(*shape, seed=0, mean=0.0, scale=1.0):
    return np.random.default_rng(seed).normal(mean, scale, shape).astype(np.float32)


def normal(x, axes, mask=None, *, center=True):
    """Float64 numbers of mean 0 and mean square 1 along some axes; ``x`` where none is selected."""
    x = np.asarray(x, np.float64)
    mask = np.broadcast_to(np.ones((), bool) if mask is None else mask, x.shape)
    n = mask.sum(axes, keepdims=True)
    valid = np.where(mask, x, 0)
    mean = valid.sum(axes, keepdims=True) / np.maximum(n, 1) if center else 0
    deviations = np.where(mask, x - mean, 0)
    var = (deviations**2).sum(axes, keepdims=True) / np.maximum(n, 1)
    return (x - mean) / np.sqrt(np.where(n > 0, var, 1) + EPS)


def grouped(x, groups, axes, mask=None):
    """``normal`` of an array whose last axis is split into groups."""
    split = (*x.shape[:-1], groups, x.shape[-1] // groups)
    mask = np.broadcast_to(np.ones((), bool) if mask is None else mask, x.shape)
    axes = tuple(a % x.ndim for a in axes if a % x.ndim < x.ndim - 1)
    return normal(x.reshape(split), (*axes, x.ndim), mask.reshape(split)).reshape(x.shape)


EXPECTED = {
    "layer": lambda x, mask=None: normal(x, -1, mask),
    "rms": lambda x, mask=None: normal(x, -1, mask, center=False),
    "group": lambda x, mask=None: grouped(x, 2, range(1, x.ndim), mask),
    "instance": lambda x, mask=None: normal(x, tuple(range(1, x.ndim - 1)), mask),
}
MASKS = {
    "all": None,
    "bool": np.arange(3 * 5 * 4).reshape(3, 5, 4, 1) % 3 != 0,
    "per channel": np.arange(3 * 5 * 4 * 6).reshape(3, 5, 4, 6) % 5 != 0,
    "an example": np.array([1, 0, 1]).reshape(3, 1, 1, 1) > 0,
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("name", NORMS)
def test_normalizes(name, mask):
    x, mask = draw(3, 5, 4, 6, mean=2), MASKS[mask]
    y = NORMS[name](x, where=mask)
    np.testing.assert_allclose(y, EXPECTED[name](x, mask), atol=2e-5)


@pytest.mark.parametrize("kind", [np.float32, np.int8, np.float16])
@pytest.mark.parametrize("name", NORMS)
def test_masks_of_any_dtype(name, kind):
    """B3.6: NNX asks for booleans (flax 0.12.8)."""
    x, mask = draw(3, 5, 4, 6), MASKS["bool"]
    np.testing.assert_array_equal(
        NORMS[name](x, where=mask.astype(kind)), NORMS[name](x, where=mask)
    )
    with pytest.raises(ValueError, match="where"):
        fnx.LayerNorm(6, rngs=fnx.Rngs(0))(x, mask=np.broadcast_to(mask, x.shape).astype(kind))


@pytest.mark.parametrize("name", NORMS)
def test_scale_and_bias(name):
    x = draw(3, 5, 6)
    scale, bias = draw(6, seed=1), draw(6, seed=2)
    affine = {"scale": scale} if name == "rms" else {"scale": scale, "bias": bias}
    expected = EXPECTED[name](x) * scale + affine.get("bias", 0)
    np.testing.assert_allclose(NORMS[name](x, **affine), expected, atol=2e-5)
    for wrong in affine:
        with pytest.raises(ValueError, match=rf"`{wrong}` must have the shape of the feature axes"):
            NORMS[name](x, **{wrong: jnp.ones(5)})


@pytest.mark.parametrize("name", ["layer", "rms"])
@pytest.mark.parametrize(("reduction", "features"), [((1, 2), 2), (1, (0, 2)), ((0, -1), (1,))])
def test_axes(name, reduction, features):
    x = draw(3, 5, 6, mean=1)
    axes = (features,) if isinstance(features, int) else features
    scale = draw(*(x.shape[a] for a in axes), seed=1)
    y = NORMS[name](x, scale=scale, reduction_axes=reduction, feature_axes=features)
    others = tuple(a for a in range(3) if a not in axes)
    expected = normal(x, reduction, center=name == "layer") * np.expand_dims(scale, others)
    np.testing.assert_allclose(y, expected, atol=1e-5)


@pytest.mark.parametrize("name", ["layer", "group", "instance"])
def test_a_large_mean(name):
    """B3.3: Flax's LayerNorm gives numbers of size 713 here, with its default (flax 0.12.8)."""
    x = draw(2, 4096, 2, mean=1e4).swapaxes(1, 2) if name == "layer" else draw(2, 4096, 2, mean=1e4)
    np.testing.assert_allclose(NORMS[name](x), EXPECTED[name](x), atol=5e-3)
    if name == "layer":
        theirs = nn.LayerNorm(use_bias=False, use_scale=False).apply({}, x)
        assert abs(np.asarray(theirs) - EXPECTED[name](x)).max() > 100


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("name", NORMS)
def test_low_precision(name, dtype):
    """One rounding; float16 near its largest number. Haiku gives 0 for 300 already."""
    x = jnp.asarray(draw(2, 64, 4, scale=2e4).clip(-6.5e4, 6.5e4)).astype(dtype)
    y = NORMS[name](x)
    assert y.dtype == dtype
    expected = EXPECTED[name](np.asarray(x, np.float64))
    eps = float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(np.asarray(y, np.float64), expected, rtol=0.51 * eps, atol=1e-5)


SHAPES = [(0, 5, 4), (3, 0, 4), (1, 1, 4), (1, 5, 4), (2, 1, 1, 4)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.slow
def test_edges_are_finite(name, shape, masked):
    x, scale = draw(*shape, mean=3), jnp.ones(4)
    where = np.zeros(shape[:1], bool) if masked else None

    def loss(x, scale):
        y = NORMS[name](x, scale=scale, where=where)
        return jnp.sum(jnp.sin(y)), y

    (_, y), gradients = jax.value_and_grad(loss, (0, 1), has_aux=True)(x, scale)
    assert y.shape == shape
    assert all(np.isfinite(a).all() for a in (y, *gradients))
    if masked:
        np.testing.assert_allclose(y, x, rtol=1e-5)


@pytest.mark.parametrize("value", [0, 1e-30, 1e30])
@pytest.mark.parametrize("eps", [0.0, 1e-6])
@pytest.mark.parametrize("name", NORMS)
@pytest.mark.slow
def test_extreme_numbers_are_finite(name, value, eps):
    x = value * draw(2, 5, 4)

    def loss(x):
        return jnp.sum(NORMS[name](x, eps=eps) ** 3)

    assert np.isfinite(NORMS[name](x, eps=eps)).all()
    assert np.isfinite(jax.grad(loss)(x)).all()
    assert np.isfinite(jax.jvp(jax.grad(loss), (x,), (jnp.ones_like(x),))[1]).all()


def test_a_row_without_a_selected_element():
    """B3.2: Flax's LayerNorm gives NaN there, and NaN gradients of its parameters (0.12.8)."""
    x, mask = draw(2, 4), np.array([[1, 1, 0, 1], [0, 0, 0, 0]], bool)
    for layer, sound in ((linen.LayerNorm(), True), (nn.LayerNorm(), False)):
        params = layer.init(KEY, x)
        loss = lambda p, layer=layer: jnp.sum(layer.apply(p, x, mask=mask))  # noqa: E731
        gradients = jax.tree.leaves(jax.grad(loss)(params))
        assert np.isfinite(layer.apply(params, x, mask=mask)).all() == sound
        assert all(np.isfinite(a).all() for a in gradients) == sound


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("name", NORMS)
def test_padding_does_not_leak(name, bad):
    mask = MASKS["bool"]
    zeros = np.where(mask, draw(3, 5, 4, 6, mean=1), 0).astype(np.float32)
    loss = lambda x: jnp.sum(jnp.sin(NORMS[name](x, where=mask)) * mask)  # noqa: E731
    expected = jax.value_and_grad(loss)(zeros)
    actual = jax.value_and_grad(loss)(np.where(mask, zeros, np.float32(bad)))
    np.testing.assert_allclose(actual[0], expected[0], rtol=1e-6)
    np.testing.assert_allclose(*(np.where(mask, g, 0) for g in (actual[1], expected[1])), rtol=1e-5)
    assert np.isfinite(actual[1]).all()


@pytest.mark.parametrize("axes", [(1, 2, 3), (2, -1), (3,), None])
@pytest.mark.parametrize("groups", [1, 3, 6])
def test_groups_for_any_number_of_batch_axes(groups, axes):
    x = draw(2, 3, 4, 6)
    expected = grouped(x, groups, axes or (1, 2, 3))
    y = normalization.group_norm(x, groups=groups, reduction_axes=axes)
    np.testing.assert_allclose(y, expected, atol=1e-4)
    layer = nnx.GroupNorm(6, groups, reduction_axes=axes, rngs=fnx.Rngs(0))
    np.testing.assert_allclose(layer(x), expected, atol=1e-4)


def test_two_batch_axes_of_groups():
    """B3.4: NNX repeats its statistics along axis 1: silently wrong numbers (flax 0.12.8)."""
    x = draw(2, 3, 4, 6)
    theirs = fnx.GroupNorm(6, 3, reduction_axes=(2, 3), rngs=fnx.Rngs(0))
    assert abs(np.asarray(theirs(x)) - grouped(x, 3, (2, 3))).max() > 0.5


def test_a_group_mask_without_channels():
    """B3.5: a mask ``[..., 1]`` raises in Flax, Linen and NNX (0.12.8)."""
    x, mask = draw(3, 5, 4, 6), MASKS["bool"]
    expected = grouped(x, 2, (1, 2, 3), mask)
    np.testing.assert_allclose(group_norm(x, where=mask), expected, atol=1e-5)
    np.testing.assert_allclose(group_norm(x, where=mask[..., 0]), expected, atol=1e-5)
    with pytest.raises(ValueError, match="reshape"):
        nn.GroupNorm(2).init(KEY, x, mask=mask)
    with pytest.raises(ValueError, match="reshape"):
        fnx.GroupNorm(6, 2, rngs=fnx.Rngs(0))(x, mask=mask)


def test_one_group_is_layer_norm_and_many_are_instance_norm():
    x = draw(2, 5, 6, mean=1)
    np.testing.assert_allclose(
        normalization.group_norm(x, groups=1),
        normalization.layer_norm(x, reduction_axes=(1, 2)),
        atol=1e-6,
    )
    np.testing.assert_allclose(
        normalization.group_norm(x, groups=6), normalization.instance_norm(x), atol=1e-6
    )


def test_figures_of_torch():
    torch = json.loads(TORCH.read_text())
    x, dy = np.array(torch["x"], np.float32), np.array(torch["dy"], np.float32)
    scale, bias = (np.array(torch[name], np.float32) for name in ("scale", "bias"))
    for name, figures in torch["norms"].items():
        affine = {"scale": scale} if name == "rms" else {"scale": scale, "bias": bias}
        norm = partial(NORMS[name], eps=torch["made_with"]["eps"])
        y, pull = jax.vjp(lambda x, affine, norm=norm: norm(x, **affine), x, affine)
        dx, daffine = pull(dy)
        np.testing.assert_allclose(y, figures["y"], atol=1e-5, err_msg=name)
        np.testing.assert_allclose(dx, figures["dx"], atol=1e-5, err_msg=name)
        for key, gradient in daffine.items():
            np.testing.assert_allclose(gradient, figures[f"d{key}"], atol=2e-5, err_msg=name)


def test_wrong_arguments_raise():
    with pytest.raises(ValueError, match=r"`x` must have the axes \[batch, \*spatial, channels\]"):
        normalization.group_norm(jnp.ones(4), groups=2)
    with pytest.raises(ValueError, match="One of `num_groups` and `group_size` must be None"):
        linen.GroupNorm(2, 3).init(KEY, jnp.ones((2, 6)))
    with pytest.raises(ValueError, match="`group_size` must divide the 6 channels, got 4"):
        nnx.GroupNorm(6, None, 4, rngs=fnx.Rngs(0))(jnp.ones((2, 6)))
    with pytest.raises(TypeError, match="`x` must have a floating-point dtype, got int32"):
        linen.RMSNorm().init(KEY, jnp.ones((2, 6), jnp.int32))
