"""The spectral ball."""

from functools import partial

import jax
import numpy as np

from jaxreg import projections
from tests.arrays import (
    assert_derivatives,
    eps,
    float64,
    weights,
)
from tests.balls import size_of
from tests.helpers import few
from tests.projections.helpers import (
    ball,
    every_dtype,
)

LAYOUTS = [((4, 2, 3), (1, 2)), ((7, 5), -1), ((5, 7), -1), ((3, 3, 2, 6), -1)]


@few(("shape", "axis"), LAYOUTS, ids=str)
def test_singular_values_are_clipped(shape, axis):
    w, radius = weights(*shape), 1.6
    v = jax.jit(partial(projections.spectral_ball, radius=radius, axis=axis))(w)
    assert v.shape == shape
    columns = 6 if axis == (1, 2) else shape[-1]
    left, values, right = np.linalg.svd(float64(w).reshape(-1, columns), full_matrices=False)
    assert (values > radius).any()
    want = (left * np.minimum(values, radius)) @ right
    np.testing.assert_allclose(v.reshape(want.shape), want, atol=2e-5)


def test_matrices_a_little_outside_the_ball_and_with_outputs_last_are_clipped():
    near = np.diag(np.float32([1 + 1e-6, 0.5]))
    assert size_of("spectral_ball", ball("spectral_ball", near, 1.0)) <= 1 + 1e-7
    w = weights(3, 2, 4)
    left, values, right = np.linalg.svd(float64(w).reshape(6, 4), full_matrices=False)
    v = np.asarray(ball("spectral_ball", w, 1.0)).reshape(6, 4)
    np.testing.assert_allclose(v, (left * np.minimum(values, 1.0)) @ right, atol=2e-5)


@every_dtype
def test_spectral_norms_end_within_the_ball(dtype):
    for seed, shape in enumerate([(8, 5), (64, 64), (30, 120)]):
        w = weights(*shape, seed=seed, scale=2.0).astype(dtype)
        size = size_of("spectral_ball", ball("spectral_ball", w, 1.0))
        assert 1 - 3 * eps(dtype) - 1e-5 <= size <= 1 + 1e-7


@few("values", [(2.0, 2.0, 0.5), (2.0, 2.0, 2.0), (2.0, 0, 0)], ids=str)
def test_derivatives_where_singular_values_repeat_or_rest_within_the_ball(values):
    q = np.linalg.qr(float64(weights(6, 3)))[0]
    assert_derivatives(partial(projections.spectral_ball, radius=1.0), q * values)
