"""The regularizers of each parameter, and each known conflict in a model that has it."""

from functools import partial

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx

from jaxreg import (
    dropout,
    linen,
    masks,
    normalization,
    penalties,
    projections,
    proximal,
    targets,
    transforms,
)
from jaxreg import nnx as regularized
from jaxreg.explain import _effects, _flow, _probe, explain
from jaxreg.explain._findings import PROBLEMS
from jaxreg.explain._invariance import scale_invariant
from tests.explain.models import Clean, Mixed, Network, X, variables
from tests.helpers import few

# Optimizers are tried one operation at a time, on leaves of few shapes, so that the tests of this
# file share their programs.
pytestmark = pytest.mark.programs(24)

RATE = 1e-3
PARAMS = {
    "dense": {"bias": np.zeros(8, np.float32), "kernel": np.ones((8, 8), np.float32)},
    "norm": {"scale": np.ones(8, np.float32)},
}
KERNEL = "dense/kernel"
ADAM = optax.adam(RATE)
DECAY = transforms.decoupled_decay(0.1, learning_rate=RATE)
SHRINK = optax.masked(transforms.proximal(proximal.l1, 0.01, RATE), masks.kernels)
BALL = partial(projections.max_norm, radius=3.0)
BOUND = optax.masked(transforms.project(BALL), masks.kernels)
L2 = transforms.add_penalty_gradient(penalties.l2, 0.01)
WARM = optax.linear_schedule(0.0, RATE, 100)


def find(optimizer, params=PARAMS, **options):
    """Regularizers and strengths by leaf, and the conflicts by name."""
    found = explain(None, optimizer, params, **options)
    effects = {}
    for effect in found.effects:
        if effect.place != "optimizer":
            effects.setdefault(effect.place, {})[effect.regularizer] = effect.strength
    return effects, {conflict.what: conflict.where for conflict in found.conflicts}


CHAINS = {
    "decay": (optax.chain(ADAM, DECAY), {"decay": RATE * 0.1}),
    "independent": (
        optax.chain(ADAM, transforms.independent_decay(1e-4)), {"decay": 1e-4}
    ),
    "optax": (optax.adamw(RATE, weight_decay=0.1, mask=masks.kernels), {"decay": RATE * 0.1}),
    "lion": (optax.lion(RATE, weight_decay=0.1, mask=masks.kernels), {"decay": RATE * 0.1}),
    "l2 of sgd": (
        optax.chain(optax.masked(L2, masks.kernels), optax.sgd(0.1)), {"decay": 0.1 * 0.01}
    ),
    "l2 clipped": (
        optax.chain(optax.masked(L2, masks.kernels), optax.clip(1e9), optax.sgd(0.1, momentum=0.9)),
        {"decay": 0.1 * 0.01},
    ),
    "proximal": (optax.chain(ADAM, SHRINK), {"proximal step to exact zeros": RATE * 0.01}),
    "l1 of sgd": (
        optax.chain(
            optax.masked(transforms.add_penalty_gradient(penalties.l1, 0.01), masks.kernels),
            optax.sgd(0.1),
        ),
        {"gradient of an L1 or group penalty": 0.1 * 0.01},
    ),
    "project": (optax.chain(ADAM, BOUND), {"projection": 3.0}),
    "all three": (
        optax.chain(ADAM, DECAY, SHRINK, BOUND),
        {"decay": RATE * 0.1, "proximal step to exact zeros": RATE * 0.01, "projection": 3.0},
    ),
    "compensated": (
        transforms.compensate_rounding(optax.chain(ADAM, DECAY)), {"decay": RATE * 0.1}
    ),
    "accumulated": (
        optax.MultiSteps(optax.chain(ADAM, DECAY), 3), {"decay": RATE * 0.1}
    ),
    "injected": (
        optax.inject_hyperparams(optax.adamw, static_args=("mask",))(
            RATE, weight_decay=0.1, mask=masks.kernels
        ),
        {"decay": RATE * 0.1},
    ),
    "if finite": (optax.apply_if_finite(optax.chain(ADAM, DECAY), 3), {"decay": RATE * 0.1}),
    "warmed up": (
        optax.chain(optax.adam(WARM), transforms.decoupled_decay(0.1, learning_rate=WARM)),
        {"decay": RATE * 0.1},
    ),
    "none": (ADAM, {"none": None}),
}  # fmt: skip


