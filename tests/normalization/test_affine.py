"""Helpers of the norms: masks, the inverse root, and the affine map of the statistics."""

import jax.numpy as jnp
import numpy as np

from jaxreg.normalization import _affine
from jaxreg.normalization._precisions import two_precisions
from tests.helpers import few
from tests.normalization.helpers import assert_all_close, compiled, draw, with_gradients


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
        return _affine.affine(
            two_precisions(x),
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
        return _affine.affine(two_precisions(x), mean, var, scale=scale, bias=bias, **options)

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
        return _affine.affine(two_precisions(x), None, var, **options)

    y = compiled(function, x)
    assert y.dtype == jnp.bfloat16
    expected = x.astype(np.float64) / np.sqrt(var + 0.5)
    np.testing.assert_allclose(np.asarray(y, "f8"), expected, rtol=1.001 * 2**-8)


def test_infinities_and_nan_outside_of_a_mask_count_as_zero():
    x = np.array([[np.nan, 1.0], [np.inf, np.nan]], np.float32)
    mask = np.array([[False, True], [False, True]])

    def function(x):
        options = {"scale": None, "bias": None, "eps": 0.0, "features": (1,), "where": mask}
        return _affine.affine(
            two_precisions(x), np.ones((1, 2), "f4"), np.full((1, 2), 4.0, "f4"), **options
        )

    np.testing.assert_array_equal(compiled(function, x), [[-0.5, 0], [-0.5, np.nan]])
