"""Helpers of the norms: masks, the inverse root, and the affine map of the statistics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from jaxreg import normalization
from jaxreg.normalization import _shared
from tests.helpers import few
from tests.normalization.helpers import assert_all_close, compiled, draw, refuses, with_gradients


@pytest.mark.parametrize("shape", [(4,), (2,), (2, 4), (2, 4, 3, 1), (1, 2, 4, 3), (2, 4, 2), (0,)])
def test_a_mask_that_does_not_broadcast_raises(shape):
    message = r"`where` must broadcast to `x` from the last axes, as in NumPy, got"
    mask = np.ones(shape)
    refuses(ValueError, message, normalization.moments, draw(2, 4, 3), axis=0, where=mask)


@few("kind", [np.float16, np.float32, np.int8, bool])
def test_masks_of_any_dtype_gain_axes_at_their_front(kind):
    """Not zero is selected, whatever its size or sign; NNX asks for booleans (flax 0.12.8)."""
    numbers = np.array([[1e-3, 0, -1], [0, 2, 0]]) * (1000 if kind == np.int8 else 1)
    mask = compiled(lambda m: _shared.align_mask(m, jnp.ones((4, 2, 3))), numbers.astype(kind))
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, (numbers.astype(kind) != 0)[None])


def test_the_inverse_root_is_zero_at_zero_and_at_infinity():
    x = np.array([0.0, np.inf, 4.0, 1e-30, -1.0], np.float32)
    y, (dx,) = with_gradients(_shared.inverse_root, np.ones(5, "f4"), x)
    np.testing.assert_allclose(y, [0, 0, 0.5, 1e15, 0], rtol=1e-6)
    np.testing.assert_allclose(dx[:3], [0, 0, -1 / 16], rtol=1e-6)
    assert np.isfinite(dx[4])


def test_zeros_stand_outside_a_mask():
    x = np.array([1.0, np.nan, np.inf], np.float32)
    found = compiled(_shared.select, x, np.array([True, False, False]))
    np.testing.assert_array_equal(found, [1, 0, 0])
    assert _shared.select(x, None) is x


@few("late", [False, True])
@few("given", ["both", "scale", "bias", "none"])
def test_the_affine_map_and_its_derivatives(late, given):
    """Factors are applied late if every element has its own, as in a batch of one."""
    x = draw(1 if late else 5, 3)
    mean = draw(1, 3, seed=1)
    var = np.exp(draw(1, 3, seed=2))
    dy = draw(*x.shape, seed=3)
    scale = draw(3, seed=4)
    bias = draw(3, seed=5)
    has_scale = given in ("both", "scale")
    has_bias = given in ("both", "bias")

    def function(x, mean, var, scale, bias):
        return _shared.affine(
            x,
            mean,
            var,
            scale=scale if has_scale else None,
            bias=bias if has_bias else None,
            eps=0.5,
            features=(1,),
            where=None,
        )

    y, gradients = with_gradients(function, dy, x, mean, var, scale, bias)
    root = np.sqrt(var.astype(np.float64) + 0.5)
    factor = scale if has_scale else np.ones(3)
    np.testing.assert_allclose(y, factor * (x - mean) / root + bias * has_bias, atol=1e-6)
    expected = (
        dy * factor / root,
        -(dy * factor / root).sum(0, keepdims=True),
        -(dy * factor * (x - mean) / root**3 / 2).sum(0, keepdims=True),
        (dy * (x - mean) / root).sum(0) * has_scale,
        dy.sum(0) * has_bias,
    )
    assert_all_close(gradients, expected, rtol=1e-4, atol=1e-6)


@few("shape", [(5, 4, 3), (5, 1, 3)])
def test_statistics_of_every_example_and_factors_of_features(shape):
    """The offsets have other shapes than the means: their derivatives go other ways."""
    x = draw(*shape)
    mean = draw(5, 1, 1, seed=1)
    var = np.exp(draw(5, 1, 1, seed=2))
    scale = draw(3, seed=3)
    bias = draw(3, seed=4)
    dy = draw(*shape, seed=5)

    def function(x, mean, var, scale, bias):
        options = {"eps": 0.5, "features": (2,), "where": None}
        return _shared.affine(x, mean, var, scale=scale, bias=bias, **options)

    y, gradients = with_gradients(function, dy, x, mean, var, scale, bias)
    root = np.sqrt(var.astype(np.float64) + 0.5)
    np.testing.assert_allclose(y, scale * (x - mean) / root + bias, atol=1e-6)
    of_gain = (dy * scale * (x - mean)).sum((1, 2), keepdims=True)
    expected = (
        dy * scale / root,
        -(dy * scale / root).sum((1, 2), keepdims=True),
        -of_gain / root**3 / 2,
        (dy * (x - mean) / root).sum((0, 1)),
        dy.sum((0, 1)),
    )
    assert_all_close(gradients, expected, rtol=1e-4, atol=1e-5)


def test_a_map_without_a_mean_in_a_narrow_dtype_rounds_once():
    x = draw(64, 3).astype(jnp.bfloat16)
    var = np.exp(draw(1, 3, seed=2))

    def function(x):
        options = {"scale": None, "bias": None, "eps": 0.5, "features": (1,), "where": None}
        return _shared.affine(x, None, var, **options)

    y = compiled(function, x)
    assert y.dtype == jnp.bfloat16
    expected = x.astype(np.float64) / np.sqrt(var + 0.5)
    np.testing.assert_allclose(np.asarray(y, "f8"), expected, rtol=1.001 * 2**-8)


def test_infinities_and_nan_outside_of_a_mask_count_as_zero():
    x = np.array([[np.nan, 1.0], [np.inf, np.nan]], np.float32)
    mask = np.array([[False, True], [False, True]])

    def function(x):
        options = {"scale": None, "bias": None, "eps": 0.0, "features": (1,), "where": mask}
        return _shared.affine(x, np.ones((1, 2), "f4"), np.full((1, 2), 4.0, "f4"), **options)

    np.testing.assert_array_equal(compiled(function, x), [[-0.5, 0], [-0.5, np.nan]])


@pytest.mark.parametrize("axis_name", [(), "d"])
def test_the_axes_of_devices_are_asked_for_where_there_are_some(axis_name):
    _shared.check_synchronized(draw(3), None)
    mesh = jax.make_mesh((2,), ("d",), (AxisType.Auto,), devices=jax.devices()[:2])

    def check(name):
        def one(x):
            _shared.check_synchronized(x, name)
            return x

        return jax.shard_map(one, mesh=mesh, in_specs=P("d"), out_specs=P("d"))

    jax.eval_shape(check(axis_name), draw(2))
    refuses(ValueError, r"`axis_name` must be given .* along \['d'\]", check(None), draw(2))


def test_wrong_values_and_shapes_are_named():
    refuses(ValueError, r"`eps` must be a single number", _shared.check_eps, np.ones(2))
    refuses(ValueError, r"`eps` must be zero or positive, got -1", _shared.check_eps, -1)
    _shared.check_eps(0)
    _shared.check_shapes([3], a=None, b=np.ones(3))
    message = r"`b` must have the shape of the feature axes, \(3,\), got \(2,\)"
    refuses(ValueError, message, _shared.check_shapes, [3], a=None, b=np.ones(2))
