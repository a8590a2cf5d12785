"""Mixing of examples, which compiles long."""

import jax
import numpy as np
import pytest

from jaxreg.study import Recipe, inputs
from tests.study.helpers import shaped

KEY = jax.random.key(0)


def some_batch():
    split = shaped(4, 5, 2)(0)
    labels = split.train_y[:5]
    return inputs.Batch(split.train_x[:5], labels, split.mean, split.stddev, 3)


@pytest.mark.parametrize("name", inputs.MIXING)
def test_mixing_is_off_at_zero(name):
    batch = some_batch()
    off = Recipe(**{name: jax.numpy.zeros(())})
    same = inputs.change_batch(KEY, off, (name,), batch)
    np.testing.assert_array_equal(same.x, batch.x)
    np.testing.assert_array_equal(same.labels.argmax(axis=1), batch.labels)


def test_several_changes_draw_from_keys_of_their_own():
    batch = some_batch()
    recipe = Recipe(cutmix=1.0, mixup=1.0)
    both = inputs.change_batch(KEY, recipe, ("mixup", "cutmix"), batch)
    first = inputs.change_batch(KEY, recipe, ("cutmix",), batch)
    assert both.labels.shape == first.labels.shape == (5, 3)
    np.testing.assert_allclose(both.labels.sum(axis=1), 1, rtol=1e-6)
    # Mixup is the last one: it mixes what CutMix left.
    second = inputs.change_batch(KEY, recipe, ("mixup",), first)
    np.testing.assert_array_equal(both.x, second.x)
    shared, _ = inputs.INPUTS["mixup"].change(KEY, first, 1.0)
    assert (second.x != shared).any()
