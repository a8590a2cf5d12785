"""Stochastic depth: the ramp of rates, and a block that is skipped with its work."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx as flax_nnx
from jax.extend.core import jaxprs_in_params

from jaxreg import dropout
from tests.dropout.helpers import ALL, NONE, assert_same_bits, compiled, normal
from tests.helpers import few

KEY = jax.random.key(40)
X = np.sin(np.arange(1, 13, dtype=np.float32)).reshape(3, 4)
W = np.cos(np.arange(16, dtype=np.float32)).reshape(4, 4)


def quarter(x):
    """A block that is exact in every dtype, however the compiler orders or fuses it."""
    return x / 4


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


@few("dtype", [jnp.bfloat16, jnp.float32])
def test_a_traced_final_rate_gives_arrays(dtype):
    ramp = jax.jit(dropout.drop_path_rates, static_argnums=1)
    with jax.numpy_dtype_promotion("strict"):
        rates = ramp(np.asarray(1, dtype), 5)
    assert all(rate.dtype == jnp.float32 for rate in rates)
    np.testing.assert_array_equal(rates, [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_array_equal(ramp(1.5, 3), [0, 0.5, 1])
    np.testing.assert_array_equal(ramp(-0.5, 3), [0, 0, 0])
    np.testing.assert_array_equal(ramp(1.5, 1), [1])


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
def test_adds_or_skips_for_the_whole_batch(rate):
    """With the gradient of the parameters that the block closes over, for both ways of a rate."""

    def pulled(x, w, rate, bits):
        def total(w):
            add = partial(dropout.stochastic_depth, KEY, lambda x: jnp.tanh(x @ w), x)
            y = add(rate=rate, bits=bits)
            return jnp.sum(y), y

        gradient, y = jax.grad(total, has_aux=True)(w)
        return y, gradient

    @jax.jit
    def call(x, w, traced):
        return [(pulled(x, w, r, NONE), pulled(x, w, r, ALL)) for r in (rate, traced)]

    x = X.astype(np.float64)
    branch = np.tanh(x @ W)
    slope = x.T @ (1 - branch**2) / (1 - rate)
    for kept, skipped in call(X, W, rate):
        np.testing.assert_allclose(kept[0], x + branch / (1 - rate), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(kept[1], slope, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(skipped[0], X)
        np.testing.assert_array_equal(skipped[1], 0)


@pytest.mark.parametrize("rate", [0.1, 0.7])
def test_skips_at_the_rate_and_the_mean_is_that_of_no_dropout(rate):
    number = 4096

    def step(x, key):
        return x, dropout.stochastic_depth(key, lambda x: 2 * x, x, rate=rate)

    scan = jax.jit(lambda keys: jax.lax.scan(step, jnp.ones(()), keys)[1])
    y = np.asarray(scan(jax.random.split(KEY, number)), np.float64)
    bound = 5 * math.sqrt(rate * (1 - rate) / number)
    assert abs(np.mean(y == 1) - rate) <= bound
    assert abs(np.mean(y) - 3) <= bound * 2 / (1 - rate)


def test_a_skipped_block_is_not_computed():
    """A block that reports to the host is called for the kept steps alone, in a compiled scan."""
    calls = []

    def block(x):
        jax.debug.callback(lambda: calls.append(1))
        return x

    def step(x, key):
        return x, dropout.stochastic_depth(key, block, x, rate=0.5)

    scan = jax.jit(lambda keys: jax.lax.scan(step, jnp.ones(()), keys)[1])
    y = np.asarray(scan(jax.random.split(KEY, 50)))
    jax.effects_barrier()
    kept = np.sum(y != 1)
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
    text = gradient.lower(W, 0.3).compile().as_text()
    assert text.count(" conditional(") == 2
    entry = text[text.index("\nENTRY") :]
    assert " dot(" not in entry
    always = jax.make_jaxpr(jax.value_and_grad(lambda w: loss(w, 0)))(W).jaxpr
    assert products_outside_branches(always) == 2


@few("dtype", [jnp.bfloat16, jnp.float32, jnp.float16])
def test_a_rate_of_zero_adds_without_a_decision(dtype):
    x = X.astype(dtype)

    def call(x, rate):
        return dropout.stochastic_depth(KEY, quarter, x, rate=rate)

    expected = x + quarter(x)
    assert_same_bits(compiled(call, x, rate=0.0), expected)
    assert_same_bits(compiled(partial(dropout.full_depth, quarter), x), expected)
    every_key = jax.vmap(lambda k, r: dropout.stochastic_depth(k, quarter, x, rate=r), (0, None))
    for rate in (0.0, -1.0):
        for y in np.asarray(jax.jit(every_key)(jax.random.split(KEY, 5), rate)):
            assert_same_bits(y, expected)
    assert "cond" not in str(jax.make_jaxpr(lambda x: call(x, 0))(x))
    assert "cond" in str(jax.make_jaxpr(call)(x, 0.0))


@few("dtype", [jnp.bfloat16, jnp.float16])
def test_low_precision_rounds_once(dtype):
    x = normal(1000, dtype)
    add = partial(dropout.stochastic_depth, KEY, quarter, bits=NONE)
    wide = x.astype(np.float32) + quarter(x).astype(np.float32) / np.float32(0.9)
    assert_same_bits(compiled(add, x, rate=0.1), wide.astype(dtype))


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

    slope = jax.jit(jax.grad(loss, (0, 1, 2), has_aux=True))
    for rate in (1, 2):
        gradients, y = slope(np.full(1, rate, np.float32), X, W)
        np.testing.assert_array_equal(y, X[None])
        for gradient, expected in zip(gradients, (0, 1, 0), strict=True):
            np.testing.assert_array_equal(gradient, np.full(gradient.shape, expected))


def test_a_static_rate_of_one_returns_the_input():
    y = compiled(partial(dropout.stochastic_depth, KEY, quarter), X, rate=1.0, bits=NONE)
    np.testing.assert_array_equal(y, X)


def test_a_traced_nan_rate_gives_nan():
    """Whatever is drawn."""

    @jax.jit
    def call(rate):
        add = partial(dropout.stochastic_depth, KEY, quarter, X, rate=rate)
        return jnp.stack([add(), add(bits=NONE), add(bits=ALL)])

    assert np.isnan(call(np.nan)).all()


def test_mapped_examples_decide_by_themselves():
    add = partial(dropout.stochastic_depth, block=jnp.ones_like, x=X, rate=0.5)
    y = np.asarray(jax.jit(jax.vmap(add))(jax.random.split(KEY, 200)))
    kept = y[:, 0, 0] != X[0, 0]
    np.testing.assert_array_equal(y[~kept], np.broadcast_to(X, (sum(~kept), *X.shape)))
    np.testing.assert_allclose(y[kept], np.broadcast_to(X + 2, (sum(kept), *X.shape)), rtol=1e-6)
    assert 60 < sum(kept) < 140


def test_a_lifted_cond_is_called_like_that_of_jax():
    seen = []

    def cond(*arguments):
        seen.append(arguments)
        return flax_nnx.cond(*arguments)

    @jax.jit
    def call(x):
        layer = flax_nnx.Linear(4, 4, rngs=flax_nnx.Rngs(0))
        y = dropout.stochastic_depth(KEY, layer, x, rate=0.3, cond=cond, bits=NONE)
        ((_, added, skipped, operand),) = seen
        assert operand is x
        assert skipped(x) is x
        return y, added(x), layer(x)

    y, again, branch = call(X)
    np.testing.assert_allclose(y, X + np.asarray(branch) / np.float32(0.7), rtol=1e-6)
    np.testing.assert_allclose(again, y, rtol=1e-6)


@pytest.mark.parametrize(
    ("block", "kind", "message"),
    [
        (lambda x: x[:1], ValueError, r"`block` must keep the shape .*\(3, 4\), got \(1, 4\)"),
        (lambda x: x.sum(), ValueError, r"`block` must keep the shape .*got \(\)"),
        (lambda x: x.astype(jnp.bfloat16), TypeError, r"`block` .* float32, got bfloat16"),
        (lambda x: (x, x), TypeError, r"`block` must return an array, got tuple"),
        (lambda _: None, TypeError, r"`block` must return an array, got NoneType"),
    ],
)
@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_a_block_that_changes_the_array_raises(block, kind, message, rate):
    for call in (
        lambda x: dropout.stochastic_depth(KEY, block, x, rate=rate),
        lambda x: dropout.full_depth(block, x),
    ):
        with pytest.raises(kind, match=message):
            jax.eval_shape(call, X)


@pytest.mark.parametrize(
    ("wrong", "kind", "message"),
    [
        ({"rate": 1.5}, ValueError, r"`rate` must be a probability in \[0, 1\], got 1\.5"),
        ({"rate": jnp.ones(2)}, ValueError, r"`rate` must be a single number, got shape \(2,\)"),
        ({"bits": lambda *_: jnp.zeros(())}, TypeError, r"`bits` must return uint32 of shape \(\)"),
        ({"key": 0, "rate": 0.0}, TypeError, "`key` must be a PRNG key"),
        ({"x": [1.0]}, TypeError, "`x` must be an array, got list"),
        ({"x": np.ones(3, np.int32)}, TypeError, "`x` must have a floating-point dtype"),
    ],
)
def test_wrong_arguments_raise(wrong, kind, message):
    right = {"key": KEY, "block": jnp.tanh, "x": X, "rate": 0.5}
    with pytest.raises(kind, match=message):
        dropout.stochastic_depth(**(right | wrong))


def test_full_depth_refuses_integers():
    with pytest.raises(TypeError, match="`x` must have a floating-point dtype, got int32"):
        dropout.full_depth(jnp.tanh, np.ones(3, np.int32))
