"""Figures of other libraries, which scripts in tests/references made."""

import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg import transforms

REFERENCES = pathlib.Path(__file__).parents[3] / "references"


def load(library: str) -> dict[str, Any]:
    """Returns the figures of ``coming_from_LIBRARY.json``."""
    return json.loads((REFERENCES / f"coming_from_{library}.json").read_text())


def array(values: Any) -> np.ndarray:
    """Returns figures as float32, the dtype of most tests."""
    return np.asarray(values, np.float32)


def close(actual: Any, expected: Any, **options: float) -> None:
    """Compares with a figure, within the rounding of float32 by default."""
    limits = {"rtol": 1e-5, "atol": 1e-5, **options}
    np.testing.assert_allclose(np.asarray(actual), np.asarray(expected), **limits)


def average_along(walk, transformation):
    """The averages of parameters that an Optax transformation keeps along a walk of them."""
    walk = array(walk)

    def step(state, pair):
        old, new = pair
        updates, state = transformation.update(new - old, state, old)
        return state, transforms.read_average(state, old + updates)

    pairs = (jnp.asarray(walk[:-1]), jnp.asarray(walk[1:]))
    return jax.jit(lambda: jax.lax.scan(step, transformation.init(walk[0]), pairs)[1])()
