"""Noise: its distributions against SciPy, low precision, trees of weights, and the edges."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as flax_linen
from flax import nnx as flax_nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from scipy import stats

from jaxreg import noise
from tests.helpers import FIVE_SIGMA, always, assert_rate, residual_bytes

KEY = jax.random.key(22)
ADDED = {
    "gaussian_noise": lambda key, x, size, **options: noise.gaussian_noise(
        key, x, stddev=size, **options
    ),
    "uniform_noise": lambda key, x, size, **options: noise.uniform_noise(
        key, x, limit=size, **options
    ),
    "perturb": lambda key, x, size, **options: noise.perturb(key, x, stddev=size, **options),
}
# Standard deviation and kurtosis of noise of size one.
SHAPES = {"gaussian_noise": (1.0, 3.0), "uniform_noise": (3**-0.5, 1.8), "perturb": (1.0, 3.0)}
every_sum = pytest.mark.parametrize("name", ADDED)


def assert_moments(values, name, size):
    """Mean, variance and the whole distribution are those of the noise."""
    values = np.ravel(values).astype(np.float64)
    deviation, kurtosis = SHAPES[name]
    deviation *= size
    assert abs(values.mean()) <= 5 * deviation / math.sqrt(values.size)
    error = math.sqrt((kurtosis - 1) / values.size)
    assert abs(values.var() / deviation**2 - 1) <= 5 * error
    distribution = stats.uniform(-size, 2 * size) if "uniform" in name else stats.norm(0, size)
    assert stats.kstest(values, distribution.cdf).pvalue > FIVE_SIGMA


@every_sum
def test_the_distribution_and_a_new_size_compiles_nothing(name):
    x, traces = jnp.zeros(2**18), []

    @jax.jit
    def draw(size):
        traces.append(1)
        return ADDED[name](KEY, x, size)

    for size in (1e-3, 1.0, 50.0):
        assert_moments(draw(size), name, size)
    assert len(traces) == 1
    assert_moments(ADDED[name](KEY, x, 0.5), name, 0.5)
    other = ADDED[name](KEY, x, 0.5, bits=jax.random.bits)
    assert_moments(other, name, 0.5)
    assert np.mean(np.asarray(other == ADDED[name](KEY, x, 0.5))) < 1e-3


def test_uniform_noise_stays_within_its_limit():
    for word in (0, 1, 2**31 - 1, 2**31, 2**32 - 1):
        y = noise.uniform_noise(KEY, jnp.zeros(3), limit=0.1, bits=always(word))
        np.testing.assert_allclose(y, 0.1 * (2 * word / 2**32 - 1), atol=0.1 * 2**-22)
        assert (abs(y) <= np.float32(0.1)).all()


@every_sum
def test_the_mean_over_keys_is_the_input(name):
    x = jnp.linspace(-3, 3, 64)
    y = jax.vmap(lambda key: ADDED[name](key, x, 0.7))(jax.random.split(KEY, 4096))
    error = 0.7 * SHAPES[name][0] / math.sqrt(len(y))
    bound = 5 * error + 1e-6
    np.testing.assert_array_less(abs(np.asarray(y, np.float64).mean(axis=0) - x), bound)


@pytest.mark.parametrize("name", ["gaussian_noise", "uniform_noise"])
def test_a_size_for_each_channel(name):
    sizes = np.array([0.0, 0.1, 2.0], np.float32)
    x = jax.random.normal(jax.random.key(1), (2**8, 2**8, 3))
    for draw in (partial(ADDED[name], KEY), jax.jit(partial(ADDED[name], KEY))):
        y = draw(x, sizes)
        np.testing.assert_array_equal(y[..., 0], x[..., 0])
        for channel in (1, 2):
            difference = np.asarray(y, np.float64)[..., channel] - np.asarray(x)[..., channel]
            assert_moments(difference, name, float(sizes[channel]))


@pytest.mark.parametrize("name", ["gaussian_noise", "uniform_noise"])
@pytest.mark.parametrize("spec", [("row", None), (None, "row"), ("row", "column")])
def test_sizes_meet_data_that_is_sharded_any_way(name, spec):
    mesh = jax.make_mesh((4, 2), ("row", "column"), axis_types=(AxisType.Explicit,) * 2)
    x = jnp.linspace(-1, 1, 8 * 8).reshape(8, 8)
    for sizes in (jnp.linspace(0, 1, 8), jnp.linspace(0, 1, 8)[:, None]):
        expected = ADDED[name](KEY, x, sizes)
        with jax.set_mesh(mesh):
            sharded = jax.device_put(x, NamedSharding(mesh, PartitionSpec(*spec)))
            y = jax.jit(partial(ADDED[name], KEY))(sharded, sizes)
        assert y.sharding.spec == PartitionSpec(*spec)
        np.testing.assert_allclose(y, expected, atol=1e-6)


@every_sum
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_low_precision_noise_is_fine_and_unbiased(name, dtype):
    """``jax.random.normal`` in bfloat16 has 128 values up to 2.5 and a mean of -0.012 (12 errors).

    Its ``uniform`` is zero with probability 0.0077.
    """
    size = 2**20
    y = ADDED[name](KEY, jnp.zeros(size, dtype), 1.0)
    assert y.dtype == dtype
    values = np.asarray(y, np.float64)
    assert np.unique(values).size > 1000
    assert abs(values.mean()) <= 5 * SHAPES[name][0] / math.sqrt(size)
    assert (values == 0).mean() < 1e-5
    if name != "uniform_noise":
        assert abs(values).max() > 4


@every_sum
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("size", [0.3, 3e-3])
def test_low_precision_is_rounded_once(name, dtype, size):
    """Noise that was rounded before it is added would be off in the last bit of every tenth sum."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=4096), dtype)
    sampled = np.asarray(ADDED[name](KEY, jnp.zeros(4096), 1.0), np.float64)
    exact = np.asarray(x, np.float64) + np.float64(np.float32(size)) * sampled
    once = np.asarray(exact.astype(np.float32).astype(dtype), np.float64)
    y = np.asarray(ADDED[name](KEY, x, size), np.float64)
    assert np.mean(y != once) < 1e-3


