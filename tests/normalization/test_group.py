"""Group norm against float64 NumPy and torch, and where Flax goes wrong."""

import json
import pathlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx as fnx
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxreg import normalization
from tests.helpers import few
from tests.normalization.helpers import (
    assert_all_finite,
    compiled,
    draw,
    refuses,
    refuses_wrong_shapes,
    with_gradients,
)
from tests.references import batch_norm as reference

EPS = 1e-6
TORCH = pathlib.Path(__file__).parents[1] / "references" / "layer_norms_torch.json"
X = draw(3, 5, 4, 6, mean=2)
group_norm = partial(normalization.group_norm, groups=2)
MASKS = {
    "an example": np.array([1, 0, 1]).reshape(3, 1, 1, 1) > 0,
    "bool": np.arange(3 * 5 * 4).reshape(3, 5, 4, 1) % 3 != 0,
    "per channel": np.arange(3 * 5 * 4 * 6).reshape(3, 5, 4, 6) % 5 != 0,
    "all": None,
}


def grouped(x, groups=2, axes=None, mask=None, eps=EPS):
    """Each group normalized by itself, in float64; ``x`` where none of it is selected."""
    axes = tuple(range(1, x.ndim - 1)) if axes is None else axes
    axes = (*(a % x.ndim for a in axes if a % x.ndim < x.ndim - 1), x.ndim)
    split = (*x.shape[:-1], groups, x.shape[-1] // groups)
    mask = np.broadcast_to(np.ones((), bool) if mask is None else mask, x.shape).reshape(split)
    wide = x.astype(np.float64).reshape(split)
    moments = reference.moments(wide, axes, mask)
    mean, var, count = [np.expand_dims(a, axes) for a in moments]
    return ((wide - mean) / np.sqrt(np.where(count > 0, var, 1) + eps)).reshape(x.shape)


@few("mask", MASKS)
def test_normalizes(mask):
    mask = MASKS[mask]
    y = compiled(group_norm, X, where=mask)
    np.testing.assert_allclose(y, grouped(X, mask=mask), atol=2e-5)


@few("axes", [(2, -1), (1, 2, 3), (3,), None])
@few("groups", [3, 1, 6])
def test_groups_for_any_number_of_batch_axes(groups, axes):
    y = compiled(normalization.group_norm, X, groups=groups, reduction_axes=axes)
    np.testing.assert_allclose(y, grouped(X, groups, axes), atol=1e-4)


def test_scale_and_bias():
    scale = draw(6, seed=1)
    bias = draw(6, seed=2)
    y = compiled(group_norm, X, scale=scale, bias=bias)
    np.testing.assert_allclose(y, grouped(X) * scale + bias, atol=2e-5)
    refuses_wrong_shapes(group_norm, X, ("scale", "bias"))


def test_there_are_32_groups_and_an_eps_of_1e_minus_6_by_default():
    x = 1e-3 * draw(2, 3, 64)
    y = compiled(normalization.group_norm, x)
    np.testing.assert_allclose(y, grouped(x, 32), rtol=1e-4, atol=1e-5)
    y = compiled(normalization.group_norm, x, eps=0.25)
    np.testing.assert_allclose(y, grouped(x, 32, eps=0.25), rtol=1e-4, atol=1e-7)


def test_a_mask_without_channels():
    """A mask ``[..., 1]`` raises in Flax, Linen and NNX (0.12.8)."""
    mask = MASKS["bool"]
    y = compiled(group_norm, X, where=mask)
    np.testing.assert_allclose(y, grouped(X, mask=mask), atol=1e-5)
    with pytest.raises(ValueError, match="reshape"):
        jax.eval_shape(lambda: nn.GroupNorm(2).init(jax.random.key(0), X, mask=mask))
    with pytest.raises(ValueError, match="reshape"):
        jax.eval_shape(lambda: fnx.GroupNorm(6, 2, rngs=fnx.Rngs(0))(X, mask=mask))


def test_two_batch_axes_of_groups_are_wrong_in_nnx():
    """It repeats its statistics along axis 1: silently wrong numbers (flax 0.12.8)."""
    x = draw(2, 3, 4, 6)

    def theirs(x):
        return fnx.GroupNorm(6, 3, reduction_axes=(2, 3), rngs=fnx.Rngs(0))(x)

    assert abs(np.asarray(compiled(theirs, x)) - grouped(x, 3, (2, 3))).max() > 0.5


def test_a_large_mean():
    x = draw(2, 4096, 2, mean=1e4)
    y = compiled(normalization.group_norm, x, groups=1)
    np.testing.assert_allclose(y, grouped(x, 1), atol=5e-3)


@few("dtype", [jnp.bfloat16, jnp.float16])
def test_low_precision(dtype):
    """One rounding; float16 near its largest number."""
    x = draw(2, 64, 4, scale=2e4).clip(-6.5e4, 6.5e4).astype(dtype)
    y = compiled(group_norm, x)
    assert y.dtype == dtype
    rtol = 0.51 * float(jnp.finfo(dtype).eps)
    expected = grouped(x.astype(np.float64))
    np.testing.assert_allclose(np.asarray(y, np.float64), expected, rtol=rtol, atol=1e-5)


@few("shape", [(1, 1, 4), (0, 5, 4), (3, 0, 4), (1, 5, 4), (2, 1, 1, 4)])
@few("masked", [True, False])
def test_edges_are_finite(shape, masked):
    x = draw(*shape, mean=3)
    scale = np.ones(4, np.float32)
    where = np.zeros((*shape[:1], *(1 for _ in shape[1:])), bool) if masked else None

    def function(x, scale):
        y = group_norm(x, scale=scale, where=where)
        return jnp.sin(y), y

    _, gradients, y = with_gradients(function, np.ones(shape, "f4"), x, scale, has_aux=True)
    assert y.shape == shape
    assert_all_finite((y, gradients))
    if masked:
        np.testing.assert_allclose(y, x, rtol=1e-5)


@few("eps", [0.0, 1e-6])
def test_extreme_numbers_are_finite(eps):
    @jax.jit
    def run(x):
        loss = jax.grad(lambda x: jnp.sum(group_norm(x, eps=eps) ** 3))
        return group_norm(x, eps=eps), jax.jvp(loss, (x,), (jnp.ones_like(x),))

    for value in (0, 1e-30, 1e30):
        assert_all_finite(run((value * draw(2, 5, 4)).astype(np.float32)))


@few("bad", [np.nan, np.inf])
def test_padding_does_not_leak(bad):
    mask = MASKS["bool"]
    zeros = np.where(mask, X, 0).astype(np.float32)
    run = jax.jit(jax.value_and_grad(lambda x: jnp.sum(jnp.sin(group_norm(x, where=mask)) * mask)))
    value_zeros, dx_zeros = run(zeros)
    value, dx = run(np.where(mask, zeros, np.float32(bad)))
    np.testing.assert_allclose(value, value_zeros, rtol=1e-6)
    np.testing.assert_allclose(np.where(mask, dx, 0), np.where(mask, dx_zeros, 0), rtol=1e-5)
    assert_all_finite(dx)


def test_figures_of_torch():
    torch = json.loads(TORCH.read_text())
    x = np.array(torch["x"], "f4")
    dy = np.array(torch["dy"], "f4")
    scale = np.array(torch["scale"], "f4")
    bias = np.array(torch["bias"], "f4")
    figures, eps = torch["norms"]["group"], torch["made_with"]["eps"]

    def function(x, scale, bias):
        return group_norm(x, scale=scale, bias=bias, eps=eps)

    y, gradients = with_gradients(function, dy, x, scale, bias)
    np.testing.assert_allclose(y, figures["y"], atol=1e-5)
    for key, gradient in zip(("dx", "dscale", "dbias"), gradients, strict=True):
        np.testing.assert_allclose(gradient, figures[key], atol=2e-5)


def test_positions_across_devices_are_normalized_together():
    x = draw(2, 8, 6, mean=3)
    mask = np.arange(16).reshape(2, 8) % 5 > 1
    mesh = jax.make_mesh((4,), ("d",), (AxisType.Auto,), devices=jax.devices()[:4])

    def local(x, mask):
        return group_norm(x, where=mask[..., None], axis_name="d")

    spec = P(None, "d")
    run = jax.shard_map(local, mesh=mesh, in_specs=(spec, spec), out_specs=spec)
    y = compiled(run, x, mask)
    np.testing.assert_allclose(y, grouped(x, mask=mask[..., None]), atol=1e-5)


def test_channels_sharded_on_an_explicit_mesh():
    """Groups of 4 channels over devices that hold 2 each; the result lies where the input does."""
    mesh = jax.make_mesh((8,), ("d",), (AxisType.Explicit,))
    x = draw(2, 3, 16, mean=1)
    spec = P(None, None, "d")
    with jax.set_mesh(mesh):
        placed = jax.device_put(x, NamedSharding(mesh, spec))
        y = compiled(normalization.group_norm, placed, groups=4)
    assert y.sharding.is_equivalent_to(placed.sharding, 3)
    np.testing.assert_allclose(y, grouped(x, 4), rtol=2e-5, atol=1e-5)


def test_wrong_arguments_raise():
    message = r"`x` must have axes \[batch, \*spatial, channels\]"
    refuses(ValueError, message, group_norm, draw(4))
    for groups in (4, 0, -1):
        message = f"`groups` must divide the 6 channels of `x`, got {groups}"
        refuses(ValueError, message, normalization.group_norm, X, groups=groups)
    message = "`groups` must be an integer, got float"
    refuses(TypeError, message, normalization.group_norm, X, groups=2.0)
    for axes in ((1, 2), ()):
        message = "`reduction_axes` must name the last axis, the channels, got"
        refuses(ValueError, message, group_norm, X, reduction_axes=axes)
    refuses(ValueError, "`eps` must be zero or positive", group_norm, X, eps=-1.0)
    refuses(TypeError, "`x` must have a floating-point", group_norm, np.ones((2, 6), np.int32))


def test_complex_numbers():
    x = (draw(2, 3, 6, mean=2) + 1j * draw(2, 3, 6, seed=1)) + 0
    parts = x.reshape(2, 3, 2, 3).astype(np.complex128)
    mean = parts.mean((1, 3), keepdims=True)
    var = parts.var((1, 3), keepdims=True)
    expected = ((parts - mean) / np.sqrt(var + EPS)).reshape(x.shape)
    np.testing.assert_allclose(compiled(group_norm, x), expected, rtol=1e-4, atol=1e-5)
