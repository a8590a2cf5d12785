"""The protocol of a study: choices on validation, ties, and intervals that cover."""

import itertools
import math
from statistics import NormalDist

import numpy as np
import pytest

from jaxreg.study import REGRESSION, Grid, Recipe, Runs, compare, grid, selection

SEEDS, EPOCHS = 3, 4

SIGNS = np.array([-1, 1])


def strengths(recipe):
    """The key of a recipe in a table of scores."""
    return recipe.l2, recipe.l1, recipe.dropout


def made_up(validation, test, loss=None, calls=None, metric="macro_f1"):
    """A trainer whose results are looked up by the strengths of a recipe: l2, l1 and dropout."""

    def train(recipes):
        keys = [strengths(recipe) for recipe in recipes]
        if calls is not None:
            calls.append(recipes)
        scores = np.array([validation[key] for key in keys])[:, None] + np.zeros(SEEDS)
        tests = np.array([test[key] for key in keys])[:, None] + np.arange(SEEDS) / 100
        losses = np.array([(loss or {}).get(key, 1.0) for key in keys])[:, None] + np.zeros(SEEDS)
        curve = np.zeros((len(keys), EPOCHS, SEEDS))
        return Runs(scores, scores, tests, losses, curve, curve, {metric: tests / 2})

    return train


class Table(dict):
    """Scores by strengths, with one for all others."""

    def __init__(self, rest, rows=None):
        super().__init__(rows or {})
        self.rest = rest

    def __missing__(self, key):
        return self.rest


BASELINE = grid("baseline")
L2 = grid("l2", strengths=[1, 2, 3])
L1 = grid("l1", strengths=[0.4, 0.5])
DROPOUT = grid("dropout", strengths=[0.5])
OFF = (0, 0, 0)


def l2(*values):
    return {(value, 0, 0): score for value, score in zip((1, 2, 3), values, strict=True)}


def l1(*values):
    return {(0, value, 0): score for value, score in zip((0.4, 0.5), values, strict=True)}


def test_strengths_and_arms_are_chosen_on_validation_not_on_test():
    validation = {OFF: 0.7} | l2(0.8, 0.9, 0.6) | l1(0.75, 0.5)
    test = {OFF: 0.7} | l2(0.99, 0.6, 0.99) | l1(0.99, 1.0)
    found = compare(made_up(validation, test), [BASELINE, L2, L1])
    assert [arm.strength for arm in found.arms] == [None, 2, 0.4]
    assert found.chosen == "l2"
    assert found.best is found.arms[1]
    assert found.arms[1].recipe == Recipe({"l2": 2.0})
    np.testing.assert_allclose(found.arms[1].test.mean(), 0.61)
    np.testing.assert_allclose(found.arms[1].difference, [-0.1, -0.1, -0.1])
    np.testing.assert_allclose(found.arms[1].grid_test[:, 0], [0.99, 0.6, 0.99])
    assert found.arms[1].others == pytest.approx({"macro_f1": 0.305})
    np.testing.assert_array_equal(found.arms[0].difference, 0)
    assert found.arms[0].grid_validation.shape == (0, SEEDS)
    assert found.ablation == ()


def test_a_smaller_error_is_chosen():
    """Of strengths, of arms, and of the parts of a combination."""
    validation = Table(0.9, {OFF: 0.7} | l2(0.8, 0.6, 0.9) | l1(0.75, 0.5) | {(0, 0, 0.5): 0.8})
    objective = REGRESSION.with_metric("rmse")
    train = made_up(validation, validation, metric="mae")
    found = compare(train, [BASELINE, L2, L1, DROPOUT], combined=True, objective=objective)
    assert [arm.strength for arm in found.arms] == [None, 2, 0.5, 0.5, None]
    assert found.arms[2].difference.mean == pytest.approx(-0.2)
    assert found.chosen == "l1"
    assert set(found.arms[-1].recipe) == {"l1", "l2"}
    assert found.objective is objective
    score = np.array([[0.5], [0.2], [np.nan]])
    assert selection.best(score, np.ones((3, 1)), lower_is_better=True) == 1


def test_of_equal_scores_the_lower_loss_is_chosen():
    validation = Table(0.9)
    loss = {OFF: 0.5} | l2(0.4, 0.2, 0.3)
    found = compare(made_up(validation, validation, loss), [BASELINE, L2])
    assert found.arms[1].strength == 2
    assert found.chosen == "l2"