@every_sum
def test_derivatives(name):
    """That by x is one, that by the size is the sampled noise."""
    x = jnp.linspace(-1, 1, 500)
    sampled = np.asarray(ADDED[name](KEY, jnp.zeros(500), 1.0))
    of_x, of_size = jax.jacfwd(ADDED[name], (1, 2))(KEY, x, 0.5)
    np.testing.assert_array_equal(of_x, np.eye(500))
    np.testing.assert_allclose(of_size, sampled, rtol=1e-5)
    total = lambda size: jnp.sum(ADDED[name](KEY, x, size) * x)  # noqa: E731
    np.testing.assert_allclose(jax.grad(total)(0.5), np.sum(sampled * x), rtol=1e-4)


@pytest.mark.parametrize("name", [*ADDED, "salt_and_pepper"])
@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_the_backward_pass_holds_no_noise(name, transform):
    call = {**ADDED, "salt_and_pepper": lambda key, x, p: noise.salt_and_pepper(key, x, rate=p)}

    def pullback(key, x, size):
        return jax.vjp(lambda x, size: call[name](key, x, size), x, size)[1]

    assert residual_bytes(transform(pullback)(KEY, jnp.ones(4096), 0.5)) <= 8 + 3 * 4


@every_sum
def test_sizes_at_the_edges(name):
    x = jnp.array([1.5, -0.0, jnp.inf, -jnp.inf, 1e-40])
    draw = jax.jit(partial(ADDED[name], KEY))
    for size in (0.0, -0.0, -1.0):
        np.testing.assert_array_equal(draw(x, size), x)
    assert jnp.isnan(draw(x, jnp.nan)).all()
    y = draw(x, 1.0)
    np.testing.assert_array_equal(y[2:4], x[2:4])
    of_x = jax.grad(lambda x: jnp.sum(ADDED[name](KEY, x, jnp.float32(0))))(x)
    np.testing.assert_array_equal(of_x, 1)