@pytest.mark.parametrize("name", CHAINS)
def test_what_a_chain_does_to_each_leaf(name):
    optimizer, want = CHAINS[name]
    effects, conflicts = find(optimizer)
    assert not conflicts
    assert set(effects) == {"dense/bias", KERNEL, "norm/scale"}
    assert set(effects["dense/bias"]) == set(effects["norm/scale"]) == {"none"}
    assert set(effects[KERNEL]) == set(want)
    for regularizer, strength in want.items():
        if strength is not None:
            assert effects[KERNEL][regularizer] == pytest.approx(strength, rel=1e-4)


@few("dtype", [ml_dtypes.bfloat16, np.complex64, np.float16])
def test_narrow_and_complex_leaves(dtype):
    params = {"kernel": np.ones((8, 8), dtype)}
    decay = transforms.independent_decay(1e-5)
    effects, _ = find(decay, params)
    assert effects["kernel"] == {"decay": pytest.approx(1e-5)}


def test_odd_leaves_are_left_alone():
    params = {
        "w": np.ones((8, 8), np.float32),
        "none": None,
        "empty": np.zeros((0, 3), np.float32),
        "count": np.int32(3),
    }
    effects, _ = find(transforms.independent_decay(0.5), params)
    assert effects["w"] == {"decay": pytest.approx(0.5)}
    assert set(effects) == {"w", "empty", "count"}
    assert set(effects["count"]) == set(effects["empty"]) == {"none"}


def test_frozen_leaves_are_told():
    labels = {"dense": {"bias": "train", "kernel": "freeze"}, "norm": {"scale": "train"}}
    tx = optax.partition({"train": ADAM, "freeze": optax.set_to_zero()}, labels)
    effects, conflicts = find(tx)
    assert set(effects[KERNEL]) == {"frozen"}
    assert set(effects["dense/bias"]) == {"none"}
    assert not conflicts


@pytest.mark.parametrize(
    ("prox", "kind"), [(proximal.l0, "proximal step to exact zeros"), (proximal.l2, "decay")]
)
def test_kinds_of_proximal_steps(prox, kind):
    tx = optax.chain(ADAM, optax.masked(transforms.proximal(prox, 0.1, 0.1), masks.kernels))
    effects, conflicts = find(tx)
    assert set(effects[KERNEL]) == {kind}
    assert not conflicts


@pytest.mark.parametrize("projection", [projections.unit_norm, projections.non_negative])
def test_kinds_of_projections(projection):
    tx = optax.chain(ADAM, optax.masked(transforms.project(projection), masks.kernels))
    effects, conflicts = find(tx)
    assert set(effects[KERNEL]) == {"projection"}
    assert not conflicts


LAST = "something moves the weights after a proximal step or a projection"
SCALED = "something scales the update after a proximal step or a projection"
COUPLED = "L2 through the scaling of the optimizer"
OUTSIDE = "a regularizer outside gradient accumulation"
MASKED = optax.masked(L2, masks.kernels)


@pytest.mark.parametrize(
    ("optimizer", "what"),
    [
        (optax.chain(MASKED, ADAM), COUPLED),
        (optax.chain(MASKED, optax.rmsprop(RATE)), COUPLED),
        (optax.chain(MASKED, optax.adagrad(RATE)), COUPLED),
        (optax.chain(MASKED, optax.lion(RATE, weight_decay=0.0)), COUPLED),
        (optax.chain(optax.masked(transforms.add_penalty_gradient(penalties.l1, 0.01),
                                  masks.kernels), ADAM), COUPLED),
        (optax.chain(ADAM, SHRINK, optax.scale(0.5)), SCALED),
        (optax.chain(ADAM, BOUND, optax.scale(0.5)), SCALED),
        (optax.chain(ADAM, SHRINK, DECAY), LAST),
        (optax.chain(ADAM, BOUND, DECAY), LAST),
        (optax.chain(optax.MultiSteps(ADAM, 4).gradient_transformation(), DECAY), OUTSIDE),
        (optax.chain(optax.MultiSteps(ADAM, 4).gradient_transformation(), SHRINK), OUTSIDE),
    ],
)  # fmt: skip
def test_conflicts_of_chains(optimizer, what):
    _, conflicts = find(optimizer)
    assert conflicts == {what: (KERNEL,)}