def test_what_is_not_a_number_is_never_chosen():
    assert selection.best(np.ones((2, 1)), np.array([[np.nan], [9.0]])) == 1
    assert selection.best(np.array([[np.nan], [0.1]]), np.ones((2, 1))) == 1


def test_the_combined_arm_joins_those_that_beat_the_baseline():
    """The best two, l2 and l1, and all three of them, at full strengths and at half."""
    calls = []
    validation = {OFF: 0.5} | l2(0.5, 0.8, 0.5) | l1(0.5, 0.7) | {(0, 0, 0.5): 0.6}
    joint = {(2, 0.5, 0): 0.85, (1, 0.25, 0): 0.86, (2, 0.5, 0.5): 0.8, (1, 0.25, 0.25): 0.95}
    parts = {(0, 0.25, 0.25): 0.9, (1, 0, 0.25): 0.95, (1, 0.25, 0): 0.86}
    scores = validation | joint | parts
    found = compare(made_up(scores, scores, calls=calls), [BASELINE, L2, L1, DROPOUT],
                    combined=True)  # fmt: skip
    assert found.arms[-1].name == found.chosen == "combined"
    assert found.arms[-1].recipe == Recipe({"l2": 1.0, "l1": 0.25, "dropout": 0.25})
    assert found.notes[0] == "combined: the best of 4 combinations on validation."
    # Each part is taken away from the chosen combination.
    changes = {name: difference.mean for name, _, difference in found.ablation}
    assert changes == pytest.approx({"l2": -0.05, "l1": 0, "dropout": -0.09})
    assert [part.strength for part in found.ablation] == [1.0, 0.25, 0.25]
    assert found.ablation[0].difference.low == pytest.approx(-0.05)
    # Nothing is trained twice: the baseline and strengths, combinations, and what is left of them.
    assert list(map(len, calls)) == [7, 4, 2]
    trained = [recipe for recipes in calls for recipe in recipes]
    assert len(set(trained)) == len(trained)


def test_a_combination_joins_at_most_eight_arms():
    names = ["l1", "l2", "elastic_net", "group_lasso", "max_norm", "dropout", "jitter", "mixup",
             "label_smoothing", "gradient_clipping"]  # fmt: skip
    gains = dict(zip(names, np.arange(10, 0, -1) / 100, strict=True))

    def train(recipes):
        best = [sum(gains[name] for name in recipe) for recipe in recipes]
        values = np.array(best)[:, None] + np.zeros(SEEDS)
        curve = np.zeros((len(recipes), EPOCHS, SEEDS))
        return Runs(values, values, values, -values, curve, curve, {})

    found = compare(train, [BASELINE, *(grid(name, count=1) for name in names)], combined=True)
    assert found.notes[0] == "combined: the best of 14 combinations on validation."
    assert set(found.arms[-1].recipe) == set(names[:8])


def test_arms_without_a_strength_stay_in_a_weaker_combination():
    weaker = selection.weaken(
        Recipe({"batch_norm": True, "l2": 2.0, "max_norm": 0.5, "early_stopping": 3}), 0.5
    )
    assert weaker == {"batch_norm": True, "l2": 1.0, "max_norm": 1.0, "early_stopping": 6}
    joined = [grid("batch_norm"), grid("centralize")]
    scores = Table(0.5)
    found = compare(made_up(scores, scores), [BASELINE, *joined], combined=True)
    assert found.notes[0] == "combined: the best of 1 combination on validation."
    assert [part.strength for part in found.ablation] == [None, None]


def test_the_better_of_two_arms_at_one_place_is_joined():
    """R-Drop brings a dropout of its own, and there is one norm."""
    scores = {"batch_norm": 0.3, "layer_norm": 0.2, "dropout": 0.5, "r_drop": 0.4}

    def train(recipes):
        best = [max([scores[name] for name in recipe], default=0.0) for recipe in recipes]
        values = np.array(best)[:, None] + np.zeros(SEEDS)
        curve = np.zeros((len(recipes), EPOCHS, SEEDS))
        return Runs(values, values, values, -values, curve, curve, {})

    grids = [grid("dropout", strengths=[0.5]), grid("r_drop", strengths=[1.0]),
             grid("batch_norm"), grid("layer_norm")]  # fmt: skip
    found = compare(train, [BASELINE, *grids], combined=True)
    assert found.arms[-1].recipe.dropout == 0.5
    assert "of 4 combinations" in found.notes[0]
    alone = compare(train, [BASELINE, grid("layer_norm"), grid("batch_norm")], combined=True)
    assert alone.arms[-1].recipe == {"batch_norm": True}
    assert alone.ablation == ()