@pytest.mark.parametrize("shape", [(0,), (0, 3), ()])
@every_sum
def test_empty_and_scalar_arrays(name, shape):
    y, pull = jax.vjp(lambda x: ADDED[name](KEY, x, 0.5), jnp.ones(shape))
    assert y.shape == pull(y)[0].shape == shape
    assert noise.salt_and_pepper(KEY, jnp.ones(shape), rate=0.5).shape == shape


@pytest.mark.parametrize("rate", [1e-3, 0.2, 1.0])
@pytest.mark.parametrize("wrap", [float, jnp.float32])
@pytest.mark.parametrize("bits", [None, jax.random.bits])
def test_salt_and_pepper_share_the_rate(rate, wrap, bits):
    x = jnp.full(2**20, 0.5)
    y = np.asarray(noise.salt_and_pepper(KEY, x, rate=wrap(rate), low=-1.0, high=3, bits=bits))
    assert set(np.unique(y)) <= {-1.0, 0.5, 3.0}
    assert_rate(np.mean(y == -1), rate / 2, y.size)
    assert_rate(np.mean(y == 3), rate / 2, y.size)
    assert_rate(np.mean(y == 0.5), 1 - rate, y.size)


@pytest.mark.parametrize("rate", [2.0**-31, 0.25, 1.0])
def test_one_word_decides_what_becomes_of_an_element(rate):
    words = int(rate * 2**32)
    requests = []

    def value(word):
        def bits(key, shape, dtype):
            requests.append(shape)
            return jnp.full(shape, word, dtype)

        return float(noise.salt_and_pepper(KEY, jnp.full(3, 0.5), rate=rate, bits=bits)[0])

    assert [value(0), value(words // 2 - 1), value(words // 2), value(words - 1)] == [0, 0, 1, 1]
    assert value(min(words, 2**32 - 1)) == (1 if rate == 1 else 0.5)
    assert requests == [(3,)] * 5


def test_salt_and_pepper_of_each_channel_in_low_precision():
    low, high = jnp.array([0.1, -1.0]), jnp.array([[7.0, 1 / 3]])
    x = jnp.full((4096, 2), 0.5, jnp.bfloat16)
    y = jax.jit(partial(noise.salt_and_pepper, rate=0.5, low=low, high=high))(KEY, x)
    assert y.dtype == x.dtype
    for channel in range(2):
        values = (low[channel], 0.5, high[0, channel])
        expected = {float(jnp.bfloat16(v)) for v in values}
        assert set(np.unique(np.asarray(y, np.float32)[:, channel])) == expected


def test_derivatives_of_salt_and_pepper():
    """What is kept follows x, pepper follows low and salt follows high."""
    x = jnp.linspace(0.2, 0.8, 1000)

    def total(x, rate, low, high):
        y = noise.salt_and_pepper(KEY, x, rate=rate, low=low, high=high)
        return jnp.sum(y), y

    for rate in (0.3, 1.0):
        derivatives, y = jax.grad(total, (0, 1, 2, 3), has_aux=True)(x, rate, 0.0, 1.0)
        of_x, of_rate, of_low, of_high = derivatives
        np.testing.assert_array_equal(of_x, y == x)
        counts = (0, np.sum(np.asarray(y) == 0), np.sum(np.asarray(y) == 1))
        assert (of_rate, of_low, of_high) == counts
        assert min(counts[1:]) > 0


def test_salt_and_pepper_at_the_edges():
    x = jnp.array([jnp.nan, jnp.inf, -0.0, 1e-40])
    draw = jax.jit(lambda rate: noise.salt_and_pepper(KEY, x, rate=rate))
    assert np.asarray(draw(-1.0)).tobytes() == np.asarray(x).tobytes()
    for rate in (1.0, 2.0):
        assert set(np.asarray(draw(rate)).tolist()) <= {0.0, 1.0}
    assert jnp.isnan(draw(jnp.nan)).all()


def test_leaves_get_noise_of_their_own():
    size = 2**18
    params = {"a": jnp.zeros(size), "b": {"c": jnp.zeros(size)}, "d": [jnp.zeros(size)]}
    noisy = jax.tree.leaves(noise.perturb(KEY, params, stddev=0.5))
    for leaf in noisy:
        assert_moments(leaf, "perturb", 0.5)
    samples = np.asarray(noisy, np.float64) / 0.5
    correlations = samples @ samples.T / size
    assert np.abs(correlations[np.triu_indices(3, 1)]).max() <= 5 / math.sqrt(size)
    assert all(np.mean(noisy[i] == noisy[j]) < 1e-3 for i, j in ((0, 1), (0, 2), (1, 2)))


@pytest.mark.slow
def test_the_noise_of_a_leaf_depends_on_its_position_alone():
    first = noise.perturb(KEY, [jnp.zeros(3), jnp.zeros(4), jnp.zeros(5)], stddev=1.0)
    second = noise.perturb(KEY, {"x": jnp.ones(9), "y": jnp.zeros(4)}, stddev=1.0)
    np.testing.assert_array_equal(first[1], second["y"])


def test_perturb_passes_by_what_is_not_floating_point():
    params = {
        "count": jnp.arange(3),
        "half": jnp.ones(1000, jnp.bfloat16),
        "key": jax.random.key(3),
        "mask": np.array([True]),
        "none": None,
        "number": 1.0,
        "step": 7,
        "weights": np.ones((2, 3), np.float32),
    }
    noisy = noise.perturb(KEY, params, stddev=0.1)
    for name in ("count", "key", "mask", "none", "step"):
        assert noisy[name] is params[name]
    for name in ("half", "number", "weights"):
        assert (noisy[name] != params[name]).any()
        assert noisy[name].dtype == jnp.asarray(params[name]).dtype
    assert noise.perturb(KEY, {}, stddev=0.1) == {}


def test_perturb_takes_the_trees_of_flax():
    variables = flax_linen.Dense(4).init(KEY, jnp.ones((1, 3)))
    state = flax_nnx.state(flax_nnx.Dropout(0.5, rngs=flax_nnx.Rngs(0)))
    layer = flax_nnx.state(flax_nnx.Linear(3, 4, rngs=flax_nnx.Rngs(0)))
    for tree, changed in ((variables, 2), (state, 0), (layer, 2)):
        noisy = noise.perturb(KEY, tree, stddev=0.1)
        assert jax.tree.structure(noisy) == jax.tree.structure(tree)
        pairs = zip(jax.tree.leaves(noisy), jax.tree.leaves(tree), strict=True)
        assert sum(bool((a != b).all()) for a, b in pairs) == changed


@every_sum
def test_wrong_arguments_raise(name):
    x = jnp.ones((2, 3))
    with pytest.raises(TypeError, match=r"`key` must be a PRNG key, got int 3"):
        ADDED[name](3, x, 0.5)
    with pytest.raises(TypeError, match=r"must have a real dtype, got complex64; pass its real"):
        ADDED[name](KEY, x + 1j, 0.5)
    with pytest.raises(TypeError, match=r"`bits` must return uint32 of shape \(2, 3\), got"):
        ADDED[name](KEY, x, 0.5, bits=lambda key, shape, dtype: jnp.zeros(shape[:1], dtype))
    if name != "perturb":
        with pytest.raises(TypeError, match=r"`x` must be an array, got list"):
            ADDED[name](KEY, [1.0], 0.5)


def test_wrong_arguments_of_salt_and_pepper_raise():
    with pytest.raises(TypeError, match=r"`key` must be a PRNG key, got float"):
        noise.salt_and_pepper(0.5, jnp.ones(3), rate=0.5)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match=r"`x` must have a floating-point dtype, got uint8"):
        noise.salt_and_pepper(KEY, jnp.ones(3, jnp.uint8), rate=0.5)
