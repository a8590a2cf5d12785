"""The contract of virtual adversarial training."""

import jax.numpy as jnp
import pytest

from jaxreg import smoothness, testing
from tests import cases


def _of_x(key, x, *, radius):
    return smoothness.virtual_adversarial(
        lambda x: jnp.tanh(x @ cases.KERNEL.astype(x.dtype)), x, key=key, radius=radius
    )


# The gradient differs from the value's, since the paper's constant moves with ``x``.
CELLS = {
    name: check
    for name, check in testing.contract(
        _of_x, (cases.KEY, cases.X), strengths={"radius": 0.5}
    ).items()
    if name != "gradient"
}


@pytest.mark.parametrize("cell", CELLS)
def test_contract(cell):
    CELLS[cell]()