def test_ablation_is_paired_by_seed():
    """Seeds differ by much, and the part by the same in all of them."""
    offsets = np.array([0.0, 5.0, -3.0])

    def train(recipes):
        gains = np.array([recipe.l2 / 10 + recipe.l1 for recipe in recipes])
        scores = gains[:, None] + offsets
        curve = np.zeros((len(recipes), EPOCHS, SEEDS))
        return Runs(scores, scores, scores, -scores, curve, curve, {})

    found = compare(train, [BASELINE, L2, L1], combined=True)
    assert found.arms[-1].recipe == {"l2": 3.0, "l1": 0.5}
    for part, change in zip(found.ablation, (-0.3, -0.5), strict=True):
        np.testing.assert_allclose(part.difference, change, atol=1e-6)
    assert [part.name for part in found.ablation] == list(found.arms[-1].recipe)


def test_the_combined_arm_says_when_too_few_arms_beat_the_baseline():
    validation = Table(0.5, {OFF: 0.9, (2, 0, 0): 0.6, (0, 0.5, 0): 0.7})
    found = compare(made_up(validation, validation), [BASELINE, L2, L1], combined=True)
    assert set(found.arms[-1].recipe) == {"l2", "l1"}
    assert found.chosen == "baseline"
    told = [note for note in found.notes if "Fewer than two arms (0) beat the baseline" in note]
    assert told
    assert "l1 and l2" in told[0]


def test_a_strength_at_the_edge_of_its_grid_is_told():
    """Of a grid of two, one is always at an edge."""
    validation = Table(0.5, l2(0.5, 0.6, 0.9) | l1(0.6, 0.5))
    found = compare(made_up(validation, validation), [BASELINE, L2, L1])
    assert found.notes[0] == (
        "At the edge of its grid, so that a strength beyond may be better: l2 3."
    )
    inside = Table(0.5, l2(0.5, 0.9, 0.6) | l1(0.6, 0.5))
    found = compare(made_up(inside, inside), [BASELINE, L2, L1])
    assert not any("edge" in note for note in found.notes)


def test_comparisons_say_what_is_wrong():
    with pytest.raises(ValueError, match="`grids` must start with the baseline, got"):
        compare(made_up({}, {}), [L2])
    with pytest.raises(ValueError, match="`grids` must start with the baseline, got"):
        compare(made_up({}, {}), [])
    train = made_up(Table(0.5), Table(0.5), metric="rmse")
    with pytest.raises(ValueError, match=r"`objective` must be the one .* with accuracy, .*rmse a"):
        compare(train, [BASELINE, L2])
    with pytest.raises(ValueError, match="at least two arms to join besides the baseline, got 1"):
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
    validation = Table(0.5, {OFF: 0.9, (2, 0, 0): 0.9 + 1e-7, (0, 0.4, 0): 0.9 + 2e-7})
    found = compare(made_up(validation, validation), [BASELINE, L2, L1], combined=True)
    told = [note for note in found.notes if "Fewer than two arms (0) beat the baseline" in note]
    assert told
    assert "l2 and l1" in told[0]


def test_a_difference_that_is_only_the_error_of_float32_is_none():
    baseline = np.full(4, 0.9, np.float32)
    assert selection.paired_difference(baseline + np.float32(1e-7), baseline) == (0, 0, 0)


def test_an_interval_needs_two_seeds():
    with pytest.raises(ValueError, match="`values` must contain at least 2 seeds, got 1"):
        selection.paired_difference(np.ones(1), np.ones(1))


def every_resample(values):
    """Means of all equally likely resamples, in order."""
    return np.sort([np.mean(picked) for picked in itertools.product(values, repeat=len(values))])


def test_the_interval_has_its_ends_at_expanded_shares_of_all_resamples():
    """The share by hand: the normal probability below Student's quantile, expanded for n - 1."""
    count = 6
    expanded = selection._tail_share(count, 0.025)
    assert expanded == pytest.approx(0.0024, abs=2e-4)
    quantile = 2.57058 * math.sqrt(6 / 5)
    assert expanded == pytest.approx(0.5 * math.erfc(quantile / math.sqrt(2)), rel=1e-3)
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


