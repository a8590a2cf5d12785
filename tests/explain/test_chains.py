"""Strengths of decay and of proximal steps inside wrappers of optimizers, and conflicts there."""

from functools import partial

import numpy as np
import optax
import pytest

from jaxreg import masks, penalties, projections, proximal, transforms
from jaxreg.explain import _trials, explain
from tests.explain.decays import DECAYS

# A state, an update and the walk through it, for each optimizer.
pytestmark = pytest.mark.programs(24)

RATE = 1e-3
PARAMS = {
    "bias": np.zeros(4, np.float32),
    "kernel": np.ones((4, 4), np.float32),
}
NO_BIAS = {"bias": False, "kernel": True}
ADAM = optax.adam(RATE)
DECAY = transforms.decoupled_decay(0.1, learning_rate=RATE)
ADAMW = optax.adamw(RATE, weight_decay=0.1, mask=NO_BIAS)
BALL = optax.masked(transforms.project(partial(projections.max_norm, radius=3.0)), NO_BIAS)
L2 = optax.add_decayed_weights(0.01, NO_BIAS)
ZEROS = "proximal step to exact zeros"
COUPLED = "L2 through the scaling of the optimizer"


def find(optimizer, params=PARAMS, **options):
    """Regularizers and strengths by leaf, and the names of the conflicts."""
    found = explain(None, optimizer, params, **options)
    effects = {}
    for effect in found.effects:
        effects.setdefault(effect.place, {})[effect.regularizer] = effect.strength
    return effects, {conflict.what: conflict.where for conflict in found.conflicts}


def sparse(inner, weight=0.01, rate=RATE, metric=None):
    return transforms.preconditioned_proximal(
        inner, proximal.l1, weight, rate, metric=metric or transforms.adam_metric(), mask=NO_BIAS
    )


def of_readme():
    rate = optax.cosine_decay_schedule(RATE, 1000)
    decay = transforms.decoupled_decay(0.1, learning_rate=rate)
    return optax.chain(sparse(optax.chain(optax.adam(rate), decay), rate=rate), BALL)


def labels(params):
    return {name: "few" if name == "bias" else "all" for name in params}


