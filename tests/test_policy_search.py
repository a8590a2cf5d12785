"""The search for a policy of augmentation, and what a policy does to a batch."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.study import (
    Policy,
    Recipe,
    Runs,
    apply_policy,
    combine,
    models,
    run,
    search_policy,
    summary,
)
from jaxreg.study.operations import OPERATIONS, check_suited
from tests.studies import KINDS, blobs

SEEDS = 3
ROWS = {
    "table": jnp.sin(jnp.arange(400.0)).reshape(100, 4),
    "series": jnp.sin(jnp.arange(1800.0)).reshape(100, 9, 2),
    "image": jnp.sin(jnp.arange(6300.0)).reshape(100, 7, 9, 1),
    "text": jnp.arange(1200).reshape(100, 12) % 7,
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_probability_is_the_share_of_the_examples_that_change(name):
    operation = OPERATIONS[name]
    x = ROWS[operation.kinds[0]]

    @jax.jit
    def changed(size, probability):
        policy = Policy((name,), (size,), (probability,))
        moved = apply_policy(jax.random.key(1), policy, x)
        assert (moved.shape, moved.dtype) == (x.shape, x.dtype)
        return (moved != x).any(axis=tuple(range(1, x.ndim))).mean()

    assert changed(operation.high, 0.0) == 0
    assert changed(0.0, 1.0) == 0
    always, half = changed(operation.high, 1.0), changed(operation.high, 0.5)
    assert always > 0.9
    assert abs(half - 0.5 * always) < 5 * math.sqrt(0.25 / len(x))


def test_operations_draw_by_themselves_and_in_their_order():
    x = ROWS["image"]
    policy = Policy(("cutout", "jitter"), (0.5, 0.1), (0.5, 0.5))
    moved = apply_policy(jax.random.key(0), policy, x)
    first = apply_policy(jax.random.key(0), Policy(("cutout",), (0.5,), (0.5,)), x)
    cut = (first != x).any(axis=(1, 2, 3))
    noisy = (moved != first).any(axis=(1, 2, 3))
    shares = [float((a & b).mean()) for a in (cut, ~cut) for b in (noisy, ~noisy)]
    np.testing.assert_allclose(shares, 0.25, atol=5 * math.sqrt(0.25 * 0.75 / len(x)))


def test_policies_are_strengths_of_a_recipe():
    policy = Policy(("rotate", "cutout"), (0.1, 0.25), (0.5, 1.0))
    recipe = Recipe(l2=0.5, policy=policy)
    assert jax.tree.leaves(policy) == [0.1, 0.25, 0.5, 1.0]
    assert recipe.structure == ("policy rotate", "policy cutout")
    assert Recipe().structure == ()
    assert combine([Recipe(l2=0.5), Recipe(policy=policy)]) == recipe
    text = "l2 0.5 + policy (rotate 0.1 (p 0.5), cutout 0.25 (p 1))"
    assert summary.recipe_text(recipe) == text
    with pytest.raises(ValueError, match=r"here a table .* but rotate is for image .*; cutout is"):
        check_suited([recipe], ROWS["table"])
    check_suited([recipe], ROWS["image"])


@pytest.mark.slow
def test_the_policy_of_a_recipe_is_trained_in_one_program():
    traced = []

    def counting(recipe):
        traced.append(recipe)
        return models.mlp((8,), 2)(recipe)

    train = partial(run, counting, blobs, seeds=SEEDS, epochs=4, batch_size=20, learning_rate=0.03)
    policies = [Policy(("jitter",), (2.0,), (share,)) for share in (0.0, 0.5, 1.0)]
    runs = train([Recipe(policy=policy) for policy in policies])
    assert len(traced) == 1
    # At probability 0 it is the baseline, and noise costs training.
    off = train([Recipe()])
    np.testing.assert_allclose(runs.train_loss[0], off.train_loss[0], rtol=1e-5)
    assert (runs.train_loss[2, -1] > runs.train_loss[0, -1]).all()


def made_up(accuracy):
    """A trainer with the accuracies that functions of the policy say."""
    trained = []

    def train(wanted):
        trained.extend(wanted)
        validation, test = (
            np.array([function(recipe.policy) for recipe in wanted])[:, None] + np.zeros(SEEDS)
            for function in accuracy
        )
        curve = np.zeros((len(wanted), 2, SEEDS))
        return Runs(validation, validation, test, -validation, curve, curve)

    return train, trained


def test_the_search_chooses_on_validation_and_reports_on_test():
    def validation(policy):
        return 0.5 if policy is None else 0.9 - abs(policy.probabilities[1] - 0.3)

    def test(policy):
        return 0.6 if policy is None else 0.6 + policy.probabilities[1] / 10

    train, trained = made_up((validation, test))
    names = ("rotate", "cutout")
    found = search_policy(train, names, trials=40)
    assert trained[0] == Recipe()
    assert len(trained) == 41
    shares = [recipe.policy.probabilities[1] for recipe in trained[1:]]
    best = min(shares, key=lambda share: abs(share - 0.3))
    policy = found.arms[1].recipe.policy
    assert policy.probabilities[1] == best
    assert policy.names == names
    np.testing.assert_allclose(found.arms[1].difference.mean, best / 10, atol=1e-6)
    assert found.chosen == "policy"
    assert found.notes == ("policy: the best of 40 on validation.",)
    again, _ = made_up((validation, test))
    assert search_policy(again, names, trials=40).arms[1].recipe == found.arms[1].recipe
    assert search_policy(again, names, trials=40, seed=1).arms[1].recipe != found.arms[1].recipe


def test_policies_are_drawn_from_the_ranges_of_their_operations():
    train, trained = made_up((lambda policy: 0.5, lambda policy: 0.5))
    search_policy(train, ("rotate", "jitter"), trials=400)
    policies = [recipe.policy for recipe in trained[1:]]
    for place, name in enumerate(("rotate", "jitter")):
        low, high = OPERATIONS[name].low, OPERATIONS[name].high
        sizes = np.array([policy.magnitudes[place] for policy in policies])
        shares = np.log(sizes / low) / math.log(high / low)
        for uniform in (shares, np.array([policy.probabilities[place] for policy in policies])):
            assert (uniform.min() >= -1e-3) & (uniform.max() <= 1 + 1e-3)
            np.testing.assert_allclose(uniform.mean(), 0.5, atol=5 * math.sqrt(1 / 12 / 400))
            np.testing.assert_allclose(uniform.std(), math.sqrt(1 / 12), atol=0.05)


def test_wrong_searches_say_what_is_wrong():
    train, _ = made_up((lambda policy: 0.5, lambda policy: 0.5))
    with pytest.raises(ValueError, match="`trials` must be at least 1, got 0"):
        search_policy(train, ["jitter"], trials=0)
    with pytest.raises(ValueError, match=r"`operations` must be some of rotate, .*, got warp"):
        search_policy(train, ["jitter", "warp"], trials=1)
    with pytest.raises(ValueError, match=r"`operations` must be some of rotate, .*, got none"):
        search_policy(train, [], trials=1)
    text, _ = KINDS["text"]
    train = partial(run, models.mlp((4,), 2, vocabulary=7), text, seeds=2, epochs=1, batch_size=20)
    with pytest.raises(ValueError, match=r"here a text .* jitter is for table"):
        search_policy(train, ["jitter"], trials=1)
