"""Borders: the indices of NumPy's padding."""

import jax
import numpy as np

from jaxreg.augment import borders


def test_borders_are_those_of_numpy():
    """An image of one pixel has one index."""
    index = np.arange(-9, 14)
    for mode in ("edge", "reflect", "wrap"):
        call = jax.jit(getattr(borders, mode), static_argnums=1)
        np.testing.assert_array_equal(call(index, 5), np.pad(np.arange(5), (9, 9), mode))
        assert (call(index, 1) == 0).all()
