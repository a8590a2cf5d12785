"""More kinds of proximal steps and projections, as an explanation names them."""

from functools import partial

import numpy as np
import optax
import pytest

from jaxreg import masks, projections, proximal, transforms
from jaxreg.explain.explanation import explain

PARAMS = {
    "dense": {"bias": np.zeros(8, np.float32), "kernel": np.ones((8, 8), np.float32)},
    "norm": {"scale": np.ones(8, np.float32)},
}


def kinds(transformation):
    """The regularizers of the kernel, if the transformation comes after Adam."""
    chain = optax.chain(optax.adam(1e-3), optax.masked(transformation, masks.kernels))
    found = explain(None, chain, PARAMS)
    assert not found.conflicts
    return {effect.regularizer for effect in found.effects if effect.place == "dense/kernel"}


@pytest.mark.parametrize(
    "prox",
    [proximal.l1, proximal.l0, proximal.nuclear, partial(proximal.group_lasso, axis=0)],
    ids=["l1", "l0", "nuclear", "group_lasso"],
)
def test_proximal_steps_end_in_exact_zeros(prox):
    assert kinds(transforms.proximal(prox, 0.1, 0.1)) == {"proximal step to exact zeros"}


@pytest.mark.parametrize("name", ["max_norm", "spectral_ball", "l1_ball"])
def test_balls_are_projections(name):
    projection = partial(getattr(projections, name), radius=2.0)
    assert kinds(transforms.project(projection)) == {"projection"}