@pytest.mark.parametrize("inside", [True, False])
def test_an_average_belongs_inside_accumulation(inside):
    average = transforms.exponential_average(0.9)
    chain = optax.chain(ADAM, average) if inside else ADAM
    accumulated = optax.MultiSteps(chain, 2).gradient_transformation()
    optimizer = accumulated if inside else optax.chain(accumulated, average)
    found = explain(None, optimizer, PARAMS)
    assert [each.where for each in found.conflicts] == ([] if inside else [("optimizer",)])


def test_a_bound_of_stacked_units_is_the_bound_of_a_layer():
    params = {"blocks": {"kernel": np.ones((3, 8, 6))}, "head": {"kernel": np.ones((6, 4))}}
    ball = partial(projections.max_norm, radius=0.9)
    for step in (
        transforms.project(ball, stacked=masks.match("blocks")),
        transforms.project(partial(ball, axis=-1)),
        transforms.project(lambda w: jnp.clip(w, -0.9, 0.9)),
    ):
        found = explain(None, optax.chain(optax.sgd(0.1), step), params)
        assert {each.regularizer for each in found.effects} == {"projection"}
        np.testing.assert_allclose([each.strength for each in found.effects], 0.9, rtol=1e-3)


def test_decay_of_biases_and_scales():
    found = explain(None, optax.adamw(RATE, weight_decay=0.1), PARAMS)
    assert not found.conflicts
    scales = "decay on biases or scales of norms"
    assert {note.what: note.where for note in found.notes} == {scales: ("dense/bias", "norm/scale")}
    linear = {"w": np.ones(8, np.float32), "b": np.ones(8, np.float32)}
    found = explain(None, optax.adamw(RATE, weight_decay=0.1), linear)
    assert {note.what: note.where for note in found.notes} == {scales: ("b",)}


def test_a_penalty_in_the_loss():
    def penalty(params):
        return 0.02 * penalties.total(params, penalties.l2, masks.kernels)

    effects, conflicts = find(optax.sgd(RATE), penalty=penalty)
    assert effects[KERNEL] == {"L2 penalty": pytest.approx(0.02)}
    assert set(effects["dense/bias"]) == {"none"}
    assert not conflicts
    _, conflicts = find(ADAM, penalty=penalty)
    assert conflicts == {COUPLED: (KERNEL,)}


SHIFT = "dropout before batch norm"
SKIPPED = "stochastic depth before batch norm"
INVARIANT = "decay on weights before a norm"
NOTES = {SKIPPED, INVARIANT}


def where(module, optimizer=ADAM, **options):
    """Places of conflicts and notes by their names, each on the level of its name."""
    found = explain(module, optimizer, variables(module), X, **options)
    assert {note.what for note in found.notes} <= NOTES
    assert not {conflict.what for conflict in found.conflicts} & NOTES
    return {finding.what: finding.where for finding in (*found.conflicts, *found.notes)}


@few(
    ("norm", "drop"),
    [
        (linen.BatchNorm, linen.GaussianDropout),
        (nn.BatchNorm, nn.Dropout),
        (partial(linen.GhostBatchNorm, ghost_batch_size=4), linen.Dropout),
    ],
)
def test_dropout_before_batch_norm(norm, drop):
    assert where(Mixed(norm, drop)) == {SHIFT: ("early before norm",)}


def test_no_shift_without_dropout_before_the_norm():
    assert where(Clean()) == {}
    assert where(Mixed(rate=0.0)) == {}
    assert where(Mixed(drop=linen.AlphaDropout)) == {}
    assert where(Mixed(norm=lambda use_running_average, name: nn.LayerNorm(name=name))) == {}


class Branches(nn.Module):
    """Residual blocks, whose branches end in a module that may skip them."""

    end: partial
    blocks: int = 3

    @nn.compact
    def __call__(self, x, *, train):
        for number in range(self.blocks):
            branch = linen.BatchNorm(use_running_average=not train, name=f"norm{number}")(x)
            x = x + self.end(deterministic=not train, name=f"end{number}")(branch)
        return x


