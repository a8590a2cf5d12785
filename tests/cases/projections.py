"""Rows of projections."""

import jax.numpy as jnp

from jaxreg import (
    projections,
)
from tests.cases.base import MATRIX, SERIES, Case, X

FUNCTIONS = (
    Case(
        projections.unit_norm,
        (X,),
        errors=((ValueError, r"`axis` must lie in \[-2, 2\), got 2", {"axis": 2}),),
    ),
    Case(
        projections.min_max_norm,
        (X,),
        {"low": 2.4, "high": 2.6, "relaxation": 0.7},
        {"relaxation": 0.0},
        errors=(
            (ValueError, r"`low` must be zero or positive, got -1", {"low": -1.0}),
            (ValueError, r"`low` must be at most `high`, got 3.0 and 2.6", {"low": 3.0}),
            (ValueError, r"`high` must broadcast.*\(16, 1\)", {"high": jnp.ones((16, 1))}),
            (ValueError, r"`relaxation` must be.*got 2", {"relaxation": 2.0}),
        ),
    ),
    Case(
        projections.spectral_ball,
        (MATRIX,),
        {"radius": 1.5},
        {"radius": float("inf")},
        errors=(
            (ValueError, r"`radius`.*got -1", {"radius": -1.0}),
            (ValueError, r"`radius` must be a single number", {"radius": jnp.ones(2)}),
        ),
    ),
    Case(
        projections.spectral_ball,
        (MATRIX.reshape(16, 2, 4),),
        {"radius": 1.5},
        options={"axis": (0, 1)},
    ),
    Case(
        projections.l1_ball,
        (X,),
        {"radius": 2.5},
        {"radius": float("inf")},
        errors=(
            (ValueError, r"`radius`.*got -1", {"radius": -1.0}),
            (ValueError, r"`radius` must broadcast.*\(16, 1\)", {"radius": jnp.ones((16, 1))}),
        ),
    ),
    Case(projections.l1_ball, (SERIES,), {"radius": 3.0}, options={"axis": (0, 2)}),
    Case(
        projections.simplex,
        (X,),
        {"total": 1.5},
        options={"axis": -1},
        errors=(
            (ValueError, r"`total` must be zero or positive, got -1", {"total": -1.0}),
            (ValueError, r"`total` must be finite, got inf", {"total": float("inf")}),
            (ValueError, r"`total` must broadcast.*\(1, 8\)", {"total": jnp.ones((1, 8))}),
            (ValueError, r"`axis` must lie in \[-2, 2\), got 2", {"axis": 2}),
        ),
    ),
    Case(projections.simplex, (SERIES,), {"total": 2.0}, options={"axis": (0, 2)}),
    Case(projections.non_negative, (X,)),
    Case(
        projections.max_norm,
        (X,),
        {"radius": 1.5},
        {"radius": float("inf")},
        errors=(
            (ValueError, r"`radius`.*got -1", {"radius": -1.0}),
            (ValueError, r"`radius` must broadcast.*\(16, 1\)", {"radius": jnp.ones((16, 1))}),
        ),
    ),
    Case(projections.max_norm, (X,), {"radius": 1.5}, {"radius": float("inf")}, {"axis": 1}),
)
