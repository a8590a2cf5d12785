"""Penalties of activations in NNX models, in every lifting."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx as flax_nnx

from jaxreg import nnx, penalties
from tests.helpers import few

X = np.sin(np.arange(1.0, 21)).reshape(5, 4).astype(np.float32)
KERNEL = np.cos(np.arange(16.0)).reshape(4, 4).astype(np.float32)
SPARSE = penalties.per_example(penalties.l1)
LAYERS = 3


class Block(flax_nnx.Module):
    """A layer with two penalties."""

    def __init__(self):
        self.dense = flax_nnx.Linear(
            4, 4, use_bias=False, kernel_init=lambda *_: jnp.asarray(KERNEL), rngs=flax_nnx.Rngs(0)
        )
        self.sparse = nnx.ActivityPenalty(SPARSE, weight=0.5)
        self.decorrelated = nnx.ActivityPenalty(penalties.decorrelation, weight=2.0)

    def __call__(self, x):
        return self.decorrelated(self.sparse(jnp.tanh(self.dense(x))))


def sparse(x):
    """Sum of magnitudes over features, mean over examples."""
    return np.abs(np.float64(x)).sum() / len(x)


def layer(x):
    return np.tanh(np.float64(x) @ KERNEL)


decorrelation = jax.jit(penalties.decorrelation)


def penalty_of(x):
    """The penalty of a block: half the first and twice the second penalty of its output."""
    y = layer(x)
    return 0.5 * sparse(y) + 2 * float(decorrelation(np.float32(y)))


def close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=2e-6)


def call(model, x):
    return model(x)


LIFTS = {
    "none": lambda function: function,
    "remat of jit": lambda function: flax_nnx.remat(flax_nnx.jit(function)),
    "jit": flax_nnx.jit,
    "remat": flax_nnx.remat,
}


@few("lift", LIFTS.values(), ids=LIFTS)
def test_a_model_collects_the_penalty(lift):
    @jax.jit
    def run(x):
        model = Block()
        forwards = [nnx.with_penalties(lift(call)), lift(nnx.with_penalties(call))]
        return [forward(model, x) for forward in forwards]

    for y, penalty in run(X):
        close(y, layer(X))
        close(penalty, penalty_of(X))


def test_a_module_and_a_method_collect_theirs():
    @jax.jit
    def run(x):
        model = Block()
        _, sown = flax_nnx.capture(model, nnx.Penalty)(x)
        both = nnx.with_penalties(model)(x)[1], nnx.with_penalties(model.__call__)(x)[1]
        return *both, sum(jax.tree.leaves(sown))

    for penalty in run(X):
        close(penalty, penalty_of(X))


def test_scanned_layers_collect_theirs():
    step = flax_nnx.scan(call, in_axes=(0, flax_nnx.Carry), out_axes=flax_nnx.Carry)

    @jax.jit
    def run(x):
        layers = flax_nnx.vmap(lambda _: Block(), in_axes=0)(jnp.arange(LAYERS))
        return nnx.with_penalties(step)(layers, x)[1]

    expected = 0.0
    x = X
    for _ in range(LAYERS):
        expected += penalty_of(x)
        x = layer(x)
    close(run(X), expected)


def test_calls_of_one_module_add_up():
    @jax.jit
    def run(x):
        module = nnx.ActivityPenalty(SPARSE, weight=0.5)
        return nnx.with_penalties(lambda m, x: m(m(x) + 1))(module, x)[1]

    close(run(X), 0.5 * (sparse(X) + sparse(X + 1)))


def test_nothing_is_computed_in_evaluation_and_nothing_is_kept():
    calls = []

    def counted(x):
        calls.append(1)
        return jnp.sum(x)

    module = nnx.ActivityPenalty(counted, weight=1.0)
    assert module(X) is X
    assert not calls
    nnx.with_penalties(module)(X)
    assert len(calls) == 1
    assert module(X) is X
    assert len(calls) == 1
    assert not jax.tree.leaves(flax_nnx.state(module))


def test_steps_do_not_accumulate():
    model = Block()
    optimizer = flax_nnx.Optimizer(model, optax.sgd(0.0), wrt=flax_nnx.Param)
    structure = jax.tree.structure(flax_nnx.state(model))
    traces = []

    def plain(kernel, x):
        y = jnp.tanh(x @ kernel)
        return 0.5 * jnp.abs(y).sum() / 5 + 2 * penalties.decorrelation(y)

    @flax_nnx.jit
    def step(model, optimizer, x):
        traces.append(1)
        penalty, slope = flax_nnx.value_and_grad(lambda m: nnx.with_penalties(m)(x)[1])(model)
        optimizer.update(model, slope)
        expected = jax.grad(plain)(KERNEL, x)
        return penalty, slope["dense"]["kernel"][...], expected

    for _ in range(3):
        penalty, slope, expected = step(model, optimizer, X)
        close(penalty, penalty_of(X))
        assert jax.tree.structure(flax_nnx.state(model)) == structure
    assert len(traces) == 1
    np.testing.assert_allclose(slope, expected, rtol=1e-5, atol=1e-6)


def test_narrow_activations_are_summed_wide():
    mean = penalties.per_example(penalties.l2)

    @jax.jit
    def run(*inputs):
        return [nnx.with_penalties(nnx.ActivityPenalty(mean, weight=1.0))(x)[1] for x in inputs]

    narrow = [np.full((3, 5000), 300, dtype) for dtype in (jnp.bfloat16, jnp.float16)]
    for penalty in run(*narrow):
        assert penalty.dtype == jnp.float32
        close(penalty, 5000 * 300**2 / 2)


def test_a_traced_weight():
    def penalty(weight):
        return nnx.with_penalties(nnx.ActivityPenalty(penalties.l1, weight=weight))(X)[1]

    values = jax.jit(jax.vmap(penalty))(np.arange(3, dtype=np.float32))
    close(values, np.arange(3) * 5 * sparse(X))


def test_a_model_without_penalties_has_none():
    @jax.jit
    def run(x):
        return nnx.with_penalties(flax_nnx.Linear(4, 2, rngs=flax_nnx.Rngs(0)))(x)[1]

    assert run(X) == 0


def test_a_negative_weight_is_named():
    with pytest.raises(ValueError, match=r"`weight` must be zero or positive, got -1"):
        nnx.ActivityPenalty(penalties.l1, weight=-1)