@few(
    "end", [partial(linen.DropPath, 0.1), partial(nn.Dropout, 0.1, broadcast_dims=(-1,))]
)  # fmt: skip
def test_branches_that_are_skipped_are_a_note(end):
    places = ("end0 before norm1 and 1 more", "end1 before norm2")
    assert where(Branches(end)) == {SKIPPED: places}
    assert where(Branches(partial(linen.Dropout, 0.1))) == {SHIFT: places}


def test_functions_before_batch_norms_and_frozen_norms():
    key = jax.random.wrap_key_data(np.zeros(2, np.uint32))
    stats = normalization.init_stats((8,))

    def model(w, x, drop):
        x = drop(key, x @ w, rate=0.5)
        return normalization.batch_norm(x, stats)[0]

    def levels(drop):
        found = explain(model, None, np.eye(8, dtype=np.float32), X, drop)
        return [[f.where for f in group if f.what in (SHIFT, SKIPPED)] for group in found[1:3]]

    drop, path = "dropout.dropout", "dropout.drop_path"
    assert levels(dropout.dropout) == [[(f"{drop} before normalization.batch_norm",)], []]
    assert levels(dropout.drop_path) == [[], [(f"{path} before normalization.batch_norm",)]]
    assert levels(lambda key, x, rate: x) == [[], []]

    def norm_inside(key, x, rate):
        block = lambda x: normalization.batch_norm(2 * x, stats)[0]  # noqa: E731
        return dropout.stochastic_depth(key, block, x, rate=rate)

    depth = "dropout.stochastic_depth before normalization.batch_norm"
    assert levels(norm_inside) == [[], [(depth,)]]
    assert explain(lambda w: norm_inside(key, w, 0.5), None, X).notes[0].what != SKIPPED
    frozen = partial(linen.BatchNorm, use_running_average=True)
    assert where(Mixed(lambda use_running_average, name: frozen(name=name))) == {}


def test_a_shift_through_jit_scan_and_remat():
    class Block(nn.Module):
        @nn.compact
        def __call__(self, x, _):
            x = linen.BatchNorm(use_running_average=False, name="norm")(x)
            return linen.Dropout(0.5, deterministic=False, name="drop")(x), None

    class Stack(nn.Module):
        @nn.compact
        def __call__(self, x, *, train):
            scanned = nn.scan(
                Block, variable_axes={"params": 0, "batch_stats": 0},
                split_rngs={"params": True, "dropout": True}, length=2,
            )  # fmt: skip
            return scanned(name="blocks")(x, None)[0]

    class Compiled(nn.Module):
        @nn.compact
        def __call__(self, x, *, train):
            x = nn.jit(linen.Dropout)(0.5, deterministic=False, name="drop")(x)
            return nn.remat(linen.BatchNorm)(use_running_average=False, name="norm")(x)

    # The first block drops what the second one normalizes.
    assert where(Stack()) == {SHIFT: ("blocks/drop before blocks/norm",)}
    assert where(Compiled()) == {SHIFT: ("drop before norm",)}


@pytest.mark.programs(34)
@pytest.mark.parametrize(
    "norm", [linen.BatchNorm, lambda use_running_average, name: nn.LayerNorm(name=name)]
)
def test_decay_before_a_norm(norm):
    module = Mixed(norm, rate=0.0)
    # A ReLU passes the scale of the first layer on, to the norm behind the second.
    found = {INVARIANT: ("first/kernel", "second/kernel")}
    assert where(module, optax.chain(ADAM, DECAY)) == found
    masked = transforms.decoupled_decay(
        0.1, learning_rate=RATE,
        mask={"first": {"bias": False, "kernel": False}, "last": {"bias": False, "kernel": True},
              "second": {"bias": False, "kernel": False}, "norm": {"bias": False, "scale": False}},
    )  # fmt: skip
    assert where(module, optax.chain(ADAM, masked)) == {}


@pytest.mark.programs(34)
def test_saturating_functions_are_no_norms():
    class Saturating(nn.Module):
        @nn.compact
        def __call__(self, x, *, train):
            return nn.softmax(nn.Dense(8)(nn.tanh(nn.Dense(8)(x))))

    assert where(Saturating(), optax.chain(ADAM, DECAY)) == {}


