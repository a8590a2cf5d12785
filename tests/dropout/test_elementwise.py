"""Techniques that treat every element by itself: rates, moments, shared axes and the edges."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec
from scipy import stats

from jaxreg import dropout
from tests.dropout import helpers
from tests.dropout.helpers import ALL, KEY, NONE, Member, compiled, every
from tests.helpers import FIVE_SIGMA, few

MEMBERS = {
    "dropout": Member(dropout.dropout, (256, 512)),
    "dropout-middle": Member(partial(dropout.dropout, broadcast_axes=1), (256, 3, 512), (1,)),
    "dropout-two": Member(partial(dropout.dropout, broadcast_axes=(0, -1)), (2, 2**17, 3), (0, 2)),
    "classical_dropout": Member(dropout.classical_dropout, (256, 512), (), lambda p: 1.0),
}
RANDOM = {
    "dropout": dropout.dropout,
    "classical_dropout": dropout.classical_dropout,
    "gaussian_dropout": dropout.gaussian_dropout,
}
every_function = pytest.mark.parametrize("function", RANDOM.values(), ids=RANDOM)
X = np.array([-3.0, 0.5, 4.0], np.float32)


@every(MEMBERS)
def test_the_rate_is_met_and_decisions_are_shared(member):
    helpers.assert_decisions(member)


@every(MEMBERS)
def test_the_mean_over_masks_is_the_input_by_the_factor(member):
    helpers.assert_mean(member)


@every(MEMBERS)
def test_the_ends_of_the_rate(member):
    helpers.assert_ends(member)


@few("row", [2, 0, 1, 3, 4, 5])
def test_kept_and_dropped_elements_are_those_of_torch(row):
    helpers.assert_torch_elements("dropout", row)


@few("dtype", ["bfloat16", "float16"])
@every_function
def test_low_precision_is_float32_rounded_once(function, dtype):
    helpers.assert_rounded_once(function, (256, 512), np.dtype(dtype))


@every_function
def test_the_backward_pass_holds_the_key_only(function):
    helpers.assert_residuals(function, (256, 512))


@every_function
def test_wrong_bits_keys_and_data_raise(function):
    helpers.assert_refusals(function, (256, 512))


@few("function", RANDOM.values(), ids=list(RANDOM))
def test_empty_arrays(function):
    helpers.assert_empty(function, (256, 512))


@pytest.mark.parametrize(
    ("axes", "rule"), [(2, "must lie in"), (-3, "must lie in"), ((0, -2), "each axis once")]
)
def test_wrong_broadcast_axes_raise(axes, rule):
    with pytest.raises(ValueError, match=rf"`broadcast_axes` .*{rule}"):
        dropout.dropout(KEY, np.ones((2, 3), np.float32), rate=0.5, broadcast_axes=axes)


def test_kept_elements_of_classical_dropout_stay_to_the_bit():
    tiny = 1e-40
    x = np.array([tiny, -tiny, -0.0, np.inf, -np.inf, 1 / 3], np.float32)
    kept = compiled(dropout.classical_dropout, KEY, x, rate=0.5, bits=NONE)
    lost = compiled(dropout.classical_dropout, KEY, x, rate=0.5, bits=ALL)
    helpers.assert_same_bits(kept, x)
    helpers.assert_same_bits(lost, np.zeros_like(x))


@jax.jit
def scaled(x, rate):
    """Both ways to give a rate are one, but the rate in a program is traced."""
    return dropout.classical_scale(x, rate=rate)


def test_the_classical_pair_agrees_in_expectation():
    """Training drops without a factor; evaluation scales by what training keeps on average."""
    np.testing.assert_array_equal(scaled(X, 0.25), 0.75 * X)
    np.testing.assert_array_equal(compiled(dropout.classical_scale, X, rate=0.25), 0.75 * X)
    keys = jax.random.split(KEY, 2**16)
    draw = jax.vmap(partial(dropout.classical_dropout, rate=0.25), (0, None))
    y = np.asarray(jax.jit(draw)(keys, X), np.float64)
    assert all(set(np.unique(y[:, i])) == {0, float(X[i])} for i in range(3))
    error = abs(X) * math.sqrt(0.25 * 0.75 / len(keys))
    np.testing.assert_array_less(abs(y.mean(axis=0) - 0.75 * X), 5 * error)


def test_classical_scale_at_the_ends():
    x = np.array([1.5, np.inf, np.nan], np.float32)
    for rate in (1.0, 3.0):
        np.testing.assert_array_equal(scaled(x, rate), 0)
    for rate in (0.0, -1.0):
        np.testing.assert_array_equal(scaled(x, rate), x)
    assert np.isnan(scaled(x, np.nan)).all()
    for rate, expected in ((0, x), (1.0, 0 * X)):
        y = compiled(dropout.classical_scale, x, rate=rate)
        np.testing.assert_array_equal(y, expected)


def test_classical_scale_rounds_once():
    x = helpers.normal(999, jnp.bfloat16)
    once = (x.astype(np.float64) * 0.9).astype(np.float32).astype(x.dtype)
    helpers.assert_same_bits(compiled(dropout.classical_scale, x, rate=0.1), once)


def test_classical_scale_refuses_other_rates():
    with pytest.raises(ValueError, match=r"`rate` must be a probability in \[0, 1\], got 1\.5"):
        dropout.classical_scale(X, rate=1.5)
    with pytest.raises(TypeError, match=r"`x` must have a floating-point dtype, got int32"):
        dropout.classical_scale(np.ones(3, np.int32), rate=0.5)


def test_the_factor_of_gaussian_dropout_is_normal():
    size = 2**19
    traces = []

    @jax.jit
    def factors(x, rate):
        traces.append(1)
        function = partial(dropout.gaussian_dropout, KEY, x)
        return [function(rate=r) / 2 for r in (rate, 0.3)], function(rate=0.5, bits=jax.random.bits)

    x = np.full(size, 2, np.float32)
    for rate in (0.02, 0.9):
        (traced, static), other = factors(x, rate)
        for y, p in ((traced, rate), (static, 0.3), (other / 2, 0.5)):
            noise = (np.asarray(y, np.float64) - 1) / math.sqrt(p / (1 - p))
            assert abs(noise.mean()) <= 5 / math.sqrt(size)
            assert abs(noise.var() - 1) <= 5 * math.sqrt(2 / size)
            assert stats.kstest(noise, "norm").pvalue > FIVE_SIGMA
        assert np.mean(static == other / 2) < 1e-3
    assert len(traces) == 1


def test_gaussian_dropout_and_its_derivatives_are_the_equation():
    """For the noise drawn, which a rate of one half shows."""
    x = helpers.normal(500)

    @jax.jit
    def call(x, rate):
        def total(x, rate):
            y = dropout.gaussian_dropout(KEY, x, rate=rate)
            return jnp.sum(y * x), y

        noise = dropout.gaussian_dropout(KEY, jnp.ones(500), rate=0.5) - 1
        return jax.grad(total, (0, 1), has_aux=True)(x, rate), noise

    for rate in (0.1, 0.8):
        ((_, of_rate), y), noise = call(x, np.float32(rate))
        noise = np.asarray(noise, np.float64)
        odds = rate / (1 - rate)
        np.testing.assert_allclose(y, x * (1 + math.sqrt(odds) * noise), rtol=1e-4, atol=1e-5)
        slope = np.sum(x.astype(np.float64) ** 2 * noise) / (2 * math.sqrt(odds) * (1 - rate) ** 2)
        np.testing.assert_allclose(of_rate, slope, rtol=1e-3)


def test_gaussian_dropout_at_the_ends_of_the_rate():
    """The largest rate is the largest float32 below 1, so that the variance is 2**24 - 1."""
    x = helpers.normal(64, seed=1)

    @jax.jit
    def ends(x, rate):
        def total(x, rate, bits):
            y = dropout.gaussian_dropout(KEY, x, rate=rate, bits=bits)
            return jnp.sum(y), y

        slope = jax.grad(total, (0, 1), has_aux=True)
        return [slope(x, rate, bits) for bits in (None, ALL, NONE)]

    half = np.asarray(compiled(dropout.gaussian_dropout, KEY, x, rate=0.5), np.float64) - x
    for rate in (1e-7, 1 - 2.0**-24, 1.0, 1.5):
        found = ends(x, np.float32(rate))
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
        if rate >= 1:
            np.testing.assert_allclose(found[0][1], x + math.sqrt(2**24 - 1) * half, rtol=1e-3)
    for rate in (0.0, -0.5):
        for (of_x, of_rate), y in ends(x, np.float32(rate)):
            np.testing.assert_array_equal(y, x)
            np.testing.assert_array_equal(of_x, 1)
            assert np.isfinite(of_rate)
    assert np.isnan(ends(x, np.float32(np.nan))[0][1]).all()


@few("dtype", [jnp.bfloat16, jnp.float16])
def test_narrow_noise_is_as_fine_as_its_dtype(dtype):
    """``jax.random.normal`` in bfloat16 has 128 values, none above 2.5, and a mean of -0.012."""
    size = 2**20
    y = compiled(dropout.gaussian_dropout, KEY, np.ones(size, dtype), rate=0.1)
    deviations = (np.asarray(y, np.float64) - 1) * 3
    assert abs(deviations.mean()) <= 5 / math.sqrt(size)
    assert deviations.max() > 4 < -deviations.min()
    if dtype == jnp.bfloat16:
        of_jax = np.asarray(jax.random.normal(KEY, (size,), dtype), np.float64)
        assert abs(of_jax.mean()) > 5 / math.sqrt(size)
        assert of_jax.max() < 3


@pytest.mark.parametrize("axis_name", ["data", ("data", "model")])
def test_fold_in_axis_gives_every_device_its_own_mask(axis_name):
    """With a key that all devices share, every shard gets the same mask, silently."""
    axis_types = (jax.sharding.AxisType.Auto,) * 2
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=axis_types)
    spec = PartitionSpec(("data", "model"))

    def masks(draw):
        mapped = jax.shard_map(draw, mesh=mesh, in_specs=(PartitionSpec(), spec), out_specs=spec)
        y = jax.jit(mapped)(KEY, np.ones((8, 64), np.float32))
        return {row.tobytes() for row in np.asarray(y)}

    def same(key, x):
        return dropout.dropout(key, x, rate=0.5)

    def different(key, x):
        return dropout.dropout(dropout.fold_in_axis(key, axis_name), x, rate=0.5)

    assert len(masks(same)) == 1
    assert len(masks(different)) == (4 if axis_name == "data" else 8)


def test_fold_in_axis_refuses_what_is_no_key():
    with pytest.raises(TypeError, match="`key` must be a PRNG key, got int 3"):
        dropout.fold_in_axis(3, "device")
