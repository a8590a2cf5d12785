"""Rows of penalties."""

import jax.numpy as jnp

from jaxreg import (
    penalties,
)
from tests.cases.base import MAPS, MATRIX, SERIES, WRONG_GATES, Case, X

FUNCTIONS = (
    Case(penalties.l1, (X,)),
    Case(penalties.l2, (X,)),
    Case(
        penalties.elastic_net,
        (X,),
        {"l1": 0.3, "l2": 0.5},
        errors=tuple(
            error
            for name in ("l1", "l2")
            for error in (
                (ValueError, rf"`{name}` must be zero or positive, got -1", {name: -1.0}),
                (ValueError, rf"`{name}` must broadcast.*\(5,\)", {name: jnp.ones(5)}),
            )
        ),
    ),
    Case(penalties.elastic_net, (X,), {"l2": 0.5}, options={"l1": jnp.linspace(0, 1, 8)}),
    Case(penalties.distance, (X, X[::-1])),
    Case(
        penalties.group_lasso,
        (X,),
        errors=((ValueError, r"`axis` must lie in \[-2, 2\), got 2", {"axis": 2}),),
    ),
    Case(penalties.group_lasso, (SERIES,), options={"axis": (0, 2)}),
    *(
        Case(
            function,
            (MAPS,),
            options={"axis": (1, 2)},
            errors=(
                (ValueError, r"`axis` must lie in \[-4, 4\), got 4", {"axis": 4}),
                (ValueError, r"`axis` must name at least one axis, got \(\)", {"axis": ()}),
            ),
        )
        for function in (penalties.total_variation, penalties.isotropic_total_variation)
    ),
    *(
        Case(
            function,
            (MATRIX,),
            errors=((ValueError, r"`axis` must lie in \[-2, 2\), got 2", {"axis": 2}),),
        )
        for function in (penalties.orthogonality, penalties.spectral, penalties.nuclear)
    ),
    # More outputs than inputs.
    *(
        Case(function, (MATRIX.reshape(16, 2, 4),), options={"axis": (0, 1)})
        for function in (penalties.orthogonality, penalties.spectral, penalties.nuclear)
    ),
    Case(
        penalties.hard_concrete_l0,
        (X,),
        {"temperature": 0.7, "low": -0.4, "high": 2.2},
        errors=WRONG_GATES,
    ),
    Case(
        penalties.activity,
        (X,),
        {"weight": 0.3},
        options={"penalty": penalties.l1},
        errors=(
            (ValueError, r"`weight` must be zero or positive, got -1", {"weight": -1.0}),
            (ValueError, r"`weight` must be a single number.*\(8,\)", {"weight": X[0]}),
        ),
    ),
    Case(penalties.decorrelation, (X,)),
    Case(penalties.total, (X,), options={"penalty": penalties.l1}),
)