def test_invariance_is_to_all_scales_and_not_for_want_of_use():
    w = np.float32([[1.0, -1.0], [1.0, 1.0]])

    def found(function):
        return scale_invariant(lambda params: function(params["w"]), {"w": w}, ["w"])

    assert found(lambda w: w / jnp.linalg.norm(w)) == ["w"]
    assert found(lambda w: w / jnp.sqrt(jnp.mean(w**2) + 1e-3)) == ["w"]
    assert found(jnp.tanh) == []
    assert found(lambda w: 10 + w / jnp.linalg.norm(w) + 0.1 * jnp.log(jnp.sum(w**2))) == []
    assert found(lambda w: jnp.ones(3) + 0 * w[0, 0]) == []


def test_modules_are_listed_with_their_strengths():
    module = Mixed(rate=0.25)
    found = explain(module, ADAM, variables(module), X)
    listed = {effect.place: (effect.regularizer, effect.strength) for effect in found.effects}
    assert listed["early"] == ("Dropout", 0.25)
    assert listed["late"] == ("Dropout", 0.5)
    assert listed["norm"][0] == "BatchNorm"
    leaves = _probe.leaf_names(variables(module)["params"])
    assert set(listed) == {*leaves, "early", "late", "norm"}


@pytest.mark.programs(48)
@pytest.mark.parametrize("order", ["early", "late"])
def test_nnx_models_are_seen_alike(order):
    model = Network(order, rngs=nnx.Rngs(0))
    before = [np.array(leaf) for leaf in jax.tree.leaves(nnx.state(model, nnx.Param))]
    found = explain(model, optax.chain(ADAM, DECAY), None, X)
    conflicts = {conflict.what: conflict.where for conflict in found.conflicts}
    notes = {note.what: note.where for note in found.notes}
    assert conflicts == ({SHIFT: ("drop before norm",)} if order == "early" else {})
    assert notes == {INVARIANT: ("first/kernel", "second/kernel")}
    listed = {effect.place: effect.regularizer for effect in found.effects}
    assert listed["first/kernel"] == "decay"
    assert listed["first/bias"] == "none"
    assert (listed["drop"], listed["norm"]) == ("Dropout", "BatchNorm")
    assert type(model.norm) is regularized.BatchNorm
    after = jax.tree.leaves(nnx.state(model, nnx.Param))
    assert all((a == b).all() for a, b in zip(after, before, strict=True))


# Stacks of layers, and rows without gradients.

STACK = "a stack of layers taken for one kernel"
LAYERS = {
    "blocks": {"kernel": np.ones((3, 4, 4), np.float32), "bias": np.ones((3, 4), np.float32)},
    "conv": {"kernel": np.ones((3, 4, 4), np.float32), "bias": np.ones(4, np.float32)},
}
AXES = partial(masks.kernels, stacked=masks.match("blocks"))


@pytest.mark.programs(34)
@pytest.mark.parametrize("place", ["optimizer", "loss"])
def test_a_stack_that_is_taken_for_one_kernel(place):
    """Its bias has an axis of layers, too, which the bias of a convolution does not have."""
    for stacked in (None, masks.match("blocks")):
        if place == "loss":
            each = penalties.group_lasso if stacked is None else jax.vmap(penalties.group_lasso)
            penalty = lambda p, each=each: jnp.sum(each(p["blocks"]["kernel"]))  # noqa: E731
            _, conflicts = find(optax.sgd(RATE), LAYERS, penalty=penalty)
        else:
            lift = transforms.project(BALL, stacked=stacked)
            _, conflicts = find(optax.chain(ADAM, optax.masked(lift, AXES)), LAYERS)
        assert conflicts == ({STACK: ("blocks/kernel",)} if stacked is None else {})


@pytest.mark.programs(34)
def test_what_is_elementwise_does_not_mind_a_stack():
    for lift in (DECAY, transforms.proximal(proximal.l1, 0.01, RATE)):
        _, conflicts = find(optax.chain(ADAM, optax.masked(lift, AXES)), LAYERS)
        assert conflicts == {}