CHAINS = {
    # Gradients of size 1 have the metric 1, up to Adam's epsilon.
    "of the readme": (
        of_readme(), {"decay": RATE * 0.1, ZEROS: RATE * 0.01, "projection": 3.0}
    ),
    "in the metric": (sparse(ADAM), {ZEROS: RATE * 0.01}),
    "in the metric, and in a small ball": (
        optax.chain(
            sparse(ADAM),
            optax.masked(transforms.project(partial(projections.max_norm, radius=0.3)), NO_BIAS),
        ),
        {ZEROS: RATE * 0.01, "projection": 0.3},
    ),
    "weakly in the metric": (sparse(ADAM, weight=1e-6), {ZEROS: RATE * 1e-6}),
    "strongly in the metric": (sparse(ADAM, weight=30.0), {ZEROS: RATE * 30}),
    "in the metric of Adagrad": (
        sparse(optax.adagrad(RATE), metric=transforms.adagrad_metric()),
        {ZEROS: RATE * 0.01 / np.sqrt(0.1 + 1)},  # It begins at 0.1.
    ),
    "hard in the metric": (
        transforms.preconditioned_proximal(
            ADAM, proximal.l0, 0.01, RATE, metric=transforms.adam_metric(), mask=NO_BIAS
        ),
        {ZEROS: 10.0},  # a decade below sqrt(2 RATE 0.01 / 1e-8)
    ),
    "sam": (transforms.sam(ADAMW, 0.05), {"decay": RATE * 0.1}),
    "asam": (transforms.asam(optax.chain(ADAM, DECAY), 0.5), {"decay": RATE * 0.1}),
    "optax.contrib.sam": (
        optax.contrib.sam(ADAMW, optax.chain(optax.contrib.normalize(), optax.sgd(0.05))),
        {"decay": RATE * 0.1},
    ),
    "opaque optax.contrib.sam": (
        optax.contrib.sam(ADAMW, optax.sgd(0.05), opaque_mode=True), {"decay": RATE * 0.1}
    ),
    "schedule-free": (
        optax.contrib.schedule_free(ADAMW, RATE, b1=0.95), {"decay": RATE * 0.1}
    ),
    "schedule-free iterates": (
        optax.contrib.schedule_free(
            transforms.own_iterates(
                optax.chain(ADAM, optax.masked(transforms.proximal(proximal.l1, 0.01, RATE),
                                               NO_BIAS))
            ),
            RATE,
        ),
        {ZEROS: RATE * 0.01},
    ),
    "lookahead": (transforms.lookahead(ADAMW, period=5, step_size=0.5), {"decay": RATE * 0.1}),
    "optax.lookahead": (optax.lookahead(ADAMW, 5, 0.5), {"decay": RATE * 0.1}),
    "accumulated": (optax.MultiSteps(of_readme(), 3),
                    {"decay": RATE * 0.1, ZEROS: RATE * 0.01, "projection": 3.0}),
    "accumulated sam": (optax.MultiSteps(transforms.sam(ADAMW, 0.05), 2), {"decay": RATE * 0.1}),
    "partition": (
        optax.partition({"few": optax.sgd(0.1), "all": ADAMW}, {"bias": "few", "kernel": "all"}),
        {"decay": RATE * 0.1},
    ),
    "multi_transform": (
        optax.multi_transform({"few": ADAM, "all": sparse(ADAM)}, labels), {ZEROS: RATE * 0.01}
    ),
    "injected": (
        optax.inject_hyperparams(optax.adamw, static_args="mask")(
            optax.linear_schedule(0.0, RATE, 1000), weight_decay=0.1, mask=NO_BIAS
        ),
        {"decay": RATE * 0.1},
    ),
    "clipped": (
        optax.chain(optax.clip_by_global_norm(1.0), L2, optax.sgd(0.1)), {"decay": 0.1 * 0.01}
    ),
    "clipped behind the penalty": (
        optax.chain(L2, optax.clip_by_global_norm(0.1), optax.sgd(0.1)), {"decay": 0.1 * 0.01}
    ),
    "clipped in units": (
        optax.chain(optax.adaptive_grad_clip(0.01), ADAMW), {"decay": RATE * 0.1}
    ),
    "smoothed": (optax.chain(ADAMW, optax.ema(0.9)), {"decay": RATE * 0.1}),
    "averaged": (
        optax.chain(ADAMW, transforms.exponential_average(0.999)), {"decay": RATE * 0.1}
    ),
    "noisy": (optax.chain(optax.add_noise(0.01, 0.55, 0), ADAMW), {"decay": RATE * 0.1}),
    "cautious": (
        optax.chain(ADAM, transforms.cautious_decay(0.1, learning_rate=RATE)),
        {"decay": RATE * 0.1},
    ),
    "if finite": (optax.apply_if_finite(of_readme(), 3),
                  {"decay": RATE * 0.1, ZEROS: RATE * 0.01, "projection": 3.0}),
    "rounded": (transforms.compensate_rounding(sparse(ADAM)), {ZEROS: RATE * 0.01}),
    "on a plateau": (
        optax.chain(ADAMW, optax.contrib.reduce_on_plateau(accumulation_size=4)),
        {"decay": RATE * 0.1},
    ),
}  # fmt: skip


DAILY = (
    "of the readme", "optax.contrib.sam", "schedule-free", "optax.lookahead",
    "clipped behind the penalty", "cautious",
)  # fmt: skip


def daily(names, chosen):
    """Parametrizes a test: the chosen names by default, the others in the exhaustive tier."""
    rest = [
        pytest.param(name, marks=pytest.mark.exhaustive) for name in names if name not in chosen
    ]
    return pytest.mark.parametrize("name", [*chosen, *rest])


@daily(CHAINS, DAILY)
def test_strengths_inside_a_wrapper(name):
    """They equal the closed form, and there is no conflict."""
    optimizer, want = CHAINS[name]
    effects, conflicts = find(optimizer)
    assert not conflicts
    assert set(effects["bias"]) == {"none"}
    assert effects["kernel"] == {kind: pytest.approx(size, rel=1e-4) for kind, size in want.items()}


