"""Penalties of activations: one number from the function, Linen and NNX, in every lifting."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx as fnx

from jaxreg import linen, nnx, penalties

X = jnp.sin(jnp.arange(1.0, 1 + 5 * 4)).reshape(5, 4)
KERNEL = jnp.cos(jnp.arange(16.0)).reshape(4, 4)
SPARSE = penalties.per_example(penalties.l1)
LAYERS = 3


class Block(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Dense(4, use_bias=False, kernel_init=lambda *_: KERNEL)(x)
        x = linen.ActivityPenalty(SPARSE, weight=0.5)(nn.tanh(x))
        return linen.ActivityPenalty(penalties.decorrelation, weight=2.0)(x)


class NNXBlock(fnx.Module):
    def __init__(self):
        self.dense = fnx.Linear(
            4, 4, use_bias=False, kernel_init=lambda *_: KERNEL, rngs=fnx.Rngs(0)
        )
        self.sparse = nnx.ActivityPenalty(SPARSE, weight=0.5)
        self.decorrelated = nnx.ActivityPenalty(penalties.decorrelation, weight=2.0)

    def __call__(self, x):
        return self.decorrelated(self.sparse(jnp.tanh(self.dense(x))))


def penalty_of(x):
    """What both blocks have to collect."""
    y = jnp.tanh(x @ KERNEL)
    return 0.5 * jnp.abs(y).sum() / len(x) + 2 * penalties.decorrelation(y)


def penalty_of_layers(x):
    total = 0.0
    for _ in range(LAYERS):
        total, x = total + penalty_of(x), jnp.tanh(x @ KERNEL)
    return total


def close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-6)


# The functions.


def test_the_mean_over_examples_is_what_keras_computes():
    # keras.regularizers.L1(0.5) as an activity_regularizer: 0.5 * sum(abs(x)) / len(x).
    value = penalties.activity(X, penalty=SPARSE, weight=0.5)
    close(value, 0.5 * np.abs(np.asarray(X, np.float64)).sum() / 5)
    close(penalties.activity(X, penalty=penalties.l1, weight=0.5), 5 * value)
    # The size of the batch does not matter.
    close(SPARSE(jnp.concatenate([X, X])), SPARSE(X))


def test_the_mean_over_examples_of_penalties_of_an_example():
    images = jnp.sin(jnp.arange(2.0 * 4 * 3)).reshape(2, 4, 3)
    values = [penalties.nuclear(image) for image in images]
    close(penalties.per_example(penalties.nuclear)(images), sum(values) / 2)


def test_a_batch_without_examples_has_penalty_zero():
    value, slope = jax.value_and_grad(SPARSE)(jnp.zeros((0, 4)))
    assert (value, slope.shape) == (0, (0, 4))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16], ids=str)
def test_narrow_activations_are_summed_wide(dtype):
    x = jnp.full((3, 5000), 300.0, dtype)
    value = penalties.activity(x, penalty=penalties.per_example(penalties.l2), weight=1.0)
    assert value.dtype == jnp.float32
    close(value, 5000 * 300**2 / 2)


def test_what_is_no_batch_raises():
    with pytest.raises(ValueError, match=r"`x` must have the axes \[batch, \.\.\.\]"):
        SPARSE(jnp.float32(1))
    with pytest.raises(TypeError, match=r"`x` must have a floating-point dtype, got int32"):
        SPARSE(jnp.arange(3))


@pytest.mark.parametrize("module", [linen.ActivityPenalty, nnx.ActivityPenalty])
def test_a_negative_weight_raises(module):
    with pytest.raises(ValueError, match=r"`weight` must be zero or positive, got -1"):
        module(penalties.l1, weight=-1)


# Linen.


def collected(module, x, variables=None):
    variables = module.init(jax.random.key(0), x) if variables is None else variables
    assert "losses" not in variables
    y, updated = module.apply(variables, x, mutable=["losses"])
    penalty, rest = linen.pop_penalties(updated)
    assert rest == {}
    return y, penalty


@pytest.mark.parametrize(
    "lift", [lambda f: f, nn.jit, nn.remat, lambda f: nn.remat(nn.jit(f))], ids=range(4)
)
def test_linen_collects_the_penalty(lift):
    y, penalty = collected(lift(Block)(), X)
    close(y, jnp.tanh(X @ KERNEL))
    close(penalty, penalty_of(X))
    under_jit = jax.jit(lambda x: collected(lift(Block)(), x)[1])
    close(under_jit(X), penalty_of(X))


def test_linen_collects_from_scanned_layers():
    class Step(nn.Module):
        @nn.compact
        def __call__(self, x, _):
            return nn.remat(Block)()(x), None

    axes = {"params": 0, "losses": 0}
    layers = nn.scan(Step, variable_axes=axes, split_rngs={"params": True}, length=LAYERS)
    variables = layers().init(jax.random.key(0), X, None)
    assert set(variables) == {"params"}
    _, updated = layers().apply(variables, X, None, mutable=["losses"])
    close(linen.pop_penalties(updated)[0], penalty_of_layers(X))


def test_linen_adds_the_calls_of_one_module():
    class Twice(nn.Module):
        def setup(self):
            self.sparse = linen.ActivityPenalty(SPARSE, weight=0.5)

        def __call__(self, x):
            return self.sparse(self.sparse(x) + 1)

    close(collected(Twice(), X)[1], 0.5 * (SPARSE(X) + SPARSE(X + 1)))


def test_linen_computes_nothing_in_evaluation_and_in_init():
    def fails(x):
        raise AssertionError("computed")

    module = linen.ActivityPenalty(fails, weight=1.0)
    assert module.init(jax.random.key(0), X) == {}
    np.testing.assert_array_equal(module.apply({}, X), X)
    with pytest.raises(AssertionError, match="computed"):
        module.apply({}, X, mutable=True)


def test_linen_steps_do_not_accumulate():
    """A loop that hands on all other collections, as one with batch norms does."""

    class Model(nn.Module):
        @nn.compact
        def __call__(self, x):
            return linen.BatchNorm(use_running_average=False)(Block()(x))

    variables = Model().init(jax.random.key(0), X)
    params, rest = variables["params"], {k: v for k, v in variables.items() if k != "params"}

    @jax.jit
    def step(params, rest):
        def loss(params):
            _, updated = Model().apply({"params": params, **rest}, X, mutable=[*rest, "losses"])
            return linen.pop_penalties(updated)

        (penalty, rest_), slope = jax.value_and_grad(loss, has_aux=True)(params)
        return penalty, rest_, slope

    for _ in range(3):
        penalty, rest, slope = step(params, rest)
        close(penalty, penalty_of(X))
        assert set(rest) == {"batch_stats"}
    assert np.abs(slope["Block_0"]["Dense_0"]["kernel"]).max() > 0.01
    assert step._cache_size() == 1


def test_linen_without_the_collection_raises():
    with pytest.raises(ValueError, match=r"`variables` must hold .*got \['batch_stats'\].*mutable"):
        linen.pop_penalties({"batch_stats": {}})


# NNX.


@pytest.mark.parametrize(
    "lift", [lambda f: f, fnx.jit, fnx.remat, lambda f: fnx.remat(fnx.jit(f))], ids=range(4)
)
def test_nnx_collects_the_same_penalty(lift):
    model = NNXBlock()

    def call(model, x):
        return model(x)

    for forward in (nnx.with_penalties(lift(call)), lift(nnx.with_penalties(call))):
        y, penalty = forward(model, X)
        close(y, jnp.tanh(X @ KERNEL))
        close(penalty, penalty_of(X))
        close(penalty, collected(Block(), X)[1])


def test_nnx_collects_from_a_module_and_from_a_method():
    model = NNXBlock()
    close(nnx.with_penalties(model)(X)[1], penalty_of(X))
    close(nnx.with_penalties(model.__call__)(X)[1], penalty_of(X))
    _, sown = fnx.capture(model, nnx.Penalty)(X)
    close(sum(jax.tree.leaves(sown)), penalty_of(X))


def test_nnx_collects_from_scanned_layers():
    layers = fnx.vmap(lambda _: NNXBlock(), in_axes=0)(jnp.arange(LAYERS))

    def call(layers, x):
        return fnx.scan(lambda layer, x: layer(x), in_axes=(0, fnx.Carry), out_axes=fnx.Carry)(
            layers, x
        )

    close(nnx.with_penalties(call)(layers, X)[1], penalty_of_layers(X))


def test_nnx_adds_the_calls_of_one_module():
    sparse = nnx.ActivityPenalty(SPARSE, weight=0.5)
    _, penalty = nnx.with_penalties(lambda m, x: m(m(x) + 1))(sparse, X)
    close(penalty, 0.5 * (SPARSE(X) + SPARSE(X + 1)))


def test_nnx_computes_nothing_in_evaluation_and_keeps_nothing():
    calls = []

    def counted(x):
        calls.append(1)
        return jnp.sum(x)

    module = nnx.ActivityPenalty(counted, weight=1.0)
    np.testing.assert_array_equal(module(X), X)
    assert not calls
    nnx.with_penalties(module)(X)
    assert len(calls) == 1
    np.testing.assert_array_equal(module(X), X)
    assert len(calls) == 1
    assert not jax.tree.leaves(fnx.state(module))


def test_nnx_steps_do_not_accumulate():
    model = NNXBlock()
    optimizer = fnx.Optimizer(model, optax.sgd(0.0), wrt=fnx.Param)
    structure = jax.tree.structure(fnx.state(model))
    traces = []

    @fnx.jit
    def step(model, optimizer):
        traces.append(1)
        penalty, slope = fnx.value_and_grad(lambda m: nnx.with_penalties(m)(X)[1])(model)
        optimizer.update(model, slope)
        return penalty, slope

    for _ in range(3):
        penalty, slope = step(model, optimizer)
        close(penalty, penalty_of(X))
        assert jax.tree.structure(fnx.state(model)) == structure
    assert len(traces) == 1
    expected = jax.grad(lambda k: SPARSE(jnp.tanh(X @ k)) * 0.5)(KERNEL)
    expected += jax.grad(lambda k: penalties.decorrelation(jnp.tanh(X @ k)) * 2)(KERNEL)
    np.testing.assert_allclose(slope["dense"]["kernel"][...], expected, rtol=1e-5, atol=1e-6)


def test_a_traced_weight_in_both():
    def both(weight):
        x, model = X, nnx.ActivityPenalty(penalties.l1, weight=weight)
        of_linen = collected(linen.ActivityPenalty(penalties.l1, weight=weight), x, {})[1]
        return of_linen, nnx.with_penalties(model)(x)[1]

    for value in jax.jit(jax.vmap(both))(jnp.arange(3.0)):
        close(value, np.arange(3) * float(penalties.l1(X)))


def test_a_model_without_activity_penalties_has_none():
    assert nnx.with_penalties(fnx.Linear(4, 2, rngs=fnx.Rngs(0)))(X)[1] == 0