@pytest.mark.programs(34)
def test_a_stack_is_found_in_the_loop_of_a_model():
    class Block(nn.Module):
        @nn.compact
        def __call__(self, x, _):
            return nn.Dense(8, use_bias=False)(x), None

    class Model(nn.Module):
        @nn.compact
        def __call__(self, x, *, train):
            axes = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}}
            return nn.scan(Block, length=3, **axes)(name="blocks")(x, None)[0]

    tx = optax.chain(ADAM, transforms.project(BALL))
    assert where(Model(), tx) == {STACK: ("blocks/Dense_0/kernel",)}
    assert where(Model(), optax.chain(ADAM, transforms.project(BALL, stacked=lambda w: True))) == {}


@pytest.mark.programs(34)
def test_what_stands_by_a_proximal_step_in_the_metric_of_adam():
    tx = transforms.preconditioned_proximal(
        optax.chain(ADAM, DECAY), proximal.l1, 0.01, RATE,
        metric=transforms.adam_metric(), mask=masks.kernels,
    )  # fmt: skip
    want = {"decay": 0.1 * RATE, "proximal step to exact zeros": RATE * 0.01}
    for chain, beside in ((tx, {}), (optax.chain(tx, BOUND), {"projection": 3.0})):
        effects, conflicts = find(chain)
        assert not conflicts
        assert set(effects["dense/bias"]) == {"none"}
        assert effects[KERNEL] == pytest.approx({**want, **beside}, rel=1e-6)


def test_rows_of_a_table_without_gradients():
    params = {
        "embed": {"embedding": np.ones((8, 8), np.float32)},
        "dense": {"kernel": np.ones((8, 8), np.float32)},
    }
    rows = "a proximal step on rows without gradients"
    no_table = masks.all_of(masks.kernels, masks.negate(masks.match("embedding")))
    for mask, where in ((masks.kernels, {rows: ("embed/embedding",)}), (no_table, {})):
        tx = transforms.preconditioned_proximal(
            ADAM, proximal.l1, 0.01, RATE, metric=transforms.adam_metric(), mask=mask
        )
        effects, conflicts = find(tx, params)
        assert conflicts == where
        assert set(effects["dense/kernel"]) == {"proximal step to exact zeros"}
    for tx in (optax.chain(ADAM, DECAY), optax.chain(ADAM, SHRINK), ADAM):
        assert find(tx, params)[1] == {}


LABELS = np.array([0, 2, 1, 2])
HARD = np.eye(3, dtype=np.float32)[LABELS]
MIXED = np.float32(0.7 * HARD + 0.3 * HARD[::-1])


@partial(jax.jit, static_argnames="alpha")
def smoothing_loss(logits, soft, *, alpha):
    if soft.ndim == 1:
        soft = jax.nn.one_hot(soft, logits.shape[-1])
    soft = (1 - alpha) * soft + alpha / soft.shape[-1]
    return -jnp.mean(jnp.sum(soft * jax.nn.log_softmax(logits), axis=-1))


def of_loss(**options):
    """Regularizers and strengths of the loss, and the notes by name."""
    found = explain(None, None, PARAMS, **options)
    assert not found.conflicts
    assert {e.place for e in found.effects} <= {"loss"}
    notes = {note.what: note.where for note in found.notes if note.where != ("optimizer",)}
    return {e.regularizer: (e.strength, e.unit) for e in found.effects}, notes


@pytest.mark.programs(40)
@pytest.mark.parametrize(
    ("given", "alpha"),
    [("mixed", 0.1), ("mixed", 0.25), ("mixed", 0.0), ("hard", 0.1), ("labels", 0.1)],
)
def test_smoothing_of_soft_targets(alpha, given):
    given_targets = {"hard": HARD, "mixed": MIXED, "labels": LABELS}[given]
    effects, notes = of_loss(loss=partial(smoothing_loss, alpha=alpha), targets=given_targets)
    want = {}
    if given == "mixed":
        want["soft targets"] = (pytest.approx(0.3, rel=1e-5), "largest share of a second class")
    if alpha:
        want["label smoothing"] = (pytest.approx(alpha, rel=1e-4), "alpha")
    assert effects == want
    assert notes == (
        {
            "label smoothing of targets that are soft already": (
                f"targets soft by 0.3, alpha {alpha:g}",
            )
        }
        if len(want) == 2
        else {}
    )


