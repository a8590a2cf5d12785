"""The study: splits, training, and the protocol, at sizes that train in a blink."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxreg.nnx
from jaxreg import targets
from jaxreg.study import (
    Grid,
    Recipe,
    Runs,
    compare,
    data,
    models,
    recipes,
    runner,
    selection,
    summary,
)

SEEDS, EPOCHS = 3, 4
TRAIN = partial(runner.run, seeds=SEEDS, epochs=EPOCHS, batch_size=20, learning_rate=0.03)
MODEL = models.mlp((8,), 2)
EVERYTHING = Recipe(
    l1=0.01, l2=0.1, dropout=0.2, label_smoothing=0.1, max_norm=2.0, patience=2, batch_norm=True
)


def blobs(seed):
    """Two overlapping clouds, drawn anew for every seed."""
    rng = np.random.default_rng(seed)

    def rows(count):
        y = rng.integers(0, 2, count)
        x = rng.normal(size=(count, 3)) + y[:, None]
        return x.astype(np.float32), y.astype(np.int32)

    return data.Split(*rows(50), *rows(30), *rows(40))


def assert_same(first, second):
    for name, one, other in zip(Runs._fields, first, second, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=name)


def assert_close(first, second):
    for name, one, other in zip(Runs._fields, first, second, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5, err_msg=name)


# Data


def test_splits_are_disjoint_and_keep_the_share_of_every_class():
    # The first feature is the number of the row, which standardizing keeps apart.
    y = np.repeat([0, 1, 2], [100, 200, 300])
    x = np.stack([np.arange(600.0), np.ones(600)], axis=1)
    split = data.stratified(x, y, train_size=120)(3)
    assert split.sizes == (120, 120, 360)
    parts = [split.train_x, split.validation_x, split.test_x]
    assert len(np.unique(np.concatenate(parts)[:, 0])) == 600
    for labels in (split.train_y, split.validation_y, split.test_y):
        np.testing.assert_allclose(np.bincount(labels) / len(labels), [1 / 6, 2 / 6, 3 / 6])


def test_features_are_standardized_with_the_training_rows_alone():
    x = np.random.default_rng(0).normal(5, 3, (300, 2)).astype(np.float32)
    x[:, 1] = 7
    split = data.stratified(x, np.arange(300) % 2, train_size=60)(0)
    np.testing.assert_allclose(split.train_x.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(split.train_x.std(axis=0), [1, 0], atol=1e-5)
    assert abs(split.test_x[:, 0].mean()) > 1e-4
    np.testing.assert_array_equal(split.test_x[:, 1], 0)


def test_a_seed_decides_its_split():
    split = data.digits(train_size=100)
    for one, again, other in zip(split(1), split(1), split(2), strict=True):
        np.testing.assert_array_equal(one, again)
        assert one.shape == other.shape
    assert (split(1).train_y != split(2).train_y).any()


def test_circles_are_the_published_points():
    np.random.seed(42)
    points = np.random.rand(1000, 2) * 4 - 2
    split = data.circles(train_size=1000)
    first, second = split(0), split(1)
    np.testing.assert_array_equal(first.train_x, points.astype(np.float32))
    np.testing.assert_array_equal(first.train_y, points[:, 0] ** 2 + points[:, 1] ** 2 > 5)
    np.testing.assert_array_equal(first.train_x, second.train_x)
    assert first.sizes == (1000, 1000, 1000)
    for one, other in ((first.validation_x, second.validation_x), (first.test_x, second.test_x)):
        assert (one != other).all()
        assert abs(one).max() <= 2
    np.testing.assert_array_equal(first.test_y, (first.test_x.astype(float) ** 2).sum(axis=1) > 5)


@pytest.mark.parametrize("load", [data.digits, data.breast_cancer, data.circles])
@pytest.mark.parametrize("size", [1, 1698])
def test_a_training_size_that_does_not_fit_raises(load, size):
    with pytest.raises(ValueError, match=f"`train_size` must be from 2 to .*, got {size}"):
        load(train_size=size)


# Recipes


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("l1", -1.0),
        ("l2", math.inf),
        ("dropout", 1.0),
        ("label_smoothing", 1.5),
        ("max_norm", 0.0),
        ("patience", -1),
    ],
)
def test_a_strength_out_of_range_raises(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be .*, got {value}"):
        Recipe(**{name: value})


def test_the_leaves_of_a_recipe_are_its_strengths():
    assert len(jax.tree.leaves(Recipe())) == 6
    assert jax.tree.structure(Recipe()) == jax.tree.structure(Recipe(l2=1.0, dropout=0.5))
    assert jax.tree.structure(Recipe()) != jax.tree.structure(Recipe(batch_norm=True))


@pytest.mark.parametrize("technique", recipes.TECHNIQUES, ids=lambda technique: technique.name)
def test_every_arm_has_a_grid_that_sets_its_technique_alone(technique):
    arm = recipes.grid(technique.name, count=4)
    assert arm.strengths == tuple(sorted(arm.strengths))
    assert len(arm.recipes) == max(len(arm.strengths), 1)
    assert len(arm.strengths) in (0, 4)
    for recipe in arm.recipes:
        changed = [
            name for name in vars(recipe) if getattr(recipe, name) != getattr(Recipe(), name)
        ]
        assert changed == [technique.field]


def test_one_strength_is_the_middle_of_the_range():
    assert recipes.grid("l2", count=1).strengths == (1.0,)
    assert recipes.grid("l2", strengths=[3, 2, 3]).strengths == (2.0, 3.0)


def test_grids_say_what_is_wrong():
    with pytest.raises(ValueError, match=r"`name` must be one of baseline, .*, got ridge"):
        recipes.grid("ridge")
    with pytest.raises(ValueError, match="`count` must be at least 1, got 0"):
        recipes.grid("l2", count=0)


def test_combining_switches_everything_on():
    joined = recipes.combine([Recipe(l2=0.5), Recipe(batch_norm=True), Recipe(patience=3)])
    assert joined == Recipe(l2=0.5, batch_norm=True, patience=3)
    assert recipes.combine([]) == Recipe()


# Training


def plain_adam(split, key):
    """Trains the same network with Optax alone, in Python loops."""
    model = models.MLP((8,), 2)
    init_key, epochs_key = jax.random.split(key)
    params = model.init(init_key, split.train_x[:1], train=False)["params"]
    adam = optax.adam(0.03)
    state = adam.init(params)

    def loss(params, x, y):
        logits = model.apply({"params": params}, x, train=True)
        return targets.smoothed_cross_entropy(logits, y, alpha=0.0)

    @jax.jit
    def step(params, state, x, y):
        updates, state = adam.update(jax.grad(loss)(params, x, y), state, params)
        return optax.apply_updates(params, updates), state

    for epoch_key in jax.random.split(epochs_key, EPOCHS):
        order = jax.random.permutation(jax.random.split(epoch_key)[0], 50)
        for rows in order[:40].reshape(2, 20):
            params, state = step(params, state, split.train_x[rows], split.train_y[rows])
    return loss(params, split.validation_x, split.validation_y)


def test_a_recipe_that_is_off_is_plain_adam():
    runs = TRAIN(MODEL, blobs, [Recipe()])
    expected = plain_adam(blobs(1), jax.random.key(1))
    np.testing.assert_allclose(runs.loss[0, 1], expected, rtol=1e-4)
    np.testing.assert_allclose(runs.loss[0], runs.validation_loss[0, -1], rtol=1e-6)


def test_results_have_the_shapes_they_promise():
    runs = TRAIN(MODEL, blobs, [Recipe(), EVERYTHING])
    for name in ("train", "validation", "test", "loss"):
        assert getattr(runs, name).shape == (2, SEEDS)
    assert runs.train_loss.shape == runs.validation_loss.shape == (2, EPOCHS, SEEDS)
    assert all(np.isfinite(array).all() for array in runs)
    # The rows of the three sets, 50, 30 and 40, show in what an accuracy can be.
    for rows, accuracy in ((50, runs.train), (30, runs.validation), (40, runs.test)):
        np.testing.assert_allclose(accuracy * rows, np.round(accuracy * rows), atol=1e-4)


def test_a_run_among_others_is_the_run_alone():
    others = [Recipe(), Recipe(dropout=0.5), EVERYTHING, Recipe(l2=1.0)]
    stacked = TRAIN(MODEL, blobs, others)
    for row, recipe in enumerate(others):
        assert_same(TRAIN(MODEL, blobs, [recipe]), Runs(*(a[row : row + 1] for a in stacked)))


def test_runs_that_advance_together_are_the_runs_one_after_the_other():
    """Accelerators map whole blocks of runs at once; their results must be those of a loop."""
    grid = [Recipe(), Recipe(l2=1.0), Recipe(patience=1), Recipe(l1=0.1), Recipe(max_norm=0.5)]
    devices = tuple(jax.local_devices())
    plan = runner._Plan(MODEL, EPOCHS, 20, 0.03, devices, 5)
    together = runner._train_block(plan, grid, runner._splits(plan, blobs, SEEDS), SEEDS, 6)
    assert_close(Runs(*(array[:5] for array in together)), TRAIN(MODEL, blobs, grid))


def test_the_same_call_twice_gives_the_same_numbers():
    assert_same(*(TRAIN(MODEL, blobs, [Recipe(), EVERYTHING]) for _ in range(2)))


def test_one_trace_per_structure_whatever_the_strengths():
    traced = []

    def counting(recipe):
        traced.append(recipe)
        return MODEL(recipe)

    train = partial(TRAIN, counting, blobs)
    train([Recipe(l2=weight) for weight in (0.0, 0.1, 1.0)] + [Recipe(patience=1)])
    assert len(traced) == 1
    train([Recipe(dropout=rate) for rate in (0.1, 0.2)] + [Recipe(label_smoothing=0.5)])
    assert len(traced) == 2
    train([Recipe(dropout=0.9, l1=0.1), Recipe(max_norm=1.0)])
    assert len(traced) == 2
    # A rate that is off is a number, so that the model can leave the layer out.
    assert isinstance(traced[0].dropout, float)
    assert isinstance(traced[1].dropout, jax.core.Tracer)
    assert isinstance(traced[0].l2, jax.core.Tracer)


def test_a_stopped_run_is_the_run_that_ended_at_its_best_epoch():
    """With a patience of 1 a run stops at the first rise and goes back by one epoch."""
    train = partial(TRAIN, MODEL, blobs, learning_rate=0.1)
    both = train([Recipe(), Recipe(patience=1)], epochs=12)
    full, history = both.validation_loss
    rises = [int(np.flatnonzero(np.diff(losses) >= 0)[0]) for losses in full.T]
    for seed, best in enumerate(rises):
        np.testing.assert_array_equal(history[: best + 2, seed], full[: best + 2, seed])
        np.testing.assert_array_equal(history[best + 2 :, seed], full[best + 1, seed])
        np.testing.assert_allclose(both.loss[1, seed], full[best, seed], rtol=1e-6)
    # Fewer epochs take the first of the same keys.
    alone = train([Recipe()], epochs=rises[0] + 1)
    for name in ("train", "validation", "test", "loss"):
        np.testing.assert_allclose(
            getattr(alone, name)[0, 0], getattr(both, name)[1, 0], rtol=1e-5, err_msg=name
        )


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(l1=3.0),
        Recipe(l2=20.0),
        Recipe(max_norm=0.1),
        Recipe(dropout=0.8),
        Recipe(label_smoothing=0.5),
    ],
    ids=summary.recipe_text,
)
def test_a_strong_regularizer_keeps_the_training_loss_up(recipe):
    off, on = TRAIN(MODEL, blobs, [Recipe(), recipe]).train_loss[:, -1]
    assert (on > off).all()


def test_batch_normalization_is_in_the_model():
    variables = MODEL(Recipe(batch_norm=True)).init(
        jax.random.key(0), jnp.ones((2, 3)), train=False
    )
    assert set(variables) == {"params", "batch_stats"}
    model = models.from_linen(MODEL(Recipe(batch_norm=True)))
    _, after = model.train(dict(variables), jnp.ones((2, 3)), jax.random.key(0))
    assert (after["batch_stats"]["BatchNorm_0"]["var"] < 1).all()


class NnxMLP(nnx.Module):
    def __init__(self, recipe, rngs):
        self.first = nnx.Linear(3, 8, rngs=rngs)
        self.norm = jaxreg.nnx.BatchNorm(8, rngs=rngs)
        self.drop = jaxreg.nnx.Dropout(recipe.dropout, rngs=rngs)
        self.last = nnx.Linear(8, 2, rngs=rngs)

    def __call__(self, x):
        return self.last(self.drop(nnx.relu(self.norm(self.first(x)))))


def test_nnx_models_train_too():
    make_model = models.from_nnx(NnxMLP)
    grid = [Recipe(dropout=0.1), Recipe(dropout=0.8), Recipe(dropout=0.1, l2=20.0)]
    runs = TRAIN(make_model, blobs, grid)
    assert (runs.train_loss[0, -1] < runs.train_loss[0, 0]).all()
    # Noise in training, none in evaluation, and every strength has its effect.
    assert (runs.train_loss[1:, -1] > runs.train_loss[0, -1]).all()
    assert_same(runs, TRAIN(make_model, blobs, grid))


@pytest.mark.parametrize("name", ["seeds", "epochs", "batch_size"])
def test_counts_below_one_raise(name):
    with pytest.raises(ValueError, match=f"`{name}` must be at least 1, got 0"):
        TRAIN(MODEL, blobs, [Recipe()], **{name: 0})


def test_no_recipe_and_a_batch_too_large_raise():
    with pytest.raises(ValueError, match="`recipes` must be at least 1, got 0"):
        TRAIN(MODEL, blobs, [])
    with pytest.raises(ValueError, match="`batch_size` must be at most the 50 training rows, got"):
        TRAIN(MODEL, blobs, [Recipe()], batch_size=51)


# Selection


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


BASELINE = recipes.grid("baseline")
L2 = recipes.grid("l2", strengths=[1, 2, 3])
L1 = recipes.grid("l1", strengths=[0.4, 0.5])
DROPOUT = recipes.grid("dropout", strengths=[0.5])


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
    assert found.notes == ()


def test_the_combined_arm_says_when_too_few_arms_beat_the_baseline():
    validation = {0: 0.9, 1: 0.5, 2: 0.6, 3: 0.5, 4: 0.5, 5: 0.7, 7: 0.8}
    found = compare(made_up(validation, validation), [BASELINE, L2, L1], combined=True)
    assert found.arms[-1].recipe == Recipe(l2=2.0, l1=0.5)
    assert found.chosen == "baseline"
    assert "Fewer than two arms (0) beat the baseline" in found.notes[0]


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
    np.testing.assert_allclose(interval.mean, noise.mean())
    # 10,000 resamples know a quantile at 1.96 errors to about 0.03 errors.
    np.testing.assert_allclose(interval.low, noise.mean() - 1.96 * error, atol=0.12 * error)
    np.testing.assert_allclose(interval.high, noise.mean() + 1.96 * error, atol=0.12 * error)
    assert interval == selection.paired_difference(baseline + noise, baseline)


def test_pairing_takes_out_what_the_seeds_share():
    shared = np.random.default_rng(0).normal(0, 100, size=16)
    interval = selection.paired_difference(shared + 1, shared)
    np.testing.assert_allclose(interval, 1, rtol=1e-9)
