"""Whole trainings of the default networks."""

import math

import pytest

from jaxreg.study import Recipe, run
from tests.study.rows import KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_the_default_network_of_a_kind_learns(kind):
    """All but the texts are clouds that overlap, so their labels are learned in part."""
    data, make_model = KINDS[kind]
    runs = run(make_model, data, [Recipe()], seeds=2, epochs=30, batch_size=25, learning_rate=0.03)
    assert (runs.train_loss[0, -1] < 0.8 * math.log(2)).all()
    assert runs.test.mean() > (0.95 if kind == "text" else 0.6)