LAST = "something moves the weights after a proximal step or a projection"
SCALED = "something scales the update after a proximal step or a projection"
OUTSIDE = "a regularizer outside gradient accumulation"
CONFLICTS = {
    "clipped": (optax.chain(L2, optax.clip(1.0), ADAM), COUPLED),
    "accumulated": (optax.MultiSteps(optax.chain(L2, ADAM), 4), COUPLED),
    "partition": (
        optax.partition({"few": ADAM, "all": optax.chain(L2, ADAM)}, labels), COUPLED
    ),
    "sam": (transforms.sam(optax.chain(L2, optax.rmsprop(RATE)), 0.05), COUPLED),
    "sign": (optax.chain(L2, optax.signum(RATE)), COUPLED),
    # Among small weights, where epsilon is larger than gradients, this takes exactly everything.
    "weak": (optax.chain(optax.add_decayed_weights(1e-5, NO_BIAS), ADAM), COUPLED),
    "metric scaled": (optax.chain(sparse(ADAM), optax.scale(0.5)), SCALED),
    "metric moved": (optax.chain(sparse(ADAM), DECAY), LAST),
    "ball moved": (optax.chain(sparse(ADAM), BALL, DECAY), LAST),
    "decay in mini-steps": (
        optax.chain(optax.MultiSteps(ADAM, 2).gradient_transformation(), DECAY), OUTSIDE
    ),
    "every third step": (
        optax.chain(optax.apply_every(3), optax.sgd(RATE), DECAY), OUTSIDE
    ),
}  # fmt: skip


@daily(CONFLICTS, ("clipped", "metric scaled", "ball moved", "every third step"))
def test_conflicts_inside_a_wrapper(name):
    optimizer, want = CONFLICTS[name]
    _, conflicts = find(optimizer)
    assert conflicts == {want: ("kernel",)}


def test_the_decay_of_lamb_is_measured_in_training():
    """Without a gradient the trust ratio cancels its weight."""
    optimizer, formula = DECAYS["lamb"]
    weights = _trials.weights_like(PARAMS)
    signs = _trials.random_signs(weights, 1)
    want = formula(weights["kernel"], signs["kernel"])
    assert find(optimizer)[0]["kernel"] == {"decay": pytest.approx(want, rel=1e-3)}


@pytest.mark.parametrize("name", ["lars", "lamb", "clipped"])
def test_what_scales_whole_layers_keeps_a_penalty(name):
    """All weights of a layer are divided by the same number: none of them decays less."""
    optimizer = {
        "lars": optax.lars(RATE),
        "lamb": optax.chain(optax.sgd(RATE), optax.scale_by_trust_ratio()),
        "clipped": optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(RATE)),
    }[name]
    _, conflicts = find(optimizer, penalty=lambda p: penalties.l2(p["kernel"]))
    assert not conflicts


def test_a_penalty_where_another_optimizer_is_adaptive():
    """Only the leaves that Adam moves are in conflict with their penalty."""
    both = lambda p: penalties.l2(p["kernel"]) + penalties.l2(p["bias"])  # noqa: E731
    tx = optax.partition({"few": optax.sgd(RATE), "all": ADAM}, labels)
    _, conflicts = find(tx, penalty=both)
    assert conflicts == {COUPLED: ("kernel",)}


def test_an_optimizer_that_needs_more_than_gradients_is_named():
    def update(updates, state, params=None, *, weather):
        return updates, state

    tx = optax.GradientTransformationExtraArgs(optax.init_empty_state, update)
    with pytest.raises(ValueError, match=r"`optimizer` must take a step .*weather"):
        explain(None, tx, PARAMS)
    with pytest.raises(ValueError, match=r"`optimizer` must .* pass the parameters"):
        explain(None, optax.masked(ADAM, {"other": True}), PARAMS)


def test_warm_averages_and_stacks_stay_quiet():
    """Rows without gradients lose nothing in optimizers that normalize whole layers."""
    params = {"embedding": np.ones((8, 4), np.float32)}
    for tx in (optax.lamb(RATE, weight_decay=0.1), optax.adafactor(RATE, weight_decay_rate=1e-3)):
        assert find(tx, params)[1] == {}
    rows = "a proximal step on rows without gradients"
    tx = transforms.preconditioned_proximal(
        ADAM, proximal.l1, 1e-4, RATE, metric=transforms.adam_metric(), mask=masks.kernels
    )
    assert find(optax.chain(tx, transforms.exponential_average(0.9)), params)[1] == {
        rows: ("embedding",)
    }
