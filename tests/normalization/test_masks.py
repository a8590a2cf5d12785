"""Masks of the elements that enter statistics."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import normalization
from jaxreg.normalization import _masks
from tests.helpers import few
from tests.normalization.helpers import compiled, draw, refuses


@pytest.mark.parametrize("shape", [(4,), (2,), (2, 4), (2, 4, 3, 1), (1, 2, 4, 3), (2, 4, 2), (0,)])
def test_a_mask_that_does_not_broadcast_raises(shape):
    message = r"`where` must broadcast to the shape of `x`, .*got"
    mask = np.ones(shape)
    refuses(ValueError, message, normalization.moments, draw(2, 4, 3), axis=0, where=mask)


@few("kind", [np.float16, np.float32, np.int8, bool])
def test_masks_of_any_dtype_gain_axes_at_their_front(kind):
    """Not zero is selected, whatever its size or sign; NNX asks for booleans (flax 0.12.8)."""
    numbers = np.array([[1e-3, 0, -1], [0, 2, 0]]) * (1000 if kind == np.int8 else 1)
    mask = compiled(lambda m: _masks.align_mask(m, jnp.ones((4, 2, 3))), numbers.astype(kind))
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, (numbers.astype(kind) != 0)[None])


def test_elements_outside_a_mask_are_zero():
    x = np.array([1.0, np.nan, np.inf], np.float32)
    found = compiled(_masks.select, x, np.array([True, False, False]))
    np.testing.assert_array_equal(found, [1, 0, 0])
    assert _masks.select(x, None) is x