def test_of_few_seeds_the_interval_is_students():
    """Among 10,000 resamples, too few would be beyond the ends."""
    values = np.array([0.2, 0.5, 0.9])
    interval = selection.paired_difference(values, np.zeros(3))
    # The quantile of Student's distribution with 2 degrees of freedom, from a table.
    half = 4.30265 * values.std(ddof=1) / math.sqrt(3)
    np.testing.assert_allclose(
        interval, [values.mean(), *(values.mean() + half * SIGNS)], rtol=1e-5
    )


def test_more_comparisons_make_the_interval_wider():
    values = np.array([0.2, 0.5, 0.9])
    interval = selection.paired_difference(values, np.zeros(3), comparisons=5)
    # 99%, so that five of them hold together with 95%.
    half = 9.92484 * values.std(ddof=1) / math.sqrt(3)
    np.testing.assert_allclose(interval.high, values.mean() + half, rtol=1e-5)


def test_test_rows_make_the_interval_wider():
    values = np.random.default_rng(0).normal(size=16)
    rows = np.random.default_rng(1).normal(0.1, 3.0, size=50)
    alone = selection.paired_difference(values, np.zeros(16))
    both = selection.paired_difference(values, np.zeros(16), rows=rows)
    spread = 1.959964 * rows.std(ddof=1) / math.sqrt(50)
    assert both.mean == alone.mean
    for own, wide in zip(alone[1:], both[1:], strict=True):
        np.testing.assert_allclose(abs(wide - both.mean), math.hypot(own - both.mean, spread))
    one = selection.paired_difference(values, np.zeros(16), rows=rows[:1])
    assert one[1:] == (-math.inf, math.inf)


def test_a_study_counts_its_comparisons_and_its_test_rows():
    """Every seed of the arm is right in the first test row alone, where the baseline is wrong."""
    hits = np.array([1.0, 0.0, 0.0, 0.0])

    def train(recipes):
        scores = np.array([[0.25 * (len(recipe) > 0)] * 6 for recipe in recipes])
        rows = np.stack([np.repeat((hits * (len(r) > 0))[:, None], 6, axis=1) for r in recipes])
        curve = np.ones((len(recipes), EPOCHS, 6))
        return Runs(scores, scores, scores, scores, curve, curve, {}, rows)

    for grids, tail in (([L1], 0.025), ([L1, L2], 0.0125)):
        interval = compare(train, [BASELINE, *grids]).arms[1].difference
        half = NormalDist().inv_cdf(1 - tail) * hits.std(ddof=1) / 2
        np.testing.assert_allclose(interval, [0.25, *(0.25 + half * SIGNS)], rtol=1e-6)


def test_of_rows_that_are_equal_in_both_the_first_is_chosen():
    assert selection.best(np.full((3, 2), 0.5), np.full((3, 2), 0.1)) == 0
    scores = np.array([[0.5, 0.7], [0.9, 0.1]])
    assert selection.best(scores, np.array([[1.0, 1.0], [0.5, 0.5]])) == 0


def test_an_arm_holds_the_results_of_its_strength():
    def train(recipes):
        number = len(recipes)
        rows = np.arange(number)[:, None] + np.arange(SEEDS) / 10
        curves = np.arange(number)[:, None, None] + np.zeros((number, EPOCHS, SEEDS))
        others = {"balanced_accuracy": rows * 2}
        return Runs(rows + 1, rows, rows + 2, rows + 3, curves + 4, curves + 5, others)

    found = compare(train, [BASELINE, L2, L1])
    arm = found.arms[1]
    np.testing.assert_array_equal(arm.validation, [3, 3.1, 3.2])
    np.testing.assert_array_equal(arm.train, arm.validation + 1)
    np.testing.assert_array_equal(arm.test, arm.validation + 2)
    assert (arm.train_loss == 7).all()
    assert (arm.validation_loss == 8).all()
    assert arm.others == pytest.approx({"balanced_accuracy": 6.2})
    assert arm.strengths == (1.0, 2.0, 3.0)
    np.testing.assert_array_equal(arm.grid_validation[:, 0], [1, 2, 3])
    np.testing.assert_array_equal(arm.grid_test[:, 0], [3, 4, 5])
    assert arm.difference.mean == pytest.approx(3)
    assert found.arms[2].strength == 0.5
    assert found.chosen == "l1"
