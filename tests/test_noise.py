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
from tests.helpers import FIVE_SIGMA, always, assert_rate, few, residual_bytes

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
# The same with a size that is traced.
DRAWN = {name: jax.jit(partial(function, KEY)) for name, function in ADDED.items()}
# Standard deviation and kurtosis of noise of size one.
SHAPES = {"gaussian_noise": (1.0, 3.0), "uniform_noise": (3**-0.5, 1.8), "perturb": (1.0, 3.0)}
every_sum = pytest.mark.parametrize("name", ADDED)


@partial(jax.jit, static_argnames="bits")
def replaced(x, rate, low=0.0, high=1.0, bits=None):
    """Salt and pepper at a traced rate."""
    return noise.salt_and_pepper(KEY, x, rate=rate, low=low, high=high, bits=bits)


def normal(shape, dtype=np.float32):
    return np.random.default_rng(0).normal(size=shape).astype(dtype)


def assert_moments(values, name, size):
    """Mean, variance and the whole distribution equal the noise's."""
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
    """With a static size and with the bits of JAX too."""
    traces = []

    @jax.jit
    def draw(x, size):
        traces.append(1)
        function = partial(ADDED[name], KEY, x)
        return function(size), function(0.5), function(0.5, bits=jax.random.bits)

    x = np.zeros(2**18, np.float32)
    for size in (1e-3, 1.0, 50.0):
        traced, static, other = draw(x, size)
        assert_moments(traced, name, size)
    assert len(traces) == 1
    assert_moments(static, name, 0.5)
    assert_moments(other, name, 0.5)
    assert np.mean(np.asarray(other) == np.asarray(static)) < 1e-3


def test_uniform_noise_stays_within_its_limit():
    x = np.zeros(5, np.float32)
    words = np.array([0, 1, 2**31 - 1, 2**31, 2**32 - 1], np.uint32)
    y = ADDED["uniform_noise"](KEY, x, 0.1, bits=lambda *_: jnp.asarray(words))
    np.testing.assert_allclose(y, 0.1 * (2 * (words / 2**32) - 1), atol=0.1 * 2**-22)
    assert (abs(y) <= np.float32(0.1)).all()


@every_sum
def test_the_mean_over_keys_is_the_input(name):
    x = np.linspace(-3, 3, 64, dtype=np.float32)
    draw = jax.jit(jax.vmap(ADDED[name], (0, None, None)))
    y = np.asarray(draw(jax.random.split(KEY, 4096), x, 0.7), np.float64)
    bound = 5 * 0.7 * SHAPES[name][0] / math.sqrt(len(y)) + 1e-6
    np.testing.assert_array_less(abs(y.mean(axis=0) - x), bound)


@pytest.mark.parametrize("name", ["gaussian_noise", "uniform_noise"])
def test_a_size_for_each_channel(name):
    sizes = np.array([0.0, 0.1, 2.0], np.float32)
    x = normal((2**8, 2**8, 3))
    y = np.asarray(DRAWN[name](x, sizes), np.float64)
    np.testing.assert_array_equal(y[..., 0], x[..., 0])
    for channel in (1, 2):
        assert_moments(y[..., channel] - x[..., channel], name, float(sizes[channel]))


@pytest.mark.exhaustive
@few("spec", [("row", "column"), ("row", None), (None, "row")])
@pytest.mark.parametrize("name", ["gaussian_noise", "uniform_noise"])
def test_sizes_meet_data_that_is_sharded_any_way(name, spec):
    mesh = jax.make_mesh((4, 2), ("row", "column"), axis_types=(AxisType.Explicit,) * 2)
    x = np.linspace(-1, 1, 8 * 8, dtype=np.float32).reshape(8, 8)
    sizes = np.linspace(0, 1, 8, dtype=np.float32)
    for each in (sizes, sizes[:, None]):
        expected = DRAWN[name](x, each)
        with jax.set_mesh(mesh):
            sharded = jax.device_put(x, NamedSharding(mesh, PartitionSpec(*spec)))
            y = DRAWN[name](sharded, each)
        assert y.sharding.spec == PartitionSpec(*spec)
        np.testing.assert_allclose(y, expected, atol=1e-6)


