"""Rows of proximal operators."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg import (
    proximal,
)
from tests.cases.base import (
    MATRIX,
    SERIES,
    Case,
    X,
    array,
)

THRESHOLDS = array(0.2 + 0.1 * np.cos(np.arange(16.0 * 8)).reshape(16, 8))


def _group_lasso_in_a_metric(w: jax.Array, steps: jax.Array) -> jax.Array:
    return proximal.group_lasso(w, step=steps)


def _sparse_group_lasso_in_a_metric(w: jax.Array, steps: jax.Array, *, l1_share: Any) -> jax.Array:
    return proximal.sparse_group_lasso(w, step=steps, l1_share=l1_share)


FUNCTIONS = (
    Case(
        proximal.l1,
        (X,),
        {"step": 0.3},
        {"step": 0.0},
        errors=(
            (ValueError, r"`step`.*got -1", {"step": -1.0}),
            (ValueError, r"`step` must broadcast.*\(5, 1\)", {"step": jnp.ones((5, 1))}),
        ),
    ),
    Case(
        proximal.l2,
        (X,),
        {"step": 0.3},
        {"step": 0.0},
        errors=((ValueError, r"`step`.*got -1", {"step": -1.0}),),
    ),
    Case(
        proximal.elastic_net,
        (X,),
        {"l1": 0.6, "l2": 0.8, "step": 0.5},
        {"step": 0.0},
        errors=tuple(
            error
            for name in ("l1", "l2", "step")
            for error in (
                (ValueError, rf"`{name}` must be zero or positive, got -1", {name: -1.0}),
                (ValueError, rf"`{name}` must broadcast.*\(5, 1\)", {name: jnp.ones((5, 1))}),
            )
        ),
    ),
    Case(
        proximal.l0,
        (X,),
        {"step": 0.3},
        {"step": 0.0},
        errors=((ValueError, r"`step`.*got -1", {"step": -1.0}),),
    ),
    Case(
        proximal.box,
        (X,),
        {"low": -0.6, "high": 0.8, "step": 0.5},
        {"step": 0.0},
        errors=(
            (ValueError, r"`step`.*got -1", {"step": -1.0}),
            (ValueError, r"`low` must be at most `high`, got 1.0 and 0.8", {"low": 1.0}),
            (ValueError, r"`high` must broadcast.*\(5, 1\)", {"high": jnp.ones((5, 1))}),
        ),
    ),
    Case(
        proximal.group_lasso,
        (X,),
        {"step": 0.3},
        {"step": 0.0},
        errors=(
            (ValueError, r"`step`.*got -1", {"step": -1.0}),
            (ValueError, r"`step` must broadcast.*\(5, 1\)", {"step": jnp.ones((5, 1))}),
            (ValueError, r"`axis` must lie in \[-2, 2\), got 2", {"axis": 2}),
        ),
    ),
    Case(proximal.group_lasso, (SERIES,), {"step": 0.3}, options={"axis": (0, 2)}),
    Case(proximal.group_lasso, (X, THRESHOLDS), call=_group_lasso_in_a_metric),
    Case(
        proximal.sparse_group_lasso,
        (X,),
        {"l1_share": 0.4, "step": 0.3},
        {"step": 0.0},
        errors=(
            (ValueError, r"`l1_share` must be a number in \[0, 1\], got 2", {"l1_share": 2.0}),
            (ValueError, r"`step`.*got -1", {"step": -1.0}),
        ),
    ),
    Case(
        proximal.sparse_group_lasso,
        (X, THRESHOLDS),
        {"l1_share": 0.4},
        call=_sparse_group_lasso_in_a_metric,
    ),
    Case(
        proximal.nuclear,
        (MATRIX,),
        {"step": 0.5},
        {"step": 0.0},
        errors=(
            (ValueError, r"`step`.*got -1", {"step": -1.0}),
            (
                ValueError,
                r"`step` must be a single number, got shape \(2,\); singular values",
                {"step": array(np.ones(2))},
            ),
            (ValueError, r"`axis` must lie in \[-2, 2\), got 2", {"axis": 2}),
        ),
    ),
    Case(
        proximal.nuclear,
        (MATRIX.reshape(16, 2, 4),),
        {"step": 0.5},
        options={"axis": (0, 1)},
    ),
)
