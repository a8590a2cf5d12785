"""The protocol of a study: choices on validation, ties, and intervals that cover."""

import math

import numpy as np
import pytest

from jaxreg.study import Grid, Recipe, Runs, compare, selection, techniques

SEEDS, EPOCHS = 3, 4


def made_up(validation, test, loss=None):
    """A trainer whose results are looked up by the sum of the strengths of a recipe."""

    def train(wanted):
        keys = [round(recipe.l2 + 10 * recipe.l1 + 100 * recipe.dropout, 6) for recipe in wanted]
        accuracies = np.array([validation[key] for key in keys])[:, None] + np.zeros(SEEDS)
        tests = np.array([test[key] for key in keys])[:, None] + np.arange(SEEDS) / 100
        losses = np.array([(loss or {}).get(key, 1.0) for key in keys])[:, None] + np.zeros(SEEDS)
        curve = np.zeros((len(keys), EPOCHS, SEEDS))
        return Runs(accuracies, accuracies, tests, losses, curve, curve)

    return train


BASELINE = techniques.grid("baseline")
L2 = techniques.grid("l2", strengths=[1, 2, 3])
L1 = techniques.grid("l1", strengths=[0.4, 0.5])
DROPOUT = techniques.grid("dropout", strengths=[0.5])


def test_strengths_and_arms_are_chosen_on_validation_not_on_test():
    validation = {0: 0.7, 1: 0.8, 2: 0.9, 3: 0.6, 4: 0.75, 5: 0.5}
    test = {0: 0.7, 1: 0.99, 2: 0.6, 3: 0.99, 4: 0.99, 5: 1.0}
    found = compare(made_up(validation, test), [BASELINE, L2, L1])
    assert [arm.strength for arm in found.arms] == [None, 2, 0.4]
    assert found.chosen == "l2"
    assert found.arms[1].recipe == Recipe(l2=2.0)
    np.testing.assert_allclose(found.arms[1].test.mean(), 0.61)
    np.testing.assert_allclose(found.arms[1].difference, [-0.1, -0.1, -0.1])
    np.testing.assert_allclose(found.arms[1].grid_test[:, 0], [0.99, 0.6, 0.99])
    np.testing.assert_array_equal(found.arms[0].difference, 0)
    assert found.arms[0].grid_validation.shape == (0, SEEDS)


def test_of_equal_accuracies_the_lower_loss_is_chosen():
    validation = {0: 0.9, 1: 0.9, 2: 0.9, 3: 0.9}
    found = compare(
        made_up(validation, validation, {0: 0.5, 1: 0.4, 2: 0.2, 3: 0.3}), [BASELINE, L2]
    )
    assert found.arms[1].strength == 2
    assert found.chosen == "l2"


def test_a_loss_that_is_not_a_number_is_never_chosen():
    assert selection.best(np.ones((2, 1)), np.array([[np.nan], [9.0]])) == 1


def test_the_combined_arm_joins_those_that_beat_the_baseline():
    validation = dict.fromkeys([0, 1, 3], 0.5) | {2: 0.8, 4: 0.5, 5: 0.7, 50: 0.6}
    # The best two, l2 and l1, and all three of them.
    validation |= {7: 0.85, 57: 0.95}
    found = compare(made_up(validation, validation), [BASELINE, L2, L1, DROPOUT], combined=True)
    assert found.arms[-1].name == found.chosen == "combined"
    assert found.arms[-1].recipe == Recipe(l2=2.0, l1=0.5, dropout=0.5)
    assert found.notes == ("combined: the best of 2 combinations on validation.",)


def test_the_combined_arm_says_when_too_few_arms_beat_the_baseline():
    validation = {0: 0.9, 1: 0.5, 2: 0.6, 3: 0.5, 4: 0.5, 5: 0.7, 7: 0.8}
    found = compare(made_up(validation, validation), [BASELINE, L2, L1], combined=True)
    assert found.arms[-1].recipe == Recipe(l2=2.0, l1=0.5)
    assert found.chosen == "baseline"
    assert "Fewer than two arms (0) beat the baseline" in found.notes[1]
    assert found.notes[0] == "combined: the best of 1 combination on validation."


def test_comparisons_say_what_is_wrong():
    with pytest.raises(ValueError, match="`grids` must start with the baseline, got"):
        compare(made_up({}, {}), [L2])
    with pytest.raises(ValueError, match="`combined` needs at least two techniques, got 1"):
        compare(made_up({}, {}), [BASELINE, L2], combined=True)
    assert isinstance(BASELINE, Grid)


def test_the_interval_is_the_normal_one_where_that_is_known():
    baseline = np.random.default_rng(1).normal(size=2000)
    noise = np.random.default_rng(2).normal(0.5, 2.0, size=2000)
    interval = selection.paired_difference(baseline + noise, baseline)
    error = noise.std() / math.sqrt(2000)
    np.testing.assert_allclose(interval.mean, noise.mean(), atol=1e-6)
    # 10,000 resamples know a quantile at 1.96 errors to about 0.03 errors.
    np.testing.assert_allclose(interval.low, noise.mean() - 1.96 * error, atol=0.12 * error)
    np.testing.assert_allclose(interval.high, noise.mean() + 1.96 * error, atol=0.12 * error)
    assert interval == selection.paired_difference(baseline + noise, baseline)


def test_pairing_takes_out_what_the_seeds_share():
    shared = np.random.default_rng(0).normal(0, 100, size=16)
    interval = selection.paired_difference(shared + 1, shared)
    np.testing.assert_allclose(interval, 1, rtol=1e-9)


def test_of_rows_equal_but_for_the_error_of_float32_the_lower_loss_is_chosen():
    validation = np.array([[0.9 + 1e-7], [0.9]])
    assert selection.best(validation, np.array([[0.4], [0.3]])) == 1
    assert selection.best(validation, np.array([[0.3], [0.3 - 1e-8]])) == 0


def test_a_gain_that_is_only_the_error_of_float32_is_none():
    validation = {0: 0.9, 1: 0.5, 2: 0.9 + 1e-7, 3: 0.5, 4: 0.9 + 2e-7, 5: 0.5, 6: 0.8}
    found = compare(made_up(validation, validation), [BASELINE, L2, L1], combined=True)
    assert "Fewer than two arms (0) beat the baseline" in found.notes[1]
    assert "l2 and l1" in found.notes[1]


def test_a_difference_that_is_only_the_error_of_float32_is_none():
    baseline = np.full(4, 0.9, np.float32)
    assert selection.paired_difference(baseline + np.float32(1e-7), baseline) == (0, 0, 0)


def test_an_interval_needs_two_seeds():
    with pytest.raises(ValueError, match="`values` must have at least 2 seeds, got 1"):
        selection.paired_difference(np.ones(1), np.ones(1))


@pytest.mark.parametrize(("seeds", "low", "high"), [(16, 0.016, 0.084), (8, 0.0, 0.09)])
def test_the_interval_leaves_out_no_difference_as_often_as_it_says(seeds, low, high):
    """Of 1000 differences that are pure noise 5 % look real, give or take 5 standard errors."""
    noise = np.random.default_rng(0).normal(size=(1000, seeds))
    intervals = [selection.paired_difference(row, np.zeros(seeds)) for row in noise]
    missed = np.mean([not found.low <= 0 <= found.high for found in intervals])
    assert low < missed < high