@few("dtype", [jnp.bfloat16, jnp.float16])
@every_sum
def test_low_precision_noise_is_fine_and_unbiased(name, dtype):
    """``jax.random.normal`` in bfloat16 has 128 values up to 2.5 and a mean of -0.012 (12 errors).

    Its ``uniform`` is zero with probability 0.0077.
    """
    size = 2**20
    y = DRAWN[name](np.zeros(size, dtype), 1.0)
    assert y.dtype == dtype
    values = np.asarray(y, np.float64)
    assert np.unique(values).size > 1000
    assert abs(values.mean()) <= 5 * SHAPES[name][0] / math.sqrt(size)
    assert (values == 0).mean() < 1e-5
    if name != "uniform_noise":
        assert abs(values).max() > 4


@few("dtype", [jnp.bfloat16, jnp.float16])
@every_sum
def test_low_precision_is_rounded_once(name, dtype):
    """Noise that was rounded before it is added would be off in the last bit of every tenth sum."""
    x = normal(4096, dtype)
    sampled = np.asarray(DRAWN[name](np.zeros(4096, np.float32), 1.0), np.float64)
    for size in (0.3, 3e-3):
        exact = x.astype(np.float64) + np.float64(np.float32(size)) * sampled
        once = exact.astype(np.float32).astype(dtype)
        assert np.mean(np.asarray(DRAWN[name](x, size)) != once) < 1e-3


@every_sum
def test_derivatives(name):
    """One by the input, the sampled noise by the size; forward and backward."""
    x = np.linspace(-1, 1, 500, dtype=np.float32)

    @jax.jit
    def derivatives(x, size):
        def total(size):
            return jnp.sum(ADDED[name](KEY, x, size) * x)

        return jax.jacfwd(ADDED[name], (1, 2))(KEY, x, size), jax.grad(total)(size)

    sampled = np.asarray(DRAWN[name](np.zeros_like(x), 1.0))
    (of_x, of_size), slope = derivatives(x, 0.5)
    np.testing.assert_array_equal(of_x, np.eye(500))
    np.testing.assert_allclose(of_size, sampled, rtol=1e-5)
    np.testing.assert_allclose(slope, np.sum(sampled * x), rtol=1e-4)


@pytest.mark.parametrize("name", [*ADDED, "salt_and_pepper"])
def test_the_backward_pass_holds_no_noise(name):
    call = {**ADDED, "salt_and_pepper": lambda key, x, p: noise.salt_and_pepper(key, x, rate=p)}

    def pullback(key, x, size):
        return jax.vjp(lambda x, size: call[name](key, x, size), x, size)[1]

    pull = jax.jit(pullback)(KEY, np.ones(4096, np.float32), 0.5)
    assert residual_bytes(pull) <= 8 + 3 * 4


@every_sum
def test_sizes_at_the_edges(name):
    x = np.array([1.5, -0.0, np.inf, -np.inf, 1e-40], np.float32)
    draw = DRAWN[name]
    for size in (0.0, -0.0, -1.0):
        assert np.asarray(draw(x, size)).tobytes() == x.tobytes()
    assert np.isnan(draw(x, np.nan)).all()
    np.testing.assert_array_equal(draw(x, 1.0)[2:4], x[2:4])
    slope = jax.jit(jax.grad(lambda x, size: jnp.sum(ADDED[name](KEY, x, size))))
    np.testing.assert_array_equal(slope(x, 0.0), 1)


def test_empty_and_scalar_arrays():
    shapes = ((0,), (0, 3), ())

    @jax.jit
    def every_function(arrays):
        found = []
        for x in arrays:
            for function in ADDED.values():
                y, pull = jax.vjp(lambda x, function=function: function(KEY, x, 0.5), x)
                found.append((y, *pull(y), noise.salt_and_pepper(KEY, x, rate=0.5)))
        return found

    found = every_function([np.ones(shape, np.float32) for shape in shapes])
    expected = [shape for shape in shapes for _ in ADDED]
    for arrays, shape in zip(found, expected, strict=True):
        assert all(array.shape == shape for array in arrays)


@few("rate", [0.2, 1e-3, 1.0])
@few("bits", [None, jax.random.bits], ids=["ours", "jax"])
def test_salt_and_pepper_share_the_rate(rate, bits):
    """At a static and at a traced rate."""
    x = np.full(2**20, 0.5, np.float32)
    options = {"low": -1.0, "high": 3, "bits": bits}
    static = jax.jit(partial(noise.salt_and_pepper, KEY, rate=rate, **options))
    for y in map(np.asarray, (static(x), replaced(x, rate, **options))):
        assert set(np.unique(y)) <= {-1.0, 0.5, 3.0}
        assert_rate(np.mean(y == -1), rate / 2, y.size)
        assert_rate(np.mean(y == 3), rate / 2, y.size)
        assert_rate(np.mean(y == 0.5), 1 - rate, y.size)


