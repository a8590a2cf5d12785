"""A batch, and what a change of it may ask for."""

import numpy as np
import pytest

from jaxreg.study.arms.row import BatchChange
from jaxreg.study.batch import Batch, change

BATCH = Batch(np.ones(2), np.arange(2), np.float32(3), np.float32(4), 5)


def move(key, x, strength):
    return x + key * strength


def scale(x, mean, stddev, num_classes):
    return x * mean + stddev + num_classes


def mix(x, labels):
    return x + 1, labels + 2


@pytest.mark.parametrize(
    ("function", "x", "labels"),
    [(move, 1 + 7 * 0.5, 0), (scale, 3 + 4 + 5, 0), (mix, 2, 2)],
)
def test_a_change_gets_what_it_asks_for(function, x, labels):
    found = change(BatchChange(function), 7, BATCH, 0.5)
    np.testing.assert_array_equal(found.x, [x, x])
    np.testing.assert_array_equal(found.labels, BATCH.labels + labels)
    assert found[2:] == BATCH[2:]
