"""Policies: how often operations, directions, levels and sequences are drawn; AugMix in NumPy."""

import collections
import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxreg import augment
from jaxreg.augment import operations
from jaxreg.augment._draws import uniform
from jaxreg.augment._shares import beta, dirichlet
from tests.augment.helpers import KEY, LEVELS, assert_as_likely, different
from tests.helpers import few, first_of

LIGHT = operations.BRIGHTNESS._replace(signed=False)
SCALES = augment.Operation(lambda x, s: x * (1 + s)[..., None, None, None], high=2.0)
ADDS = augment.Operation(lambda x, s: x + s[..., None, None, None], high=1.0, signed=True)
# A geometry and a color: what is common to all operations need not be traced for each.
TWO = (operations.SHEAR_X, operations.COLOR)
POLICIES = {
    "rand_augment": partial(augment.rand_augment, operations=TWO),
    "trivial_augment": partial(augment.trivial_augment, operations=TWO),
    "auto_augment": partial(augment.auto_augment, policy=[[augment.Step(o, 0.5, 5) for o in TWO]]),
    "aug_mix": partial(augment.aug_mix, operations=TWO[:1]),
}
PUBLISHED = {
    augment.rand_augment: {"magnitude": 9, "number": 2, "operations": operations.RAND_AUGMENT},
    augment.trivial_augment: {"operations": operations.TRIVIAL_AUGMENT_WIDE},
    augment.auto_augment: {"policy": augment.CIFAR10_POLICY},
    augment.aug_mix: {
        "severity": 3.0,
        "alpha": 1.0,
        "width": 3,
        "depth": (1, 3),
        "operations": operations.AUG_MIX,
    },
}


def numbers(function, number, **options):
    """Results of a policy for many zeros."""
    images = np.zeros((number, 1, 1, 1), np.float32)
    return np.asarray(jax.jit(partial(function, **options))(KEY, images), np.float64).ravel()


def marker(number, scale):
    """Writes down its number and the sign of its strength after what has been written before."""

    def write(image, strength):
        mark = 2 * number + (strength > 0).astype(image.dtype)
        return scale * image + mark[..., None, None, None]

    return augment.Operation(write, low=1.0, high=1.0, signed=True)


def test_the_published_settings_are_the_defaults():
    for policy, expected in PUBLISHED.items():
        for name, value in expected.items():
            assert inspect.signature(policy).parameters[name].default == value


def test_operations_and_directions_are_chosen_evenly_and_apart():
    markers = [marker(i, 28) for i in range(14)]
    y = numbers(augment.rand_augment, 80000, operations=markers)
    counts = np.bincount(y.astype(int), minlength=28**2)
    assert len(counts) == 28**2
    assert stats.chisquare(counts).pvalue > 1e-4


def test_magnitudes_are_shares_of_30_from_low_to_high():
    """In the middle, at the ends and, where traced, cut off beyond them."""
    add = augment.Operation(lambda x, s: x + s[..., None, None, None], low=-2.0, high=4.0)
    images = np.zeros((3, 1, 1, 1), np.float32)
    run = jax.jit(
        lambda x, m: augment.rand_augment(KEY, x, magnitude=m, number=3, operations=[add])
    )
    for magnitude in (0.0, 7.5, 30.0, 45.0, -3.0):
        expected = 3 * (-2 + 6 * np.clip(magnitude / 30, 0, 1))
        np.testing.assert_allclose(
            run(images, magnitude), np.full((3, 1, 1, 1), expected), rtol=1e-6
        )
    # The default is 9 of 30, twice.
    y = numbers(augment.rand_augment, 3, operations=[add])
    np.testing.assert_allclose(y, 2 * (-2 + 6 * 0.3), rtol=1e-5)


def test_trivial_augment_draws_31_levels_evenly():
    levels = numbers(augment.trivial_augment, 30000, operations=[ADDS._replace(high=30.0)])
    np.testing.assert_allclose(levels, np.round(levels), atol=1e-5)
    counts = np.bincount(abs(np.round(levels)).astype(int), minlength=31)
    assert len(counts) == 31
    assert stats.chisquare(counts).pvalue > 1e-4
    signs = np.sign(levels[abs(levels) > 0.5])
    assert_as_likely(signs[:, None], 2)
    markers = [marker(i, 28) for i in range(14)]
    which = numbers(augment.trivial_augment, 20000, operations=markers).astype(int)
    assert_as_likely(which[:, None], 28)


def test_sequences_of_a_policy_happen_as_often_as_they_say():
    def adds(number):
        def write(image, strength):
            return image + number + strength[..., None, None, None] / 100

        return augment.Operation(write, high=9.0)

    one = adds(1)
    two = adds(2)
    four = adds(4)
    step = augment.Step
    policy = [[step(one, 0.3, 5)], [step(two, 1.0, 3), step(four, 0.5, 0)], [step(one, 0.0, 9)]]
    y = numbers(augment.auto_augment, 40000, policy=policy)
    outcomes = {0: 1 / 3 * 0.7 + 1 / 3, 1.05: 0.1, 2.03: 1 / 6, 6.03: 1 / 6}
    counts = collections.Counter(np.round(y, 4))
    assert set(counts) == set(outcomes)
    expected = [len(y) * p for p in outcomes.values()]
    assert stats.chisquare([counts[v] for v in outcomes], expected).pvalue > 1e-4