@few("rate", [0.25, 2.0**-31, 1.0])
def test_one_word_decides_what_becomes_of_an_element(rate):
    number = int(rate * 2**32)
    words = np.array([0, number // 2 - 1, number // 2, number - 1, min(number, 2**32 - 1)])
    requests = []

    def bits(key, shape, dtype):
        requests.append(shape)
        return jnp.asarray(words.astype(dtype))

    draw = jax.jit(lambda x, rate: noise.salt_and_pepper(KEY, x, rate=rate, bits=bits))
    y = draw(np.full(5, 0.5, np.float32), rate)
    np.testing.assert_array_equal(y, [0, 0, 1, 1, 1 if rate == 1 else 0.5])
    assert requests == [(5,)]


def test_salt_and_pepper_of_each_channel_in_low_precision():
    low = np.array([0.1, -1.0], np.float32)
    high = np.array([[7.0, 1 / 3]], np.float32)
    y = replaced(np.full((4096, 2), 0.5, jnp.bfloat16), 0.5, low, high)
    assert y.dtype == jnp.bfloat16
    for channel in range(2):
        values = (low[channel], 0.5, high[0, channel])
        expected = {float(jnp.bfloat16(v)) for v in values}
        assert set(np.unique(np.asarray(y, np.float32)[:, channel])) == expected


def test_low_and_high_meet_data_that_is_sharded():
    """A value for each channel or row, spread over the other axis of the mesh than the data are."""
    mesh = jax.make_mesh((4, 2), ("row", "column"), axis_types=(AxisType.Explicit,) * 2)
    spec = PartitionSpec("row", "column")
    x = np.full((8, 8), 0.5, np.float32)
    low = np.linspace(-2, -1, 8, dtype=np.float32)
    high = np.linspace(1, 2, 8, dtype=np.float32)[:, None]
    expected = replaced(x, 0.5, low, high)
    with jax.set_mesh(mesh):
        specs = (spec, PartitionSpec("row"), PartitionSpec("column", None))
        placed = [
            jax.device_put(a, NamedSharding(mesh, s))
            for a, s in zip((x, low, high), specs, strict=True)
        ]
        y = replaced(placed[0], 0.5, *placed[1:])
    assert y.sharding.spec == spec
    np.testing.assert_array_equal(y, expected)


def test_derivatives_of_salt_and_pepper():
    """Kept elements follow x, pepper follows low and salt follows high."""
    x = np.linspace(0.2, 0.8, 1000, dtype=np.float32)

    def total(x, rate, low, high):
        y = replaced(x, rate, low, high)
        return jnp.sum(y), y

    slope = jax.jit(jax.grad(total, (0, 1, 2, 3), has_aux=True))
    for rate in (0.3, 1.0):
        (of_x, of_rate, of_low, of_high), y = slope(x, rate, 0.0, 1.0)
        np.testing.assert_array_equal(of_x, y == x)
        counts = (0, np.sum(np.asarray(y) == 0), np.sum(np.asarray(y) == 1))
        assert (of_rate, of_low, of_high) == counts
        assert min(counts[1:]) > 0


def test_salt_and_pepper_at_the_edges():
    x = np.array([np.nan, np.inf, -0.0, 1e-40], np.float32)
    for rate in (-1.0, 0.0):
        assert np.asarray(replaced(x, rate)).tobytes() == x.tobytes()
    for rate in (1.0, 2.0):
        assert set(np.asarray(replaced(x, rate)).tolist()) <= {0.0, 1.0}
    assert np.isnan(replaced(x, np.nan)).all()
    assert np.isnan(replaced(x, np.nan, bits=always(0))).all()


def test_leaves_get_noise_of_their_own():
    size = 2**18
    zeros = np.zeros(size, np.float32)
    params = {"a": zeros, "b": {"c": zeros}, "d": [zeros]}
    noisy = jax.tree.leaves(jax.jit(partial(noise.perturb, KEY, stddev=0.5))(params))
    for leaf in noisy:
        assert_moments(leaf, "perturb", 0.5)
    samples = np.asarray(noisy, np.float64) / 0.5
    correlations = samples @ samples.T / size
    assert np.abs(correlations[np.triu_indices(3, 1)]).max() <= 5 / math.sqrt(size)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert np.mean(samples[i] == samples[j]) < 1e-3


def test_the_noise_of_a_leaf_depends_on_its_position_alone():
    perturb = jax.jit(partial(noise.perturb, KEY, stddev=1.0))
    first = perturb([np.zeros(n, np.float32) for n in (3, 4, 5)])
    second = perturb({"x": np.ones(9, np.float32), "y": np.zeros(4, np.float32)})
    np.testing.assert_array_equal(first[1], second["y"])


def test_perturb_passes_by_what_is_not_floating_point():
    params = {
        "count": jnp.arange(3),
        "half": np.ones(6, jnp.bfloat16),
        "key": jax.random.key(3),
        "mask": np.array([True]),
        "none": None,
        "number": 1.0,
        "step": 7,
        "weights": np.ones(6, np.float32),
    }

    @jax.jit
    def perturbed():
        noisy = noise.perturb(KEY, params, stddev=0.1)
        for name in ("count", "key", "mask", "none", "step"):
            assert noisy.pop(name) is params[name]
        return noisy

    noisy = perturbed()
    assert noisy.keys() == {"half", "number", "weights"}
    for name, leaf in noisy.items():
        assert (np.asarray(leaf) != np.asarray(params[name])).any()
        assert leaf.dtype == (jnp.bfloat16 if name == "half" else jnp.float32)
    assert noise.perturb(KEY, {}, stddev=0.1) == {}


def test_perturb_takes_the_trees_of_flax():
    variables = jax.jit(flax_linen.Dense(4).init)(KEY, np.ones((1, 3), np.float32))
    state = flax_nnx.state(flax_nnx.Dropout(0.5, rngs=flax_nnx.Rngs(0)))
    layer = flax_nnx.eval_shape(
        lambda: flax_nnx.state(flax_nnx.Linear(3, 4, rngs=flax_nnx.Rngs(0)))
    )
    layer = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), layer)

    @jax.jit
    def perturbed(tree):
        noisy = noise.perturb(KEY, tree, stddev=0.1)
        pairs = zip(jax.tree.leaves(noisy), jax.tree.leaves(tree), strict=True)
        return noisy, [jnp.all(a != b) for a, b in pairs]

    for tree, changed in ((variables, 2), (state, 0), (layer, 2)):
        noisy, changes = perturbed(tree)
        assert jax.tree.structure(noisy) == jax.tree.structure(tree)
        assert sum(map(bool, changes)) == changed


