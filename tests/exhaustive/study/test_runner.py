"""Whole trainings: models that penalize themselves, runs side by side, policies."""

from functools import partial

import jax
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import jaxreg.linen
import jaxreg.nnx
from jaxreg import penalties
from jaxreg.study import Policy, Recipe, Runs, from_nnx, mlp, run, runner
from tests.study.rows import blobs

SEEDS, EPOCHS = 3, 4
TRAIN = partial(run, seeds=SEEDS, epochs=EPOCHS, batch_size=20, learning_rate=0.03)
MODEL = mlp((8,), 2)
EVERYTHING = Recipe(
    {"l1": 0.01, "l2": 0.1, "dropout": 0.2, "label_smoothing": 0.1, "max_norm": 2.0,
     "early_stopping": 2, "batch_norm": True}
)  # fmt: skip


def assert_same(first, second):
    for one, other in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_run_among_others_is_the_run_alone():
    others = [Recipe(), Recipe({"dropout": 0.5}), EVERYTHING, Recipe({"l2": 1.0})]
    stacked = TRAIN(MODEL, blobs, others)
    for row, recipe in enumerate(others):
        assert_same(TRAIN(MODEL, blobs, [recipe]), stacked.rows(row, row + 1))


def test_runs_that_advance_together_are_the_runs_one_after_the_other(monkeypatch):
    """Accelerators map whole blocks of runs at once; their results must equal a loop's."""
    strengths = [{}, {"l2": 1.0}, {"early_stopping": 1}, {"l1": 0.1}, {"max_norm": 0.5}]
    recipes = [Recipe(each) for each in strengths]
    alone = TRAIN(MODEL, blobs, recipes)
    trainer = runner.Trainer(
        MODEL, blobs, seeds=SEEDS, epochs=EPOCHS, batch_size=20, learning_rate=0.03
    )
    monkeypatch.setattr(trainer, "_plan", trainer._plan._replace(together=5))
    together = trainer(recipes)
    for one, other in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_the_same_call_twice_gives_the_same_numbers():
    assert_same(*(TRAIN(MODEL, blobs, [Recipe(), EVERYTHING]) for _ in range(2)))


def test_one_trace_per_structure_whatever_the_strengths():
    traced = []

    def counting(recipe):
        if not traced or traced[-1] is not recipe:
            traced.append(recipe)
        return MODEL(recipe)

    train = partial(TRAIN, counting, blobs)
    train([Recipe({"l2": weight}) for weight in (0.0, 0.1, 1.0)] + [Recipe({"patience": 1})])
    with_tracers = [r for r in traced if isinstance(r.get("l2"), jax.core.Tracer)]
    assert len(with_tracers) == 1
    train([Recipe({"dropout": rate}) for rate in (0.1, 0.2)] + [Recipe({"label_smoothing": 0.5})])
    train([Recipe({"dropout": 0.9, "l1": 0.1}), Recipe({"max_norm": 1.0})])
    with_tracers = [r for r in traced if isinstance(r.get("l2"), jax.core.Tracer)]
    assert len(with_tracers) == 2


def trained(make_model, weight):
    """Training losses of the first epoch of a model that penalizes itself."""
    return TRAIN(lambda recipe: make_model(weight), blobs, [Recipe()], epochs=1).train_loss


class Sowing(nn.Module):
    weight: float

    @nn.compact
    def __call__(self, x, *, train):
        x = jaxreg.linen.ActivityPenalty(penalties.l2, self.weight)(nn.Dense(4)(x))
        return nn.Dense(2)(nn.relu(x))


def sowing_nnx(weight):
    def make(recipe, rngs):
        return nnx.Sequential(
            nnx.Linear(3, 4, rngs=rngs),
            jaxreg.nnx.ActivityPenalty(penalties.l2, weight),
            nnx.relu,
            nnx.Linear(4, 2, rngs=rngs),
        )

    return from_nnx(make)(Recipe())


@pytest.mark.parametrize("make_model", [Sowing, sowing_nnx])
def test_penalties_that_a_model_sows_are_trained(make_model):
    """They keep the activations small, so that the plain loss stays up."""
    off = trained(make_model, 0.0)
    on = trained(make_model, 10.0)
    assert (on != off).all()


def test_a_flooded_loss_stays_up():
    flooded = TRAIN(MODEL, blobs, [Recipe({"flood": 0.6})], epochs=20).train_loss[0, -5:]
    plain = TRAIN(MODEL, blobs, [Recipe()], epochs=20).train_loss[0, -5:]
    assert plain.mean() < 0.55
    np.testing.assert_allclose(flooded.mean(), 0.6, atol=0.05)


class NnxMLP(nnx.Module):
    def __init__(self, recipe, rngs):
        self.first = nnx.Linear(3, 8, rngs=rngs)
        self.norm = jaxreg.nnx.BatchNorm(8, rngs=rngs)
        self.drop = jaxreg.nnx.Dropout(recipe.dropout, rngs=rngs)
        self.last = nnx.Linear(8, 2, rngs=rngs)

    def __call__(self, x):
        return self.last(self.drop(nnx.relu(self.norm(self.first(x)))))


def test_nnx_models_train_too():
    make_model = from_nnx(NnxMLP)
    strengths = [{"dropout": 0.1}, {"dropout": 0.8}, {"dropout": 0.1, "l2": 30.0}, {}]
    recipes = [Recipe(each) for each in strengths]
    runs = TRAIN(make_model, blobs, recipes)
    assert (runs.train_loss[0, -1] < runs.train_loss[0, 0]).all()
    # Every strength has its effect.
    assert (runs.train_loss[1:, -1] != runs.train_loss[0, -1]).all()
    assert_same(runs, TRAIN(make_model, blobs, recipes))
    # The two passes of R-Drop differ, so that its penalty acts.
    r_drop = TRAIN(make_model, blobs, [Recipe({"dropout": 0.1, "r_drop": 5.0})])
    assert (r_drop.train_loss[0, -1] != runs.train_loss[0, -1]).all()


def test_the_policy_of_a_recipe_is_trained_in_one_program():
    policies = [Policy(("jitter",), (2.0,), (share,)) for share in (0.0, 0.5, 1.0)]
    runs = TRAIN(MODEL, blobs, [Recipe({"policy": policy}) for policy in policies])
    # At probability 0 it is the baseline, and noise costs training.
    off = TRAIN(MODEL, blobs, [Recipe()])
    np.testing.assert_allclose(runs.train_loss[0], off.train_loss[0], rtol=1e-4)
    assert (runs.train_loss[1, -1] != runs.train_loss[0, -1]).all()
    assert runs.train_loss[2, -1].mean() > runs.train_loss[0, -1].mean()
    assert isinstance(runs, Runs)