def test_directions_of_a_policy_are_as_likely():
    step = augment.Step(ADDS, 0.5, 9)
    y = numbers(augment.auto_augment, 20000, policy=[[step, step._replace(probability=1.0)]])
    counts = collections.Counter(np.round(y).astype(int))
    # A sum of two signs where the first happens, else one sign.
    expected = {-2: 1 / 8, 0: 1 / 4, 2: 1 / 8, -1: 1 / 4, 1: 1 / 4}
    assert set(counts) == set(expected)
    frequencies = [20000 * p for p in expected.values()]
    assert stats.chisquare([counts[v] for v in expected], frequencies).pvalue > 1e-6


def test_strengths_and_policies_may_be_traced_and_mapped():
    """A search over probabilities, magnitudes and ranges compiles once."""
    images = np.full((6, 3, 3, 1), 0.5, np.float32)
    traces = []

    @jax.jit
    def searched(probability, magnitude, high):
        traces.append(1)
        one = LIGHT._replace(high=high)
        step = augment.Step(one, probability, magnitude)
        y = augment.auto_augment(KEY, images, policy=[[step]])
        return augment.rand_augment(KEY, y, magnitude=magnitude, operations=[one], number=1)

    for probability, magnitude, high in ((0.0, 3.0, 0.9), (1.0, 3.0, 0.9), (1.0, 9.0, 0.1)):
        first = 1 + high * magnitude / 9 if probability else 1
        expected = 0.5 * first * (1 + high * magnitude / 30)
        y = searched(probability, magnitude, high)
        np.testing.assert_allclose(y, np.full_like(images, expected), rtol=1e-5)
    assert len(traces) == 1
    many = jax.vmap(searched, in_axes=(0, None, None))(np.float32([0.0, 1.0]), 3.0, 0.9)
    many = np.asarray(many)
    np.testing.assert_allclose(many[1, 0, 0, 0] / many[0, 0, 0, 0], 1.3, rtol=1e-5)


@jax.jit
def mixed(images, alpha):
    """Results of AugMix for 40 images of one pixel."""
    options = {"severity": 5.0, "width": 4, "depth": (1, 2)}
    return augment.aug_mix(KEY, images, operations=[SCALES, ADDS], alpha=alpha, **options)


def test_aug_mix_is_its_formula():
    """The average of the paper in NumPy, from the same draws."""
    images = np.linspace(0.1, 0.9, 40, dtype=np.float32)[:, None, None, None]
    alpha, width = 0.7, 4
    share_key, weight_key, chain_key = jax.random.split(KEY, 3)

    @jax.jit
    def draws(alpha):
        share = beta(share_key, images, alpha, (40,))
        weights = dirichlet(weight_key, images, alpha, width)
        copies = jnp.zeros((width, 40, 1, 1, 1), jnp.float32)
        depth_key, *keys = jax.random.split(chain_key, 3)
        drawn = [depth_key]
        for step_key in keys:
            own, level_key = jax.random.split(step_key)
            drawn += [level_key, *jax.random.split(own)]
        return share, weights, jax.vmap(lambda key: uniform(key, copies))(jnp.stack(drawn))

    y = np.asarray(mixed(images, alpha), np.float64)
    share, weights, (depth, *steps) = jax.tree.map(np.float64, draws(alpha))
    u = images.astype(np.float64).ravel()
    depth = 1 + np.floor(2 * depth)
    chains = np.broadcast_to(u, (width, 40))
    for position in range(2):
        level, number, sign = steps[3 * position : 3 * position + 3]
        level = (0.1 + 4.9 * level) / 10
        sign = np.where(sign < 0.5, 1, -1)
        changed = np.where(number < 0.5, chains * (1 + 2 * level), chains + sign * level)
        chains = np.where(position < depth, changed, chains)
    expected = share * u + (1 - share) * (weights.T * chains).sum(0)
    np.testing.assert_allclose(y.ravel(), expected, rtol=2e-5)


def test_what_does_nothing_is_the_identity_to_the_bit():
    odd = np.array([0.0, -0.0, 1e-40, np.inf, np.nan, 0.3], np.float32)
    images = np.resize(odd, (4, 5, 3, 1))
    never = [[augment.Step(LIGHT, 0.0, 9)], [augment.Step(ADDS, 0.0, 5)]]

    @jax.jit
    def run(x, magnitude):
        return (
            augment.rand_augment(KEY, x, number=0),
            augment.rand_augment(KEY, x, operations=TWO, magnitude=magnitude, number=1),
            augment.auto_augment(KEY, x, policy=never),
        )

    for same in run(images, 0.0):
        assert np.asarray(same).tobytes() == images.tobytes()
    pixels = np.resize(odd, (40, 1, 1, 1))
    assert np.asarray(mixed(pixels, 0.0)).tobytes() == pixels.tobytes()