@every_sum
def test_wrong_arguments_raise(name):
    x = np.ones((2, 3), np.float32)
    with pytest.raises(TypeError, match=r"`key` must be a PRNG key, got int 3"):
        ADDED[name](3, x, 0.5)
    with pytest.raises(TypeError, match=r"must have a real dtype, got complex64; pass its real"):
        ADDED[name](KEY, x.astype(np.complex64), 0.5)
    with pytest.raises(TypeError, match=r"`bits` must return uint32 of shape \(2, 3\), got"):
        ADDED[name](KEY, x, 0.5, bits=lambda key, shape, dtype: np.zeros(shape[:1], dtype))
    argument = "limit" if "uniform" in name else "stddev"
    with pytest.raises(ValueError, match=f"`{argument}` must be"):
        ADDED[name](KEY, x, -1.0)
    with pytest.raises(ValueError, match=f"`{argument}` must be"):
        ADDED[name](KEY, x, math.nan)
    with pytest.raises(ValueError, match=f"`{argument}` must"):
        ADDED[name](KEY, x, np.ones(2, np.float32))
    if name != "perturb":
        with pytest.raises(TypeError, match=r"`x` must be an array, got list"):
            ADDED[name](KEY, [1.0], 0.5)


def test_wrong_arguments_of_salt_and_pepper_raise():
    x = np.ones(3, np.float32)
    with pytest.raises(TypeError, match=r"`key` must be a PRNG key, got float"):
        noise.salt_and_pepper(0.5, x, rate=0.5)
    with pytest.raises(TypeError, match=r"`x` must have a floating-point dtype, got uint8"):
        noise.salt_and_pepper(KEY, x.astype(np.uint8), rate=0.5)
    with pytest.raises(ValueError, match=r"`rate` must be a probability in \[0, 1\], got 1\.5"):
        noise.salt_and_pepper(KEY, x, rate=1.5)
    with pytest.raises(TypeError, match=r"`bits` must return uint32 of shape \(3,\), got"):
        noise.salt_and_pepper(KEY, x, rate=0.5, bits=lambda *_: np.zeros(7, np.uint32))
    for name in ("low", "high"):
        with pytest.raises(ValueError, match=f"`{name}` must broadcast"):
            noise.salt_and_pepper(KEY, x, rate=0.5, **{name: np.ones(2, np.float32)})
