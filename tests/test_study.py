"""The study: splits, training, and the protocol, at sizes that train in a blink."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx

import jaxreg.linen
import jaxreg.nnx
from jaxreg import penalties, targets
from jaxreg.study import (
    Recipe,
    Runs,
    data,
    models,
    recipes,
    runner,
    summary,
    techniques,
)
from tests.studies import KINDS, blobs

SEEDS, EPOCHS = 3, 4
TRAIN = partial(runner.run, seeds=SEEDS, epochs=EPOCHS, batch_size=20, learning_rate=0.03)
MODEL = models.mlp((8,), 2)
DEFAULT = techniques.DEFAULT_ARMS
EVERYTHING = Recipe(
    l1=0.01, l2=0.1, dropout=0.2, label_smoothing=0.1, max_norm=2.0, patience=2, batch_norm=True
)


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


@pytest.mark.parametrize("load", [data.digits, data.breast_cancer])
def test_no_seed_chooses_on_the_test_rows_of_another(load):
    # Undoing the scales is not exact, so rows are told apart by where they come from.
    numbers = np.stack([np.arange(600.0), np.ones(600)], axis=1)
    split = data.stratified(numbers, np.arange(600) % 3, train_size=120)
    chosen, tested = set(), set()
    for seed in range(8):
        found = split(seed)
        every = np.concatenate([found.train_x, found.validation_x, found.test_x])[:, 0]
        rank = np.argsort(np.argsort(every))
        chosen |= set(rank[:240].tolist())
        tested |= set(rank[240:].tolist())
    assert len(chosen) == 240
    assert len(tested) == 360
    assert not chosen & tested
    first, second = load(train_size=100)(0), load(train_size=100)(1)
    np.testing.assert_array_equal(first.test_y, second.test_y)


def test_the_sizes_of_the_default_splits():
    assert data.digits(train_size=300)(0).sizes == (300, 300, 1197)
    assert data.breast_cancer(train_size=150)(0).sizes == (150, 150, 269)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.full((200, 2), np.nan), np.arange(200) % 2, "`x` must be finite, got 400 other"),
        (np.full((200, 2), 1e300), np.arange(200) % 2, "`x` must be finite"),
        (np.ones((200, 2)), np.arange(199) % 2, "`x` must be .rows, features. and `y` .rows."),
        (np.ones((200, 2)), np.arange(200) % 2 / 1, "`y` must be integers, got float64"),
        (np.ones((200, 2)), np.arange(200) % 2 + 1, "`y` must be labels from 0 .*, got 1, 2;"),
        (np.ones((200, 2)), np.zeros(200, int), "`y` must have at least two classes, got 1"),
    ],
)
def test_data_that_cannot_be_split_raises(x, y, message):
    with pytest.raises(ValueError, match=message):
        data.stratified(x, y, train_size=60)


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
    assert (first.validation_x != second.validation_x).all()
    np.testing.assert_array_equal(first.test_x, second.test_x)
    for one, other in ((first.validation_x, first.test_x), (first.train_x, first.test_x)):
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
    assert len(jax.tree.leaves(Recipe())) == 38
    assert jax.tree.structure(Recipe()) == jax.tree.structure(Recipe(l2=1.0, dropout=0.5))
    assert jax.tree.structure(Recipe()) != jax.tree.structure(Recipe(batch_norm=True))


@pytest.mark.parametrize("technique", techniques.TECHNIQUES, ids=lambda technique: technique.name)
def test_every_arm_has_a_grid_that_sets_its_technique_alone(technique):
    arm = techniques.grid(technique.name, count=4)
    assert arm.strengths == tuple(sorted(arm.strengths))
    assert len(arm.recipes) == max(len(arm.strengths), 1)
    assert len(arm.strengths) in (0, 4)
    for recipe in arm.recipes:
        changed = [
            name for name in vars(recipe) if getattr(recipe, name) != getattr(Recipe(), name)
        ]
        assert set(changed) == {technique.field, *dict(technique.needs)}


def test_one_strength_is_the_middle_of_the_range():
    assert techniques.grid("l2", count=1).strengths == (1.0,)
    assert techniques.grid("l2", strengths=[3, 2, 3]).strengths == (2.0, 3.0)


def test_grids_say_what_is_wrong():
    with pytest.raises(ValueError, match=r"`name` must be one of baseline, .*, got ridge"):
        techniques.grid("ridge")
    with pytest.raises(ValueError, match="`count` must be at least 1, got 0"):
        techniques.grid("l2", count=0)


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


@pytest.mark.slow
def test_a_recipe_that_is_off_is_plain_adam():
    runs = TRAIN(MODEL, blobs, [Recipe()])
    expected = plain_adam(blobs(1), jax.random.key(1))
    np.testing.assert_allclose(runs.loss[0, 1], expected, rtol=1e-4)
    np.testing.assert_allclose(runs.loss[0], runs.validation_loss[0, -1], rtol=1e-6)


@pytest.mark.slow
def test_results_have_the_shapes_they_promise():
    runs = TRAIN(MODEL, blobs, [Recipe(), EVERYTHING])
    for name in ("train", "validation", "test", "loss"):
        assert getattr(runs, name).shape == (2, SEEDS)
    assert runs.train_loss.shape == runs.validation_loss.shape == (2, EPOCHS, SEEDS)
    assert all(np.isfinite(array).all() for array in runs)
    # The rows of the three sets, 50, 30 and 40, show in what an accuracy can be.
    for rows, accuracy in ((50, runs.train), (30, runs.validation), (40, runs.test)):
        np.testing.assert_allclose(accuracy * rows, np.round(accuracy * rows), atol=1e-4)


@pytest.mark.slow
def test_a_run_among_others_is_the_run_alone():
    others = [Recipe(), Recipe(dropout=0.5), EVERYTHING, Recipe(l2=1.0)]
    stacked = TRAIN(MODEL, blobs, others)
    for row, recipe in enumerate(others):
        assert_same(TRAIN(MODEL, blobs, [recipe]), Runs(*(a[row : row + 1] for a in stacked)))


@pytest.mark.slow
def test_runs_that_advance_together_are_the_runs_one_after_the_other():
    """Accelerators map whole blocks of runs at once; their results must be those of a loop."""
    grid = [Recipe(), Recipe(l2=1.0), Recipe(patience=1), Recipe(l1=0.1), Recipe(max_norm=0.5)]
    devices = tuple(jax.local_devices())
    plan = runner._Plan(MODEL, EPOCHS, 20, 0.03, devices, 5)
    together = runner._train_block(plan, grid, runner._splits(plan, blobs, SEEDS), SEEDS, 6)
    assert_close(Runs(*(array[:5] for array in together)), TRAIN(MODEL, blobs, grid))


def test_the_same_call_twice_gives_the_same_numbers():
    assert_same(*(TRAIN(MODEL, blobs, [Recipe(), EVERYTHING]) for _ in range(2)))


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.parametrize(
    "technique",
    [
        pytest.param(each, id=each.name, marks=[pytest.mark.slow] * (each.name not in DEFAULT))
        for each in techniques.TECHNIQUES
    ],
)
def test_every_technique_changes_training(technique):
    """An arm that did nothing would train the baseline."""
    # The strongest: the largest strength, but the smallest bound and the least patience.
    grid = techniques.grid(technique.name).recipes
    strongest = grid[0 if technique.name in ("max_norm", "early_stopping") else -1]
    rows, vocabulary = KINDS[technique.kinds[0]]
    model = models.mlp((8,), 2, vocabulary=vocabulary) if vocabulary else MODEL
    off, on = TRAIN(model, rows, [Recipe(), strongest], epochs=20, learning_rate=0.1).loss
    assert (off != on).any()


def _trained(make_model, weight):
    """Training losses of the first epoch of a model that penalizes itself."""
    return TRAIN(lambda recipe: make_model(weight), blobs, [Recipe()], epochs=1).train_loss


class _Sowing(nn.Module):
    weight: float

    @nn.compact
    def __call__(self, x, *, train):
        x = jaxreg.linen.ActivityPenalty(penalties.l2, self.weight)(nn.Dense(4)(x))
        return nn.Dense(2)(nn.relu(x))


def _sowing_nnx(weight):
    def make(recipe, rngs):
        return nnx.Sequential(
            nnx.Linear(3, 4, rngs=rngs),
            jaxreg.nnx.ActivityPenalty(penalties.l2, weight),
            nnx.relu,
            nnx.Linear(4, 2, rngs=rngs),
        )

    return models.from_nnx(make)(Recipe())


@pytest.mark.parametrize("make_model", [_Sowing, _sowing_nnx])
@pytest.mark.slow
def test_penalties_that_a_model_sows_are_trained(make_model):
    off, on = _trained(make_model, 0.0), _trained(make_model, 0.1)
    assert (on > off + 0.1).all()


@pytest.mark.slow
def test_a_flooded_loss_stays_up():
    flooded = TRAIN(MODEL, blobs, [Recipe(flood=0.6)], epochs=20).train_loss[0, -5:]
    plain = TRAIN(MODEL, blobs, [Recipe()], epochs=20).train_loss[0, -5:]
    assert plain.mean() < 0.55
    np.testing.assert_allclose(flooded.mean(), 0.6, atol=0.03)


def test_what_is_off_is_left_out():
    recipe = jax.tree.map(jnp.asarray, Recipe(l2=1.0, l0=0.1, dropout=0.5)).only(("l0",))
    assert (recipe.dropout, recipe.jacobian) == (0.0, 0.0)
    assert isinstance(recipe.l0, jax.Array)
    assert isinstance(recipe.l2, jax.Array)
    assert models.mlp((4,), 2)(recipe).dropout is None


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


@pytest.mark.slow
def test_nnx_models_train_too():
    make_model = models.from_nnx(NnxMLP)
    grid = [Recipe(dropout=0.1), Recipe(dropout=0.8), Recipe(dropout=0.1, l2=100.0)]
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