def test_losses_that_smooth_no_labels():
    """Among them those whose gradients look like it at one point, and labels of several classes."""
    squares = lambda logits, targets: jnp.mean((logits - targets) ** 2)  # noqa: E731
    assert of_loss(loss=squares, targets=HARD) == ({}, {})
    assert of_loss(loss=lambda x, _: jnp.sum(x), targets=HARD) == ({}, {})
    assert of_loss(targets=np.float32([[1, 1, 0], [0, 1, 0.5]])) == ({}, {})
    assert of_loss(loss=lambda x, _: jnp.abs(jnp.sum(x) - 0.1), targets=HARD) == ({}, {})
    assert set(of_loss(targets=MIXED)[0]) == {"soft targets"}
    for function in (targets.smooth_labels, targets.smooth_labels_excluding):
        own = lambda x, y, f=function: optax.softmax_cross_entropy(  # noqa: E731
            x, f(y, alpha=0.1, num_classes=3)
        ).mean()
        smoothing = of_loss(loss=own, targets=LABELS)[0]["label smoothing"][0]
        # Excluding the true class takes all of alpha from it, instead of two thirds.
        share = 1.0 if function is targets.smooth_labels else 1.5
        assert smoothing == pytest.approx(0.1 * share, rel=1e-4)


@pytest.mark.parametrize("padded", [False, True])
def test_smoothing_of_binary_and_of_padded_losses(padded):
    def loss(logits, labels):
        each = optax.sigmoid_binary_cross_entropy(logits, 0.9 * labels + 0.05)
        if padded:
            each = optax.softmax_cross_entropy(logits, 0.9 * labels + 0.1 / 3) * np.float32(
                [1, 0, 1, 1]
            )
        return jnp.sum(each)

    assert of_loss(loss=loss, targets=HARD)[0] == {
        "label smoothing": (pytest.approx(0.1, rel=1e-4), "alpha")
    }


def test_losses_that_fail():
    with pytest.raises(ValueError, match="`targets` must be a batch of targets for `loss`"):
        of_loss(loss=smoothing_loss)
    with pytest.raises(ValueError, match=r"`loss` must take logits of shape \(4, 3\) and "):
        of_loss(loss=lambda logits: 0.0, targets=HARD)


def test_text_is_a_table():
    text = str(explain(None, optax.chain(ADAM, DECAY), PARAMS))
    lines = text.splitlines()
    assert lines[0].split() == ["where", "regularizer", "strength"]
    assert len({line.index(word) for line, word in zip(lines[1:4], ("none", "decay", "none"),
                                                       strict=True)}) == 1  # fmt: skip
    assert text.endswith("No known conflict.")
    text = str(explain(None, optax.adamw(RATE, weight_decay=0.1), PARAMS))
    assert text.index("No known conflict.") < text.index("note: decay on biases")
    for part in ("note: decay on biases", "where: dense/bias, norm/scale", "why: ", "fix: ",
                 "see: Goodfellow"):  # fmt: skip
        assert part in text


def test_strengths_of_a_warm_up_tell_their_step():
    found = explain(None, CHAINS["warmed up"][0], PARAMS)
    assert found.step == 100
    assert "The strengths hold at step 100." in str(found)


def test_wrong_arguments_are_named():
    with pytest.raises(TypeError, match="`optimizer` must be an Optax transformation, got float"):
        explain(None, 0.1, PARAMS)
    with pytest.raises(ValueError, match="`params` must hold floating-point arrays, got none"):
        explain(None, ADAM, {})


def test_flow_is_exact_through_jit_and_covers_branches():
    def function(x):
        a = _flow.mark_source("a", x)
        b = _flow.mark_source("b", x)
        a, b = jax.jit(lambda a, b: (a + 1, b))(a, b)
        _flow.mark_target("only a", a)
        either = jax.lax.cond(x[0] > 0, lambda: a, lambda: b)
        _flow.mark_target("both", either)
        _flow.mark_target("after another", _flow.mark_source("c", b))
        return either

    assert set(_flow.follow(function, np.ones(3, np.float32)).pairs) == {
        ("a", "only a"),
        ("a", "both"),
        ("b", "both"),
        ("b", "after another"),
        ("c", "after another"),
    }


def test_problem_names_all_have_a_conflict():
    assert set(PROBLEMS) == {
        _effects.COUPLED, _effects.NOT_LAST, _effects.SCALED_AFTER, _effects.MINI_STEPS,
    }  # fmt: skip
