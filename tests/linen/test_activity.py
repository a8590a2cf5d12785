"""Penalties of activations in Linen models, in every lifting."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxreg import linen, penalties
from tests.helpers import few

X = np.sin(np.arange(1.0, 21)).reshape(5, 4).astype(np.float32)
KERNEL = np.cos(np.arange(16.0)).reshape(4, 4).astype(np.float32)
SPARSE = penalties.per_example(penalties.l1)
LAYERS = 3


class Block(nn.Module):
    """A layer with two penalties."""

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(4, use_bias=False, kernel_init=lambda *_: jnp.asarray(KERNEL))(x)
        x = linen.ActivityPenalty(SPARSE, weight=0.5)(nn.tanh(x))
        return linen.ActivityPenalty(penalties.decorrelation, weight=2.0)(x)


def sparse(x):
    """Sum of magnitudes over features, mean over examples."""
    return np.abs(np.float64(x)).sum() / len(x)


def layer(x):
    return np.tanh(np.float64(x) @ KERNEL)


def penalty_of(x):
    """The penalty of a block: half the first and twice the second penalty of its output."""
    y = layer(x)
    return 0.5 * sparse(y) + 2 * float(decorrelation(np.float32(y)))


decorrelation = jax.jit(penalties.decorrelation)


def close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=2e-6)


def collected(module, x, variables=None):
    """The output and the penalty of a call."""
    variables = module.init(jax.random.key(0), x) if variables is None else variables
    assert "losses" not in variables
    y, updated = module.apply(variables, x, mutable=["losses"])
    penalty, rest = linen.pop_penalties(updated)
    assert rest == {}
    return y, penalty


LIFTS = {
    "none": lambda module: module,
    "remat of jit": lambda module: nn.remat(nn.jit(module)),
    "jit": nn.jit,
    "remat": nn.remat,
}


@few("lift", LIFTS.values(), ids=LIFTS)
def test_a_model_collects_the_penalty(lift):
    y, penalty = jax.jit(lambda x: collected(lift(Block)(), x))(X)
    close(y, layer(X))
    close(penalty, penalty_of(X))


def test_scanned_layers_collect_theirs():
    class Step(nn.Module):
        @nn.compact
        def __call__(self, x, _):
            return nn.remat(Block)()(x), None

    axes = {"params": 0, "losses": 0}
    layers = nn.scan(Step, variable_axes=axes, split_rngs={"params": True}, length=LAYERS)

    @jax.jit
    def run(x):
        variables = layers().init(jax.random.key(0), x, None)
        assert set(variables) == {"params"}
        _, updated = layers().apply(variables, x, None, mutable=["losses"])
        return linen.pop_penalties(updated)[0]

    expected = 0.0
    x = X
    for _ in range(LAYERS):
        expected += penalty_of(x)
        x = layer(x)
    close(run(X), expected)


def test_calls_of_one_module_add_up():
    class Twice(nn.Module):
        def setup(self):
            self.sparse = linen.ActivityPenalty(SPARSE, weight=0.5)

        def __call__(self, x):
            return self.sparse(self.sparse(x) + 1)

    penalty = jax.jit(lambda x: collected(Twice(), x)[1])(X)
    close(penalty, 0.5 * (sparse(X) + sparse(X + 1)))


def test_nothing_is_computed_in_evaluation_and_in_init():
    def fails(x):
        raise AssertionError("computed")

    module = linen.ActivityPenalty(fails, weight=1.0)
    assert module.init(jax.random.key(0), X) == {}
    assert module.apply({}, X) is X
    with pytest.raises(AssertionError, match="computed"):
        module.apply({}, X, mutable=True)


class Model(nn.Module):
    """A block with a batch norm behind it."""

    @nn.compact
    def __call__(self, x):
        return linen.BatchNorm(use_running_average=False)(Block()(x))


def test_steps_do_not_accumulate():
    """A loop that hands on all other collections, as one with batch norms does."""
    variables = jax.jit(Model().init)(jax.random.key(0), X)
    params = variables["params"]
    rest = {"batch_stats": variables["batch_stats"]}

    @jax.jit
    def step(params, rest):
        def loss(params):
            _, updated = Model().apply({"params": params, **rest}, X, mutable=[*rest, "losses"])
            return linen.pop_penalties(updated)

        (penalty, others), slope = jax.value_and_grad(loss, has_aux=True)(params)
        return penalty, others, slope

    for _ in range(3):
        penalty, rest, slope = step(params, rest)
        close(penalty, penalty_of(X))
        assert set(rest) == {"batch_stats"}
    assert np.abs(slope["Block_0"]["Dense_0"]["kernel"]).max() > 0.01
    assert step._cache_size() == 1


def test_narrow_activations_are_summed_wide():
    mean = penalties.per_example(penalties.l2)

    @jax.jit
    def run(*inputs):
        return [collected(linen.ActivityPenalty(mean, weight=1.0), x, {})[1] for x in inputs]

    narrow = [np.full((3, 5000), 300, dtype) for dtype in (jnp.bfloat16, jnp.float16)]
    for penalty in run(*narrow):
        assert penalty.dtype == jnp.float32
        close(penalty, 5000 * 300**2 / 2)


def test_a_traced_weight():
    def penalty(weight):
        return collected(linen.ActivityPenalty(penalties.l1, weight=weight), X, {})[1]

    values = jax.jit(jax.vmap(penalty))(np.arange(3, dtype=np.float32))
    close(values, np.arange(3) * 5 * sparse(X))


def test_variables_without_the_collection_are_named():
    with pytest.raises(ValueError, match=r"`variables` must contain .*got \['batch_stats'\].*muta"):
        linen.pop_penalties({"batch_stats": {}})


def test_a_negative_weight_is_named():
    with pytest.raises(ValueError, match=r"`weight` must be zero or positive, got -1"):
        linen.ActivityPenalty(penalties.l1, weight=-1)
