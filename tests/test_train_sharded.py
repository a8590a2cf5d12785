"""The parts of examples/train_sharded.py that need no compiled program."""

import importlib
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def load(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module


def test_settings_that_do_not_fit_are_rejected(load):
    make = load("sharded.settings").Settings
    with pytest.raises(ValueError, match="`heads` must divide `width`, 64, got 5; change one"):
        make(heads=5)
    with pytest.raises(ValueError, match="`accumulate` must divide `batch`, 32, got 3; change one"):
        make(accumulate=3)


def test_a_batch_depends_on_its_step_only(load):
    data = load("sharded.data")
    settings = load("sharded.settings").Settings(batch=16, accumulate=2)
    mesh = load("sharded.steps").make_mesh(4, 2)
    batches = data.Batches(settings, mesh)
    expected = [data.make_example(settings, number) for number in range(32, 48)]
    np.testing.assert_array_equal(batches[2].reshape(16, 16), expected)
    (first, *_) = data.read(batches, 2, 4)
    np.testing.assert_array_equal(first, batches[2])
    assert first.sharding.spec == P(None, "data")
    assert batches[2].max() < settings.vocabulary - 1  # The last id is the mask.


def test_a_mesh_needs_all_devices(load):
    with pytest.raises(ValueError, match="`mesh` must have 8 devices, got 2,2; choose two sizes"):
        load("sharded.steps").make_mesh(2, 2)
    assert load("train_sharded").sizes("8") == (8, 1)
    assert load("train_sharded").sizes("4,2") == (4, 2)


@pytest.mark.parametrize("framework", ["linen", "nnx"])
def test_kernels_and_their_averages_are_spread_over_the_mesh(framework, load):
    steps = load("sharded.steps")
    settings = load("sharded.settings").Settings(framework=framework)
    shardings = steps.make_shardings(settings, steps.make_mesh(4, 2))
    names = {
        jax.tree_util.keystr(path): sharding.spec
        for path, sharding in jax.tree_util.tree_leaves_with_path(shardings)
    }
    specs = [spec for name, spec in names.items() if "blocks" in name and "kernel" in name]
    layouts = (P(None, "data", "model"), P(None, "model", "data"))
    assert len(specs) == 6 * 4  # Six kernels, two moments of Adam, and the average.
    assert [specs.count(layout) for layout in layouts] == [4 * 4, 2 * 4]
    assert all(spec == P() for name, spec in names.items() if "count" in name)
