"""Whole trainings: every technique, models that penalize themselves, runs side by side."""

from functools import partial

import jax
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import jaxreg.linen
import jaxreg.nnx
from jaxreg import penalties
from jaxreg.study import Policy, Recipe, Runs, models, runner, techniques
from tests.study.helpers import KINDS, blobs

SEEDS, EPOCHS = 3, 4
TRAIN = partial(runner.run, seeds=SEEDS, epochs=EPOCHS, batch_size=20, learning_rate=0.03)
MODEL = models.mlp((8,), 2)
EVERYTHING = Recipe(
    l1=0.01, l2=0.1, dropout=0.2, label_smoothing=0.1, max_norm=2.0, patience=2, batch_norm=True
)


def assert_same(first, second):
    for name, one, other in zip(Runs._fields, first, second, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=name)


def assert_close(first, second):
    for name, one, other in zip(Runs._fields, first, second, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5, err_msg=name)


def test_a_run_among_others_is_the_run_alone():
    others = [Recipe(), Recipe(dropout=0.5), EVERYTHING, Recipe(l2=1.0)]
    stacked = TRAIN(MODEL, blobs, others)
    for row, recipe in enumerate(others):
        assert_same(TRAIN(MODEL, blobs, [recipe]), Runs(*(a[row : row + 1] for a in stacked)))


def test_runs_that_advance_together_are_the_runs_one_after_the_other():
    """Accelerators map whole blocks of runs at once; their results must equal a loop's."""
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


@pytest.mark.parametrize("technique", techniques.TECHNIQUES, ids=lambda each: each.name)
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
def test_penalties_that_a_model_sows_are_trained(make_model):
    off = _trained(make_model, 0.0)
    on = _trained(make_model, 0.1)
    assert (on > off + 0.1).all()


def test_a_flooded_loss_stays_up():
    flooded = TRAIN(MODEL, blobs, [Recipe(flood=0.6)], epochs=20).train_loss[0, -5:]
    plain = TRAIN(MODEL, blobs, [Recipe()], epochs=20).train_loss[0, -5:]
    assert plain.mean() < 0.55
    np.testing.assert_allclose(flooded.mean(), 0.6, atol=0.03)


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
    grid = [Recipe(dropout=0.1), Recipe(dropout=0.8), Recipe(dropout=0.1, l2=100.0)]
    runs = TRAIN(make_model, blobs, grid)
    assert (runs.train_loss[0, -1] < runs.train_loss[0, 0]).all()
    # Noise in training, none in evaluation, and every strength has its effect.
    assert (runs.train_loss[1:, -1] > runs.train_loss[0, -1]).all()
    assert_same(runs, TRAIN(make_model, blobs, grid))


def test_the_policy_of_a_recipe_is_trained_in_one_program():
    traced = []

    def counting(recipe):
        traced.append(recipe)
        return models.mlp((8,), 2)(recipe)

    train = partial(TRAIN, counting, blobs)
    policies = [Policy(("jitter",), (2.0,), (share,)) for share in (0.0, 0.5, 1.0)]
    runs = train([Recipe(policy=policy) for policy in policies])
    assert len(traced) == 1
    # At probability 0 it is the baseline, and noise costs training.
    off = train([Recipe()])
    np.testing.assert_allclose(runs.train_loss[0], off.train_loss[0], rtol=1e-5)
    assert (runs.train_loss[2, -1] > runs.train_loss[0, -1]).all()
