"""Stochastic depth: the ramp of rates, and a block that is skipped with its work."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx as flax_nnx
from jax.extend.core import jaxprs_in_params

from jaxreg import dropout

KEY = jax.random.key(40)
X = jnp.sin(jnp.arange(1.0, 13)).reshape(3, 4)
W = jnp.cos(jnp.arange(16.0)).reshape(4, 4)


def quarter(x):
    """A block that is exact in every dtype, however the compiler orders or fuses it."""
    return x / 4


def keys_by_decision(rate, number=64):
    """A key with which the block is computed, and one with which it is skipped."""
    keys = jax.random.split(KEY, number)
    kept = [
        float(dropout.stochastic_depth(key, jnp.ones_like, jnp.zeros(()), rate=rate)) > 0
        for key in keys
    ]
    return keys[kept.index(True)], keys[kept.index(False)]


@pytest.mark.parametrize(
    ("final_rate", "depth", "expected"),
    [
        (0.2, 1, (0.2,)),
        (0.1, 2, (0, 0.1)),
        (0.1, 4, (0, 1 / 30, 2 / 30, 0.1)),
        (1, 3, (0, 0.5, 1)),
        (0.0, 3, (0, 0, 0)),
        (np.float32(0.5), 3, (0, 0.25, 0.5)),
        (0.3, np.int64(7), (0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)),
    ],
)
def test_rates_rise_linearly(final_rate, depth, expected):
    rates = dropout.drop_path_rates(final_rate, depth)
    assert isinstance(rates, tuple)
    np.testing.assert_allclose(rates, expected, rtol=1e-7)
    assert rates[-1] == final_rate
    assert depth == 1 or rates[0] == 0


def test_rates_are_numbers_where_the_final_rate_is_one():
    assert all(isinstance(rate, float) for rate in dropout.drop_path_rates(0.3, 5))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_traced_final_rate_gives_arrays(dtype):
    with jax.numpy_dtype_promotion("strict"):
        rates = jax.jit(lambda rate: dropout.drop_path_rates(rate, 5))(jnp.asarray(1, dtype))
    assert all(rate.dtype == jnp.float32 for rate in rates)
    np.testing.assert_array_equal(rates, [0, 0.25, 0.5, 0.75, 1])
    clipped = jax.jit(lambda rate: dropout.drop_path_rates(rate, 3))(1.5)
    np.testing.assert_array_equal(clipped, [0, 0.5, 1])


@pytest.mark.parametrize(
    ("final_rate", "depth", "kind", "message"),
    [
        (1.5, 3, ValueError, r"`final_rate` must be a probability in \[0, 1\], got 1\.5"),
        (float("nan"), 3, ValueError, r"`final_rate` .*got nan"),
        (jnp.ones(2), 3, ValueError, r"`final_rate` must be a single number, got shape \(2,\)"),
        (jnp.int32(1), 3, TypeError, r"`final_rate` must have a floating-point dtype, got int32"),
        (0.5, 0, ValueError, r"`depth` must be at least 1, got 0; pass the number of blocks"),
        (0.5, 2.0, TypeError, r"`depth` must be an integer, got float 2\.0"),
        (0.5, jnp.int32(2), TypeError, r"`depth` must be an integer"),
    ],
)
def test_wrong_ramps_raise(final_rate, depth, kind, message):
    with pytest.raises(kind, match=message):
        dropout.drop_path_rates(final_rate, depth)


@pytest.mark.parametrize("rate", [0.25, 0.6])
@pytest.mark.slow
def test_adds_or_skips_for_the_whole_batch(rate):
    keep, skip = keys_by_decision(rate)
    expected = np.asarray(X, np.float64) + np.tanh(np.asarray(X, np.float64)) / (1 - rate)
    y = dropout.stochastic_depth(keep, jnp.tanh, X, rate=rate)
    np.testing.assert_allclose(y, expected, rtol=1e-6)
    np.testing.assert_array_equal(dropout.stochastic_depth(skip, jnp.tanh, X, rate=rate), X)


@pytest.mark.parametrize("rate", [0.1, 0.7])
def test_skips_at_the_rate_and_the_mean_is_that_of_no_dropout(rate):
    number = 4096

    def step(x, key):
        return x, dropout.stochastic_depth(key, lambda x: 2 * x, x, rate=rate)

    _, y = jax.jit(lambda keys: jax.lax.scan(step, jnp.ones(()), keys))(
        jax.random.split(KEY, number)
    )
    bound = 5 * math.sqrt(rate * (1 - rate) / number)
    assert abs(float(jnp.mean(y == 1)) - rate) <= bound
    assert abs(np.mean(np.asarray(y, np.float64)) - 3) <= bound * 2 / (1 - rate)


def test_a_skipped_block_is_not_computed():
    """A block that reports to the host is called for the kept steps alone, in a compiled scan."""
    calls = []

    def block(x):
        jax.debug.callback(lambda: calls.append(1))
        return x

    def step(x, key):
        return x, dropout.stochastic_depth(key, block, x, rate=0.5)

    _, y = jax.jit(lambda keys: jax.lax.scan(step, jnp.ones(()), keys))(jax.random.split(KEY, 50))
    jax.effects_barrier()
    kept = int(jnp.sum(y != 1))
    assert 10 < kept < 40
    assert len(calls) == kept


def products_outside_branches(jaxpr):
    """Number of matrix products that are computed whatever the branch."""
    count = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "cond":
            continue
        count += equation.primitive.name == "dot_general"
        for inner in jaxprs_in_params(equation.params):
            count += products_outside_branches(inner)
    return count


def test_neither_the_block_nor_its_backward_pass_is_computed():
    def loss(w, rate):
        return jnp.sum(dropout.stochastic_depth(KEY, lambda x: jnp.tanh(x @ w), X, rate=rate))

    gradient = jax.jit(jax.value_and_grad(loss))
    assert products_outside_branches(jax.make_jaxpr(gradient)(W, 0.3).jaxpr) == 0
    compiled = gradient.lower(W, 0.3).compile().as_text()
    assert compiled.count(" conditional(") == 2
    entry = compiled[compiled.index("\nENTRY") :]
    assert " dot(" not in entry
    always = jax.make_jaxpr(jax.value_and_grad(lambda w: loss(w, 0)))(W).jaxpr
    assert products_outside_branches(always) == 2


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_a_rate_of_zero_adds_without_a_decision(dtype):
    x = X.astype(dtype)

    def call(x, rate):
        return dropout.stochastic_depth(KEY, quarter, x, rate=rate)

    expected = np.asarray(x + quarter(x), np.float64)
    np.testing.assert_array_equal(np.asarray(call(x, 0.0), np.float64), expected)
    for key in jax.random.split(KEY, 5):
        y = jax.jit(lambda r, key=key: dropout.stochastic_depth(key, quarter, x, rate=r))(0.0)
        np.testing.assert_array_equal(np.asarray(y, np.float64), expected)
    assert "cond" not in str(jax.make_jaxpr(lambda x: call(x, 0))(x))
    assert "cond" in str(jax.make_jaxpr(call)(x, 0.0))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.slow
def test_low_precision_rounds_once(dtype):
    x = jax.random.normal(KEY, (1000,)).astype(dtype)
    keep, _ = keys_by_decision(0.1)
    y = dropout.stochastic_depth(keep, quarter, x, rate=0.1)
    wide = np.asarray(x, np.float32) + np.asarray(quarter(x), np.float32) / np.float32(0.9)
    np.testing.assert_array_equal(y, wide.astype(dtype))


def select(predicate, true_function, false_function, x):
    """A cond that computes both sides, as under vmap, without care for gradients."""
    return jnp.where(predicate, true_function(x), false_function(x))


@pytest.mark.parametrize("mapped", [False, True], ids=["single", "mapped"])
@pytest.mark.parametrize("cond", [jax.lax.cond, select])
def test_rate_one_returns_the_input_with_finite_gradients(cond, mapped):
    def add(rate, x, w):
        return dropout.stochastic_depth(KEY, lambda x: x @ w, x, rate=rate, cond=cond)

    def loss(rates, x, w):
        y = jax.vmap(add, (0, None, None))(rates, x, w) if mapped else add(rates[0], x, w)[None]
        return jnp.sum(y), y

    gradients, y = jax.grad(loss, (0, 1, 2), has_aux=True)(jnp.ones(1), X, W)
    np.testing.assert_array_equal(y, X[None])
    for gradient, expected in zip(gradients, (0, 1, 0), strict=True):
        np.testing.assert_array_equal(gradient, np.full(gradient.shape, expected))


def test_a_traced_nan_rate_gives_nan_and_others_are_clipped():
    call = jax.jit(lambda r: dropout.stochastic_depth(KEY, quarter, X, rate=r))
    assert jnp.isnan(call(jnp.nan)).all()
    np.testing.assert_array_equal(call(2.0), X)
    np.testing.assert_array_equal(call(-1.0), X + quarter(X))


@pytest.mark.slow
def test_the_gradient_reaches_parameters_the_block_closes_over():
    keep, skip = keys_by_decision(0.4)

    def loss(w, key):
        return jnp.sum(dropout.stochastic_depth(key, lambda x: x @ w, X, rate=0.4))

    expected = np.tile(np.asarray(X).sum(axis=0)[:, None], 4) / 0.6
    np.testing.assert_allclose(jax.grad(loss)(W, keep), expected, rtol=1e-5)
    np.testing.assert_array_equal(jax.grad(loss)(W, skip), 0)


def test_mapped_examples_decide_by_themselves():
    keys = jax.random.split(KEY, 200)
    y = jax.vmap(lambda key: dropout.stochastic_depth(key, jnp.ones_like, X, rate=0.5))(keys)
    kept = np.asarray(y[:, 0, 0] != X[0, 0])
    np.testing.assert_array_equal(y[~kept], np.broadcast_to(X, (sum(~kept), *X.shape)))
    np.testing.assert_allclose(y[kept], np.broadcast_to(X + 2, (sum(kept), *X.shape)), rtol=1e-6)
    assert 60 < sum(kept) < 140


@pytest.mark.slow
def test_a_lifted_cond_is_called_like_that_of_jax():
    layer = flax_nnx.Linear(4, 4, rngs=flax_nnx.Rngs(0))
    keep, _ = keys_by_decision(0.3)
    seen = []

    def cond(*arguments):
        seen.append(arguments)
        return flax_nnx.cond(*arguments)

    y = dropout.stochastic_depth(keep, layer, X, rate=0.3, cond=cond)
    np.testing.assert_allclose(y, X + layer(X) / 0.7, rtol=1e-6)
    ((predicate, added, skipped, operand),) = seen
    assert predicate
    assert operand is X
    np.testing.assert_allclose(added(X), y, rtol=1e-6)
    assert skipped(X) is X


@pytest.mark.parametrize(
    ("block", "kind", "message"),
    [
        (lambda x: x[:1], ValueError, r"`block` must return the shape .*\(3, 4\), got \(1, 4\)"),
        (lambda x: x.sum(), ValueError, r"`block` must return the shape .*got \(\)"),
        (lambda x: x.astype(jnp.bfloat16), TypeError, r"`block` .* float32, got bfloat16"),
        (lambda x: (x, x), TypeError, r"`block` must return an array, got tuple"),
        (lambda _: None, TypeError, r"`block` must return an array, got NoneType"),
    ],
)
@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_a_block_that_changes_the_array_raises(block, kind, message, rate):
    with pytest.raises(kind, match=message):
        dropout.stochastic_depth(KEY, block, X, rate=rate)
    with pytest.raises(kind, match=message):
        dropout.full_depth(block, X)


@pytest.mark.parametrize(
    ("wrong", "kind", "message"),
    [
        ({"rate": 1.5}, ValueError, r"`rate` must be a probability in \[0, 1\], got 1\.5"),
        ({"rate": jnp.ones(2)}, ValueError, r"`rate` must be a single number, got shape \(2,\)"),
        ({"bits": lambda *_: jnp.zeros(())}, TypeError, r"`bits` must return uint32 of shape \(\)"),
    ],
)
def test_wrong_arguments_raise(wrong, kind, message):
    with pytest.raises(kind, match=message):
        dropout.stochastic_depth(KEY, jnp.tanh, X, **{"rate": 0.5, **wrong})


def test_wrong_keys_raise():
    with pytest.raises(TypeError, match="`key` must be a PRNG key"):
        dropout.stochastic_depth(0, jnp.tanh, X, rate=0.0)  # pyright: ignore[reportArgumentType]
