"""Finished runs in memory and on disk."""

import numpy as np
import pytest

from jaxreg.study.journal import Journal
from jaxreg.study.recipes import Policy, Recipe
from jaxreg.study.runs import Runs

RECIPES = [
    Recipe(),
    Recipe({"l2": 0.1, "batch_norm": True}),
    Recipe({"policy": Policy(("jitter",), (0.1,), (0.5,))}),
]


def some_run(seed):
    numbers = np.arange(4, dtype=np.float32) + seed
    curve = np.array([seed, 1 / 3], np.float32)
    others = {"macro_f1": np.float32(seed / 7), "r2": numbers[0]}
    return Runs(*numbers, curve, curve + 1, others, None if seed == 0 else numbers)


def assert_same(found, expected):
    for name, value in expected._asdict().items():
        if value is None:
            assert getattr(found, name) is None
            continue
        np.testing.assert_array_equal(getattr(found, name), value)
        assert np.asarray(getattr(found, name)).dtype == np.asarray(value).dtype


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_runs_come_back_from_disk_to_the_last_digit(recipe, tmp_path):
    folder = tmp_path / "new" / "runs"
    Journal(folder).add({(recipe, seed): some_run(seed) for seed in (0, 11)})
    again = Journal(folder)
    assert len(again) == 2
    assert (recipe, 11) in again
    assert (recipe, 1) not in again
    assert (Recipe({"dropout": 0.5}), 0) not in again
    for seed in (0, 11):
        assert_same(again[recipe, seed], some_run(seed))


def test_every_call_has_a_file_of_its_own(tmp_path):
    journal = Journal(tmp_path)
    for seed in range(3):
        journal.add({(Recipe(), seed): some_run(seed)})
    assert len(list(tmp_path.iterdir())) == 3
    assert len(Journal(tmp_path)) == 3


@pytest.mark.parametrize("size", [0, 1, 200])
def test_a_file_that_was_cut_off_counts_as_absent(size, tmp_path):
    journal = Journal(tmp_path)
    journal.add({(Recipe(), 0): some_run(0)})
    journal.add({(Recipe(), 1): some_run(1)})
    path = sorted(tmp_path.iterdir())[1]
    path.write_bytes(path.read_bytes()[:size])
    again = Journal(tmp_path)
    assert (Recipe(), 0) in again
    assert (Recipe(), 1) not in again


def test_runs_in_memory_leave_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    journal = Journal()
    journal.add({(Recipe(), 0): some_run(0)})
    assert_same(journal[Recipe(), 0], some_run(0))
    assert not list(tmp_path.iterdir())
