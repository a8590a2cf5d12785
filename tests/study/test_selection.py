"""The protocol of a study: choices on validation, ties, and intervals that cover."""

import itertools
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
    baseline = np.random.default_rng(1).normal(size=500)
    noise = np.random.default_rng(2).normal(0.5, 2.0, size=500)
    interval = selection.paired_difference(baseline + noise, baseline)
    error = noise.std() / math.sqrt(500)
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


def every_resample(values):
    """Means of all equally likely resamples, in order."""
    return np.sort([np.mean(picked) for picked in itertools.product(values, repeat=len(values))])


@pytest.mark.parametrize(("count", "share"), [(2, 0.0), (3, 1e-4), (5, 9e-4), (6, 0.0024)])
def test_the_interval_has_its_ends_at_expanded_shares_of_all_resamples(count, share):
    """Shares by hand: the normal probability below Student's quantile, expanded for n - 1."""
    expanded = selection._tail_share(count)
    assert expanded == pytest.approx(share, abs=2e-4)
    student = {2: 12.7062, 3: 4.30265, 5: 2.77645, 6: 2.57058}[count]
    quantile = student * math.sqrt(count / (count - 1))
    assert expanded == pytest.approx(0.5 * math.erfc(quantile / math.sqrt(2)), rel=1e-3, abs=1e-9)
    values = np.random.default_rng(count).normal(size=count).round(3)
    baseline = np.random.default_rng(count + 10).normal(size=count).round(3)
    means = every_resample(values - baseline)
    interval = selection.paired_difference(values, baseline)
    # 10,000 draws know a share p to 5 sqrt(p / 10,000).
    slack = 5 * math.sqrt((expanded + 1e-4) / 10_000)
    ends = np.quantile(means, [max(expanded - slack, 0), expanded + slack])
    assert ends[0] - 1e-5 <= interval.low <= ends[1] + 1e-5
    ends = np.quantile(means, [1 - expanded - slack, min(1 - expanded + slack, 1)])
    assert ends[0] - 1e-5 <= interval.high <= ends[1] + 1e-5
    assert interval.mean == pytest.approx((values - baseline).mean(), abs=1e-6)


def test_of_rows_that_are_equal_in_both_the_first_is_chosen():
    assert selection.best(np.full((3, 2), 0.5), np.full((3, 2), 0.1)) == 0
    assert (
        selection.best(np.array([[0.5, 0.7], [0.9, 0.1]]), np.array([[1.0, 1.0], [0.5, 0.5]])) == 0
    )


def test_an_arm_holds_the_results_of_its_strength():
    def train(wanted):
        number = len(wanted)
        rows = np.arange(number)[:, None] + np.arange(SEEDS) / 10
        curves = np.arange(number)[:, None, None] + np.zeros((number, EPOCHS, SEEDS))
        return Runs(rows + 1, rows, rows + 2, rows + 3, curves + 4, curves + 5)

    found = compare(train, [BASELINE, L2, L1])
    arm = found.arms[1]
    np.testing.assert_array_equal(arm.validation, [3, 3.1, 3.2])
    np.testing.assert_array_equal(arm.train, arm.validation + 1)
    np.testing.assert_array_equal(arm.test, arm.validation + 2)
    assert (arm.train_loss == 7).all()
    assert (arm.validation_loss == 8).all()
    assert arm.strengths == (1.0, 2.0, 3.0)
    np.testing.assert_array_equal(arm.grid_validation[:, 0], [1, 2, 3])
    np.testing.assert_array_equal(arm.grid_test[:, 0], [3, 4, 5])
    assert arm.difference.mean == pytest.approx(3)
    assert found.arms[2].strength == 0.5
    assert found.chosen == "l1"
    assert found.notes == ()
