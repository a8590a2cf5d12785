"""Rows of reparametrizations."""

import jax.numpy as jnp
import numpy as np

from jaxreg import (
    reparam,
)
from tests.cases.base import SERIES, Case, X, array

VECTOR = array(np.full(8, 8**-0.5))  # a unit vector


FUNCTIONS = (
    Case(
        reparam.weight_norm,
        (X,),
        {"scale": 1.5},
        errors=(
            (
                ValueError,
                r"`scale` must broadcast.*\(8,\).*\(16, 1\)",
                {"scale": jnp.ones((16, 1))},
            ),
            (ValueError, r"`axis`.*got 2", {"axis": 2}),
        ),
    ),
    Case(
        reparam.weight_norm,
        (SERIES,),
        options={"scale": array(np.linspace(0.5, 2, 32)).reshape(4, 8), "axis": (-2, -1)},
    ),
    Case(reparam.weight_norm_scale, (X,), errors=((ValueError, r"`axis`.*got 2", {"axis": 2}),)),
    # With more steps the gradient is not the value's: tests/exhaustive/reparam/test_spectral.py has
    # the other columns.
    Case(
        reparam.spectral_norm,
        (X, VECTOR),
        options={"steps": 0},
        errors=(
            (ValueError, r"`steps` must be at least 0, got -1", {"steps": -1}),
            (TypeError, r"`steps` must be an integer, got float 1\.0", {"steps": 1.0}),
            (ValueError, r"`axis`.*got 2", {"axis": 2}),
            (ValueError, r"`u` must have .* \(16,\), got \(8,\)", {"axis": 0}),
        ),
    ),
    Case(
        reparam.spectral_norm_sigma,
        (X, VECTOR),
        errors=(
            (ValueError, r"`steps` must be at least 0, got -1", {"steps": -1}),
            (ValueError, r"`u` must have .* \(16,\), got \(8,\)", {"axis": 0}),
        ),
    ),
    Case(
        reparam.weight_standardization,
        (X,),
        {"scale": 1.5, "eps": 1e-3},
        errors=(
            (ValueError, r"`scale` must broadcast.*\(8,\).*\(5,\)", {"scale": array(np.ones(5))}),
            (ValueError, r"`eps`.*got -1", {"eps": -1.0}),
            (ValueError, r"`axis`.*got 2", {"axis": 2}),
        ),
    ),
    Case(
        reparam.weight_standardization,
        (SERIES,),
        {"eps": 1e-3},
        {},
        {"scale": array(np.linspace(0.5, 2, 32)).reshape(4, 8), "axis": (-2, -1)},
    ),
)
