"""The search for a policy of augmentation."""

import math
from functools import partial

import numpy as np
import pytest

from jaxreg.study import REGRESSION, Recipe, Runs, run, search_policy
from jaxreg.study.operations import OPERATIONS
from tests.study.rows import KINDS

SEEDS = 3
NAMES = ("rotate", "cutout")


def made_up(scores):
    """A trainer with the validation and test scores that functions of the policy say."""
    trained = []

    def train(recipes):
        trained.extend(recipes)
        rows = [[function(recipe.policy) for recipe in recipes] for function in scores]
        validation = np.array(rows[0])[:, None] + np.zeros(SEEDS)
        test = np.array(rows[1])[:, None] + np.zeros(SEEDS)
        curve = np.zeros((len(recipes), 2, SEEDS))
        return Runs(validation, validation, test, -validation, curve, curve, {})

    return train, trained


def near(policy):
    return 0.5 if policy is None else 0.9 - abs(policy.probabilities[1] - 0.3)


def linear(policy):
    return 0.6 if policy is None else 0.6 + policy.probabilities[1] / 10


def test_the_search_chooses_on_validation_and_reports_on_test():
    train, trained = made_up((near, linear))
    found = search_policy(train, NAMES, trials=40)
    assert trained[0] == Recipe()
    assert len(trained) == 41
    shares = [recipe.policy.probabilities[1] for recipe in trained[1:]]
    best = min(shares, key=lambda share: abs(share - 0.3))
    policy = found.arms[1].recipe.policy
    assert policy.probabilities[1] == best
    assert policy.names == NAMES
    np.testing.assert_allclose(found.arms[1].difference.mean, best / 10, atol=1e-6)
    assert [arm.name for arm in found.arms] == ["baseline", "policy"]
    for number in (*policy.magnitudes, *policy.probabilities):
        assert number == float(f"{number:.4g}")
    assert found.chosen == "policy"
    assert found.notes[-1] == "policy: the best of 40 on validation."
    again, _ = made_up((near, linear))
    assert search_policy(again, NAMES, trials=40).arms[1].recipe == found.arms[1].recipe
    assert search_policy(again, NAMES, trials=40, seed=1).arms[1].recipe != found.arms[1].recipe


def test_a_smaller_error_is_better():
    train, trained = made_up((linear, linear))
    objective = REGRESSION.with_metric("rmse")
    found = search_policy(train, NAMES, trials=9, objective=objective)
    least = min(recipe.policy.probabilities[1] for recipe in trained[1:])
    assert found.arms[1].recipe.policy.probabilities[1] == least
    assert found.objective is objective


def test_policies_are_drawn_from_the_ranges_of_their_operations():
    train, trained = made_up((lambda policy: 0.5, lambda policy: 0.5))
    search_policy(train, ("rotate", "jitter"), trials=400)
    policies = [recipe.policy for recipe in trained[1:]]
    for place, name in enumerate(("rotate", "jitter")):
        low = OPERATIONS[name].low
        high = OPERATIONS[name].high
        sizes = np.array([policy.magnitudes[place] for policy in policies])
        shares = np.log(sizes / low) / math.log(high / low)
        for uniform in (shares, np.array([policy.probabilities[place] for policy in policies])):
            assert (uniform.min() >= -1e-3) & (uniform.max() <= 1 + 1e-3)
            np.testing.assert_allclose(uniform.mean(), 0.5, atol=5 * math.sqrt(1 / 12 / 400))
            np.testing.assert_allclose(uniform.std(), math.sqrt(1 / 12), atol=0.05)


def test_wrong_searches_say_what_is_wrong():
    train, _ = made_up((near, near))
    with pytest.raises(ValueError, match="`trials` must be at least 1, got 0"):
        search_policy(train, ["jitter"], trials=0)
    with pytest.raises(ValueError, match=r"`operations` must be some of rotate, .*, got warp"):
        search_policy(train, ["jitter", "warp"], trials=1)
    with pytest.raises(ValueError, match=r"`operations` must be some of rotate, .*, got none"):
        search_policy(train, [], trials=1)
    text, make_model = KINDS["text"]
    train = partial(run, make_model, text, seeds=2, epochs=1, batch_size=20)
    with pytest.raises(ValueError, match=r"text of shape .* jitter is for table"):
        search_policy(train, ["jitter"], trials=1)