@pytest.mark.parametrize("name", POLICIES)
def test_levels_five_channels_and_keys_that_are_none_are_refused(name):
    policy = POLICIES[name]
    with pytest.raises(TypeError, match=r"`image` must have .*augment\.to_float\(image\)"):
        policy(KEY, LEVELS)
    with pytest.raises(TypeError, match=r"`key` must be"):
        policy(3, np.ones((4, 4, 3), np.float32))
    if name != "aug_mix":  # It has no operation on colors.
        with pytest.raises(ValueError, match=r"`image` must have one channel or three"):
            jax.eval_shape(policy, KEY, np.ones((4, 4, 5), np.float32))


@first_of("name", POLICIES)
def test_what_is_opaque_stays_so(name):
    """The colors equal the colors without opacity; a fill for each channel has an opacity too."""
    images = np.random.default_rng(0).random((6, 8, 8, 3), np.float32)
    opaque = np.concatenate([images, np.ones((6, 8, 8, 1), np.float32)], -1)
    mixed = (operations.TRANSLATE_X, operations.CONTRAST, operations.INVERT)
    options = {"operations": mixed}
    if name == "auto_augment":
        options = {"policy": [[augment.Step(one, 1.0, 9)] for one in mixed]}
    if name == "aug_mix":
        options["severity"] = 10.0
    call = partial(getattr(augment, name), KEY, **options)

    @jax.jit
    def run(images, opaque):
        return call(images), call(opaque), call(opaque, fill=jnp.zeros(4))

    plain, both, moved = run(images, opaque)
    np.testing.assert_allclose(both[..., :3], plain, atol=1e-5)
    np.testing.assert_allclose(both[..., 3], 1, atol=1e-6)
    assert np.min(moved[..., 3]) < 0.9


@few("shape", [(2, 3, 5, 3), (7, 4, 1), (0, 5, 4, 3), (2, 2, 4, 4, 3)], ids=str)
@pytest.mark.parametrize("name", POLICIES)
def test_shape_and_dtype_are_kept(name, shape):
    y = jax.eval_shape(POLICIES[name], KEY, jax.ShapeDtypeStruct(shape, jnp.bfloat16))
    assert (y.shape, y.dtype) == (shape, jnp.bfloat16)


def test_a_policy_keeps_the_range_with_finite_gradients():
    """On black, gray and white images and on one of all kinds of levels, none square."""
    plain = np.stack([np.full((6, 5, 3), v) for v in (0.0, 0.5, 1.0)] * 8)
    images = np.concatenate([plain, [LEVELS[:6, :5] / 255] * 96]).astype(np.float32)
    weights = np.cos(np.arange(images.size, dtype=np.float32)).reshape(images.shape)
    chosen = (operations.SHEAR_X, operations.AUTO_CONTRAST, operations.COLOR)

    @jax.jit
    def run(images):
        policy = partial(augment.trivial_augment, KEY, operations=chosen)
        y, pullback = jax.vjp(policy, images)
        return y, pullback(weights)[0]

    y, gradient = jax.device_get(run(images))
    assert ((y >= 0) & (y <= 1)).all()
    assert np.isfinite(gradient).all()
    assert (gradient != 0).any()
    # The same image 96 times: each has draws of its own, of which some agree.
    assert different(y[24:]) > 12


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (TypeError, {"number": 1.5}, r"`number` must be an integer, got float"),
        (ValueError, {"number": -1}, r"`number` must be zero or positive, got -1"),
        (ValueError, {"magnitude": 31}, r"`magnitude` must be .*got 31"),
        (ValueError, {"operations": [augment.Operation(lambda x, s: x[:1])]}, r"keep the sh"),
        (ValueError, {"operations": []}, r"`operations` must contain at least one"),
        (ValueError, {"width": 0}, r"`width` must be positive, got 0"),
        (ValueError, {"depth": 3}, r"`depth` must be a pair \(least, largest\), got 3"),
        (ValueError, {"depth": (3, 1)}, r"`depth` must ascend from 1 or more, got \(3, 1\)"),
        (ValueError, {"depth": (0, 1)}, r"`depth` must ascend from 1 or more, got \(0, 1\)"),
        (ValueError, {"alpha": -1.0}, r"`alpha` must be zero or positive, got -1\.0"),
        (ValueError, {"severity": 0.0}, r"`severity` must be .*got 0"),
        (ValueError, {"policy": []}, r"`policy` must contain at least one"),
        (ValueError, {"policy": [[]]}, r"`policy` must contain at least one"),
        (ValueError, {"policy": [[augment.Step(LIGHT, 2.0, 3)]]}, r"`probability` must be a prob"),
        (
            ValueError,
            {"policy": [[augment.Step(LIGHT, 1.0, 10)]]},
            r"`magnitude` .*\[0, 9\], got",
        ),
    ],
)
def test_wrong_arguments_are_named(kind, options, message):
    name = next(iter(options))
    mixes = name in ("width", "depth", "alpha", "severity")
    function = augment.aug_mix if mixes else augment.rand_augment
    function = augment.auto_augment if name == "policy" else function
    with pytest.raises(kind, match=message):
        jax.eval_shape(partial(function, **options), KEY, np.ones((4, 4, 4, 3), np.float32))
